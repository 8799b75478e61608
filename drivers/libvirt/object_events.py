"""libvirt's events of its networks and storage pools, for as long as a guest waits for one of them.

With modular daemons the first registration starts libvirt's daemon for them: none is made that nobody waits for.
"""

from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any, Final

from bringup.drivers.libvirt.binding import Connection, Network, StoragePool
from bringup.drivers.libvirt.guest_needs.rules.verdicts import LibvirtObject

KINDS: Final = ("network", "pool")


class ObjectEvents:
    """Registrations at a connection; the thread of the event listener calls all methods but the constructor."""

    def __init__(self, libvirt: Any, started: Callable[[LibvirtObject], None]) -> None:
        """Register nothing yet; ``started`` is called in libvirt's thread, with what was started."""
        self._libvirt = libvirt
        self._started = started
        self._numbers: dict[str, int] = {}

    def follow(self, connection: Connection, kinds: Collection[str]) -> None:
        """Register for these kinds, and for no other.

        :raises libvirtError: libvirt refuses it.
        """
        for kind in KINDS:
            if kind in kinds and kind not in self._numbers:
                self._numbers[kind] = self._register(connection, kind)
            elif kind not in kinds and kind in self._numbers:
                with suppress(self._libvirt.libvirtError):
                    self._deregister(connection, kind, self._numbers.pop(kind))

    def lost(self) -> None:
        """Register anew at the next connection."""
        self._numbers.clear()

    def _register(self, connection: Connection, kind: str) -> int:
        libvirt = self._libvirt
        if kind == "network":
            number = libvirt.VIR_NETWORK_EVENT_ID_LIFECYCLE
            return connection.networkEventRegisterAny(None, number, self._on_event, "network")
        number = libvirt.VIR_STORAGE_POOL_EVENT_ID_LIFECYCLE
        return connection.storagePoolEventRegisterAny(None, number, self._on_event, "pool")

    def _deregister(self, connection: Connection, kind: str, number: int) -> None:
        if kind == "network":
            connection.networkEventDeregisterAny(number)
        else:
            connection.storagePoolEventDeregisterAny(number)

    def _on_event(
        self, _connection: Connection, it: Network | StoragePool, event: int, _detail: int, kind: str
    ) -> None:
        starts = {
            "network": self._libvirt.VIR_NETWORK_EVENT_STARTED,
            "pool": self._libvirt.VIR_STORAGE_POOL_EVENT_STARTED,
        }
        if event == starts[kind]:
            self._started(LibvirtObject(kind, it.name()))
