"""Which file systems are mounted, and which should be, from the texts that say so.  Pure."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

# Mount points that a host has without anybody relying on them for a guest's files.
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
    """What of the file system is seen there."""
    type: str
    source: str


@dataclass(frozen=True, slots=True)
class Mounts:
    """What is mounted where; the last of several counts."""

    at: Mapping[str, Mounted] = field(default_factory=dict)

    def covering(self, path: str) -> Mounted | None:
        """Give what is mounted at a path, or nearest above it."""
        for point in (path, *parents(path)):
            if found := self.at.get(point):
                return found
        return None

    def is_mounted(self, point: str) -> bool:
        """Tell whether a file system of its own is mounted at a path.

        One that automount has yet to mount is not, nor is a folder that a sandbox has bound onto itself.
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
    """Give the folders above an absolute path, the nearest first, the root last."""
    while path not in ("/", ""):
        path = path.rpartition("/")[0]
        yield path or "/"


def read_mountinfo(text: str) -> Mounts:
    """Read ``/proc/self/mountinfo``."""
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
    """Read ``/etc/fstab``: what should be mounted where."""
    found = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) < 3 or words[0].startswith("#") or words[2] in _NOT_FILES:  # noqa: PLR2004 - source, where, type
            continue
        found[_unescaped(words[1]).rstrip("/") or "/"] = _unescaped(words[0])
    return {point: source for point, source in found.items() if point.startswith("/")}


def read_unit(text: str) -> tuple[str, str] | None:
    """Read a mount unit of systemd: where, and what."""
    values = dict(re.findall(r"^[ \t]*(Where|What)[ \t]*=[ \t]*(.*?)[ \t]*$", text, re.MULTILINE))
    where = values.get("Where", "").rstrip("/")
    return (where, values.get("What", "")) if where.startswith("/") else None


@dataclass(frozen=True, slots=True)
class NotMounted:
    """A mount point that a path relies on and that has nothing mounted."""

    point: str
    why: str
    by_nova: bool = False


def relied_on(paths: Sequence[str], mounts: Mounts, expected: Mapping[str, str], nova_base: str) -> NotMounted | None:
    """Find a mount that is missing above, or at, one of the names of a file."""
    for path in paths:
        for point in (path, *parents(path)):
            if point != "/" and point in expected and not mounts.is_mounted(point):
                return NotMounted(point, f"{expected[point]} is not mounted there")
        if missing := nova_mount(path, mounts, nova_base):
            return missing
    return None


def points_above(paths: Sequence[str], expected: Mapping[str, str], nova_base: str) -> list[str]:
    """Give the mount points that somebody names at or above a path, mounted or not."""
    found: dict[str, None] = {}
    for path in paths:
        found |= {point: None for point in (path, *parents(path)) if point in expected and point != "/"}
        if (of_nova := nova_mount(path, Mounts(), nova_base)) is not None:
            found[of_nova.point] = None
    return list(found)


def nova_mount(path: str, mounts: Mounts, nova_base: str) -> NotMounted | None:
    """Find a mount of Nova's that is missing: each folder below its own one for mounts is one."""
    why = "nova-compute mounts it there, and nothing is mounted"
    hashed = _HASHED.fullmatch(path)
    if hashed:
        return None if _at_or_below(path, hashed[1], mounts) else NotMounted(hashed[1], why, by_nova=True)
    if not path.startswith(f"{nova_base}/"):
        return None
    first = f"{nova_base}/{path.removeprefix(f'{nova_base}/').partition('/')[0]}"
    return None if _at_or_below(path, first, mounts) else NotMounted(first, why, by_nova=True)


def _at_or_below(path: str, point: str, mounts: Mounts) -> bool:
    """Tell whether something is mounted at a path or above it, at ``point`` or below that."""
    return any(
        mounts.is_mounted(each) for each in (path, *parents(path)) if each == point or each.startswith(f"{point}/")
    )


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)
