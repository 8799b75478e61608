"""Checks of the whole plan, made before anything is done.  No I/O, no clock, no logger."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from bringup.daemon.decisions.actions import Delete, DestroyEvacuated, DestroyGuest
from bringup.daemon.decisions.from_evacuation import EVACUATED
from bringup.daemon.decisions.from_record import FROM_RECORD
from bringup.daemon.decisions.policies import Guards
from bringup.daemon.decisions.rules import Facts, Guard, Hold, decide

RELEASE = "bringup release"
ALL = "*"


def quarantined(
    all_facts: Sequence[Facts], guards: Guards, suspects: Mapping[str, int], released: Collection[str]
) -> list[Facts]:
    """Hold the instances that were in flight when the host died, too often in a row."""
    if not guards.quarantine_after:
        return list(all_facts)
    return [_quarantined(facts, guards, suspects, released) for facts in all_facts]


def _quarantined(facts: Facts, guards: Guards, suspects: Mapping[str, int], released: Collection[str]) -> Facts:
    uuid = facts.instance.uuid
    times = suspects.get(uuid, 0)
    if times < guards.quarantine_after or _is_released(uuid, released):
        return facts
    why = f"it was being worked on when the host died, {times} boots in a row; release it with: {RELEASE} {uuid}"
    return replace(facts, hold=Hold(Guard.QUARANTINED, why))


def is_destructive(facts: Facts, *, evacuated: bool) -> bool:
    """Check whether a plan destroys the guest."""
    steps = decide(EVACUATED if evacuated else FROM_RECORD, facts).steps
    return any(isinstance(step.action, Delete | DestroyGuest | DestroyEvacuated) for step in steps)


def held_together(
    own: Sequence[Facts],
    evacuated: Sequence[Facts],
    guards: Guards,
    *,
    guests: int,
    released: Collection[str],
) -> tuple[list[Facts], list[Facts]]:
    """Hold every destructive plan once there are more than the limits allow; released instances are exempt."""
    to_destroy = {
        facts.instance.uuid
        for group, are_evacuated in ((own, False), (evacuated, True))
        for facts in group
        if is_destructive(facts, evacuated=are_evacuated) and not _is_released(facts.instance.uuid, released)
    }
    if not guards.forbids(len(to_destroy), guests):
        return list(own), list(evacuated)
    hold = Hold(
        Guard.DESTRUCTION_HELD,
        f"{len(to_destroy)} guests were to be destroyed, of {guests} on this host; allowed are "
        f"{guards.destroy_at_most} and a share of {guards.destroy_share:g}; release them with: {RELEASE}",
    )

    def held(group: Sequence[Facts]) -> list[Facts]:
        return [replace(facts, hold=hold) if facts.instance.uuid in to_destroy else facts for facts in group]

    return held(own), held(evacuated)


def _is_released(uuid: str, released: Collection[str]) -> bool:
    return uuid in released or ALL in released
