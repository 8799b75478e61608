"""The layers, each over the one before: settings file, ``BRINGUP_*`` environment, ``--set`` on the command line."""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bringup.daemon.settings.keys import is_text
from bringup.daemon.settings.model import SECTIONS
from bringup.daemon.settings.problems import unknown_variable, wrong_override, wrong_section
from bringup.drivers.files import open_input

PREFIX = "BRINGUP_"
CONFIG = "BRINGUP_CONFIG"
# BRINGUP_ORACLE belongs to the test suite, which starts this program with the environment that it has itself.
# BRINGUP_BOOT_ID is the unit's, of bringup.daemon.storage.boot.
NOT_SETTINGS = frozenset({CONFIG, "BRINGUP_BOOT_ID", "BRINGUP_ORACLE"})
DEFAULT_FILE = Path("/etc/bringup/bringup.toml")
LARGEST_FILE = 1 << 20
BETWEEN_KEYS = re.compile(r"[={}\[\],\n]")
MOST_DOTS = 1_000_000
"""Of the squares of the dots of each key, or whatever else stands between these."""
PLACE = re.compile(r"\(at line (\d+), column (\d+)\)")


@dataclass(slots=True)
class Layers:
    """What was given: the values by section and key, where each comes from, and what could not even be read."""

    values: dict[str, dict[str, Any]] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def put(self, section: str, key: str, value: Any, *, source: str) -> None:
        """Set a value over what a layer before said."""
        self.values.setdefault(section, {})[key] = value
        self.sources[f"{section}.{key}"] = source


def read_layers(
    config: Path | None, *, environment: Mapping[str, str], overrides: Sequence[str], nova_conf: Sequence[str] = ()
) -> Layers:
    """Read all layers; nothing is judged yet but whether it can be read.

    :param nova_conf: what the command line says for keystone.nova_conf
    """
    layers = Layers()
    path = config or _file_of(environment)
    if path is not None:
        _read_file(path, layers)
    _read_environment(environment, layers)
    _read_overrides(overrides, layers)
    if nova_conf:
        layers.put("keystone", "nova_conf", list(nova_conf), source="--nova-conf")
    return layers


def _file_of(environment: Mapping[str, str]) -> Path | None:
    if environment.get(CONFIG):
        return Path(environment[CONFIG])
    try:
        DEFAULT_FILE.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        # It may well be there: reading it says why it cannot be read.
        pass
    return DEFAULT_FILE


def _read_file(path: Path, layers: Layers) -> None:
    try:
        tables = _parse(path)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        right = "give a file that this user can read"
        if isinstance(error, PermissionError):
            right = "run it as root or as a user of the group that may (bringup), or give a file of your own (--config)"
        layers.problems.append(f"settings file {path} cannot be read ({reason}): {right}")
        return
    except ValueError as error:
        layers.problems.append(f"settings file {path}{error}")
        return
    for section, table in tables.items():
        if section in SECTIONS and not isinstance(table, dict):
            layers.problems.append(wrong_section(section, table, source=str(path)))
            continue
        # A key outside any section is kept under the empty name, so that it is reported as unknown.
        inside = (section, table) if isinstance(table, dict) else ("", {section: table})
        for key, value in inside[1].items():
            layers.put(inside[0], key, value, source=str(path))
        if not inside[1] and section not in SECTIONS:
            layers.values.setdefault(section, {})
            layers.sources[section] = str(path)


def _parse(path: Path) -> dict[str, Any]:
    """Read TOML.  Raises ``OSError``, or ``ValueError`` whose text follows the name of the file."""
    with open_input(path) as stream:
        content = stream.read(LARGEST_FILE + 1)
    if len(content) > LARGEST_FILE:
        raise ValueError(f" is larger than {LARGEST_FILE} bytes: this is no settings file")
    try:
        return _loads(content.decode())
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f", line {line}: this is not UTF-8; save the file as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        place = PLACE.search(str(error))
        *before, last = content.decode().split("\n")
        where = f"line {place[1]}, column {place[2]}" if place else f"line {len(before) + 1}, column {len(last) + 1}"
        what = PLACE.sub("", str(error)).replace("(at end of document)", "").strip()
        raise ValueError(f", {where}: this is not TOML ({what})") from None
    except (ValueError, RecursionError):
        raise ValueError(": a value in it is too large or nested too deep") from None


def _loads(text: str) -> dict[str, Any]:
    """Parse TOML.  Raises ``ValueError``.

    tomllib takes memory with the square of the parts of a dotted key: 40 kB of them make gigabytes.
    """
    if sum(piece.count(".") ** 2 for piece in BETWEEN_KEYS.split(text)) > MOST_DOTS:
        raise ValueError("a key has too many parts")
    return tomllib.loads(text)


def _read_environment(environment: Mapping[str, str], layers: Layers) -> None:
    for variable in sorted(environment):
        if not variable.startswith(PREFIX) or variable in NOT_SETTINGS:
            continue
        section, separator, key = variable.removeprefix(PREFIX).lower().partition("__")
        if not separator or variable != variable.upper():
            layers.problems.append(unknown_variable(variable))
            continue
        layers.put(section, key, _value(section, key, environment[variable]), source=variable)


def _read_overrides(overrides: Sequence[str], layers: Layers) -> None:
    for text in overrides:
        path, equals, value = text.partition("=")
        section, dot, key = path.strip().partition(".")
        if not (equals and dot and section and key):
            layers.problems.append(wrong_override(text))
            continue
        layers.put(section, key, _value(section, key, value), source="--set")


def _value(section: str, key: str, text: str) -> Any:
    """Read text as TOML if it is TOML, as a string otherwise; a key whose type is text takes it as it is."""
    return text if is_text(f"{section}.{key}") else next(_as_toml(text), text)


def _as_toml(text: str) -> Iterator[Any]:
    try:
        found = _loads(f"value = {text}")
    except (ValueError, RecursionError):
        return
    if len(found) == 1:
        yield found["value"]
