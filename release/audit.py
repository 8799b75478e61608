"""Comparison of pins and floors with the advisories in this folder, and their date.

It needs no network, and knows no more than ``advisories.json`` (OSV's format): `make audit` asks an advisory service.
Ends with 1 where one applies.
"""

import datetime as dt
import json
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
ADVISORIES = Path(__file__).with_name("advisories.json")


def pins(text: str) -> dict[str, Version]:
    """Return the versions of a file of constraints."""
    lines = (line.split("==") for line in text.splitlines() if line and not line.startswith("#"))
    return {canonicalize_name(name): Version(version) for name, version in lines}


def floors(project: Mapping[str, Any]) -> dict[str, Version]:
    """Return the lowest versions that a pyproject.toml allows at run time; 0 if it sets none."""
    table = project["project"]
    wanted = [*table["dependencies"], *(each for extra in table["optional-dependencies"].values() for each in extra)]
    found: dict[str, Version] = {}
    for requirement in map(Requirement, [*wanted, *project["build-system"]["requires"]]):
        lowest = [Version(each.version) for each in requirement.specifier if each.operator in (">=", "==")]
        name = canonicalize_name(requirement.name)
        found[name] = min([*lowest, *([found[name]] if name in found else [])], default=Version("0"))
    return found


def applying(advisories: list[dict[str, Any]], versions: Mapping[str, Version]) -> Iterator[str]:
    """Return a sentence for each advisory that applies to one of these versions."""
    for advisory in advisories:
        if "withdrawn" in advisory:
            continue
        for affected in advisory["affected"]:
            name = canonicalize_name(affected["package"]["name"])
            if name in versions and affected["package"]["ecosystem"] == "PyPI" and _affects(versions[name], affected):
                yield f"{name} {versions[name]}: {advisory['id']}, {advisory['summary']}"


def _affects(version: Version, affected: Mapping[str, Any]) -> bool:
    listed, ranges = affected.get("versions", []), affected.get("ranges", [])
    if not (listed or ranges):
        # It declares no version as unaffected.
        return True
    known = (each["events"] for each in ranges if each["type"] == "ECOSYSTEM")
    return version in map(Version, listed) or any(_is_in(version, events) for events in known)


def _is_in(version: Version, events: list[dict[str, str]]) -> bool:
    """Check whether the last event up to a version leaves it affected; events are in any order."""
    steps = [(Version(at), kind) for event in events for kind, at in event.items()]
    is_affected = False
    for at, kind in sorted(steps, key=lambda step: (step[0], step[1] != "introduced")):
        if kind == "introduced" and version >= at:
            is_affected = True
        elif (kind == "fixed" and version >= at) or (kind == "last_affected" and version > at):
            is_affected = False
    return is_affected


def main() -> int:
    """Print the advisories that apply; return the exit code."""
    kept = json.loads(ADVISORIES.read_text())
    days = (dt.datetime.now(dt.UTC).date() - dt.date.fromisoformat(kept["of"])).days
    pinned = pins((ROOT / "constraints.txt").read_text())
    lowest = floors(tomllib.loads((ROOT / "pyproject.toml").read_text()))
    found = [f"pinned: {each}" for each in applying(kept["advisories"], pinned)]
    found += [f"let in by pyproject.toml: {each}" for each in applying(kept["advisories"], lowest)]
    count = len(kept["advisories"])
    print(*found, sep="\n", end="\n" if found else "")
    print(
        f"{len(found)} of {count} advisories apply to {len(pinned)} pins and {len(lowest)} floors. They were written "
        f"down on {kept['of']}, {days} days ago: newer ones are not known here (make audit asks a service)."
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
