"""Scenario files: JSON, read and checked as a whole before a scenario is created.

The format is documented in ``docs/scenarios.md`` and in ``scenario.schema.json`` beside this module.
"""

import dataclasses
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import TypeAdapter, ValidationError

from bringup.drivers.files import open_input
from bringup.drivers.simulated.scenario import Fault, Scenario, SimulatedCapacity, SimulatedGuest, SimulatedNeed
from bringup.drivers.simulated.transitions import ACTIVE
from bringup.drivers.simulated.verbs import HOST_VERBS, NEED_NO_GUEST

FORMAT: Final = "bringup.scenario/1"
LIMIT_BYTES: Final = 64 * 2**20
SCHEMA: Final = Path(__file__).with_name("scenario.schema.json")
_SHOWN = 20
_WIDTH = 60
_PARTS: Final = {"guests": SimulatedGuest, "faults": Fault, "capacity": SimulatedCapacity}
_T = TypeVar("_T")
_SHORTER_TEXTS: Final = {
    "bool_type": "must be true or false",
    "dataclass_type": "must be an object",
    "tuple_type": "must be a list",
}


class ScenarioError(ValueError):
    """A scenario file cannot be used; ``problems`` has one sentence for each wrong place."""

    def __init__(self, path: Path, problems: Sequence[str]) -> None:
        """Store the problems of the file at ``path``."""
        shown = [f"{path}: {problem}" for problem in problems[:_SHOWN]]
        if len(problems) > _SHOWN:
            shown.append(f"{path}: and {len(problems) - _SHOWN} more problems")
        super().__init__("\n".join(shown))
        self.path = path
        self.problems = tuple(problems)


def read_scenario(path: Path, *, limit_bytes: int = LIMIT_BYTES) -> Scenario:
    """Read a scenario file.

    :raises ScenarioError: it cannot be read, is longer than ``limit_bytes``, or is not right; with all that is wrong.
    """
    document = _read_json(path, limit_bytes)
    problems = list(_problems_across(document))
    if document.pop("format", None) != FORMAT:
        problems.insert(0, f'format: must be "{FORMAT}"')
    try:
        scenario: Scenario = adapter_of(Scenario).validate_python(document)
    except ValidationError as error:
        problems += [_sentence(problem) for problem in error.errors(include_url=False)]
        raise ScenarioError(path, problems) from None
    if problems:
        raise ScenarioError(path, problems)
    return scenario


def dump_scenario(scenario: Scenario) -> str:
    """Return a scenario as text that :func:`read_scenario` accepts."""
    plain = adapter_of(Scenario).dump_python(scenario, mode="json", exclude_defaults=True)
    return json.dumps({"format": FORMAT, **plain}, indent=2, ensure_ascii=False) + "\n"


@cache
def adapter_of(kind: type[_T]) -> TypeAdapter[_T]:
    """Return the adapter for values of ``kind``; created on first use, since that takes a while."""
    return TypeAdapter(kind)


def _read_json(path: Path, limit_bytes: int) -> dict[str, Any]:
    try:
        with open_input(path) as file:
            raw = file.read(limit_bytes + 1)
    except OSError as error:
        raise ScenarioError(path, [f"cannot be read: {error.strerror}"]) from error
    if len(raw) > limit_bytes:
        raise ScenarioError(path, [f"is longer than {limit_bytes} bytes, the most that a scenario may have"])
    try:
        document = json.loads(raw.decode("utf-8"), object_pairs_hook=_object, parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise ScenarioError(path, [f"is not UTF-8: byte {error.start} is 0x{raw[error.start]:02x}"]) from error
    except json.JSONDecodeError as error:
        ends_early = error.msg.startswith("Unterminated") or error.pos >= len(error.doc.rstrip())
        where = f"line {error.lineno}, column {error.colno}" + ("; is it truncated?" if ends_early else "")
        raise ScenarioError(path, [f"is not JSON: {error.msg} at {where}"]) from error
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ScenarioError(path, [f"is not JSON that can be used: {reason}"]) from error
    if not isinstance(document, dict):
        raise ScenarioError(path, [f"is a JSON {_shown(document)}; must be an object"])
    return document


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        twice = sorted(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"an object has the key {', '.join(map(_shown, twice[:_SHOWN]))} more than once")
    return document


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _problems_across(document: dict[str, Any]) -> Iterator[str]:
    """Return the problems between entries; those within one are found elsewhere."""
    places: dict[str, list[int]] = defaultdict(list)
    active = 0
    for index, guest in _objects(document.get("guests")):
        if isinstance(guest.get("uuid"), str):
            places[guest["uuid"].lower()].append(index)
        active += guest.get("power_state", "running") in [state.name.lower() for state in ACTIVE]
    for uuid, indexes in places.items():
        if len(indexes) > 1:
            every = " and ".join(f"guests[{index}]" for index in indexes[:_SHOWN])
            yield f"{every}: all have the uuid {_shown(uuid)}; it must be unique"
    capacity = document.get("capacity")
    room = capacity.get("running") if isinstance(capacity, dict) else None
    if isinstance(room, int) and 0 <= room < active:
        yield f"capacity.running = {room}: must be at least {active}, the running and paused guests of this scenario"
    for index, fault in _objects(document.get("faults")):
        target, verb = fault.get("uuid"), fault.get("verb")
        if not isinstance(target, str) or not isinstance(verb, str):
            continue
        if verb in HOST_VERBS:
            yield f"faults[{index}].uuid = {_shown(target)}: must be absent, {verb} is not about a guest"
        elif target.lower() not in places and verb not in NEED_NO_GUEST:
            yield f"faults[{index}].uuid = {_shown(target)}: must be the uuid of a guest of this scenario"


def _objects(entries: object) -> Iterator[tuple[int, dict[str, Any]]]:
    for index, entry in enumerate(entries if isinstance(entries, list) else ()):
        if isinstance(entry, dict):
            yield index, entry


def _part(place: Sequence[Any]) -> Any:
    if len(place) <= 1:
        return Scenario
    return SimulatedNeed if "needs" in place[:-1] else _PARTS[str(place[0])]


def _sentence(problem: Any) -> str:
    place, kind, value = problem["loc"], problem["type"], _shown(problem["input"])
    key = "".join(f"[{step}]" if isinstance(step, int) else f".{step[:_WIDTH]}" for step in place if step != "[key]")
    key = key.lstrip(".") or "the scenario"
    match kind:
        case "unexpected_keyword_argument" | "extra_forbidden":
            known = dataclasses.fields(_part(place))
            return f"{key}: unknown key; must be one of {', '.join(field.name for field in known)}"
        case "missing":
            return f"{key}: is missing"
        case "value_error":
            return f"{key} = {value}: {problem['ctx']['error']}"
        case _:
            right = _SHORTER_TEXTS.get(kind) or problem["msg"].replace("Input should", "must")
            return f"{key} = {value}: {right}"


def _shown(value: object) -> str:
    try:
        text = json.dumps(value, default=str, ensure_ascii=False)
    except (ValueError, RecursionError):
        return type(value).__name__
    return text if len(text) <= _WIDTH else text[:_WIDTH] + "..."
