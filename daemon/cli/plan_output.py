"""How a plan is written: aligned lines for a person, JSON lines for a program."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from bringup.daemon.cli.plan_host import Planned
from bringup.daemon.decisions.actions import CompletePartialDeletion, Delete, DestroyEvacuated, DestroyGuest
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
from bringup.daemon.decisions.forecast_values import Course
from bringup.daemon.decisions.from_needs import is_tried_again
from bringup.daemon.decisions.outcomes import Kind
from bringup.daemon.decisions.rules import Step
from bringup.daemon.text import one_line_of_json, printable

DESTRUCTIVE = (CompletePartialDeletion, Delete, DestroyEvacuated, DestroyGuest)
MARK = "!"
_WIDEST = 40


def destroys(steps: Sequence[Step]) -> bool:
    """Tell whether a guest or a row is lost."""
    return any(isinstance(step.action, DESTRUCTIVE) for step in steps)


def json_lines(planned: Sequence[Planned]) -> Iterator[str]:
    """Write a JSON line an instance."""
    for each in planned:
        yield one_line_of_json(_json(each))


def _json(planned: Planned) -> dict[str, Any]:
    instance, forecast, course = planned.instance, planned.forecast, planned.course
    look = forecast.waits_for
    told: Course | Any = forecast if course is None else course
    document: dict[str, Any] = {
        "uuid": instance.uuid,
        "name": instance.name,
        "display_name": instance.display_name,
        "host": instance.host,
        "vm_state": state_word(instance.vm_state),
        "task_state": None if instance.task_state is None else state_word(instance.task_state),
        "power_state": None if instance.power_state is None else state_word(instance.power_state),
        "look": None if planned.look is None else state_word(planned.look),
        "because": list(told.because),
        "why": list(told.why),
        "steps": [step_json(step) for step in told.steps],
        "kind": None if course is None else course.kind.value,
        "destroys": _may_destroy(planned),
        "waits_for_look": None if look is None or course is not None else look.value,
        "problem": planned.problem,
        "needs": [need_json(need) for need in planned.needs],
        "tried_again": is_tried_again(planned.needs),
    }
    if course is not None and course.told:
        document["told"] = told_json(course)
    return document if course is not None else {**document, "courses": courses_json(forecast)}


def text_lines(planned: Sequence[Planned], host: str) -> Iterator[str]:
    """Write aligned lines, an instance each where it is known what would happen, then the counts."""
    rows = [_row(each) for each in planned]
    if rows:
        header = ("", "uuid", "name", "vm/task/power", "guest", "because", "what")
        widths = [min(_WIDEST, max(map(len, column))) for column in zip(header, *rows, strict=True)]
        for row, each in zip((header, *rows), (None, *planned), strict=True):
            yield _aligned(row, widths)
            if each is not None:
                yield from _branches(each)
                yield from (f"       needs: {printable(need_words(need))}" for need in each.needs)
                yield from _told(each)
        yield ""
    yield from _counts(planned, rows, host)


def _row(planned: Planned) -> tuple[str, ...]:
    instance = planned.instance
    told: Course | Any = planned.forecast if planned.course is None else planned.course
    states = (instance.vm_state, instance.task_state, instance.power_state)
    return (
        MARK if _may_destroy(planned) else " ",
        instance.uuid,
        printable(instance.name or instance.display_name),
        printable("/".join(state_word(state) for state in states)),
        "?" if planned.look is None else state_word(planned.look),
        _because(told.because, open_ended=planned.course is None),
        f"cannot look: {printable(planned.problem)}" if planned.problem else _what(told.steps, planned.course),
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
    """Say, where more than one thing may happen, when which does: only what is not said above."""
    forecast = planned.forecast
    if planned.course is not None:
        return
    for course in forecast.courses:
        names, steps = course.because[len(forecast.because) :], course.steps[len(forecast.steps) :]
        mark = MARK if destroys(course.steps) else " "
        what = _what(steps, course)
        yield f"{mark}      {condition(course, forecast)}: {_because(names, open_ended=False)}: {what}"


def _told(planned: Planned) -> Iterator[str]:
    """Say what a person should know."""
    for one in () if planned.course is None else planned.course.told:
        yield f"       {printable(one.message)}"


def _counts(planned: Sequence[Planned], rows: Sequence[Sequence[str]], host: str) -> Iterator[str]:
    counted: Counter[tuple[str, str, str]] = Counter()
    for each, (mark, *_facts, because, what) in zip(planned, rows, strict=True):
        counted[because, "cannot look at the guest" if each.problem else what, mark] += 1
    yield f"{host}: {len(planned)} instance{'' if len(planned) == 1 else 's'}"
    width = max((len(because) for because, _what, _mark in counted), default=0)
    for (because, what, mark), count in sorted(counted.items(), key=lambda item: (-item[1], item[0])):
        yield f"{mark} {count:>6}  {because.ljust(width)}  {what}"
    deferred = [each for each in planned if each.is_deferred]
    if deferred:
        yield f"  {len(deferred)} would be deferred{_of_those(deferred)}"
    destroyed = sum(row[0] == MARK for row in rows)
    if destroyed:
        yield f"{MARK} {destroyed} would lose the guest or the row"


def _of_those(deferred: Sequence[Planned]) -> str:
    """Say who is waited for."""
    again = sum(is_tried_again(each.needs) for each in deferred)
    parts = [f"{again} tried again by themselves"] if again else []
    if len(deferred) > again:
        parts.append(f"{len(deferred) - again} left to nova-compute or a person")
    return f": {', '.join(parts)}"


def _may_destroy(planned: Planned) -> bool:
    courses = planned.forecast.courses if planned.course is None else (planned.course,)
    return any(destroys(course.steps) for course in courses)
