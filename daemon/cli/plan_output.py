"""Output of a plan: aligned lines of text, or JSON lines."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bringup.daemon.cli.plan_host import Planned
from bringup.daemon.decisions.actions import (
    CompletePartialDeletion,
    Delete,
    DestroyEvacuated,
    DestroyGuest,
    Reboot,
    ResumeStateOnHostBoot,
    RevertMigration,
    Start,
)
from bringup.daemon.decisions.describe import (
    condition,
    courses_json,
    need_json,
    need_words,
    state_word,
    step_json,
    told_json,
    words,
)
from bringup.daemon.decisions.forecast import Course
from bringup.daemon.decisions.from_needs import is_tried_again
from bringup.daemon.decisions.outcomes import Kind
from bringup.daemon.decisions.rules import Step
from bringup.daemon.text import counted, in_plain_words, labelled, one_line_of_json, printable

DESTRUCTIVE = (CompletePartialDeletion, Delete, DestroyEvacuated, DestroyGuest)
STARTS = (Reboot, ResumeStateOnHostBoot, RevertMigration, Start)
MARK = "!"
_WIDEST = 40


def destroys(steps: Sequence[Step]) -> bool:
    """Check whether the steps delete a guest or a row."""
    return any(isinstance(step.action, DESTRUCTIVE) for step in steps)


def json_lines(planned: Sequence[Planned]) -> Iterator[str]:
    """Return a JSON line for each instance."""
    for each in planned:
        yield one_line_of_json(_json(each))


def _json(planned: Planned) -> dict[str, Any]:
    instance, forecast, course = planned.instance, planned.forecast, planned.course
    look = forecast.waits_for
    known: Course | Any = forecast if course is None else course
    document: dict[str, Any] = {
        "uuid": instance.uuid,
        "name": instance.name,
        "display_name": instance.display_name,
        "host": instance.host,
        "vm_state": state_word(instance.vm_state),
        "task_state": None if instance.task_state is None else state_word(instance.task_state),
        "power_state": None if instance.power_state is None else state_word(instance.power_state),
        "look": None if planned.look is None else state_word(planned.look),
        "because": list(known.because),
        "why": list(known.why),
        "steps": [step_json(step) for step in known.steps],
        "kind": None if course is None else course.kind.value,
        "did": planned.did,
        "destroys": _may_destroy(planned),
        "waits_for_look": None if look is None or course is not None else look.value,
        "problem": planned.problem,
        "needs": [need_json(need) for need in planned.needs],
        "tried_again": is_tried_again(planned.needs),
        "priority": planned.priority,
        "after": list(planned.after),
        "ready": planned.ready,
        "order_ignored": list(planned.ignored),
    }
    if course is not None and course.told:
        document["told"] = told_json(course)
    return document if course is not None else {**document, "courses": courses_json(forecast)}


def text_lines(planned: Sequence[Planned], host: str) -> Iterator[str]:
    """Return an aligned line for each instance, with its possible courses where there are several, then the counts."""
    rows = [_row(each) for each in planned]
    if rows:
        header = ("", "name", "uuid", "vm/task/power", "guest", "did", "because", "what")
        names = {each.instance.uuid: each.instance.shown_name for each in planned}
        widths = [min(_WIDEST, max(map(len, column))) for column in zip(header, *rows, strict=True)]
        for row, each in zip((header, *rows), (None, *planned), strict=True):
            yield _aligned(row, widths)
            if each is not None:
                yield from _branches(each)
                yield from (f"       needs: {printable(need_words(need))}" for need in each.needs)
                yield from _order(each, names)
                yield from _remarks(each)
        yield ""
    yield from _rules(planned)
    yield from _counts(planned, rows, host)


def _row(planned: Planned) -> tuple[str, ...]:
    instance = planned.instance
    known: Course | Any = planned.forecast if planned.course is None else planned.course
    states = (instance.vm_state, instance.task_state, instance.power_state)
    return (
        MARK if _may_destroy(planned) else " ",
        printable(instance.shown_name),
        instance.uuid,
        printable("/".join(state_word(state) for state in states)),
        "?" if planned.look is None else state_word(planned.look),
        in_plain_words(planned.did),
        _because(known.because, open_ended=planned.course is None),
        f"cannot read the guest: {printable(planned.problem)}"
        if planned.problem
        else _what(known.steps, planned.course),
    )


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _because(names: Sequence[str], *, open_ended: bool) -> str:
    return " > ".join((*names, "?") if open_ended else names)


def _what(steps: Sequence[Step], course: Course | None) -> str:
    done = ", ".join(words(step.action) for step in steps)
    if course is None:
        return f"{done}, then it depends" if done else "it depends"
    return done or (f"nothing ({course.kind.value})" if course.kind is not Kind.INITIALIZED else "nothing")


def _branches(planned: Planned) -> Iterator[str]:
    """Return a line for each possible course and its condition, without what the courses share."""
    forecast = planned.forecast
    if planned.course is not None:
        return
    for course in forecast.courses:
        names, steps = course.because[len(forecast.because) :], course.steps[len(forecast.steps) :]
        mark = MARK if destroys(course.steps) else " "
        what = _what(steps, course)
        yield f"{mark}      {condition(course, forecast)}: {_because(names, open_ended=False)}: {what}"


def _order(planned: Planned, names: Mapping[str, str]) -> Iterator[str]:
    """Return its priority, what it waits for, and what orders nothing."""
    if planned.priority:
        yield f"       priority: {planned.priority}"
    if planned.after:
        yield f"       after: {', '.join(labelled(uuid, names.get(uuid, '')) for uuid in planned.after)}"
    yield from (f"       order: {printable(each)}" for each in planned.ignored)


def _remarks(planned: Planned) -> Iterator[str]:
    """Return the remarks of the course."""
    for one in () if planned.course is None else planned.course.told:
        yield f"       {printable(one.message)}"


def _counts(planned: Sequence[Planned], rows: Sequence[Sequence[str]], host: str) -> Iterator[str]:
    groups: Counter[tuple[str, str, str]] = Counter()
    done: Counter[str | None] = Counter(each.did for each in planned)
    for each, (mark, *_facts, because, what) in zip(planned, rows, strict=True):
        groups[because, "cannot read the guest" if each.problem else what, mark] += 1
    yield f"{host}: {len(planned)} instance{'' if len(planned) == 1 else 's'}"
    if planned:
        counts = {did or "not known yet": count for did, count in done.most_common()}
        yield f"planned: {counted(counts)}"
    width = max((len(because) for because, _what, _mark in groups), default=0)
    for (because, what, mark), count in sorted(groups.items(), key=lambda item: (-item[1], item[0])):
        yield f"{mark} {count:>6}  {because.ljust(width)}  {what}"
    deferred = [each for each in planned if each.is_deferred]
    if deferred:
        yield f"  {len(deferred)} would be deferred{_of_those(deferred)}"
    destroyed = sum(row[0] == MARK for row in rows)
    if destroyed:
        yield f"{MARK} {destroyed} would lose the guest or the row"


def _rules(planned: Sequence[Planned]) -> Iterator[str]:
    """Return a line for each rule in the plan: its name, and why it holds."""
    courses = [course for each in planned for course in ((each.course,) if each.course else each.forecast.courses)]
    rules = dict(sorted({rule for course in courses for rule in zip(course.because, course.why, strict=True)}))
    if not rules:
        return
    width = max(map(len, rules))
    yield "rules:"
    yield from (f"  {name.ljust(width)}  {why}" for name, why in rules.items())
    yield ""


def _of_those(deferred: Sequence[Planned]) -> str:
    """Return how many are retried automatically, and how many wait for others."""
    again = sum(is_tried_again(each.needs) for each in deferred)
    parts = [f"{again} retried automatically"] if again else []
    if len(deferred) > again:
        parts.append(f"{len(deferred) - again} wait for nova-compute or an operator")
    return f": {', '.join(parts)}"


def _may_destroy(planned: Planned) -> bool:
    courses = planned.forecast.courses if planned.course is None else (planned.course,)
    return any(destroys(course.steps) for course in courses)


def power_cut_summary(planned: Sequence[Planned], resume: str) -> str:
    """Return how many guests would be started after a power cut, and how many would not."""
    unknown = sum(each.course is None or each.problem is not None for each in planned)
    known = [each.course for each in planned if each.course is not None and each.problem is None]
    started = sum(any(isinstance(step.action, STARTS) for step in course.steps) for course in known)
    waiting = sum(course.kind in (Kind.HELD, Kind.DEFERRED) for course in known)
    off = len(known) - started - waiting
    parts = [f"{started} would be started", f"{off} {'stays' if off == 1 else 'stay'} off"]
    if waiting:
        parts.append(f"{waiting} would wait")
    if unknown:
        parts.append(f"{unknown} unknown")
    why = '; no guest that ran is started: resume.guests = "never"' if resume == "never" else ""
    return f"after a power cut: {', '.join(parts)}{why}"
