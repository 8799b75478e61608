"""What libvirt and QEMU really say of a start that lacks something is understood, where no look came before it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from bringup.drivers.base import DriverError
from bringup.drivers.libvirt.binding import binding
from bringup.drivers.libvirt.hypervisor import Hypervisor
from bringup.drivers.libvirt.power import Power
from bringup.drivers.needs import NeedKind, NeedNotMet
from support.drivers import uuid_of
from support.libvirt_drivers import emptied_libvirtd, options
from support.libvirtd import Libvirtd
from support.needing import GUEST, UUID, block, disk, xml_of
from test_libvirt_needs import share
from test_libvirt_needs_devices import CASES, LUKS

pytestmark = pytest.mark.anyio


server = pytest.fixture(emptied_libvirtd)


async def nothing() -> None:
    """Do nothing."""


async def refusal(server: Libvirtd, xml: str) -> DriverError:
    """Start a guest without a look; return what is raised."""
    with server.connected() as connection:
        connection.defineXML(xml)
    hypervisor = Hypervisor(options(server), binding(), 1)
    try:
        with pytest.raises(DriverError) as raised:
            await Power(hypervisor).start(UUID, nothing)
        return raised.value
    finally:
        hypervisor.close()


NAMED = ("bridge", "macvtap parent", "libvirt network")


def usb(xml: str) -> str:
    return xml.replace("<controller type='usb' model='none'/>", "")


@pytest.mark.parametrize("case", CASES)
async def test_a_missing_device_or_switch_is_named(server: Libvirtd, case: str) -> None:
    devices, kind, name = CASES[case]
    error = await refusal(server, xml_of(server, devices, changes=usb if case == "USB device" else str))
    assert isinstance(error, NeedNotMet), error.__cause__
    assert [need.kind for need in error.needs] == [kind], error.needs
    # Of the others libvirt's own words do not say which.
    assert case not in NAMED or name in error.needs[0].name


XMLS: dict[str, tuple[Callable[[str], str], str, NeedKind]] = {
    "file": (str, disk("/nonexistent/x.raw"), NeedKind.DISK),
    "backing file": (str, disk("/nonexistent/x.qcow2", form="qcow2"), NeedKind.DISK),
    "block device": (str, block("/dev/disk/by-id/wwn-0x0"), NeedKind.DISK),
    "secret": (str, disk("/dev/null", more=LUKS), NeedKind.SECRET),
    "share": (share("/nonexistent/share"), "", NeedKind.SHARE),
    "huge pages": (
        lambda xml: xml.replace("<vcpu>", "<memoryBacking><hugepages/></memoryBacking><vcpu>"),
        "",
        NeedKind.MEMORY,
    ),
    "CPU": (
        lambda xml: xml.replace("<os>", "<cputune><vcpupin vcpu='0' cpuset='4000'/></cputune><os>"),
        "",
        NeedKind.MACHINE,
    ),
    "firmware": (
        lambda xml: xml.replace("</type>", "</type><loader readonly='yes' type='pflash'>/nonexistent/CODE.fd</loader>"),
        "",
        NeedKind.FIRMWARE,
    ),
    # A file is a file for libvirt.
    "kernel": (
        lambda xml: xml.replace("</type>", "</type><kernel>/nonexistent/vmlinuz</kernel>"),
        "",
        NeedKind.DISK,
    ),
    "storage that refuses": (
        str,
        """<disk type='network'><driver type='raw'/><source protocol='nbd' name=''><host name='127.0.0.1' port='1'/>
          </source><target dev='hda' bus='ide'/></disk>""",
        NeedKind.DISK,
    ),
}


@pytest.mark.parametrize("case", XMLS)
async def test_a_missing_file_secret_or_pages_are_named(server: Libvirtd, case: str) -> None:
    changes, devices, kind = XMLS[case]
    error = await refusal(server, xml_of(server, devices, changes=changes))
    assert isinstance(error, NeedNotMet), error.__cause__
    assert [need.kind for need in error.needs] == [kind], error.needs
    assert error.needs[0].why


async def test_a_start_that_fails_for_another_reason_is_reported_unchanged(server: Libvirtd, tmp_path: Path) -> None:
    image = tmp_path / "no-qcow2"
    image.write_bytes(b"x" * 4096)
    error = await refusal(server, xml_of(server, disk(image, form="qcow2")))
    assert not isinstance(error, NeedNotMet)
    assert str(error) == f"cannot start {uuid_of(1)}"
    assert GUEST.uuid == uuid_of(1)
