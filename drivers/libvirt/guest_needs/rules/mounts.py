"""File systems that are mounted, and that should be, parsed from the files that list them.  Pure."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

# Entries of fstab that are no mount points.
_NOT_FILES: Final = frozenset({"swap", "none", "ignore"})
_HASHED: Final = re.compile(r"(.*/mnt/[0-9a-f]{32})(?:/.*)?")
FEWEST: Final = 6


@dataclass(frozen=True, slots=True)
class Mounted:
    """A line of ``/proc/self/mountinfo``."""

    point: str
    device: str
    """Major and minor."""
    root: str
    """The folder of the file system that is mounted there."""
    type: str
    source: str


@dataclass(frozen=True, slots=True)
class Mounts:
    """Mounts by mount point; the last of several counts."""

    at: Mapping[str, Mounted] = field(default_factory=dict)

    def covering(self, path: str) -> Mounted | None:
        """Return the mount at a path, or the nearest above it."""
        for point in (path, *parents(path)):
            if found := self.at.get(point):
                return found
        return None

    def is_mounted(self, point: str) -> bool:
        """Check whether a file system of its own is mounted at a path.

        Not: one that automount has yet to mount, or a folder that a sandbox has bind-mounted onto itself.
        """
        found = self.at.get(point)
        if found is None or found.type == "autofs":
            return False
        above = next((self.at[parent] for parent in parents(point) if parent in self.at), None)
        if above is None or above.device != found.device:
            return True
        below = point.removeprefix(above.point.rstrip("/"))
        return found.root != above.root.rstrip("/") + below


def parents(path: str) -> Iterable[str]:
    """Return the folders above an absolute path, the nearest first, the root last."""
    while path not in ("/", ""):
        path = path.rpartition("/")[0]
        yield path or "/"


@lru_cache(maxsize=1)
def read_mountinfo(text: str) -> Mounts:
    """Parse ``/proc/self/mountinfo``; it seldom changes between the checks of two guests."""
    at: dict[str, Mounted] = {}
    for line in text.splitlines():
        first, _, last = line.partition(" - ")
        words, more = first.split(" "), last.split(" ")
        if len(words) < FEWEST or len(more) < 2:  # noqa: PLR2004 - type and source
            continue
        point = _unescaped(words[4])
        at[point] = Mounted(point, words[2], _unescaped(words[3]), more[0], _unescaped(more[1]))
    return Mounts(at)


def read_fstab(text: str) -> dict[str, str]:
    """Parse ``/etc/fstab``; return mount point to source."""
    found = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) < 3 or words[0].startswith("#") or words[2] in _NOT_FILES:  # noqa: PLR2004 - source, where, type
            continue
        found[_unescaped(words[1]).rstrip("/") or "/"] = _unescaped(words[0])
    return {point: source for point, source in found.items() if point.startswith("/")}


def read_unit(text: str) -> tuple[str, str] | None:
    """Parse a mount unit of systemd; return its mount point and source."""
    values = dict(re.findall(r"^[ \t]*(Where|What)[ \t]*=[ \t]*(.*?)[ \t]*$", text, re.MULTILINE))
    where = values.get("Where", "").rstrip("/")
    return (where, values.get("What", "")) if where.startswith("/") else None


@dataclass(frozen=True, slots=True)
class NotMounted:
    """A mount point that a path relies on and that has nothing mounted."""

    point: str
    why: str
    by_nova: bool = False


def missing_mount(
    paths: Sequence[str], mounts: Mounts, expected: Mapping[str, str], nova_base: str
) -> NotMounted | None:
    """Return a missing mount at or above one of the names of a file."""
    for path in paths:
        for point in (path, *parents(path)):
            if point != "/" and point in expected and not mounts.is_mounted(point):
                return NotMounted(point, f"{expected[point]} is not mounted there")
        if missing := missing_nova_mount(path, mounts, nova_base):
            return missing
    return None


def mount_points_above(paths: Sequence[str], expected: Mapping[str, str], nova_base: str) -> list[str]:
    """Return the expected mount points at or above a path, mounted or not."""
    found: dict[str, None] = {}
    for path in paths:
        found |= {point: None for point in (path, *parents(path)) if point in expected and point != "/"}
        if (of_nova := missing_nova_mount(path, Mounts(), nova_base)) is not None:
            found[of_nova.point] = None
    return list(found)


def missing_nova_mount(path: str, mounts: Mounts, nova_base: str) -> NotMounted | None:
    """Return a missing mount of Nova: each folder below its folder for mounts is a mount point."""
    why = "nova-compute mounts it there, and nothing is mounted"
    hashed = _HASHED.fullmatch(path)
    if hashed:
        return None if _at_or_below(path, hashed[1], mounts) else NotMounted(hashed[1], why, by_nova=True)
    if not path.startswith(f"{nova_base}/"):
        return None
    first = f"{nova_base}/{path.removeprefix(f'{nova_base}/').partition('/')[0]}"
    return None if _at_or_below(path, first, mounts) else NotMounted(first, why, by_nova=True)


def _at_or_below(path: str, point: str, mounts: Mounts) -> bool:
    """Check whether something is mounted at a path or above it, at ``point`` or below that."""
    return any(
        mounts.is_mounted(each) for each in (path, *parents(path)) if each == point or each.startswith(f"{point}/")
    )


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)
