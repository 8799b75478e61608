"""Needs divided among their watchers, which run for as long as somebody waits."""

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import anyio
import structlog

from bringup.drivers.base import DriverError
from bringup.drivers.libvirt.arrivals.host_events import Awaited, watch_host
from bringup.drivers.libvirt.arrivals.servers import watch_servers
from bringup.drivers.libvirt.event_listener import EventWatcher
from bringup.drivers.libvirt.guest_needs.disk_servers import DiskServers
from bringup.drivers.libvirt.guest_needs.host import HostFiles
from bringup.drivers.libvirt.guest_needs.rules.verdicts import LibvirtObject
from bringup.drivers.needs import LinkOrigin, Need, NeedKind, NeedState
from bringup.drivers.network.host import HostNetwork

log = structlog.get_logger()

AGAIN_S: Final = 30.0
"""After a watcher failed."""
OF_LIBVIRT: Final = (NeedKind.DEFINITION, NeedKind.MACHINE)
"""What is not known, or not done, because libvirt does not answer."""

Notify = Callable[[Need], None]
Watch = Callable[[Sequence[Need], Notify], Awaitable[None]]
"""Calls with each need that may be met by now, until cancelled."""


@dataclass(frozen=True, slots=True)
class Watchers:
    """Sources of wake-ups of one host."""

    host: HostFiles | None
    """None: the guests are on another host."""
    libvirt: EventWatcher
    network: HostNetwork | None

    async def watch(self, needs: Collection[Need], notify: Notify) -> None:
        """Call ``notify`` with each need that may be met by now, until cancelled."""

        def arrived(need: Need) -> None:
            if self.host is not None:
                self.host.forget()
            notify(need)

        async with anyio.create_task_group() as group:
            for what, is_concerned, watch in self._each():
                if concerned := [need for need in needs if is_concerned(need)]:
                    group.start_soon(kept, what, partial(watch, concerned, arrived), concerned, arrived)

    def watches(self, need: Need) -> bool:
        """Return whether nothing but what is watched can meet this need.

        What is not known may be known again without an event, and a share may be filled.
        """
        if need.kind in OF_LIBVIRT or need.kind is NeedKind.SHARE:
            return False
        return any(is_concerned(need) for _, is_concerned, _ in self._each())

    def _each(self) -> Sequence[tuple[str, Callable[[Need], bool], Watch]]:
        """Return each watcher: a name, what it is for, what it does."""
        found: list[tuple[str, Callable[[Need], bool], Watch]] = [("libvirt", _is_of_libvirt, self._watch_libvirt)]
        if self.network is not None:
            found.append(("Open vSwitch", self.network.watches, self.network.watch))
        if self.host is not None:
            found.append(("mounts, links and files", _is_of_host, partial(_watch_host, self.host)))
            found.append(("servers of disks", _is_of_server, partial(_watch_servers, self.host)))
        return found

    async def _watch_libvirt(self, needs: Sequence[Need], notify: Notify) -> None:
        refused: list[DriverError] = []
        ended = anyio.Event()

        def changed(started: LibvirtObject | DriverError | None) -> None:
            if isinstance(started, DriverError):
                refused.append(started)
                ended.set()
            for need in needs:
                if started in (None, need.origin):
                    notify(need)

        kinds = frozenset(need.origin.kind for need in needs if isinstance(need.origin, LibvirtObject))
        self.libvirt.follow(kinds, changed)
        try:
            await ended.wait()
            raise refused[0]
        finally:
            self.libvirt.leave(changed)


def _is_of_libvirt(need: Need) -> bool:
    return isinstance(need.origin, LibvirtObject) or need.kind in OF_LIBVIRT


def _is_of_host(need: Need) -> bool:
    return awaited_of([need]) != Awaited()


def _is_of_server(need: Need) -> bool:
    return isinstance(need.origin, DiskServers)


async def _watch_host(host: HostFiles, needs: Sequence[Need], notify: Notify) -> None:
    def arrived(name: str) -> None:
        for need in needs:
            if need.name == name:
                notify(need)

    await watch_host(host.for_one_guest(), awaited_of(needs), arrived)


async def _watch_servers(host: HostFiles, needs: Sequence[Need], notify: Notify) -> None:
    await watch_servers(host, {need: need.origin for need in needs if isinstance(need.origin, DiskServers)}, notify)


def awaited_of(needs: Collection[Need]) -> Awaited:
    """Return what is awaited of this host.

    Not what is there already and is only not known to be the right one, or does not answer.
    """
    missing = [need for need in needs if need.state is NeedState.ABSENT and not isinstance(need.origin, DiskServers)]
    return Awaited(
        paths=frozenset(need.name for need in missing if need.name.startswith("/")),
        points=frozenset(need.name for need in missing if need.kind is NeedKind.MOUNT),
        links=frozenset(need.name for need in missing if isinstance(need.origin, LinkOrigin)),
    )


async def kept(
    what: str, watch: Callable[[], Awaitable[None]], needs: Sequence[Need], notify: Notify, *, again_s: float = AGAIN_S
) -> None:
    """Keep a watcher; one that fails is logged, and started again a while later: until then its needs are checked."""
    while True:
        try:
            await watch()
        except Exception as error:  # noqa: BLE001 - the periodic check does without it
            log.warning("needs.not_watched", what=what, error=f"{type(error).__name__}: {error}")
            await anyio.sleep(again_s)
            for need in needs:
                notify(need)
        else:
            return
