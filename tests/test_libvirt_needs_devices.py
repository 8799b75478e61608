"""What real guests need beside disks: switches, devices, secrets, firmware, pages, CPUs, a machine type."""

from pathlib import Path

import pytest

from bringup.drivers.needs import MetBy, NeedKind, NeedNotMet
from support.drivers import uuid_of
from support.libvirt_drivers import a_driver, emptied_libvirtd, remove_guests
from support.libvirtd import Libvirtd, a_libvirtd
from support.needing import ABSENT, GUEST, NOVA_XML, UUID, Defined, defined, disk, nic, qemu_img, xml_of

pytestmark = pytest.mark.anyio


server = pytest.fixture(emptied_libvirtd)


HOST_DEVICE = "<hostdev mode='subsystem' type='{}'{}><source>{}</source></hostdev>"
PCI = "<address domain='0x0000' bus='0xfe' slot='0x1f' function='0x6'/>"
VF = PCI.replace("<address", "<address type='pci'")
MDEV = "4b20d080-1b54-4048-85b3-a6a62d165c01"
LUKS = f"<encryption format='luks'><secret type='passphrase' uuid='{uuid_of(77)}'/></encryption>"
CASES = {
    "bridge": (nic("bridge", "<source bridge='qbr-gone'/>"), NeedKind.NETWORK, "qbr-gone"),
    "macvtap parent": (nic("direct", "<source dev='ens-gone' mode='bridge'/>"), NeedKind.NETWORK, "ens-gone"),
    "libvirt network": (nic("network", "<source network='gone'/>"), NeedKind.NETWORK, "gone"),
    "tap": (nic("ethernet", "<target dev='tap-gone' managed='no'/>"), NeedKind.NETWORK, "tap-gone"),
    "mdev": (
        HOST_DEVICE.format("mdev", " model='vfio-pci'", f"<address uuid='{MDEV}'/>"),
        NeedKind.HOST_DEVICE,
        MDEV,
    ),
    "PCI device": (HOST_DEVICE.format("pci", " managed='yes'", PCI), NeedKind.HOST_DEVICE, "0000:fe:1f.6"),
    "virtual function": (
        f"<interface type='hostdev' managed='yes'><source>{VF}</source></interface>",
        NeedKind.HOST_DEVICE,
        "0000:fe:1f.6",
    ),
    "USB device": (
        HOST_DEVICE.format("usb", "", "<vendor id='0x1d6b'/><product id='0xBEEF'/>")
        + "<controller type='usb' index='0' model='piix3-uhci'/>",
        NeedKind.HOST_DEVICE,
        "1d6b:beef",
    ),
}


@pytest.mark.parametrize("case", CASES)
async def test_a_missing_need_is_named_and_the_guest_stays_off(server: Libvirtd, case: str) -> None:
    devices, kind, name = CASES[case]
    xml = xml_of(server, devices)
    if case == "USB device":
        xml = xml.replace("<controller type='usb' model='none'/>", "")
    async with defined(server, xml) as guest:
        await guest.is_not_started(kind, name, ABSENT)


async def test_a_network_and_a_pool_of_libvirt_that_are_not_active_are_named(server: Libvirtd, tmp_path: Path) -> None:
    (tmp_path / "disk.raw").write_bytes(bytes(1024**2))
    pool_disk = """<disk type='volume'><driver name='qemu' type='raw'/><source pool='p' volume='disk.raw'/>
      <target dev='hda' bus='ide'/></disk>"""
    with server.connected() as connection:
        network = connection.networkDefineXML("<network><name>n</name><bridge name='bn-needs'/></network>")
        pool = connection.storagePoolDefineXML(
            f"<pool type='dir'><name>p</name><target><path>{tmp_path}</path></target></pool>"
        )
        try:
            async with defined(server, xml_of(server, nic("network", "<source network='n'/>"))) as guest:
                await guest.is_not_started(NeedKind.NETWORK, "n", ABSENT)
            async with defined(server, xml_of(server, pool_disk)) as guest:
                await guest.is_not_started(NeedKind.DISK, "disk.raw in pool p", ABSENT)
                pool.create()
                await guest.is_started()
                guest.connection.lookupByUUIDString(UUID).destroy()
                pool.destroy()
        finally:
            network.undefine()
            pool.undefine()


async def test_a_missing_secret_is_named_with_who_can_create_it(server: Libvirtd, tmp_path: Path) -> None:
    image = tmp_path / "luks.raw"
    qemu_img("create", "-f", "raw", image, "1M")
    xml = xml_of(server, disk(image, more=LUKS))
    secret = f"""<secret ephemeral='no' private='yes'><uuid>{uuid_of(77)}</uuid>
      <usage type='volume'><volume>{image}</volume></usage></secret>"""
    async with defined(server, xml) as guest:
        need = await guest.is_not_started(NeedKind.SECRET, uuid_of(77), ABSENT)
        assert need.met_by is MetBy.PERSON
        made = guest.connection.secretDefineXML(secret)
        try:
            assert await guest.missing() == []
            # It is there and has no value: QEMU's start says so, not the look.
            with pytest.raises(NeedNotMet) as raised:
                await guest.driver.power_on(guest.guest)
            assert [each.kind for each in raised.value.needs] == [NeedKind.SECRET]
        finally:
            made.undefine()
    nova = xml.replace("<memory ", f"{NOVA_XML}<memory ", 1)
    async with defined(server, nova) as guest:
        [found] = [each for each in await guest.driver.needs(GUEST) if each.kind is NeedKind.SECRET]
        assert "owner hard reboots it" in found.why


async def test_firmware_and_the_template_of_its_variables_are_needed(server: Libvirtd, tmp_path: Path) -> None:
    code, store, template = (tmp_path / name for name in ("CODE.fd", "guest.fd", "VARS.fd"))
    os_part = f"<loader readonly='yes' type='pflash'>{code}</loader><nvram template='{template}'>{store}</nvram>"
    async with defined(server, xml_of(server, os=os_part)) as guest:
        assert await guest.missing() == [
            (NeedKind.FIRMWARE, str(code), ABSENT),
            (NeedKind.FIRMWARE, str(store), ABSENT),
        ]
        code.write_bytes(bytes(1024))
        template.write_bytes(bytes(1024))
        assert await guest.missing() == []
        template.unlink()
        store.write_bytes(bytes(1024))
        assert await guest.missing() == []


async def test_missing_huge_pages_and_cpus_are_named(server: Libvirtd) -> None:
    pages = "<memoryBacking><hugepages/></memoryBacking><vcpu>"
    pinned = "<cputune><vcpupin vcpu='0' cpuset='4000'/></cputune><os>"
    cases = (
        (lambda xml: xml.replace("<vcpu>", pages), NeedKind.MEMORY, "2 huge pages of 2048 KiB"),
        (lambda xml: xml.replace("<os>", pinned), NeedKind.MACHINE, "CPU 4000"),
    )
    for changes, kind, name in cases:
        with server.connected() as connection:
            remove_guests(connection)
        async with defined(server, xml_of(server, changes=changes)) as guest:
            await guest.is_not_started(kind, name, ABSENT)
    online = xml_of(server, changes=lambda xml: xml.replace("<os>", pinned.replace("4000", "0,4000")))
    async with defined(server, online) as guest:
        assert await guest.missing() == []


async def test_a_machine_type_removed_by_a_qemu_upgrade_is_named() -> None:
    with a_libvirtd() as server:
        server.define(UUID, GUEST.name)
        server.kill()
        file = server.directory / f"etc/qemu/{GUEST.name}.xml"
        content = file.read_text()
        machine = content.partition("machine='")[2].partition("'")[0]
        file.write_text(content.replace(machine, "pc-i440fx-0.1"))
        server.start_again()
        with server.connected() as connection:
            async with a_driver(server) as driver:
                guest = Defined(driver, connection)
                need = await guest.is_not_started(NeedKind.MACHINE, "qemu x86_64 pc-i440fx-0.1", ABSENT)
                assert need.met_by is MetBy.PERSON
