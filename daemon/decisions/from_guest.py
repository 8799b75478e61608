"""What the power state of the guest adds: the second and the third question of Nova's ``_init_instance``."""

from collections.abc import Callable

from bringup.daemon.decisions.actions import (
    CLEAR_TASK,
    AbortLiveMigration,
    Action,
    EnsureFilteringRules,
    PlugVifs,
    Reboot,
    ResumeStateOnHostBoot,
    RevertMigration,
    Save,
    SaveMigration,
    Start,
    Stop,
    Unpause,
)
from bringup.daemon.decisions.migrating import live_migrated_away, tell_live_migrated_away
from bringup.daemon.decisions.outcomes import Kind, Problem
from bringup.daemon.decisions.rules import Facts, Next, Rule, Withheld, always, nothing
from bringup.daemon.decisions.states import PowerState, TaskState, VmState
from bringup.drivers.base import RebootType
from bringup.drivers.needs import MetBy, Need, NeedKind, NeedState

SOFT_REBOOT_STATES = frozenset({TaskState.REBOOTING, TaskState.REBOOT_PENDING, TaskState.REBOOT_STARTED})
HARD_REBOOT_STATES = frozenset({TaskState.REBOOTING_HARD, TaskState.REBOOT_PENDING_HARD, TaskState.REBOOT_STARTED_HARD})
RESIZE_ARRIVING = frozenset({TaskState.RESIZE_MIGRATED, TaskState.RESIZE_FINISH})
# Requested or started: valid only where the guest does not run (Nova bug 1999674 for the first two).
REBOOT_BEGUN = frozenset(
    {TaskState.REBOOTING, TaskState.REBOOTING_HARD, TaskState.REBOOT_STARTED, TaskState.REBOOT_STARTED_HARD}
)
TRANSITIONS = REBOOT_BEGUN | {TaskState.PAUSING, TaskState.UNPAUSING}
MAY_REBOOT_SOFT = frozenset({VmState.ACTIVE})
MAY_REBOOT_HARD = frozenset({VmState.ACTIVE, VmState.STOPPED, VmState.PAUSED, VmState.SUSPENDED, VmState.ERROR})


def _requires_reboot(facts: Facts) -> bool:
    match facts.instance.task_state:
        case TaskState.REBOOT_PENDING:
            return facts.instance.vm_state in MAY_REBOOT_SOFT
        case TaskState.REBOOT_PENDING_HARD:
            return facts.instance.vm_state in MAY_REBOOT_HARD
        case task_state:
            return task_state in REBOOT_BEGUN and facts.look is not PowerState.RUNNING


def _revert_migration(facts: Facts) -> tuple[Action, ...]:
    """`finish_revert_migration`, powered on unless it was stopped before, then `save task_state=none`.

    Where the run that was cut short has rolled the migration back, only the record is saved.
    """
    if RevertMigration.verb in facts.done:
        return (CLEAR_TASK,)
    power_on = facts.instance.system_metadata.get("old_vm_state") != VmState.STOPPED.value
    return RevertMigration(power_on=power_on), CLEAR_TASK


def _abort_live_migration(facts: Facts) -> tuple[Action, ...]:
    """`live_migration_abort`, `save migration status=error`, `save task_state=none`.

    Where no live migration is running, only the record is saved.
    """
    clear = Save({"task_state": None}, expected_task_states=(TaskState.MIGRATING,))
    if facts.live_migration is None:
        return (clear,)
    return AbortLiveMigration(), SaveMigration(facts.live_migration.uuid, "error"), clear


def _finished_before(facts: Facts) -> bool:
    """Check whether the guest runs as a reboot or an unpause that was begun by a run cut short would leave it."""
    task_state = facts.instance.task_state
    rebooted = Reboot.verb in facts.begun and task_state in (TaskState.REBOOT_STARTED, TaskState.REBOOT_STARTED_HARD)
    unpaused = Unpause.verb in facts.begun and task_state is TaskState.UNPAUSING
    return facts.look is PowerState.RUNNING and (rebooted or unpaused)


def _finish(facts: Facts) -> tuple[Action, ...]:
    """`save vm_state=active task_state=none power_state=running`.

    A rescued instance that was rebooted stays `rescued`.
    """
    # A rescued instance that is rebooted stays in rescue.
    rescued = facts.instance.vm_state is VmState.RESCUED and Reboot.verb in facts.begun
    vm_state = VmState.RESCUED if rescued else VmState.ACTIVE
    return (Save({"vm_state": vm_state, "task_state": None, "power_state": PowerState.RUNNING}),)


def _has_not_arrived(facts: Facts) -> bool:
    """Check whether a resize or cold migration has made this host the owner before it made the guest."""
    return facts.guest_gone and facts.look is PowerState.NOSTATE and facts.instance.task_state in RESIZE_ARRIVING


def _describe_not_arrived(facts: Facts) -> Problem:
    """Describe where its disks are."""
    uuid, task_state = facts.instance.uuid, facts.instance.task_state
    return Problem(
        "decide",
        "ResizeUnfinished",
        f"task_state {None if task_state is None else task_state.value}: its resize or cold migration to this host "
        f"was cut short before its guest was made; its disks are on the host that it comes from, as {uuid}_resize in "
        f"the instances_path there (openstack server migration list --server {uuid} names the hosts). Bring them here "
        f"or give the instance back to that host by hand, then openstack server set --state active {uuid}",
    )


FROM_FIRST_LOOK: tuple[Rule, ...] = (
    Rule(
        "live_migrated_away",
        lambda f: live_migrated_away(f) is not None,
        nothing,
        Next.END,
        "A live migration of it was running and its guest is gone here: it most likely runs on the other host.",
        Kind.DEFERRED,
        tells=tell_live_migrated_away,
        condition=(
            "The hypervisor listed its guests without this one, `vm_state` is `active` or `paused`, and a live "
            "migration away from this host is not over."
        ),
    ),
    Rule(
        "resize_has_not_arrived",
        _has_not_arrived,
        nothing,
        Next.END,
        "A resize or cold migration to this host was cut short before its guest was made.",
        Kind.DEFERRED,
        tells=_describe_not_arrived,
        condition=(
            "The hypervisor listed its guests without this one, and `task_state` is `resize_migrated` or "
            "`resize_finish`."
        ),
    ),
    Rule(
        "finished_before",
        _finished_before,
        _finish,
        Next.END,
        "It was being rebooted or unpaused when the run was cut short, and it runs: it is not done twice.",
        condition=(
            "The guest runs, and the run of this boot that was cut short had begun the reboot or unpause that "
            "`task_state` names (`reboot_started`, `reboot_started_hard`, `unpausing`)."
        ),
    ),
    Rule(
        "soft_reboot_interrupted",
        lambda f: f.instance.task_state in SOFT_REBOOT_STATES and _requires_reboot(f) and f.look is PowerState.RUNNING,
        always(Reboot(RebootType.SOFT)),
        Next.END,
        "A soft reboot was requested and the guest still runs.",
        condition="The guest runs, and `task_state` is `reboot_pending` with `vm_state` `active`.",
    ),
    Rule(
        "soft_reboot_went_down",
        lambda f: f.instance.task_state in SOFT_REBOOT_STATES and _requires_reboot(f),
        always(Save({"task_state": TaskState.REBOOT_PENDING_HARD}), Reboot(RebootType.HARD)),
        Next.END,
        "A soft reboot had shut the guest down and not started it again: only a hard one can.",
        condition=(
            "The guest does not run, and `task_state` is `rebooting`, `reboot_started`, or `reboot_pending` with "
            "`vm_state` `active`."
        ),
    ),
    Rule(
        "hard_reboot_interrupted",
        lambda f: f.instance.task_state in HARD_REBOOT_STATES and _requires_reboot(f),
        always(Reboot(RebootType.HARD)),
        Next.END,
        "A hard reboot was requested or started.",
        condition=(
            "`task_state` is `reboot_pending_hard` with a `vm_state` that can be rebooted (`active`, `stopped`, "
            "`paused`, `suspended`, `error`); or it is `rebooting_hard` or `reboot_started_hard` and the guest "
            "does not run."
        ),
    ),
    Rule(
        "transition_finished",
        lambda f: f.instance.task_state in TRANSITIONS and f.look is PowerState.RUNNING,
        always(Save({"vm_state": VmState.ACTIVE, "task_state": None})),
        Next.CONTINUE,
        "The guest runs: the reboot, pause or unpause is over, only the record does not say so.",
        condition=(
            "The guest runs, and `task_state` is `rebooting`, `reboot_started`, `rebooting_hard`, "
            "`reboot_started_hard`, `pausing` or `unpausing`."
        ),
    ),
    Rule(
        "unpause_interrupted",
        lambda f: f.look is PowerState.PAUSED and f.instance.task_state is TaskState.UNPAUSING,
        always(Unpause()),
        Next.END,
        "It was to be unpaused and is still paused.",
        condition="The guest is paused, and `task_state` is `unpausing`.",
    ),
    Rule(
        "power_off_interrupted",
        lambda f: f.instance.task_state is TaskState.POWERING_OFF,
        always(Stop()),
        Next.END,
        "It was to be stopped.",
        condition="`task_state` is `powering-off`.",
    ),
    Rule(
        "power_on_interrupted",
        lambda f: f.instance.task_state is TaskState.POWERING_ON,
        always(Start()),
        Next.END,
        "It was to be started.",
        condition="`task_state` is `powering-on`.",
    ),
    Rule(
        "vifs",
        lambda _f: True,
        always(PlugVifs()),
        Next.CONTINUE,
        "Its NICs are made ready on the host, whether it runs or not.",
        condition="Always.",
    ),
    Rule(
        "resize_interrupted",
        lambda f: f.instance.task_state is TaskState.RESIZE_MIGRATING,
        _revert_migration,
        Next.CONTINUE,
        "The host went down while a resize or cold migration moved it away: it is rolled back.",
        condition="`task_state` is `resize_migrating`.",
    ),
    Rule(
        "live_migration_interrupted",
        lambda f: f.instance.task_state is TaskState.MIGRATING,
        _abort_live_migration,
        Next.CONTINUE,
        "A live migration did not complete and the instance is still here (Nova bug 1753676).",
        condition="`task_state` is `migrating`.",
    ),
)


def _went_down(facts: Facts) -> bool:
    return facts.look is not PowerState.RUNNING and facts.instance.power_state is PowerState.RUNNING


def _tell_not_known(facts: Facts) -> Problem:
    uuid = facts.instance.uuid
    return Problem(
        "resume_state_on_host_boot",
        "NotKnown",
        f"{uuid} ran when the host went down; whether it was brought back since, or for how long the host "
        f"was away, is not known, and it stays down; if it is to run: bringup retry {uuid}",
    )


def _withheld(
    name: str, withheld: Withheld, why: str, tells: Callable[[Facts], Problem | None] | None = None, *, condition: str
) -> Rule:
    when = lambda f: f.withheld is withheld and _went_down(f)  # noqa: E731 - as in the rows
    return Rule(name, when, nothing, Next.END, why, tells=tells, condition=condition)


CLOCK = Need(
    kind=NeedKind.CLOCK,
    name="the wall clock",
    state=NeedState.UNVERIFIED,
    met_by=MetBy.HOST,
    why="no time service has set it on this boot yet",
)


def _tell_clock(facts: Facts) -> Problem:
    return Problem(
        "decide",
        "ClockNotSet",
        f"{facts.instance.uuid} is brought back only after a short downtime, whose length is unknown: no time "
        "service has set the clock on this boot yet. It is tried again when one has; where there is none any more, set "
        'resume.clock = "trusted"',
    )


def _tell_wrong_metadata(facts: Facts) -> Problem | None:
    if not facts.wrong_metadata:
        return None
    uuid = facts.instance.uuid
    return Problem("decide", "MetadataWrong", f"{uuid} is not brought back: of its metadata {facts.wrong_metadata}")


FROM_SECOND_LOOK: tuple[Rule, ...] = (
    Rule(
        "ran_before",
        lambda f: f.resume_guests and _went_down(f) and ResumeStateOnHostBoot.verb not in f.done,
        always(ResumeStateOnHostBoot()),
        Next.END,
        "It ran when the host went down.",
        condition=(
            "The record says that the guest ran, it does not run now, `resume.guests` (and the metadata of the "
            "instance) has it brought back, and the run of this boot that was cut short has not done so."
        ),
    ),
    Rule(
        "resumed_before",
        lambda f: f.resume_guests and _went_down(f),
        nothing,
        Next.END,
        "It was brought back by the run that was cut short, and was stopped since.",
        condition="As `ran_before`, but the run of this boot that was cut short has brought the guest back already.",
    ),
    _withheld(
        "resumed_on_boot_only",
        Withheld.ONCE_A_BOOT,
        "It ran once, but this host has been brought back since it booted: it was stopped since.",
        condition=(
            "The record says that the guest ran, it does not run now, and guests are brought back once a boot "
            '(`resume.guests = "on_host_boot"`), which was done.'
        ),
    ),
    _withheld(
        "away_too_long",
        Withheld.AWAY_TOO_LONG,
        "It ran when the host went down, and the host was down for longer than a guest may be brought back after.",
        condition=(
            "The record says that the guest ran, it does not run now, and the host was down for longer than "
            "`resume.max_downtime` or the metadata of the instance allows."
        ),
    ),
    _withheld(
        "resume_not_wanted",
        Withheld.METADATA,
        "It ran when the host went down; its metadata keeps it down.",
        _tell_wrong_metadata,
        condition=(
            "The record says that the guest ran, it does not run now, and the metadata of the instance keeps it down."
        ),
    ),
    Rule(
        "clock_not_set",
        lambda f: f.withheld is Withheld.CLOCK and _went_down(f),
        nothing,
        Next.END,
        "It ran when the host went down; how long ago is unknown before the clock is set.",
        Kind.DEFERRED,
        needs=(CLOCK,),
        tells=_tell_clock,
        condition=(
            "The record says that the guest ran, it does not run now, and the length of the downtime matters and "
            "is not known before a time service has set the clock."
        ),
    ),
    Rule(
        "resume_not_known",
        lambda f: f.withheld is Withheld.UNKNOWN and _went_down(f),
        nothing,
        Next.END,
        "It ran when the host went down, or was brought back since: the journal of this boot was lost.",
        Kind.DEFERRED,
        tells=_tell_not_known,
        condition=(
            "The record says that the guest ran, it does not run now, and the journal of this boot is lost, or "
            "the length of the downtime matters and is not known."
        ),
    ),
    Rule(
        "runs",
        lambda f: f.look is PowerState.RUNNING,
        always(EnsureFilteringRules()),
        Next.END,
        "It runs: its firewall rules are put in place.",
        condition="The guest runs.",
    ),
    Rule(
        "stays_off",
        lambda _f: True,
        nothing,
        Next.END,
        "It does not run and is not required to: it stays as it is.",
        condition="None of the rules above.",
    ),
)
