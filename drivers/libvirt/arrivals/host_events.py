"""Changes of this host that the kernel reports: file systems mounted, links created, files that appear.

One epoll holds all sources and is itself what is waited for, so that no thread waits.  To look which of them was ready
would tell nothing of the mounts: the look of the event loop takes that event.  So after each wake-up the text of the
mounts is compared with how it was before, in a thread: it may be long.
"""

import errno
import os
import select
import socket
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import Final, NoReturn

import anyio

from bringup.drivers.base import DriverError
from bringup.drivers.libvirt.arrivals.folders import Folders
from bringup.drivers.libvirt.guest_needs.host import MOST_MOUNTS, HostFiles
from bringup.drivers.libvirt.guest_needs.rules.mounts import Mounted, parents
from bringup.drivers.libvirt.slots import Slots
from bringup.drivers.libvirt.threads import on_disk

MOUNTS: Final = "/proc/self/mountinfo"
LINKS: Final = 1
"""``RTMGRP_LINK``."""
DEADLINE_S: Final = 10.0
MOST_BYTES: Final = 1 << 16
LOOK_EVERY_S: Final = 5.0
"""For files of which the kernel reports nothing."""
REMOTE: Final = ("nfs", "cifs", "smb", "ceph", "fuse", "gluster", "lustre", "9p", "virtiofs", "ocfs2", "gfs2", "afs")
"""How the types of file systems begin that several machines share."""
PAUSE_S: Final = 0.1
"""After each wake-up: a busy folder costs no more than ten a second."""
IDLE_PAUSE_S: Final = 1.0
"""After one for what nobody waits for: hundreds of links and mounts come while a host boots."""
LINKS_OF_DEVICES: Final = "/dev/disk/"
SETTLE_S: Final = 1.0
"""After a link there has appeared: at first it may lead to one path of a disk with several."""
TRIES: Final = 8
"""For a path the folders of which appear while it is looked for."""


@dataclass(frozen=True, slots=True)
class Awaited:
    """What is awaited on this host."""

    paths: frozenset[str] = frozenset()
    points: frozenset[str] = frozenset()
    """Mount points."""
    links: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Sight:
    """What was seen of that which is awaited."""

    there: frozenset[str]
    """Points with something mounted, paths that came meanwhile, or exist and of which the kernel reports nothing."""
    mounts: Mapping[str, Mounted | None]
    """Path or point to the mount at or above it."""
    has_unreported: bool
    """There are paths of which the kernel reports nothing: a folder that may not be read, a file system of others."""
    next_parts: Mapping[tuple[str, str], frozenset[str]]
    """A watched folder and a name in it, to the paths that it is the next missing part of."""

    def new_since(self, before: "Sight") -> frozenset[str]:
        """Return what has come, or leads elsewhere by now."""
        return (self.there - before.there) | {path for path, at in self.mounts.items() if before.mounts[path] != at}

    def touched_by(self, changes: Collection[tuple[str, str]]) -> set[str]:
        """Return the paths that changes in watched folders concern; the name "" stands for all in a folder."""
        return {
            path
            for (folder, name), paths in self.next_parts.items()
            if (folder, name) in changes or (folder, "") in changes
            for path in paths
        }


@dataclass(slots=True)
class HostEvents:
    """Sources of the kernel, and what they are read for."""

    host: HostFiles
    awaited: Awaited
    _epoll: select.epoll
    _folders: Folders
    _netlink: socket.socket
    _mounted: str = ""
    """The text of the mounts, as it was last read."""
    _have_mounts_changed: bool = False
    _links: frozenset[str] = frozenset()
    """Awaited links that were there when they were last looked for."""
    _slots: Slots = field(default_factory=lambda: Slots(1, "place for a look"))

    async def wait(self) -> None:
        """Return when the kernel has reported something, or mounts changed before it was asked to.

        To begin to wait takes away the event of a mount that came before it: so mounts are compared once more then.
        """
        async with anyio.create_task_group() as group:

            async def wait_for_kernel() -> None:
                await anyio.wait_readable(self._epoll.fileno())
                group.cancel_scope.cancel()

            group.start_soon(wait_for_kernel)
            await anyio.sleep(PAUSE_S)
            with suppress(DriverError):
                await self._compare_mounts()
            if self._have_mounts_changed:
                group.cancel_scope.cancel()

    async def look(self) -> Sight:
        """Read what is there, and watch for what is not.

        :raises DriverError: the storage of this host does not answer.
        """
        return await on_disk("look for what guests wait for", self.look_now, slots=self._slots, deadline_s=DEADLINE_S)

    def appeared(self) -> set[tuple[str, str]]:
        """Return what appeared in the watched folders."""
        return set(self._folders.read())

    def new_links(self) -> frozenset[str]:
        """Return the awaited links that have come since the last call."""
        if not self._have_links_changed():
            return frozenset()
        before = self._links
        return self.links() - before

    def links(self) -> frozenset[str]:
        """Return the awaited links that are there."""
        self._links = frozenset(filter(_is_a_link, self.awaited.links))
        return self._links

    def _have_links_changed(self) -> bool:
        found = False
        while True:
            try:
                self._netlink.recv(MOST_BYTES)
            except BlockingIOError:
                return found
            except OSError:
                # Messages were lost.
                pass
            found = True

    async def have_mounts_changed(self) -> bool:
        """Check whether something was mounted or unmounted since the last call.

        :raises DriverError: it cannot be read.
        """
        await self._compare_mounts()
        changed, self._have_mounts_changed = self._have_mounts_changed, False
        return changed

    async def _compare_mounts(self) -> None:
        if self.awaited.paths | self.awaited.points:
            read = partial(self.host.text, MOUNTS, MOST_MOUNTS)
            before = self._mounted
            self._mounted = await on_disk("read the mounts", read, slots=self._slots, deadline_s=DEADLINE_S)
            self._have_mounts_changed |= before != self._mounted

    def look_now(self) -> Sight:
        """Read what is there, and watch for what is not; blocks."""
        awaited, mounts = self.awaited, self.host.mounts()
        at = {path: mounts.covering(path) for path in awaited.paths | awaited.points}
        self._folders.forget_names()
        next_parts: dict[tuple[str, str], set[str]] = {}
        unreported = set[str]()
        there = {point for point in awaited.points if mounts.is_mounted(point)}
        for path in awaited.paths:
            found = self.host.find(path)
            parts = [self._wait_for(name) for name in found.names if not found.is_silent]
            for part in filter(None, parts):
                next_parts.setdefault(part, set()).add(path)
            came = found.status is None and self.host.find(path).status is not None
            # What is seen may be half written: where the kernel reports that it was closed, that is waited for.
            if None in parts or _is_remote(at[path]):
                unreported.add(path)
                came |= found.status is not None
            if came:
                there.add(path)
        self._folders.leave_others()
        return Sight(
            frozenset(there), at, bool(unreported), {part: frozenset(paths) for part, paths in next_parts.items()}
        )

    def _wait_for(self, path: str) -> tuple[str, str] | None:
        """Await the next missing part of a path, in the nearest folder above it that exists; return both.

        None: the kernel reports nothing of it; this process may not read that folder, for instance.
        """
        part = None
        for _ in range(TRIES):
            part = self._watch_above(path)
            # A folder that came right before the one above it was watched is not reported: it is watched itself.
            if part is None or not os.path.isdir("/".join(part)):  # noqa: PTH112 - a path is made for nothing
                break
        return part

    def _watch_above(self, path: str) -> tuple[str, str] | None:
        for above in parents(path):
            folder = f"{self.host.root / above.lstrip('/')}"
            name = path.removeprefix(above).lstrip("/").partition("/")[0]
            try:
                self._folders.wait_for(folder, name)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                if error.errno == errno.ENOSPC:
                    # No further watch is permitted: that concerns all of them.
                    raise
                return None
            return folder, name
        return None


@contextmanager
def opened(host: HostFiles, awaited: Awaited) -> Iterator[HostEvents]:
    """Open the sources, and close them on exit.

    :raises OSError: the kernel does not permit it.
    """
    with ExitStack() as stack:
        folders = Folders()
        stack.callback(folders.close)
        netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
        stack.enter_context(netlink)
        netlink.bind((0, LINKS))
        mounts = stack.enter_context(open(MOUNTS, "rb", buffering=0))  # noqa: PTH123 - only its descriptor is used
        epoll = stack.enter_context(select.epoll())
        if awaited.paths | awaited.points:
            epoll.register(mounts, select.EPOLLPRI | select.EPOLLERR)
            epoll.register(folders, select.EPOLLIN)
        if awaited.links:
            epoll.register(netlink, select.EPOLLIN)
        yield HostEvents(host, awaited, epoll, folders, netlink)


async def watch_host(host: HostFiles, awaited: Awaited, arrived: Callable[[str], None]) -> NoReturn:
    """Call ``arrived`` with each path, mount point or link that may be there by now, until cancelled.

    :raises OSError: the kernel does not permit it.
    :raises DriverError: the storage of this host does not answer.
    """
    with opened(host, awaited) as events:
        await events.have_mounts_changed()
        seen = await events.look()
        # They came before they were watched.
        came = set(seen.there | events.links())
        while True:
            if any(name.startswith(LINKS_OF_DEVICES) for name in came):
                await anyio.sleep(SETTLE_S)
            for name in came:
                arrived(name)
            await anyio.sleep(PAUSE_S if came else IDLE_PAUSE_S)
            with anyio.move_on_after(LOOK_EVERY_S if seen.has_unreported else inf) as scope:
                await events.wait()
            came = seen.touched_by(events.appeared())
            is_due = bool(came) or scope.cancelled_caught
            came |= events.new_links()
            if await events.have_mounts_changed() or is_due:
                before, seen = seen, await events.look()
                came |= seen.new_since(before)


def _is_remote(mount: Mounted | None) -> bool:
    """Check whether another machine may create files there, of which the kernel reports nothing."""
    return mount is not None and mount.type.startswith(REMOTE)


def _is_a_link(name: str) -> bool:
    # Of this process' network namespace, whatever sysfs shows.
    with suppress(OSError, ValueError):
        return socket.if_nametoindex(name) > 0
    return False
