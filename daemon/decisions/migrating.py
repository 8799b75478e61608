"""Whether an instance is on its way to another host, or only a row says so.

Nova sets the task state of an instance before it makes the row of its migration, and clears it after the last write of
that row.  So a row that is not final says nothing where the record has another task state, or none.  The same is true
where this host has booted since the row was last written: what was on its way then is not any more.

Evacuations are not considered here: their source is down while they run
(:mod:`bringup.daemon.decisions.from_evacuation`).
"""

from collections.abc import Iterable, Sequence

from bringup.daemon.decisions.instances import Migration
from bringup.daemon.decisions.outcomes import Problem
from bringup.daemon.decisions.rules import Facts
from bringup.daemon.decisions.states import PowerState, TaskState, UnknownState, VmState

LIVE_MIGRATION = "live-migration"
EVACUATION = "evacuation"
REVERTED = ("migration", "resize")
"""What a roll-back rolls back."""
MOVES = (EVACUATION, LIVE_MIGRATION, *REVERTED)
AWAY_STATUSES = ("accepted", "queued", "preparing", "pre-migrating", "migrating", "running", "post-migrating")
"""Of a migration that is not over."""
_TASKS = {
    LIVE_MIGRATION: frozenset({TaskState.MIGRATING}),
    **dict.fromkeys(
        REVERTED,
        frozenset(
            {
                TaskState.RESIZE_PREP,
                TaskState.RESIZE_MIGRATING,
                TaskState.RESIZE_MIGRATED,
                TaskState.RESIZE_FINISH,
            }
        ),
    ),
}


def leaving(moves: Iterable[Migration], here: str) -> list[Migration]:
    """Return the migrations that lead away from a host; a resize on one host leads nowhere."""
    return [
        move
        for move in moves
        if move.migration_type in MOVES and move.source_compute == here and move.dest_compute != here
    ]


def may_be_moving(move: Migration, task_state: TaskState | UnknownState | None) -> bool:
    """Check whether the task state of the record allows its row to be current."""
    if move.migration_type == EVACUATION or isinstance(task_state, UnknownState):
        return True
    return task_state in _TASKS.get(move.migration_type, ())


def is_left_over(move: Migration, facts: Facts) -> bool:
    """Check whether a row is stale."""
    if not may_be_moving(move, facts.instance.task_state):
        return True
    return facts.booted_at is not None and move.updated_at is not None and move.updated_at < facts.booted_at


def left_over(before: Facts, after: Facts) -> list[Migration]:
    """Return the rows that are stale when a run is done with an instance, without those that it has ended."""
    return [move for move in after.moves if is_left_over(move, after) and not _has_a_rule(move, before)]


def _has_a_rule(move: Migration, before: Facts) -> bool:
    if move.migration_type == LIVE_MIGRATION:
        is_aborted = before.instance.task_state is TaskState.MIGRATING and move == before.live_migration
        return is_aborted or _may_have_gone(before)
    return before.instance.task_state is TaskState.RESIZE_MIGRATING


def _may_have_gone(facts: Facts) -> bool:
    return facts.guest_gone and facts.instance.vm_state in (VmState.ACTIVE, VmState.PAUSED)


def under_way(facts: Facts) -> list[Migration]:
    """Return the migrations that were last written since this host has booted: they are under way."""
    return [
        move
        for move in facts.moves
        if facts.booted_at is not None and move.updated_at is not None and not is_left_over(move, facts)
    ]


def live_migrated_away(facts: Facts) -> Migration | None:
    """Return the live migration that most likely has moved the guest: its row is not over, and the guest is gone."""
    if not _may_have_gone(facts) or facts.look is not PowerState.NOSTATE:
        return None
    return next((move for move in reversed(facts.moves) if move.migration_type == LIVE_MIGRATION), None)


def _named(move: Migration) -> str:
    return f"{move.migration_type} {move.uuid} to {move.dest_compute or 'another host'}"


def tell_left_over(rows: Sequence[Migration], uuid: str) -> Problem:
    """Name the rows that are only left over."""
    named = ", ".join(f"{_named(move)} is {move.status}" for move in rows)
    return Problem(
        "decide",
        "MigrationLeftOver",
        f"the row{'s' if len(rows) > 1 else ''} {named}: left over, nobody moves {uuid} any more; openstack server "
        f"migration list --server {uuid} shows it",
    )


def tell_under_way(facts: Facts) -> Problem:
    """Name the move that somebody works on."""
    move = under_way(facts)[-1]
    return Problem(
        "decide",
        "Moving",
        f"{facts.instance.uuid} is on its way to another host: {_named(move)} is {move.status}, written since this "
        f"host has booted; nova-compute finishes or ends it",
    )


def tell_live_migrated_away(facts: Facts) -> Problem:
    """Name the host where the guest most likely runs, and what must not be done here."""
    move = live_migrated_away(facts)
    where = "another host" if move is None or move.dest_compute is None else move.dest_compute
    row = "" if move is None else f"live migration {move.uuid} to {where} is {move.status} and "
    return Problem(
        "decide",
        "LiveMigratedAway",
        f"{row}this host has no guest {facts.instance.uuid}: it most likely runs on {where}, and the last step was "
        f"lost. Do not hard reboot it while its record names {facts.host}: that starts it here on the same disks (Nova "
        f"bug 1414065). Look for it on {where} (virsh list --all) first; its record must name the host where it is",
    )
