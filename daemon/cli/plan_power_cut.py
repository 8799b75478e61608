"""What a power cut would leave behind: the question that a plan can answer while every guest runs."""

from collections.abc import Sequence
from dataclasses import replace

from bringup.daemon.cli.plan_host import Planned
from bringup.daemon.decisions.actions import Reboot, ResumeStateOnHostBoot, RevertMigration, Start
from bringup.daemon.decisions.outcomes import Kind
from bringup.daemon.storage.journal import Past

STARTS = (Reboot, ResumeStateOnHostBoot, RevertMigration, Start)


def next_boot(past: Past) -> Past:
    """Give what a run on the next boot would know, after a moment without power."""
    return replace(
        past,
        run_id="",
        attempt=1,
        settled={},
        in_flight={},
        resumed=frozenset(),
        boot_settled=False,
        held=frozenset(),
        memory_lost=False,
        downtime_s=0.0,
    )


def summary(planned: Sequence[Planned], resume: str) -> str:
    """Say how many guests would be started, and how many not."""
    open_ended = sum(each.course is None or each.problem is not None for each in planned)
    known = [each.course for each in planned if each.course is not None and each.problem is None]
    started = sum(any(isinstance(step.action, STARTS) for step in course.steps) for course in known)
    waiting = sum(course.kind in (Kind.HELD, Kind.DEFERRED) for course in known)
    off = len(known) - started - waiting
    told = [f"{started} would be started", f"{off} {'stays' if off == 1 else 'stay'} off"]
    if waiting:
        told.append(f"{waiting} would wait")
    if open_ended:
        told.append(f"of {open_ended} it cannot be said")
    why = '; nothing that ran is started: resume.guests = "never"' if resume == "never" else ""
    return f"after a power cut: {', '.join(told)}{why}"
