"""Some instances of a run once more, on fresh records: the same tables, guards and fences as the first time."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace

import anyio
import anyio.to_thread

from bringup.daemon.decisions.instances import Instance
from bringup.daemon.decisions.outcomes import Did, Kind, Outcome, Problem
from bringup.daemon.decisions.rules import Facts
from bringup.daemon.decisions.run_events import InstanceEnded
from bringup.daemon.decisions.start_order import StartOrder, start_order
from bringup.daemon.decisions.table_order import EVACUATED_TABLES, OWN_TABLES
from bringup.daemon.errors import JournalError, StoreError, chain_of
from bringup.daemon.logs import get_logger
from bringup.daemon.recovery.context import Host
from bringup.daemon.recovery.init_host import Brought
from bringup.daemon.recovery.load_records import list_guests, load_records
from bringup.daemon.recovery.parallel import settle
from bringup.daemon.recovery.plan_checks import boot_of, guarded
from bringup.daemon.storage.journal import Left, Past

log = get_logger()

MOVED_ON = "StateConflict"


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """What is worked on once more, and on which terms."""

    wanted: Collection[str]
    """UUIDs."""
    because: str
    """Why, as a word for the outcomes of those that are not there any more."""
    may: Callable[[Instance], bool]
    """Checks whether a fresh record may be settled; others were changed by another service meanwhile."""
    known: Mapping[str, Outcome] = field(default_factory=dict)
    """Their outcomes before."""
    guards: bool = True
    """False: an operator has released them."""
    asked: bool = False
    """An operator has named them: what is not known does not keep them down."""


async def settle_again(host: Host, past: Past, again: Again) -> dict[str, Outcome]:
    """Settle instances on fresh records; return an outcome for each whose host is known.

    :raises Temporary: the records could not be loaded; nothing was touched.
    :raises Unavailable: the hypervisor does not tell which guests it has.
    """
    wanted = set(again.wanted)
    with anyio.fail_after(host.limits.host_deadline):
        local = await list_guests(host.driver)
    boot = await anyio.to_thread.run_sync(boot_of, past, host.alive)
    ran = {uuid for uuid, outcome in again.known.items() if outcome.runs}
    # The run has ended: what ran then has had its turn on this boot, whatever has stopped it since.
    boot = replace(boot, settled=True, held=(boot.held | wanted) - ran)
    asked = boot.asked | wanted if again.asked else boot.asked
    records = await load_records(
        host.executor.store,
        host.name,
        local=local,
        resuming=replace(host.resuming, boot=replace(boot, asked=asked)),
        deadline_s=host.limits.host_deadline,
        past=past,
        owes_elsewhere=host.owes_elsewhere,
    )
    if again.guards:
        records = guarded(records, host.guards, past, guests=len(local))
    new: dict[str, Outcome] = {}

    async def mine(all_facts: Collection[Facts]) -> list[Facts]:
        chosen = {facts.instance.uuid: facts for facts in all_facts if facts.instance.uuid in wanted - new.keys()}
        moved = {
            uuid: superseded(uuid, again.because, facts.instance)
            for uuid, facts in chosen.items()
            if not again.may(facts.instance)
        }
        await note(host, moved.values())
        new.update(moved)
        return [facts for uuid, facts in chosen.items() if uuid not in moved]

    await settle(host, StartOrder(tuple(await mine(records.evacuated))), EVACUATED_TABLES, new, known=again.known)
    own = {facts.instance.uuid for facts in await mine(records.own)}
    await settle(host, start_order(records.own, host.pace, past.took_s).only(own), OWN_TABLES, new, known=again.known)
    new |= await _gone(host, wanted - new.keys(), again.because)
    return new


async def _gone(host: Host, uuids: Collection[str], because: str) -> dict[str, Outcome]:
    """Return outcomes of those that have left this host: moved or deleted.

    Where their records cannot be read they have no outcome; the others have theirs all the same.
    """
    if not uuids:
        return {}
    try:
        found = {each.uuid: each for each in await host.executor.store.load_instances_by_uuid(uuids)}
    except StoreError as error:
        log.warning("recheck.host_unknown", instances=sorted(uuids), error=chain_of(error))
        return {}
    gone = {uuid: superseded(uuid, because, found.get(uuid), deleted=uuid not in found) for uuid in uuids}
    await note(host, gone.values())
    return gone


def superseded(uuid: str, because: str, record: Instance | None, *, deleted: bool = False) -> Outcome:
    """Return the outcome of an instance that somebody else has changed, moved or deleted since it was settled."""
    text = "its record is gone" if deleted else "its record was changed meanwhile by another service, which continues"
    return Outcome(
        uuid=uuid,
        kind=Kind.SUPERSEDED,
        did=Did.LEFT_ALONE,
        because=(because,),
        took_s=0.0,
        name="" if record is None else record.shown_name,
        project_id=None if record is None else record.project_id,
        problem=Problem("decide", MOVED_ON, text),
        instance=record,
        deleted=deleted,
    )


async def note(host: Host, outcomes: Collection[Outcome]) -> None:
    """Record outcomes that needed no work."""
    for outcome in outcomes:
        host.observer(InstanceEnded(outcome))
        try:
            await host.journal.settled(outcome)
        except JournalError as error:
            log.error("recheck.not_recorded", error=str(error))  # noqa: TRY400 - a sentence, no traceback


async def reported(brought: Brought, new: Mapping[str, Outcome], *, took_s: float) -> Brought:
    """Report what has changed, and return the run as it is then; nothing is reported where nothing has."""
    result = brought.result
    known = {outcome.uuid: outcome for outcome in result.outcomes}
    verification = brought.host.verification
    verdicts = {} if verification is None else dict(verification.verdicts)
    is_same = all(uuid in known and outcome.says_the_same(known[uuid]) for uuid, outcome in new.items())
    if is_same and verdicts == result.verdicts:
        return brought
    result = replace(
        result,
        outcomes=(*(each for each in result.outcomes if each.uuid not in new), *new.values()),
        took_s=result.took_s + took_s,
        revision=result.revision + 1,
        ready=None if brought.host.boots is None else brought.host.boots.times(),
        verdicts=verdicts,
    )
    log.info(
        "run.revised",
        run_id=result.run_id,
        revision=result.revision,
        **result.counts(),
        did=result.count_done(),
    )
    delivery = await brought.host.report(result)
    try:
        await brought.host.journal.end_run(result, delivery=delivery)
    except JournalError as error:
        log.error("recheck.not_recorded", error=str(error))  # noqa: TRY400 - a sentence, no traceback
    return replace(brought, result=result)


def is_verifying(brought: Brought) -> bool:
    """Check whether verdicts on guests are not known, or not reported yet."""
    verification = brought.host.verification
    return verification is not None and (not verification.is_over or verification.verdicts != brought.result.verdicts)


async def report_verdicts(brought: Brought) -> Brought:
    """Report the verdicts on guests once all of them are known, and return the run as it is then."""
    verification = brought.host.verification
    return brought if verification is None or not verification.is_over else await reported(brought, {}, took_s=0.0)


def as_left(outcomes: Mapping[str, Outcome]) -> Callable[[Instance], bool]:
    """Build a check whether a record is as its outcome left it."""

    def is_as_left(record: Instance) -> bool:
        outcome = outcomes.get(record.uuid)
        return outcome is not None and outcome.instance is not None and Left.of(record) == Left.of(outcome.instance)

    return is_as_left
