"""One instance: read its power state, decide, act.  Nova's ``_init_instance``, with outcomes instead of exceptions.

This is the border of isolation: whatever goes wrong with one instance ends here, as its outcome.  Cancellation is no
outcome and passes through.
"""

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import anyio

from bringup.daemon.decisions.actions import (
    Action,
    Delete,
    DestroyEvacuated,
    DestroyGuest,
    EnsureFilteringRules,
    LookAtGuest,
    PlugVifs,
    Reboot,
    ResumeStateOnHostBoot,
    RevertMigration,
    SetError,
)
from bringup.daemon.decisions.describe import missing, state_word
from bringup.daemon.decisions.did import did_of
from bringup.daemon.decisions.from_needs import starts
from bringup.daemon.decisions.instances import Instance
from bringup.daemon.decisions.kept_elsewhere import describe_kept_elsewhere
from bringup.daemon.decisions.on_failure import Reaction, reaction_to
from bringup.daemon.decisions.outcomes import Kind, Outcome, Problem, is_pause
from bringup.daemon.decisions.remarks import remarks
from bringup.daemon.decisions.rules import Facts, Plan, Rule, Step, decide, with_look, with_record
from bringup.daemon.decisions.run_events import ActionBegan, ActionEnded, Observer
from bringup.daemon.decisions.states import PowerState, VmState
from bringup.daemon.decisions.table_order import OWN_TABLES, Tables
from bringup.daemon.errors import JournalError, RecordNotFound, StateConflict, StoreError, chain_of
from bringup.daemon.logs import get_logger
from bringup.daemon.recovery.executor import Executor
from bringup.daemon.recovery.guest_needs import unmet_needs
from bringup.daemon.recovery.pause import Paused
from bringup.daemon.recovery.working_copy import WorkingCopy
from bringup.daemon.storage.journal import NO_JOURNAL, Journal, Left
from bringup.drivers.deadlines import pausable_deadline
from bringup.drivers.needs import Need, NeedNotMet, NeedState, of_failed_look

log = get_logger()


@dataclass(slots=True)
class _Course:
    """Progress of one instance so far."""

    record: WorkingCopy
    facts: Facts
    before: Instance
    """The record as it was before anything was done."""
    because: list[str] = field(default_factory=list)
    kind: Kind = Kind.INITIALIZED
    problem: Problem | None = None
    needs: tuple[Need, ...] = ()
    """What is not met."""
    are_needs_met: bool = False
    """The driver was asked, and all was there."""
    has_reverted: bool = False
    """A resize was rolled back: its record cannot be put back any more."""
    warnings: list[Problem] = field(default_factory=list)
    slowest: tuple[str, float] | None = None
    doing: str = "decide"
    last_read: tuple[Sequence[Rule], Facts, Plan] | None = None

    def read(self, table: Sequence[Rule], facts: Facts) -> Plan:
        """Read a table; what was read ahead in it, on the same facts, is not read again."""
        if self.last_read is None or self.last_read[0] is not table or self.last_read[1] is not facts:
            self.last_read = (table, facts, decide(table, facts))
        return self.last_read[2]

    def took(self, verb: str, seconds: float) -> None:
        if self.slowest is None or seconds > self.slowest[1]:
            self.slowest = (verb, seconds)

    @property
    def was(self) -> Left | None:
        """How the record was, where that can be restored: not where it was in ERROR already."""
        return None if self.before.vm_state is VmState.ERROR else Left.of(self.before)

    def defer(self, needs: Sequence[Need], problem: Problem) -> None:
        self.kind, self.needs, self.problem = Kind.DEFERRED, tuple(needs), problem


@dataclass(frozen=True, slots=True)
class _Means:
    """Executor, observer and journal of an instance."""

    executor: Executor
    observer: Observer
    journal: Journal

    async def begin(self, state: _Course, step: Step) -> bool:
        """Report that a step is about to be done; False: it must not be, because that cannot be recorded."""
        uuid = state.facts.instance.uuid
        if not isinstance(step.action, LookAtGuest):
            try:
                at_once = state.facts.look is not PowerState.RUNNING or not isinstance(step.action, IN_PLACE)
                await self.journal.began(uuid, step, state.because, was=state.was, at_once=at_once)
            except JournalError as error:
                # A host comes back on a full disk too: only what must be on record waits.
                if isinstance(step.action, NEEDS_JOURNAL):
                    state.kind, state.problem = Kind.HELD, problem_of(step.action.verb, error)
                    return False
        self.observer(ActionBegan(uuid, step))
        return True

    def end(self, state: _Course, step: Step, error: Exception | None) -> None:
        """Report that a step ended."""
        uuid = state.facts.instance.uuid
        self.observer(ActionEnded(uuid, step, error))
        if not isinstance(step.action, LookAtGuest):
            self.journal.ended(uuid, step, error)


DEADLINE_EXCEEDED = "DeadlineExceeded"
HELD = "Held"
NOT_MET, PAUSED = NeedNotMet.__name__, Paused.__name__
PENDING_ELSEWHERE = "PendingElsewhere"
NEEDS = "needs"
"""What is being done while the driver is asked what a guest needs."""
# Done without a trace they could be done twice, or nobody could tell afterwards why a guest is gone.
NEEDS_JOURNAL = (Delete, DestroyGuest, DestroyEvacuated, Reboot, ResumeStateOnHostBoot)
IN_PLACE = (PlugVifs, EnsureFilteringRules)
"""Where the guest runs they find in place what they would make, and may be done again as if they had not been done."""
READ_AGAIN_S = 5.0
"""How long the record of an instance whose time is up is waited for."""
LOOK = Step("look", LookAtGuest())


async def init_instance(
    facts: Facts,
    *,
    executor: Executor,
    observer: Observer,
    deadline_s: float,
    tables: Tables = OWN_TABLES,
    journal: Journal = NO_JOURNAL,
) -> Outcome:
    """Bring one instance back.  Raises nothing but cancellation."""
    started = time.monotonic()
    state = _Course(_working_copy(facts, executor), facts, facts.instance)
    with anyio.move_on_after(deadline_s) as scope, pausable_deadline(scope):
        try:
            await _follow(state, tables, _Means(executor, observer, journal))
        except Exception as error:
            # No action failed: a rule raised an exception for this record, which must not hurt the others.
            log.exception("instance.rule_failed")
            state.kind, state.problem = Kind.FAILED, problem_of(state.doing, error)
    if scope.cancelled_caught:
        text = f"cannot finish {state.doing} of {facts.instance.uuid} in {deadline_s:g} s"
        state.kind, state.problem = Kind.FAILED, Problem(state.doing, DEADLINE_EXCEEDED, text)
        if state.doing == NEEDS:
            # Nothing was begun yet: what it needs is not known, and that may pass.
            unknown = (of_failed_look(facts.instance.uuid, TimeoutError(f"no answer in {deadline_s:g} s")),)
            state.defer(unknown, Problem(NEEDS, DEADLINE_EXCEEDED, missing(unknown)))
        state.took(state.doing, time.monotonic() - started)
        await _read_again(state, executor)
    return Outcome(
        uuid=facts.instance.uuid,
        kind=state.kind,
        did=did_of(state.record.did, kind=state.kind, look=state.facts.look, earlier=facts.done),
        because=tuple(state.because),
        took_s=time.monotonic() - started,
        name=facts.instance.shown_name,
        project_id=facts.instance.project_id,
        problem=state.problem,
        needs=state.needs,
        runs=state.facts.look is PowerState.RUNNING,
        warnings=tuple(state.warnings),
        slowest=state.slowest,
        instance=None if state.record.deleted else state.record.stored,
        deleted=state.record.deleted,
    )


def _working_copy(facts: Facts, executor: Executor) -> WorkingCopy:
    record = WorkingCopy(facts.instance, executor.store, facts.moves)
    record.deleted = facts.deleted
    return record


async def _read_again(state: _Course, executor: Executor) -> None:
    """Read the record afresh: a save that was under way when the time was up was done all the same."""
    with anyio.move_on_after(READ_AGAIN_S):
        try:
            state.record.found(await executor.store.get_instance(state.facts.instance.uuid))
        except RecordNotFound:
            state.record.deleted = True
        except StoreError as error:
            log.warning("instance.reread_failed", error=str(error))


async def _follow(state: _Course, tables: Tables, means: _Means) -> None:
    before = state.facts
    for number, table in enumerate(tables, start=1):
        if table is None:
            if await _carry_out(state, (LOOK,), means):
                return
            continue
        state.facts = with_record(state.facts, state.record.instance)
        state.doing = "decide"
        plan = state.read(table, state.facts)
        state.because.extend(plan.because)
        state.kind = plan.kind
        state.warnings.extend(plan.warnings)
        if plan.steps and await _is_deferred(state, plan, () if plan.ends else tables[number:], means):
            return
        if await _carry_out(state, plan.steps, means):
            return
        if plan.ends:
            state.problem = _problem_with(plan, state.facts)
            state.needs = plan.needs
            state.warnings.extend(remarks(before, with_record(state.facts, state.record.instance), plan.kind))
            return


async def _is_deferred(state: _Course, plan: Plan, rest: Tables, means: _Means) -> bool:
    """Find out, before the steps of a plan are begun, whether what a start of the guest needs is there.

    ``rest`` is what is read after this plan: a start may come of it too, and by then the record would be changed.
    """
    if state.are_needs_met or not starts(plan.steps, rest, state.facts, state.read):
        return False
    state.doing = NEEDS
    began = time.monotonic()
    found = await unmet_needs(state.facts.instance, means.executor.driver, means.executor.start_claim.pause)
    state.took(NEEDS, time.monotonic() - began)
    state.are_needs_met = not found
    if found and state.facts.look is None:
        # It may run, and then nothing is to be started.
        if await _carry_out(state, (LOOK,), means):
            return True
        if not starts(plan.steps, rest, state.facts, state.read):
            return False
    if found:
        state.defer(found, Problem(NEEDS, PAUSED if is_pause(found) else NOT_MET, missing(found)))
    return bool(found)


async def _carry_out(state: _Course, steps: Sequence[Step], means: _Means) -> bool:
    """Do the steps in order; tell whether that ended the course."""
    queue = deque(steps)
    while queue:
        step = queue.popleft()
        state.doing = step.action.verb
        if not await means.begin(state, step):
            return True
        failure = await _attempt(state, step, means)
        if failure is None:
            continue
        match _react(state, step.action, failure):
            case Reaction.FAIL:
                return True
            case Reaction.DEFER:
                await _restore_record(state)
                return True
            case Reaction.SET_ERROR:
                queue = deque((Step(step.rule, SetError()),))
            case Reaction.TOLERATE | Reaction.WARN:
                pass
    return state.problem is not None


async def _attempt(state: _Course, step: Step, means: _Means) -> Exception | None:
    """Do one step; give what was raised."""
    began = time.monotonic()
    failure: Exception | None = None
    try:
        seen = await means.executor.carry_out(state.record, step.action)
    except Exception as error:  # noqa: BLE001 - the border: one instance cannot hurt another
        failure = error
    else:
        if seen is not None:
            state.facts = with_look(state.facts, seen)
        state.has_reverted |= isinstance(step.action, RevertMigration)
    state.took(step.action.verb, time.monotonic() - began)
    means.end(state, step, failure)
    return failure


def _react(state: _Course, action: Action, error: Exception) -> Reaction:
    """Write down what ``error`` means for the outcome."""
    reaction = reaction_to(action, error)
    problem = problem_of(action.verb, error)
    match reaction:
        case Reaction.TOLERATE:
            log.debug("action.not_supported", action=action.verb, error=problem.message)
        case Reaction.WARN:
            state.warnings.append(problem)
        case Reaction.SET_ERROR:
            state.kind, state.problem = Kind.FAILED, problem
        case Reaction.FAIL:
            if state.problem is not None:  # the record could not be set to ERROR either
                state.warnings.append(state.problem)
            state.kind = Kind.SUPERSEDED if isinstance(error, StateConflict) else Kind.FAILED
            state.problem = problem
        case Reaction.DEFER:
            told = error.needs if isinstance(error, NeedNotMet) else ()
            needs = [need for need in told if need.state is not NeedState.MET]
            needs = needs or [of_failed_look(state.facts.instance.uuid, error)]
            words = missing(needs)
            text = problem.message if words in problem.message else f"{problem.message}; {words}"
            state.defer(needs, replace(problem, message=text))
    return reaction


async def _restore_record(state: _Course) -> None:
    """Leave the record of a deferred instance as it was before it was worked on."""
    before = state.record.stored if state.has_reverted else state.before
    try:
        await state.record.restore(before)
    except StateConflict as error:
        state.kind, state.problem = Kind.SUPERSEDED, problem_of("restore_record", error)
    except StoreError as error:
        state.warnings.append(problem_of("restore_record", error))


def problem_of(verb: str, error: BaseException) -> Problem:
    """Put an error with its whole chain of causes into words."""
    return Problem(verb, type(error).__name__, chain_of(error))


def _problem_with(plan: Plan, facts: Facts) -> Problem | None:
    """Return why nothing more is done although no action failed."""
    if plan.problem is not None:
        return plan.problem
    match plan.kind:
        case Kind.FAILED:
            return _why_failed(facts)
        case Kind.HELD if facts.hold is not None:
            return Problem("decide", HELD, facts.hold.why)
        case Kind.DEFERRED:
            return Problem(DestroyGuest.verb, PENDING_ELSEWHERE, describe_kept_elsewhere(facts.instance))
        case _:
            return None


def _why_failed(facts: Facts) -> Problem:
    instance = facts.instance
    if facts.begun and instance.vm_state is VmState.ERROR:
        doing = ", ".join(sorted(facts.begun))
        return Problem(
            "decide", "FailedBefore", f"{instance.uuid} was set to ERROR before the run was cut short: {doing}"
        )
    return Problem(
        "decide",
        "UnknownState",
        f"cannot decide on {instance.uuid}: vm_state {state_word(instance.vm_state)}, "
        f"task_state {state_word(instance.task_state)}; this version knows Nova's states up to 34.0.0",
    )
