"""Parser of the states that ``bringup explain`` gets, into the facts that the rules read."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bringup.daemon.decisions.forecast import Forecast, foresee, undisturbed
from bringup.daemon.decisions.from_record import EVACUATION_STATUSES
from bringup.daemon.decisions.instances import Instance, Migration
from bringup.daemon.decisions.rules import Facts
from bringup.daemon.decisions.states import PowerState, UnknownState, VmState, power_state, task_state, vm_state
from bringup.daemon.recovery.load_records import LIVE_MIGRATION_RUNNING

OWN, OTHER = "own", "other"
GONE = "gone"
"""Power state of a guest that does not exist; Nova reads it as NOSTATE."""
# Names of our fields in tables of Nova's decisions, whose rows are accepted as they are.
SYNONYMS = {"db_power": "power_state", "drv_power1": "look", "drv_power2": "second_look"}
FOLLOWS = "drv_power"
"""The first power state of such a row; the second one follows from the actions in between."""
FIELDS = (
    "vm_state",
    "task_state",
    "power_state",
    "look",
    "second_look",
    "host",
    "own_host",
    "resume",
    "system_metadata",
    "old_vm_state",
    "evacuation",
    "live_migration",
    "id",
)
_POWER = ", ".join(f"{state.name.lower()} ({state.value})" for state in PowerState)


class NotAState(Exception):
    """A state that is not valid; the message names the field and its valid values."""


@dataclass(frozen=True, slots=True)
class Question:
    """State to explain."""

    facts: Facts
    look: PowerState | None
    second_look: PowerState | None
    has_guest: bool | None
    follows: bool
    """The guest changes its state only by our actions."""

    def forecast(self) -> Forecast:
        """Return what a run would do."""
        forecast = foresee(self.facts, self.look, self.second_look, has_guest=self.has_guest)
        if self.follows and self.look is not None:
            return Forecast((undisturbed(forecast, self.look),))
        return forecast


def read_state(document: Any) -> Question:
    """Parse a state.

    :raises NotAState: a field is missing, unknown or wrong.
    """
    if not isinstance(document, dict):
        raise NotAState("a state is a JSON object with at least vm_state")
    fields = _renamed(document)
    look_given = fields.get("look")
    look = _look(fields, "look")
    host, own_host = _hosts(fields)
    instance = Instance(
        uuid="",
        host=host,
        vm_state=_vm_state(fields),
        task_state=task_state(_text(fields, "task_state")),
        power_state=_power_state(fields, "power_state"),
        system_metadata=_system_metadata(fields),
    )
    facts = Facts(
        instance=instance,
        host=own_host,
        resume_guests=_flag(fields, "resume"),
        evacuation=_evacuation(fields, own_host),
        live_migration=_migration("live-migration", LIVE_MIGRATION_RUNNING, own_host)
        if _flag(fields, "live_migration")
        else None,
    )
    has_guest = None if look is None else look_given != GONE
    return Question(facts, look, _look(fields, "second_look"), has_guest, FOLLOWS in document)


def _renamed(document: Mapping[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, value in document.items():
        if value == "*" or (isinstance(value, list) and name != "id"):
            raise NotAState(f"{name} has several values: give one")
        ours = "look" if name == FOLLOWS else SYNONYMS.get(name, name)
        if ours == "outcome":
            continue
        if ours not in FIELDS:
            raise NotAState(f"{name}: unknown field; the fields are {', '.join(FIELDS)}")
        if ours in fields:
            raise NotAState(f"{ours} is given twice: {name} is another name for it")
        fields[ours] = value
    return fields


def _vm_state(fields: Mapping[str, Any]) -> VmState | UnknownState:
    found = _text(fields, "vm_state")
    if found is None:
        raise NotAState("vm_state is missing: give one of Nova's states, such as active")
    return vm_state(found)


def _text(fields: Mapping[str, Any], name: str) -> str | None:
    value = fields.get(name)
    if value is None or (isinstance(value, str) and value):
        return value
    raise _wrong(name, value, "text")


def _flag(fields: Mapping[str, Any], name: str) -> bool:
    value = fields.get(name)
    if value is None or isinstance(value, bool):
        return bool(value)
    raise _wrong(name, value, "true or false")


def _power_state(fields: Mapping[str, Any], name: str) -> PowerState | UnknownState | None:
    value = fields.get(name)
    if isinstance(value, str) and value.upper() in PowerState.__members__:
        return PowerState[value.upper()]
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= 10:  # noqa: PLR2004 - an int32
        value = int(value)
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return power_state(value)
    raise _wrong(name, value, f"null, a number, or one of {_POWER}")


def _look(fields: Mapping[str, Any], name: str) -> PowerState | None:
    if fields.get(name) == GONE:
        return PowerState.NOSTATE
    found = _power_state(fields, name)
    if isinstance(found, UnknownState):
        raise _wrong(name, found.value, f"{GONE}, or one of {_POWER}")
    return found


def _hosts(fields: Mapping[str, Any]) -> tuple[str, str]:
    host, own_host = _text(fields, "host"), _text(fields, "own_host")
    if own_host is not None:
        return (own_host if host in (None, OWN) else host or OWN), own_host
    if host in (None, OWN, OTHER):
        return host or OWN, OWN
    raise _wrong("host", host, f'"{OWN}" or "{OTHER}", or any name with own_host beside it')


def _system_metadata(fields: Mapping[str, Any]) -> dict[str, str]:
    found = fields.get("system_metadata")
    if found is None:
        found = {}
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise NotAState("system_metadata must be an object of texts")
    old_vm_state = _text(fields, "old_vm_state")
    return found if old_vm_state is None else {**found, "old_vm_state": old_vm_state}


def _evacuation(fields: Mapping[str, Any], own_host: str) -> Migration | None:
    status = _text(fields, "evacuation")
    if status is None:
        return None
    if status not in EVACUATION_STATUSES:
        raise _wrong("evacuation", status, f"one of {', '.join(EVACUATION_STATUSES)}")
    return _migration("evacuation", status, own_host)


def _migration(kind: str, status: str, own_host: str) -> Migration:
    return Migration(uuid=f"<{kind}>", instance_uuid="", migration_type=kind, status=status, source_compute=own_host)


def _wrong(name: str, value: object, right: str) -> NotAState:
    text = repr(value)
    return NotAState(f"{name} is {text if len(text) <= 60 else text[:60] + '...'}: give {right}")  # noqa: PLR2004 - a line
