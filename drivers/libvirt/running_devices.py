"""Devices of guests that run, read once for each start; where there may be an agent, again after a while."""

import time
from typing import Final, NamedTuple

from bringup.drivers.base import GuestSign
from bringup.drivers.libvirt.binding import Domain
from bringup.drivers.libvirt.definitions import RunningDevices, devices_of

KEPT_S: Final = 10.0
"""An agent that connects or ends is reported by an event, but for those that were missed."""


class _Known(NamedTuple):
    start: int
    at_s: float
    devices: RunningDevices


class DevicesReader:
    """What was read of each guest."""

    def __init__(self) -> None:
        """Start with none."""
        self._known: dict[str, _Known] = {}
        self._signs = 0

    def of(self, domain: Domain) -> RunningDevices:
        """Return the devices of a guest; blocks.

        :raises libvirtError: they cannot be read.
        """
        uuid, start, now = domain.UUIDString(), domain.ID(), time.monotonic()
        known = self._known.get(uuid)
        if known is None or known.start != start or (known.devices.agent is not None and now > known.at_s + KEPT_S):
            signs = self._signs
            known = _Known(start, now, devices_of(domain.XMLDesc()))
            # What was read before an agent connected is not kept.
            if signs == self._signs:
                self._known[uuid] = known
        return known.devices

    def heard(self, sign: GuestSign) -> None:
        """Read the devices of a guest again: its agent has connected."""
        self._signs += 1
        self._known.pop(sign.uuid, None)
