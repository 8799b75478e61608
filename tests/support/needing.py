"""Guests that need something of this host, for tests."""

import contextlib
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from bringup.drivers.base import RebootType
from bringup.drivers.libvirt.driver import LibvirtDriver
from bringup.drivers.needs import Need, NeedKind, NeedNotMet, NeedState
from support.drivers import DriverGuest, driver_guest, uuid_of
from support.libvirt_drivers import a_driver
from support.libvirtd import DomainExtras, Libvirtd, domain_xml

GUEST, UUID = driver_guest(1), uuid_of(1)
ABSENT, UNVERIFIED, MET = NeedState.ABSENT, NeedState.UNVERIFIED, NeedState.MET
NOVA_XML = '<metadata><nova:instance xmlns:nova="http://openstack.org/xmlns/libvirt/nova/1.1"/></metadata>'


def call(*words: object, check: bool = True) -> str:
    """Run a program; return what it says."""
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, f"{words}: {done.stderr}"
    return done.stdout.strip()


def qemu_img(*arguments: object) -> None:
    """Make an image."""
    call("qemu-img", *arguments)


def disk(path: object, *, form: str = "raw", more: str = "") -> str:
    """Describe a disk in a file."""
    return f"""<disk type='file' device='disk'><driver name='qemu' type='{form}'/>
      <source file='{path}'>{more}</source><target dev='hda' bus='ide'/></disk>"""


def block(path: object) -> str:
    """Describe a disk that is a block device."""
    return f"""<disk type='block' device='disk'><driver name='qemu' type='raw'/><source dev='{path}'/>
      <target dev='hda' bus='ide'/></disk>"""


def nic(kind: str, source: str) -> str:
    return f"<interface type='{kind}'>{source}<model type='e1000'/></interface>"


def xml_of(server: Libvirtd, devices: str = "", *, os: str = "", changes: Callable[[str], str] = str) -> str:
    return changes(
        domain_xml(UUID, GUEST.name, images=server.directory / "images", more=DomainExtras(os=os, devices=devices))
    )


@dataclass
class Defined:
    """A guest that is off, its driver, and what somebody else sees of it."""

    driver: LibvirtDriver
    connection: Any
    guest: DriverGuest = field(default_factory=lambda: GUEST)

    @property
    def state(self) -> int:
        state: int = self.connection.lookupByUUIDString(UUID).state()[0]
        return state

    @property
    def definition(self) -> str:
        xml: str = self.connection.lookupByUUIDString(UUID).XMLDesc(2)
        return xml

    async def needs(self) -> dict[str, Need]:
        return {need.name: need for need in await self.driver.needs(self.guest)}

    async def missing(self) -> list[tuple[NeedKind, str, NeedState]]:
        needs = await self.driver.needs(self.guest)
        assert all(bool(need.why) == (need.state is not MET) for need in needs)
        return [(need.kind, need.name, need.state) for need in needs if need.state is not MET]

    async def is_not_started(self, kind: NeedKind, name: str, state: NeedState) -> Need:
        """Try each verb that starts; return the need that kept it off."""
        before = self.definition
        verbs = (
            self.driver.resume_state_on_host_boot,
            self.driver.power_on,
            lambda guest: self.driver.reboot(guest, RebootType.HARD),
            lambda guest: self.driver.reboot(guest, RebootType.SOFT),
        )
        for verb in verbs:
            with pytest.raises(NeedNotMet) as raised:
                await verb(self.guest)
            [need] = raised.value.needs
            assert (need.kind, need.name, need.state) == (kind, name, state)
            assert name in str(raised.value)
            assert need.why in str(raised.value)
        assert (self.state, self.definition) == (5, before)
        return need

    async def is_started(self) -> None:
        assert await self.missing() == []
        await self.driver.resume_state_on_host_boot(self.guest)
        assert self.state == 1


@contextlib.asynccontextmanager
async def defined(server: Libvirtd, xml: str, *, look_deadline_s: float = 10.0, **guest: Any) -> AsyncIterator[Defined]:
    """Define guest 1 as ``xml`` describes it, off; ``guest`` is of its record."""
    with server.connected() as connection:
        connection.defineXML(xml)
        async with a_driver(server, look_deadline_s=look_deadline_s) as driver:
            yield Defined(driver, connection, replace(GUEST, **guest))


@contextlib.contextmanager
def loop_device(path: Path) -> Iterator[str]:
    device = call("losetup", "-f", "--show", path, check=False)
    if not device:
        pytest.skip("no loop device is free, or this host has none")
    try:
        yield device
    finally:
        call("losetup", "-d", device)
