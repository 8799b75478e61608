"""Keys that say in which order guests are started: of flavors, of the host's rules and of an instance's metadata.

A value that is not understood, or that its author may not set, orders nothing and is described for ``bringup plan``.
No I/O, no clock, no logger.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from typing import Annotated, Any, Final, Literal, get_args

from bringup.daemon.decisions.instances import Instance
from bringup.daemon.text import quoted
from bringup.drivers.identifiers import canonical_uuid
from bringup.drivers.kinds import Parsed, Right, WrongEntries

Ready = Literal["agent", "quiet", "started"]
READY: Final = get_args(Ready)
PRIORITY_KEY: Final = "bringup:priority"
AFTER_KEY: Final = "bringup:after"
READY_KEY: Final = "bringup:ready"
PACE_KEYS: Final = (PRIORITY_KEY, AFTER_KEY, READY_KEY)
HIGHEST: Final = 100
MOST_AFTER: Final = 32
_NUMBER: Final = re.compile(r"-?[0-9]{1,3}")
_RIGHT_PRIORITY: Final = f"a whole number from -{HIGHEST} to {HIGHEST}"
_RIGHT_AFTER: Final = f"names or UUIDs of guests of this host, {MOST_AFTER} at most"
_RIGHT_READY: Final = f"one of {', '.join(READY)}"


@dataclass(frozen=True, slots=True)
class PaceKeys:
    """Values of the keys from one source, or from several merged."""

    priority: int | None = None
    """The higher, the earlier; None: not given, like 0."""
    after: tuple[str, ...] = ()
    """Names or UUIDs of guests that must be ready first."""
    ready: Ready | None = None
    """What shows that the guest is ready; None: whatever its definition allows."""
    problems: tuple[str, ...] = ()
    """Sentences on values that are ignored."""

    def over(self, other: "PaceKeys") -> "PaceKeys":
        """Return the values of this source, and those of ``other`` where this one has none."""
        return PaceKeys(
            other.priority if self.priority is None else self.priority,
            self.after or other.after,
            self.ready or other.ready,
            (*self.problems, *other.problems),
        )


NO_KEYS: Final = PaceKeys()


@dataclass(frozen=True, slots=True, kw_only=True)
class PaceRule:
    """One entry of ``pace.rules``: which instances it is for, and the values of their keys."""

    project: str | None = None
    flavor: str | None = None
    name: str | None = None
    """A pattern with ``*`` and ``?``, for the display name or the guest's name."""
    uuid: str | None = None
    keys: PaceKeys = field(default_factory=PaceKeys)

    def matches(self, instance: Instance) -> bool:
        """Check whether it is for an instance: everything that it gives must be the instance's."""
        return (
            (self.project is None or self.project == instance.project_id)
            and (self.flavor is None or self.flavor in flavor_names(instance.flavor))
            and (self.uuid is None or self.uuid == instance.uuid)
            and (self.name is None or any(fnmatchcase(name, self.name) for name in names_of(instance)))
        )


def names_of(instance: Instance) -> tuple[str, ...]:
    """Return the names that an instance goes by."""
    return tuple({name: None for name in (instance.display_name, instance.name) if name})


def flavor_names(flavor: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names and ids of a flavor, as Nova's API and its objects call them."""
    found = (flavor.get(key) for key in ("name", "original_name", "flavorid", "id"))
    return tuple(text for text in found if isinstance(text, str))


def keys_by_operator(instance: Instance, rules: Sequence[PaceRule]) -> PaceKeys:
    """Return what the host's rules say of an instance, the first that matches first, then its flavor's extra specs."""
    specs = instance.flavor.get("extra_specs")
    found = read_keys(specs, "its flavor's extra specs") if isinstance(specs, Mapping) else NO_KEYS
    for rule in reversed([rule for rule in rules if rule.matches(instance)]):
        found = rule.keys.over(found)
    return found


def read_keys(values: Mapping[str, Any], source: str) -> PaceKeys:
    """Read the keys of one source; a value that is invalid is ignored, with a sentence that names the source."""
    if not any(key in values for key in PACE_KEYS):
        return NO_KEYS
    problems: list[str] = []

    def wrong(key: str, right: str) -> None:
        problems.append(f"{key} in {source} is {quoted(str(values[key]))} and is ignored: give {right}")

    priority, after, ready = values.get(PRIORITY_KEY), values.get(AFTER_KEY), values.get(READY_KEY)
    number = _priority(priority)
    if priority is not None and number is None:
        wrong(PRIORITY_KEY, _RIGHT_PRIORITY)
    names = _after(after)
    if after is not None and not names:
        wrong(AFTER_KEY, f"{_RIGHT_AFTER}, with commas between them")
    kind = _ready(ready)
    if ready is not None and kind is None:
        wrong(READY_KEY, _RIGHT_READY)
    return PaceKeys(number, names, kind, tuple(problems))


def _priority(value: Any) -> int | None:
    """Return the number; None: it is none."""
    text = str(value).strip()
    if isinstance(value, bool) or not _NUMBER.fullmatch(text):
        return None
    return number if abs(number := int(text)) <= HIGHEST else None


def _after(value: Any) -> tuple[str, ...]:
    """Return the names, each once; none: they are too many, or the value is no text."""
    texts = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else []
    names = tuple({text.strip(): None for text in texts if isinstance(text, str) and text.strip()})
    return names if len(names) <= MOST_AFTER else ()


def _ready(value: Any) -> Ready | None:
    return next((kind for kind in READY if kind == value), None)


def parse_rules(value: Any) -> tuple[PaceRule, ...]:
    """Read ``pace.rules``.

    :raises WrongEntries: some entries are wrong.
    """
    entries = value if isinstance(value, list) else [value]
    found: list[PaceRule] = []
    problems: list[tuple[str, Any, str]] = []
    for index, entry in enumerate(entries):
        wrong = [(f"[{index}]{path}", given, right) for path, given, right in _problems_of(entry)]
        problems.extend(wrong)
        if not wrong:
            found.append(_rule(entry))
    if problems:
        raise WrongEntries(problems)
    return tuple(found)


_MATCHED: Final = tuple(key.name for key in fields(PaceRule) if key.name != "keys")
_GIVEN: Final = ("priority", "after", "ready")


def _problems_of(entry: Any) -> Iterator[tuple[str, Any, str]]:
    """Return for each wrong value of an entry its path, itself and what would be right."""
    if not isinstance(entry, dict):
        yield "", entry, "a table"
        return
    for key in sorted(entry.keys() - {*_MATCHED, *_GIVEN}, key=str):
        yield f".{key}", entry[key], f"one of the keys {', '.join((*_MATCHED, *_GIVEN))}"
    if not entry.keys() & set(_MATCHED):
        yield "", entry, f"one of {', '.join(_MATCHED)} at least, which say what the rule is for"
    if not entry.keys() & set(_GIVEN):
        yield "", entry, f"one of {', '.join(_GIVEN)} at least"
    for key, (is_right, right) in _KINDS.items():
        if key in entry and not is_right(entry[key]):
            yield f".{key}", entry[key], right


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value.strip() != ""


def _is_uuid(value: Any) -> bool:
    try:
        canonical_uuid(value)
    except ValueError:
        return False
    return True


_KINDS: Final[Mapping[str, tuple[Callable[[Any], bool], str]]] = {
    "project": (_is_text, "the id of a project"),
    "flavor": (_is_text, "the name or the id of a flavor"),
    "name": (_is_text, "a name, with * and ? for what may differ"),
    "uuid": (_is_uuid, "a UUID"),
    "priority": (lambda value: isinstance(value, int) and _priority(value) is not None, _RIGHT_PRIORITY),
    "after": (lambda value: bool(_after(value)), f"a list of {_RIGHT_AFTER}"),
    "ready": (lambda value: _ready(value) is not None, _RIGHT_READY),
}


def _rule(entry: Mapping[str, Any]) -> PaceRule:
    uuid = entry.get("uuid")
    return PaceRule(
        project=entry.get("project"),
        flavor=entry.get("flavor"),
        name=entry.get("name"),
        uuid=None if uuid is None else canonical_uuid(uuid),
        keys=PaceKeys(
            None if "priority" not in entry else _priority(entry["priority"]),
            _after(entry.get("after")),
            _ready(entry.get("ready")),
        ),
    )


PaceRules = Annotated[
    tuple[PaceRule, ...],
    Parsed(parse_rules),
    Right(
        'a list of tables such as { project = "...", priority = 50 }: project, flavor, name or uuid, with priority, '
        "after or ready"
    ),
]
