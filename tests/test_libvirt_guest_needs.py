"""What is judged of a host that is a folder: devices, pages and files that a test machine does not have."""

import errno
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bringup.drivers.libvirt.guest_needs.devices import devices
from bringup.drivers.libvirt.guest_needs.disks import disks, firmware_and_memory
from bringup.drivers.libvirt.guest_needs.evidence import Evidence, LibvirtAnswers
from bringup.drivers.libvirt.guest_needs.host import NOTHING_SEEN, HostFiles
from bringup.drivers.libvirt.guest_needs.rules.definition import read_definition
from bringup.drivers.libvirt.guest_needs.rules.disk_identity import volumes_of
from bringup.drivers.libvirt.guest_needs.rules.mounts import read_mountinfo
from bringup.drivers.needs import MetBy, Need, NeedKind, NeedState

ABSENT, UNVERIFIED, MET = NeedState.ABSENT, NeedState.UNVERIFIED, NeedState.MET
ROOT = "27 1 254:0 / / rw - ext4 /dev/vda rw\n"
NOVA = '<metadata><nova:instance xmlns:nova="http://openstack.org/xmlns/libvirt/nova/1.1"/></metadata>'

See = Callable[..., list[Need]]


@pytest.fixture
def see(tmp_path: Path) -> See:
    """Return the view of a guest with these elements, on the host that is ``tmp_path``."""

    def check(elements: str, *, by_nova: bool = False, active: bool = False, **more: Any) -> list[Need]:
        xml = f"<domain><name>g</name>{NOVA if by_nova else ''}<memory unit='MiB'>4</memory>{elements}</domain>"
        definition = read_definition(xml)
        answers = LibvirtAnswers(definitions=(definition,), active=active, online=frozenset({0, 1}))
        values: dict[str, Any] = {
            "host": HostFiles(tmp_path),
            "libvirt": answers,
            "definition": definition,
            "mounts": read_mountinfo(ROOT),
            "expected": {},
            "nova_base": "/var/lib/nova/mnt",
        }
        evidence = Evidence(**values | more)
        return [
            *(verdict.need for verdict in disks(evidence)),
            *devices(evidence),
            *(verdict.need for verdict in firmware_and_memory(evidence)),
        ]

    return check


def write_file(root: Path, path: str, content: str = "") -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)


PCI = """<devices><hostdev mode='subsystem' type='pci'><source>
  <address domain='0x0000' bus='0x81' slot='0x02' function='0x3'/></source></hostdev></devices>"""


def test_a_pci_device_must_be_the_one_that_the_record_knows(see: See, tmp_path: Path) -> None:
    [need] = see(PCI)
    assert (need.name, need.state, need.met_by) == ("0000:81:02.3", ABSENT, MetBy.HOST)
    write_file(tmp_path, "sys/bus/pci/devices/0000:81:02.3/vendor", "0x15b3\n")
    write_file(tmp_path, "sys/bus/pci/devices/0000:81:02.3/device", "0x1018\n")
    assert see(PCI)[0].state is MET
    assert see(PCI, profiles={"0000:81:02.3": "15b3:1018"})[0].state is MET
    [other] = see(PCI, profiles={"0000:81:02.3": "8086:154c"})
    assert (other.state, other.met_by) == (UNVERIFIED, MetBy.PERSON)
    assert "15b3:1018" in other.why


def test_a_mediated_device_is_made_again_by_nova_and_comes_by_itself_elsewhere(see: See, tmp_path: Path) -> None:
    uuid = "4b20d080-1b54-4048-85b3-a6a62d165c01"
    mdev = f"<devices><hostdev type='mdev'><source><address uuid='{uuid}'/></source></hostdev></devices>"
    assert [(see(mdev, by_nova=nova)[0].state, see(mdev, by_nova=nova)[0].met_by) for nova in (True, False)] == [
        (ABSENT, MetBy.NOVA),
        (ABSENT, MetBy.HOST),
    ]
    (tmp_path / "sys/bus/mdev/devices" / uuid).mkdir(parents=True)
    assert see(mdev)[0].state is MET


def usb(*parts: str) -> str:
    return f"<devices><hostdev type='usb'><source>{''.join(parts)}</source></hostdev></devices>"


def test_a_usb_device_is_known_by_vendor_and_product_and_not_by_its_number(see: See, tmp_path: Path) -> None:
    ids, address = "<vendor id='0x1d6b'/><product id='0x00AA'/>", "<address bus='1' device='7'/>"
    for key, value in {"idVendor": "1d6b", "idProduct": "00aa", "busnum": "1", "devnum": "3"}.items():
        write_file(tmp_path, f"sys/bus/usb/devices/1-1/{key}", f"{value}\n")
    assert see(usb(ids))[0].state is MET
    assert see(usb("<vendor id='0x1d6b'/><product id='0x00ab'/>"))[0].state is ABSENT
    assert see(usb(ids, address))[0].state is ABSENT
    assert see(usb(address))[0].state is ABSENT
    [number] = see(usb("<address bus='1' device='3'/>"))
    assert (number.state, number.met_by) == (UNVERIFIED, MetBy.PERSON)


def test_a_scsi_device_by_the_number_of_its_host_is_not_identified(see: See) -> None:
    scsi = """<devices><hostdev type='scsi'><source><adapter name='scsi_host0'/>
      <address bus='0' target='1' unit='2'/></source></hostdev></devices>"""
    assert [(need.name, need.state) for need in see(scsi)] == [("scsi_host0:0:1:2", UNVERIFIED)]


PAGES = "<memoryBacking><hugepages><page size='2' unit='MiB'/></hugepages></memoryBacking>"


@pytest.mark.parametrize(
    ("counts", "state"),
    [((2, 0, 0, 0), MET), ((1, 0, 0, 0), ABSENT), ((3, 2, 0, 0), ABSENT), ((0, 0, 2, 0), MET), ((0, 0, 2, 1), ABSENT)],
    ids=["free", "too few", "reserved for others", "more may be made", "fewer may be made"],
)
def test_huge_pages_are_there_when_enough_are_free(
    see: See, tmp_path: Path, counts: tuple[int, ...], state: NeedState
) -> None:
    assert [(need.kind, need.state) for need in see(PAGES)] == [(NeedKind.MEMORY, ABSENT)]
    folder = "sys/kernel/mm/hugepages/hugepages-2048kB"
    names = ("free_hugepages", "resv_hugepages", "nr_overcommit_hugepages", "surplus_hugepages")
    for name, count in zip(names, counts, strict=True):
        write_file(tmp_path, f"{folder}/{name}", f"{count}\n")
    assert [need.state for need in see(PAGES)] == [state]
    # A guest that runs has its own.
    assert see(PAGES, active=True) == []


def test_the_pages_of_each_node_are_counted_where_only_those_are_huge(see: See, tmp_path: Path) -> None:
    nodes = """<memoryBacking><hugepages><page size='2048' unit='KiB' nodeset='1'/></hugepages></memoryBacking>
      <cpu><numa><cell id='0' cpus='0' memory='9' unit='MiB'/><cell id='1' cpus='1' memory='2' unit='MiB'/></numa>
      </cpu>"""
    write_file(tmp_path, "sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "1\n")
    assert [(need.name, need.state) for need in see(nodes)] == [("1 huge pages of 2048 KiB", MET)]


def disk(path: str, *, serial: str = "", kind: str = "file") -> str:
    key = "dev" if kind == "block" else "file"
    return f"""<devices><disk type='{kind}'><driver type='raw'/><source {key}='{path}'/><target dev='vdb'/>
      <serial>{serial}</serial></disk></devices>"""


@pytest.mark.parametrize(
    ("path", "by_nova", "met_by"),
    [
        ("/var/lib/nova/instances/_base/0a1b", True, MetBy.NOVA),
        ("/var/lib/nova/instances/_base/0a1b", False, MetBy.HOST),
        ("/var/lib/nova/instances/x/disk", True, MetBy.HOST),
        ("/dev/sdb", True, MetBy.NOVA),
        ("/dev/disk/by-path/ip-192.0.2.1:3260-iscsi-iqn.2010-10.org.openstack:x-lun-1", True, MetBy.NOVA),
        ("/dev/disk/by-path/pci-0000:05:00.0-fc-0x50060160c1e0abcd-lun-3", True, MetBy.HOST),
        ("/dev/disk/by-id/os-brick+dev+sdb", True, MetBy.NOVA),
        ("/dev/vg/lv", True, MetBy.HOST),
        ("/dev/sdb", False, MetBy.HOST),
    ],
)
def test_a_missing_disk_names_who_can_provide_it(see: See, path: str, met_by: MetBy, *, by_nova: bool) -> None:
    [need] = see(disk(path, kind="block" if path.startswith("/dev") else "file"), by_nova=by_nova)
    assert (need.kind, need.name, need.state, need.met_by) == (NeedKind.DISK, path, ABSENT, met_by)


def test_a_disk_below_a_mount_that_a_pool_or_fstab_names_is_absent_with_it(see: See, tmp_path: Path) -> None:
    write_file(tmp_path, "srv/images/old.raw", "old")
    expected = {"/srv/images": "nas:/images"}
    [need] = see(disk("/srv/images/old.raw"), expected=expected)
    assert (need.kind, need.name, need.state, need.met_by) == (NeedKind.MOUNT, "/srv/images", ABSENT, MetBy.HOST)
    mounts = read_mountinfo(ROOT + "30 27 0:50 / /srv/images rw - nfs4 nas:/images rw\n")
    found = see(disk("/srv/images/old.raw"), expected=expected, mounts=mounts)
    assert [(each.kind, each.name, each.state) for each in found] == [
        (NeedKind.MOUNT, "/srv/images", MET),
        (NeedKind.DISK, "/srv/images/old.raw", MET),
    ]
    # By a link from elsewhere it is the same file.
    (tmp_path / "link").symlink_to("/srv/images/old.raw")
    [linked] = see(disk("/link"), expected=expected)
    assert (linked.kind, linked.state) == (NeedKind.MOUNT, ABSENT)


def test_a_volume_in_a_file_is_on_the_mount_of_its_export_wherever_that_is(see: See, tmp_path: Path) -> None:
    write_file(tmp_path, "vol/volume-1", "x")
    info = {"driver_volume_type": "nfs", "data": {"export": "nas:/x"}}
    volumes = tuple(volumes_of([{"volume_id": "1", "device_name": "/dev/vdb", "connection_info": info}]))
    [bare] = see(disk("/vol/volume-1"), volumes=volumes)
    assert (bare.kind, bare.name, bare.state, bare.met_by) == (NeedKind.MOUNT, "/vol", ABSENT, MetBy.NOVA)
    for source, state in (("nas:/x/", MET), ("nas:/y", UNVERIFIED)):
        mounts = read_mountinfo(ROOT + f"30 27 0:50 / /vol rw - nfs4 {source} rw\n")
        assert [each.state for each in see(disk("/vol/volume-1"), volumes=volumes, mounts=mounts)] == [state]


SHARE = "<devices><filesystem type='mount'><source dir='/var/lib/nova/mnt/s'/><target dir='x'/></filesystem></devices>"


def test_a_share_of_nova_is_there_when_something_is_mounted(see: See, tmp_path: Path) -> None:
    write_file(tmp_path, "var/lib/nova/mnt/s/old", "not the share")
    for by_nova in (True, False):
        [need] = see(SHARE, by_nova=by_nova)
        assert (need.kind, need.state, need.met_by) == (NeedKind.SHARE, ABSENT, MetBy.NOVA)
    mounts = read_mountinfo(ROOT + "30 27 0:50 / /var/lib/nova/mnt/s rw - nfs4 nas:/s rw\n")
    assert see(SHARE, by_nova=True, mounts=mounts)[0].state is MET


def test_a_user_who_cannot_see_the_host_verifies_no_share_and_leaves_firmware_to_the_start(see: See) -> None:
    firmware = "<os><loader>/usr/share/OVMF/OVMF_CODE.fd</loader></os>"
    assert [need.state for need in see(firmware)] == [ABSENT]
    assert see(firmware, sees_host=False, host=NOTHING_SEEN) == []
    [share] = see(SHARE, sees_host=False, host=NOTHING_SEEN)
    assert (share.state, share.met_by) == (UNVERIFIED, MetBy.PERSON)


def test_a_lost_info_cache_is_reported(see: See) -> None:
    nic = "<devices><interface type='bridge'><source bridge='qbr-not-there'/></interface></devices>"
    [need] = see(nic, by_nova=True)
    assert need.why.endswith("its record has no NICs, its definition has 1: the info cache was lost")
    assert see(nic, by_nova=True, nics_in_record=1)[0].why == "no such bridge"
    assert see(nic, made=frozenset({"qbr-not-there"}))[0].state is MET
    assert see(nic.replace("qbr-not-there", "lo"))[0].state is MET


def test_a_pin_holds_while_one_of_its_cpus_is_online(see: See) -> None:
    for cpus, state in (("0-3", MET), ("2,3", ABSENT)):
        pins = f"<cputune><vcpupin vcpu='0' cpuset='{cpus}'/></cputune>"
        assert [need.state for need in see(pins)] == [state]


def test_names_are_bounded_and_printable(see: See) -> None:
    [need] = see(disk(f"/srv/a&#10;b{'x' * 1000}"))
    assert "\n" not in need.name
    assert len(need.name) <= 300


@pytest.mark.parametrize("device", ["cdrom", "floppy", "lun", "disk"])
def test_only_a_medium_that_is_not_there_may_be_left_out(see: See, tmp_path: Path, device: str) -> None:
    def optional(path: str, policy: str = "optional", **more: Any) -> list[NeedState]:
        found = f"<source file='{path}' startupPolicy='{policy}'/><target dev='sda'/>"
        return [
            need.state for need in see(f"<devices><disk type='file' device='{device}'>{found}</disk></devices>", **more)
        ]

    is_medium = device in ("cdrom", "floppy")
    assert optional("/gone.iso") == ([] if is_medium else [ABSENT])
    assert optional("/gone.iso", "requisite") == [ABSENT]
    write_file(tmp_path, "an.iso")
    assert optional("/an.iso") == [MET]
    (tmp_path / "a.link").symlink_to("/srv/isos/gone.iso")
    expected = {"/srv/isos": "nas:/isos"}
    assert optional("/a.link", expected=expected) == ([] if is_medium else [ABSENT, ABSENT])
    # What lies below the mount point would be given to the guest.
    write_file(tmp_path, "srv/isos/gone.iso", "old")
    assert optional("/a.link", expected=expected) == [ABSENT]
    # What is there and is not identified is not left out: libvirt would give the guest that.
    os.mkfifo(tmp_path / "sdb")
    assert optional("/sdb") == [UNVERIFIED]


def qcow2(path: Path, backing: str) -> None:
    name = backing.encode()
    path.write_bytes(b"QFI\xfb" + struct.pack(">IQI", 2, 72, len(name)) + bytes(52) + name)


OVERLAY = (
    """<devices><disk type='file'><driver type='qcow2'/><source file='/top'/><target dev='vda'/></disk></devices>"""
)


def test_a_backing_file_of_an_unknown_kind_is_not_verified(see: See, tmp_path: Path) -> None:
    for name, states in (
        ("raw:/dev/sdb", [MET, UNVERIFIED]),
        ("nbd:unknown", [MET, UNVERIFIED]),
        ("rbd:volumes/x", [MET, MET]),
        ('json:{"driver":"raw","file.driver":"host_device","file.filename":"/dev/sdb"}', [MET, ABSENT]),
    ):
        qcow2(tmp_path / "top", name)
        assert [need.state for need in see(OVERLAY)] == states


class Unreadable(HostFiles):
    """A host on which no file can be read, as from a storage with an error or with root's files."""

    error = 0

    def read_start(self, path: str, most: int = 0) -> tuple[bytes, int]:  # noqa: ARG002 - as the original
        return b"", self.error


@pytest.mark.parametrize(
    ("error", "states"),
    [(0, [MET]), (errno.EACCES, [MET]), (errno.EIO, [MET, UNVERIFIED]), (errno.ESTALE, [MET, UNVERIFIED])],
)
def test_an_image_that_cannot_be_read_is_not_one_without_backing_files(
    see: See, tmp_path: Path, error: int, states: list[NeedState]
) -> None:
    write_file(tmp_path, "top")
    host = Unreadable(tmp_path)
    host.error = error
    found = see(OVERLAY, host=host)
    assert [need.state for need in found] == states
    assert {need.met_by for need in found} == {MetBy.HOST}


def test_an_nvme_controller_by_its_place_is_not_identified(see: See, tmp_path: Path) -> None:
    nvme = """<devices><disk type='nvme'><source type='pci' managed='yes' namespace='1'>
      <address domain='0' bus='1' slot='0' function='0'/></source><target dev='vda'/></disk></devices>"""
    assert [need.state for need in see(nvme)] == [ABSENT]
    (tmp_path / "sys/bus/pci/devices/0000:01:00.0").mkdir(parents=True)
    assert [(need.state, need.met_by) for need in see(nvme)] == [(UNVERIFIED, MetBy.PERSON)]


@pytest.mark.parametrize("model", ["nvdimm", "virtio-pmem"])
def test_persistent_memory_is_judged_as_a_disk_is(see: See, tmp_path: Path, model: str) -> None:
    def memory(path: str) -> str:
        return f"<devices><memory model='{model}'><source><path>{path}</path></source></memory></devices>"

    assert [need.state for need in see(memory("/dev/dax0.0"))] == [ABSENT]
    (tmp_path / "dev").mkdir()
    # In the place of a character device, which only a real host has.
    os.mkfifo(tmp_path / "dev/dax0.0")
    for by_nova, met_by in ((True, MetBy.NOVA), (False, MetBy.PERSON)):
        found = see(memory("/dev/dax0.0"), by_nova=by_nova)
        assert [(need.state, need.met_by) for need in found] == [(UNVERIFIED, met_by)]
    assert [need.state for need in see(memory("/srv/pmem"))] == [ABSENT]
    write_file(tmp_path, "srv/pmem")
    assert [need.state for need in see(memory("/srv/pmem"))] == [MET]
    assert [need.kind for need in see(memory("/srv/pmem"), expected={"/srv": "nas:/x"})] == [NeedKind.MOUNT]
    assert [need.state for need in see(memory("/srv/pmem"), sees_host=False)] == [UNVERIFIED]


def test_variables_of_firmware_are_made_of_the_template_only_below_mounts_that_are_there(
    see: See, tmp_path: Path
) -> None:
    write_file(tmp_path, "VARS.fd")
    store = "<os><nvram template='/VARS.fd'>/srv/guest.fd</nvram></os>"
    assert [(need.kind, need.state) for need in see(store)] == [(NeedKind.FIRMWARE, MET)]
    assert (NeedKind.MOUNT, ABSENT) in [(need.kind, need.state) for need in see(store, expected={"/srv": "nas:/x"})]
    block = "<os><nvram type='block' template='/VARS.fd'><source dev='/dev/sdb'/></nvram></os>"
    assert [(need.kind, need.state) for need in see(block)] == [(NeedKind.FIRMWARE, ABSENT)]
    (tmp_path / "dev").mkdir()
    os.mkfifo(tmp_path / "dev/sdb")
    assert [(need.kind, need.state) for need in see(block)] == [(NeedKind.FIRMWARE, UNVERIFIED)]


def test_libvirt_is_queried_only_for_disks_it_knows_under_no_unstable_name(tmp_path: Path) -> None:
    def questions(path: str, saved: str = "") -> list[str]:
        definition, image = (
            read_definition(f"<domain><name>g</name>{disk(each)}</domain>") for each in (path, saved or path)
        )
        answers = LibvirtAnswers(definitions=(definition, image), active=False)
        evidence = Evidence(
            host=HostFiles(tmp_path),
            libvirt=answers,
            definition=image,
            mounts=read_mountinfo(ROOT),
            expected={},
            nova_base="/var/lib/nova/mnt",
        )
        return [verdict.disk for verdict in disks(evidence)]

    (tmp_path / "vm.img").symlink_to("/dev/sdb")
    (tmp_path / "vm2.img").symlink_to("/srv/elsewhere")
    assert questions("/gone") == ["vdb"]
    assert questions("/vm2.img") == ["vdb"]
    assert questions("/vm.img") == [""]
    assert questions("/gone", saved="/gone-too") == [""]


def test_a_network_disk_is_there_when_any_of_its_servers_answers(see: See) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.create_server(("127.0.0.1", 0)) as listening:
        closed, port = taken.getsockname()[1], listening.getsockname()[1]
        taken.close()
        dead = f"<host name='127.0.0.1' port='{closed}'/>"

        def states(hosts: str, protocol: str = "http") -> list[tuple[NeedState, MetBy]]:
            source = f"<source protocol='{protocol}' name='x'>{hosts}</source><target dev='vda'/>"
            found = see(f"<devices><disk type='network'>{source}</disk></devices>")
            return [(need.state, need.met_by) for need in found]

        assert states(dead * 5) == [(ABSENT, MetBy.HOST)]
        assert states(dead * 40) == [(UNVERIFIED, MetBy.HOST)]
        assert states(dead * 5 + f"<host name='127.0.0.1' port='{port}'/>") == [(MET, MetBy.HOST)]
        assert states("") == [(UNVERIFIED, MetBy.PERSON)]
        assert states("", "rbd") == [(MET, MetBy.HOST)]
        assert states("<host name='127.0.0.1' port='99999'/>") == [(ABSENT, MetBy.HOST)]
