"""Files, devices and mounts of this host.  All of it blocks, changes nothing, and opens no device.

Only the beginning of a file is read, and only if it is a regular file.
"""

import errno
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from bringup.drivers.libvirt.guest_needs.rules.mounts import Mounts, parents, read_fstab, read_mountinfo, read_unit

T = TypeVar("T")

MOST_LINKS: Final = 40
MOST_BYTES: Final = 64 * 1024
MOST_MOUNTS: Final = 4 * 1024 * 1024
HIDDEN: Final = (errno.EACCES, errno.EPERM)
"""This process may not read it."""
KEEPS_S: Final = 5.0
"""How long a value that changes rarely is kept: the checks of thirty guests need it at once."""
UNITS: Final = ("etc/systemd/system", "run/systemd/system", "run/systemd/transient", "run/systemd/generator")


@dataclass(frozen=True, slots=True)
class PathTarget:
    """Result of following a path."""

    path: str
    """As it was given."""
    names: tuple[str, ...]
    """Its own name, and that of each link after it, in folders that are resolved; the last is where it ends."""
    status: os.stat_result | None
    error: int = 0
    """Why there is no status."""

    @property
    def end(self) -> str:
        """Where it ends."""
        return self.names[-1]

    @property
    def is_block_device(self) -> bool:
        """Check whether it is one."""
        return self.status is not None and stat.S_ISBLK(self.status.st_mode)

    @property
    def is_file(self) -> bool:
        """Check whether it is a regular file."""
        return self.status is not None and stat.S_ISREG(self.status.st_mode)

    @property
    def is_folder(self) -> bool:
        """Check whether it is a folder."""
        return self.status is not None and stat.S_ISDIR(self.status.st_mode)

    @property
    def is_silent(self) -> bool:
        """Check whether it is on a storage that does not answer."""
        return self.error == errno.ETIMEDOUT

    @property
    def is_hidden(self) -> bool:
        """Check whether this process may not read what it is."""
        return self.error in HIDDEN


@dataclass(slots=True)
class HostFiles:
    """This host, or a copy of it below ``root``."""

    root: Path = Path("/")
    at: str = ""
    """Path that is being read: the message names it if the check hangs."""
    silent: dict[str, int] = field(default_factory=dict)
    """Mount points that checks hang in, and how many: no other check enters them."""
    _kept: dict[str, tuple[float, object]] = field(default_factory=dict)
    _prefix: str = field(init=False)

    def __post_init__(self) -> None:
        """Compute what stands before each path: pathlib takes longer to join them than the kernel to read one."""
        self._prefix = str(self.root).rstrip("/")

    def for_one_guest(self) -> "HostFiles":
        """Return a host with the same kept values, for the check of one guest: it has its own ``at``."""
        return HostFiles(self.root, silent=self.silent, _kept=self._kept)

    def find(self, path: str) -> PathTarget:
        """Follow a path to its end as the kernel does: a folder is resolved before what is in it, and before ``..``."""
        self.at = path
        todo, done = _parts(path), list[str]()
        names: list[str] = []
        links = 0
        while todo:
            part = todo.pop(0)
            if part == "..":
                del done[-1:]
                continue
            done.append(part)
            here = "/" + "/".join(done)
            if not todo:
                names.append(here)
            error = errno.ETIMEDOUT if here in self.silent else 0
            link = None
            try:
                status = None if error else os.lstat(self._real(here))
                if status is not None and stat.S_ISLNK(status.st_mode):
                    link, links = os.readlink(self._real(here)), links + 1  # noqa: PTH115 - as above
            except OSError as raised:
                error = raised.errno or errno.EIO
            if links > MOST_LINKS:
                error = errno.ELOOP
            if error or (link is None and not todo):
                end = [] if not todo else ["/".join([here, *todo])]
                return PathTarget(path, (*names, *end), None if error else status, error)
            if link is not None:
                done = [] if link.startswith("/") else done[:-1]
                todo = [*_parts(link), *todo]
        here = "/" + "/".join(done)
        return PathTarget(path, (*names, here), os.lstat(self._real(here)))

    def exists(self, path: str) -> bool | None:
        """Check whether a path exists; None: this process may not read it."""
        found = self.find(path)
        return None if found.is_hidden or found.is_silent else found.status is not None

    def text(self, path: str, most: int = MOST_BYTES) -> str:
        """Return the beginning of a text; "" if there is none."""
        return self.start_of(path, most).decode(errors="replace").strip("\0 \n")

    def start_of(self, path: str, most: int = MOST_BYTES) -> bytes:
        """Return the beginning of a regular file; empty if it is none, or cannot be read."""
        return self.read_start(path, most)[0]

    def read_start(self, path: str, most: int = MOST_BYTES) -> tuple[bytes, int]:
        """Return the beginning of a regular file, and the error number if it cannot be read, else 0."""
        self.at = path
        if self._is_silent(path):
            return b"", errno.ETIMEDOUT
        try:
            # NONBLOCK: if it has become a pipe by now, the open does not wait for a writer.
            flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
            if not stat.S_ISREG(os.stat(self._real(path)).st_mode):  # noqa: PTH116 - a path is made for nothing
                return b"", 0
            descriptor = os.open(self._real(path), flags)
            try:
                if stat.S_ISREG(os.fstat(descriptor).st_mode):
                    return self._all_of(descriptor, most), 0
            finally:
                os.close(descriptor)
        except OSError as error:
            return b"", error.errno or errno.EIO
        return b"", 0

    def names_in(self, path: str, most: int = 4096) -> list[str]:
        """Return the names in a folder; empty if it is none, or cannot be read."""
        self.at = path
        if self._is_silent(path):
            return []
        with suppress(OSError), os.scandir(self._real(path)) as entries:
            return [entry.name for entry, _ in zip(entries, range(most), strict=False)]
        return []

    def is_empty(self, path: str) -> bool | None:
        """Check whether a folder is empty; None: it cannot be read."""
        self.at = path
        if self._is_silent(path):
            return None
        try:
            with os.scandir(self._real(path)) as entries:
                return next(entries, None) is None
        except OSError:
            return None

    def real(self, path: str) -> str:
        """Return where a path of sysfs leads, as far as it can be followed."""
        found = self.find(path)
        return found.end

    def mounts(self) -> Mounts:
        """Read what is mounted, as it is now."""
        return read_mountinfo(self.text("/proc/self/mountinfo", MOST_MOUNTS))

    def expected_mounts(self) -> dict[str, str]:
        """Return the mounts that fstab and systemd's mount units name: mount point to source."""
        return self.kept("expected_mounts", self._expected_mounts)

    def kept(self, key: str, make: Callable[[], T], keeps_s: float = KEEPS_S) -> T:
        """Return the value that ``make`` returned at most ``keeps_s`` seconds ago, or else a new one."""
        now = time.monotonic()
        made, value = self._kept.get(key, (float("-inf"), None))
        if now - made < keeps_s:
            return value  # type: ignore[return-value]  # a key has one maker
        fresh = make()
        self._kept[key] = now, fresh
        return fresh

    def forget(self) -> None:
        """Keep no value any more: what was read may have changed."""
        self._kept.clear()

    def _expected_mounts(self) -> dict[str, str]:
        found = read_fstab(self.text("/etc/fstab"))
        found.update(unit for text in self._mount_units() if (unit := read_unit(text)) is not None)
        return found

    def _mount_units(self) -> Iterator[str]:
        for folder in UNITS:
            for name in self.names_in(f"/{folder}"):
                if name.endswith(".mount"):
                    # A masked one is a link to /dev/null: no text.
                    yield self.text(f"/{folder}/{name}")

    def _all_of(self, descriptor: int, most: int) -> bytes:
        parts = []
        while most > 0 and (part := os.read(descriptor, most)):
            parts.append(part)
            most -= len(part)
        return b"".join(parts)

    def _is_silent(self, path: str) -> bool:
        return bool(self.silent) and any(above in self.silent for above in (path, *parents(path)))

    def _real(self, path: str) -> str:
        return f"{self._prefix}/{path.lstrip('/')}"


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


NOTHING_SEEN: Final = HostFiles(Path("/nonexistent"))
"""A host of which this process can see nothing."""
