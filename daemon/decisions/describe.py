"""Actions, states and forecasts in a few words and as JSON values.  No I/O, no clock, no logger."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from enum import Enum
from typing import Any

from bringup.daemon.decisions.actions import Action, Reboot, RevertMigration, Save, SaveMigration
from bringup.daemon.decisions.forecast import POWER_STATES, Course, Forecast
from bringup.daemon.decisions.rules import Step
from bringup.daemon.decisions.states import PowerState, TaskState, UnknownState, VmState
from bringup.drivers.needs import MetBy, Need, NeedKind

_IT = {
    PowerState.NOSTATE: "gone or pending",
    PowerState.RUNNING: "running",
    PowerState.PAUSED: "paused",
    PowerState.SHUTDOWN: "shut down",
    PowerState.CRASHED: "crashed",
    PowerState.SUSPENDED: "suspended",
}
_MOST_NAMED = 3


def state_word(state: VmState | TaskState | PowerState | UnknownState | None) -> str:
    """Name a state as Nova's tools do: ``active``, ``reboot_started``, ``running``, ``none``; unknown as written."""
    if state is None:
        return "none"
    return state.name.lower() if isinstance(state, PowerState) else str(state.value)


def arguments_of(action: Action) -> Mapping[str, Any]:
    """Return the fields of an action as JSON values."""
    return {each.name: _plain(getattr(action, each.name)) for each in fields(action)}


def _plain(value: Any) -> Any:
    match value:
        case VmState() | TaskState() | PowerState():
            return state_word(value)
        case Enum():
            return value.value
        case Mapping():
            return {key: _plain(inner) for key, inner in value.items()}
        case tuple():
            return [_plain(inner) for inner in value]
        case _:
            return value


def words(action: Action) -> str:
    """Put an action into a few words, such as ``save task_state=none`` or ``reboot HARD``."""
    match action:
        case Save():
            pairs = (f"{name}={_plain(value) or 'none'}" for name, value in action.changes.items())
            return f"save {' '.join(pairs)}"
        case Reboot():
            return f"reboot {action.reboot_type.value}"
        case RevertMigration():
            return "finish_revert_migration, power on" if action.power_on else "finish_revert_migration, stay off"
        case SaveMigration():
            return f"save migration status={action.status}"
        case _:
            return action.verb


_MEETS = {
    MetBy.HOST: "this host may meet it by itself",
    MetBy.NOVA: "nova-compute meets it",
    MetBy.REVERT: "rolling back the resize that moved it aside meets it",
    MetBy.PERSON: "somebody must meet it",
}
_SHOWN_NEEDS = 5


def need_words(need: Need) -> str:
    """Put a need into words, such as ``disk /dev/sdb is absent (no such block device)``."""
    if need.kind is NeedKind.PAUSE:
        return f"starts are paused {need.why}"
    kind = need.kind.value.replace("_", " ")
    return f"{kind} {need.name} is {need.state.value}{f' ({need.why})' if need.why else ''}"


def missing(needs: Sequence[Need]) -> str:
    """Put needs that are not met into a sentence, with who can meet them; many are cut short."""
    paused = [need_words(need) for need in needs if need.kind is NeedKind.PAUSE]
    parts = paused + [
        f"{'; '.join(need_words(need) for need in group[:_SHOWN_NEEDS])}"
        f"{f' and {len(group) - _SHOWN_NEEDS} more' if len(group) > _SHOWN_NEEDS else ''}: {text}"
        for met_by, text in _MEETS.items()
        if (group := [need for need in needs if need.met_by is met_by and need.kind is not NeedKind.PAUSE])
    ]
    return "; ".join(parts)


def need_json(need: Need) -> dict[str, str]:
    """Return a need as JSON values."""
    return {
        "kind": need.kind.value,
        "name": need.name,
        "state": need.state.value,
        "met_by": need.met_by.value,
        "why": need.why,
    }


def condition(course: Course, forecast: Forecast) -> str:
    """Return the condition of a course, such as ``if running at the second look``; empty where it is the only one."""
    parts: list[str] = []
    if course.has_guest is not None and len({other.has_guest for other in forecast.courses}) > 1:
        parts.append("the hypervisor has its guest" if course.has_guest else "the hypervisor has no guest of it")
    for name, states, all_states in (
        ("first", course.first_look, {other.first_look for other in forecast.courses}),
        ("second", course.second_look, {other.second_look for other in forecast.courses}),
    ):
        if states and len(states) < len(POWER_STATES) and len(all_states) > 1:
            parts.append(f"{_one_of(states)} at the {name} look")
    return f"if {', '.join(parts)}" if parts else ""


def _one_of(states: tuple[PowerState, ...]) -> str:
    if len(states) <= _MOST_NAMED:
        return " or ".join(_IT[state] for state in states)
    missing = [_IT[state] for state in POWER_STATES if state not in states]
    return f"not {missing[0]}" if len(missing) == 1 else f"neither {' nor '.join(missing)}"


def course_json(course: Course) -> dict[str, Any]:
    """Return a course as JSON values."""
    document = {
        "because": list(course.because),
        "why": list(course.why),
        "steps": [step_json(step) for step in course.steps],
        "kind": course.kind.value,
        "did": None if course.did is None else course.did.value,
    }
    return {**document, "told": told_json(course)} if course.told else document


def told_json(course: Course) -> list[dict[str, str]]:
    """Return the notes of a course for an operator as JSON values."""
    return [{"error": one.error, "message": one.message} for one in course.told]


def step_json(step: Step) -> dict[str, Any]:
    """Return a step as JSON values."""
    return {"rule": step.rule, "action": step.action.verb, "arguments": dict(arguments_of(step.action))}


def courses_json(forecast: Forecast) -> list[dict[str, Any]]:
    """Return all courses as JSON values, each with its condition."""
    return [
        {
            "if": condition(course, forecast).removeprefix("if "),
            "has_guest": course.has_guest,
            "first_look": [state_word(state) for state in course.first_look],
            "second_look": [state_word(state) for state in course.second_look],
            **course_json(course),
        }
        for course in forecast.courses
    ]
