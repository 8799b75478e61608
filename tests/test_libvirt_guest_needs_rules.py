"""What is read of mounts, images, definitions and devices below a folder that stands in for a host."""

import os
import struct
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bringup.drivers.libvirt.binding import binding
from bringup.drivers.libvirt.guest_needs.block_devices import device_of, dm_uuid_of
from bringup.drivers.libvirt.guest_needs.host import HostFiles, PathTarget
from bringup.drivers.libvirt.guest_needs.rules.backing_files import read_header, source_of
from bringup.drivers.libvirt.guest_needs.rules.definition import Server, Source, read_definition
from bringup.drivers.libvirt.guest_needs.rules.mounts import (
    Mounts,
    missing_mount,
    read_fstab,
    read_mountinfo,
    read_unit,
)
from bringup.drivers.libvirt.guest_needs.rules.xml_values import cpus_of, kib_of, number
from bringup.drivers.libvirt.start import CODES, missing_need
from bringup.drivers.needs import NeedKind
from test_libvirt_tables import Raised

WWID = "60014055d7e1f2a4c3b2d1e0f9a8b7c6"
ROOT = "27 1 254:0 / / rw - ext4 /dev/vda rw\n"
DATA = "30 27 8:16 / /srv/data rw - xfs /dev/sdb1 rw\n"


@pytest.mark.parametrize(
    ("mountinfo", "point", "is_mounted"),
    [
        (ROOT, "/srv/data", False),
        (ROOT + DATA, "/srv/data", True),
        (ROOT + "31 27 0:50 / /srv/nfs rw - nfs4 nas:/x rw\n", "/srv/nfs", True),
        # systemd's ReadWritePaths= and ProtectSystem= bind a folder onto itself: no file system of its own.
        (ROOT + "32 27 254:0 /srv/data /srv/data rw - ext4 /dev/vda rw\n", "/srv/data", False),
        (ROOT + DATA + "33 30 8:16 /vm /srv/data/vm rw - xfs /dev/sdb1 rw\n", "/srv/data/vm", False),
        # Another folder of the same file system is bound there, or a subvolume.
        (ROOT + "34 27 254:0 /elsewhere /srv/data rw - ext4 /dev/vda rw\n", "/srv/data", True),
        (ROOT + "35 27 0:60 / /srv/auto rw - autofs systemd-1 rw\n", "/srv/auto", False),
        (
            ROOT + "35 27 0:60 / /srv/auto rw - autofs systemd-1 rw\n36 35 0:61 / /srv/auto rw - nfs nas:/x rw\n",
            "/srv/auto",
            True,
        ),
        (ROOT + "37 27 8:1 / /srv/with\\040space rw shared:1 - xfs /dev/sdc rw\n", "/srv/with space", True),
    ],
)
def test_a_mount_point_is_mounted_when_a_file_system_of_its_own_is_there(
    mountinfo: str, point: str, *, is_mounted: bool
) -> None:
    assert read_mountinfo(mountinfo).is_mounted(point) is is_mounted


FSTAB = """# a comment
UUID=1 / ext4 defaults 0 1
nas:/export /srv/nfs nfs _netdev 0 0
UUID=2 none swap sw 0 0
LABEL=x /srv/with\\040space/ xfs noauto 0 0
"""
UNIT = """[Unit]
Description=x
[Mount]
What=192.0.2.1:/x
Where=/srv/unit
Type=nfs
"""


def test_expected_mounts_are_read_from_fstab_and_mount_units() -> None:
    assert read_fstab(FSTAB) == {"/": "UUID=1", "/srv/nfs": "nas:/export", "/srv/with space": "LABEL=x"}
    assert read_unit(UNIT) == ("/srv/unit", "192.0.2.1:/x")
    assert read_unit("") is None


@pytest.mark.parametrize(
    ("path", "point"),
    [
        ("/srv/nfs/disk", "/srv/nfs"),
        ("/srv/nfs", "/srv/nfs"),
        ("/srv/nfsx/disk", None),
        ("/srv/other/disk", None),
        ("/var/lib/nova/mnt/abc/volume", "/var/lib/nova/mnt/abc"),
        ("/var/lib/nova/mnt/abc", "/var/lib/nova/mnt/abc"),
        ("/data/nova/mnt/0123456789abcdef0123456789abcdef/volume", "/data/nova/mnt/0123456789abcdef0123456789abcdef"),
        ("/var/lib/nova/instances/x/disk", None),
        ("/srv/data/vm/disk", None),
    ],
)
def test_a_file_relies_on_each_named_mount_above_it(path: str, point: str | None) -> None:
    mounts = read_mountinfo(ROOT + DATA)
    expected = read_fstab(FSTAB) | {"/srv/data": "/dev/sdb1"}
    found = missing_mount([path], mounts, expected, "/var/lib/nova/mnt")
    assert (None if found is None else found.point) == point


@given(st.text(max_size=200))
def test_any_text_is_read_as_mounts(text: str) -> None:
    assert isinstance(read_mountinfo(text), Mounts)
    read_fstab(text)
    read_unit(text)


def header(backing: bytes = b"", extensions: bytes = b"", version: int = 3) -> bytes:
    offset = 104 + len(extensions) + 8
    start = b"QFI\xfb" + struct.pack(">IQI", version, offset if backing else 0, len(backing))
    return start + bytes(100 - len(start)) + struct.pack(">I", 104) + extensions + bytes(8) + backing


def test_a_header_of_qcow2_names_its_backing_file() -> None:
    extensions = struct.pack(">II", 0xE2792ACA, 5) + b"qcow2" + bytes(3)
    found = read_header(header(b"../_base/x", extensions))
    assert found is not None
    assert (found.backing, found.backing_format) == ("../_base/x", "qcow2")
    assert read_header(b"not one" + bytes(200)) is None


@given(st.binary(max_size=300), st.sampled_from([b"", b"QFI\xfb", b"QFI\xfb\0\0\0\3"]))
def test_any_header_is_read(rest: bytes, start: bytes) -> None:
    read_header(start + rest)


def at_path(path: str, form: str = "") -> Source:
    return Source(type="file", path=path, format=form)


def served(protocol: str, name: str, *servers: Server) -> Source:
    return Source(type="network", protocol=protocol, name=name, servers=servers)


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("/a/b", Source(type="file", path="/a/b")),
        ("b", Source(type="file", path="/images/b")),
        ("file:/a/b", Source(type="file", path="/a/b")),
        ("json:{}", Source(type="unknown")),
        ("json:[", Source(type="unknown")),
        (
            'json:{"driver":"raw","file":{"driver":"file","filename":"/a"}}',
            Source(type="file", path="/a", format="raw"),
        ),
        ('json:{"driver":"raw","file.driver":"host_device","file.filename":"/dev/sdb"}', at_path("/dev/sdb", "raw")),
        ('json:{"driver":"qcow2","file.driver":"host_device","file.filename":"/d"}', at_path("/d", "qcow2")),
        ('json:{"driver":"raw","file.file.filename":"/d"}', at_path("/d", "raw")),
        ("host_device:/dev/sdb", at_path("/dev/sdb")),
        ("rbd:volumes/x", Source(type="network", protocol="rbd", name="volumes/x")),
        ("rbd:volumes/x@s:id=admin:key=hunter2", Source(type="network", protocol="rbd", name="s")),
        ("nbd+unix:///x?socket=/s", served("nbd", "///x", Server(socket="/s"))),
        ("nbd:unix:/s:exportname=x", served("nbd", "unix:/s:exportname=x", Server(socket="/s"))),
        ("nbd:host:10810", served("nbd", "host:10810", Server(name="host", port=10810))),
        (
            "nbd://[2001:db8::1]:10810/x",
            served("nbd", "//[2001:db8::1]:10810/x", Server(name="2001:db8::1", port=10810)),
        ),
        ("https://user:hunter2@host/x", served("https", "host/x", Server(name="host"))),
        (
            'json:{"driver":"nbd","server.type":"inet","server.host":"h","server.port":"1","export":"x"}',
            served("nbd", "x", Server(name="h", port=1)),
        ),
        (
            'json:{"driver":"raw","file":{"driver":"rbd","image":"i","server":[{"host":"a","port":"1"},{"host":"b"}]}}',
            replace(served("rbd", "i", Server(name="a", port=1), Server(name="b")), format="raw"),
        ),
        ('json:{"driver":"https","url":"https://h:1/x"}', served("https", "", Server(name="h", port=1))),
        ('json:{"driver":"iscsi","portal":"h:1","target":"t"}', served("iscsi", "t", Server(name="h", port=1))),
    ],
)
def test_the_name_of_a_backing_file_is_read_as_qemu_does(name: str, source: Source) -> None:
    assert source_of(name, "", "/images/top") == source


@pytest.mark.parametrize(
    "name",
    [
        "raw:/dev/sdb",
        # QEMU looks for these in its working directory.
        "file:b",
        'json:{"driver":"raw","file":{"driver":"file","filename":"b"}}',
        "blkdebug::/dev/sdb",
        "fat:rw:/dev/sdb",
        "nvme://0000:01:00.0/1",
        "quorum:x",
        'json:{"driver":"quorum","children":[{"driver":"host_device","filename":"/dev/sdb"}]}',
        'json:{"driver":"blkdebug","image":{"driver":"host_device","filename":"/dev/sdb"}}',
        'json:{"driver":"quorum","file":{"driver":"file","filename":"/a"}}',
        'json:{"driver":"nvme","device":"0000:01:00.0","namespace":1}',
        'json:{"driver":"qcow2","file":{"driver":"file","filename":"/a"},"backing":{"driver":"x"}}',
        'json:{"driver":"qcow2","file":{"driver":"file","filename":"/a"},"data-file.filename":"/dev/sdb"}',
        'json:{"driver":"raw","file":"a-node"}',
        'json:{"driver":"raw","file":"x","file.filename":"/dev/sdb"}',
        'json:{"driver":["file"],"filename":"/a"}',
    ],
)
def test_what_is_neither_a_path_nor_of_a_known_server_is_unknown(name: str) -> None:
    assert source_of(name, "", "/images/top") == Source(type="unknown")


@given(st.text(max_size=100))
def test_any_name_of_a_backing_file_is_read(name: str) -> None:
    source_of(name, "", "/images/top")
    source_of(f"json:{name}", "", "/images/top")


def test_sets_and_sizes_are_read_as_libvirt_writes_them() -> None:
    assert cpus_of("0-3,^2,8") == {0, 1, 3, 8}
    assert cpus_of("x,0-99999999999") == frozenset()
    assert (kib_of("2", "M"), kib_of("1", "GiB"), kib_of("2048", "KiB"), kib_of(None, "")) == (2048, 1048576, 2048, 0)
    assert (number("0x1f"), number("31"), number("z"), number(None)) == (31, 31, None, None)


def test_a_definition_that_needs_nothing_needs_nothing() -> None:
    empty = read_definition("<domain type='test'><name>x</name></domain>")
    assert (empty.disks, empty.secrets, empty.pages, empty.by_nova) == ((), (), (), False)
    with pytest.raises(ValueError, match="no XML"):
        read_definition("<domain")
    cdrom = "<disk type='file' device='cdrom'>{}<target dev='hda'/></disk>"
    for source in ("", "<source/>", "<source file='/gone.iso' startupPolicy='optional'/>"):
        xml = f"<domain><devices>{cdrom.format(source)}</devices></domain>"
        assert all(disk.optional for disk in read_definition(xml).disks)


@pytest.fixture
def host(tmp_path: Path) -> HostFiles:
    return HostFiles(tmp_path)


def write_file(root: Path, path: str, content: str | bytes) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content.encode() if isinstance(content, str) else content)


def block_status(major: int, minor: int) -> os.stat_result:
    values = [0] * len(Path("/").stat())
    return os.stat_result([0o60660, *values[1:]], {"st_rdev": os.makedev(major, minor)})


def test_the_server_of_a_disk_is_read_from_sysfs(host: HostFiles) -> None:
    at = "sys/devices/platform/host2/session1/target2:0:0/2:0:0:1"
    write_file(host.root, f"{at}/block/sdb/dev", "8:16\n")
    write_file(host.root, f"{at}/wwid", f"naa.{WWID}\n")
    (host.root / at / "block/sdb/device").symlink_to("../../../2:0:0:1")
    (host.root / "sys/dev/block").mkdir(parents=True)
    (host.root / "sys/dev/block/8:16").symlink_to(f"../../../{at}/block/sdb")
    write_file(host.root, "sys/class/iscsi_session/session1/targetname", "iqn.2010-10.org.openstack:x\n")
    write_file(host.root, "run/udev/data/b8:16", "E:ID_SERIAL=36001405aaaaaaaaaaaaaaaaaaaaaaaaa\nE:OTHER=1\n")

    device = device_of(host, PathTarget("/dev/sdb", ("/dev/sdb",), block_status(8, 16)))

    assert device.name == "sdb"
    assert device.targets == {("iqn.2010-10.org.openstack:x", 1)}
    assert device.wwns == {WWID, "6001405aaaaaaaaaaaaaaaaaaaaaaaaa"}


def test_multipath_and_nvme_are_read_from_sysfs(host: HostFiles) -> None:
    write_file(host.root, "sys/devices/virtual/block/dm-3/dm/name", "mpatha\n")
    write_file(host.root, "sys/devices/virtual/block/dm-3/dm/uuid", f"mpath-3{WWID}\n")
    write_file(host.root, "sys/devices/sdb/device/wwid", f"naa.{WWID}\n")
    (host.root / "sys/devices/virtual/block/dm-3/slaves").mkdir()
    (host.root / "sys/devices/virtual/block/dm-3/slaves/sdb").symlink_to("../../../../sdb")
    write_file(host.root, "sys/devices/nvme0/nvme0n1/nguid", "01234567-89ab-cdef-0123-456789abcdef\n")
    write_file(host.root, "sys/devices/nvme0/nvme0n1/device/subsysnqn", "nqn.x\n")
    (host.root / "sys/dev/block").mkdir(parents=True)
    (host.root / "sys/dev/block/253:3").symlink_to("../../devices/virtual/block/dm-3")
    (host.root / "sys/dev/block/259:0").symlink_to("../../devices/nvme0/nvme0n1")

    (host.root / "sys/block").mkdir()
    (host.root / "sys/block/dm-3").symlink_to("../devices/virtual/block/dm-3")
    assert (dm_uuid_of(host, "mpatha"), dm_uuid_of(host, "mpathb")) == (f"mpath-3{WWID}", "")
    multipath = device_of(host, PathTarget("/dev/dm-3", ("/dev/dm-3",), block_status(253, 3)))
    nvme = device_of(host, PathTarget("/dev/nvme0n1", ("/dev/nvme0n1",), block_status(259, 0)))

    assert (multipath.dm_name, multipath.dm_uuid) == ("mpatha", f"mpath-3{WWID}")
    assert [(path.name, path.wwns) for path in multipath.paths] == [("sdb", frozenset({WWID}))]
    # The name may be that of a logical volume inside, by now.
    write_file(host.root, "sys/devices/virtual/block/dm-3/dm/uuid", "LVM-abc\n")
    assert device_of(host, PathTarget("/dev/dm-3", ("/dev/dm-3",), block_status(253, 3))).paths == ()
    assert (nvme.nqn, nvme.namespaces) == ("nqn.x", frozenset({"0123456789abcdef0123456789abcdef"}))


def test_links_are_followed_to_their_end_and_no_further_than_forty(host: HostFiles) -> None:
    (host.root / "loop").symlink_to("loop")
    assert host.find("/loop").status is None
    (host.root / "folder").mkdir()
    (host.root / "folder/file").touch()
    (host.root / "link").symlink_to("/folder")
    (host.root / "folder/second").symlink_to("../link/file")
    found = host.find("/link/second")
    assert found.names == ("/folder/second", "/folder/file")
    assert (found.end, found.is_file) == ("/folder/file", True)
    assert host.find("/folder/gone/deeper").status is None
    # As the kernel does: a link to a folder is resolved before the folder above it.
    (host.root / "folder/inner").mkdir()
    (host.root / "elsewhere").symlink_to("/folder/inner")
    (host.root / "file").touch()
    for path in ("/elsewhere/../file", "//elsewhere/.././/file", "/elsewhere/../inner/../file"):
        assert host.find(path).names == ("/folder/file",)
    assert host.find("/elsewhere/..").end == "/folder"
    assert host.find("/../..").end == "/"


@pytest.mark.parametrize(
    ("code", "message", "kind", "name"),
    [
        (
            "VIR_ERR_OPERATION_INVALID",
            "Requested operation is not valid: network 'default' is not active",
            "NETWORK",
            "default",
        ),
        ("VIR_ERR_NO_SECRET", "Secret not found: no secret with matching uuid 'x'", "SECRET", None),
        (
            "VIR_ERR_SYSTEM_ERROR",
            "Cannot access storage file '/a/disk': No such file or directory",
            "DISK",
            "/a/disk",
        ),
        (
            "VIR_ERR_INTERNAL_ERROR",
            "process exited: -blockdev: Failed to connect to '192.0.2.1:10809': Connection refused",
            "DISK",
            None,
        ),
        (
            "VIR_ERR_INTERNAL_ERROR",
            "Device 0000:81:00.1 not found: could not access /sys/x",
            "HOST_DEVICE",
            "0000:81:00.1",
        ),
        ("VIR_ERR_SYSTEM_ERROR", "Cannot get interface MTU on 'qbr1': No such device", "NETWORK", "qbr1"),
        ("VIR_ERR_INTERNAL_ERROR", "Unable to find any usable hugetlbfs mount for 2048 KiB", "MEMORY", None),
        ("VIR_ERR_INTERNAL_ERROR", "unable to map backing store for guest RAM: Cannot allocate memory", "MEMORY", None),
        ("VIR_ERR_OPERATION_FAILED", "mediated device '4b20d080-1b54' not found", "HOST_DEVICE", "4b20d080-1b54"),
        ("VIR_ERR_INTERNAL_ERROR", "Did not find USB device 1d6b:beef", "HOST_DEVICE", "1d6b:beef"),
        ("VIR_ERR_INTERNAL_ERROR", "the virtiofs export directory '/x' does not exist", "SHARE", "/x"),
        ("VIR_ERR_CONFIG_UNSUPPORTED", "guest CPU doesn't match specification: missing features: vmx", "MACHINE", None),
        ("VIR_ERR_INTERNAL_ERROR", "Cannot access storage file '/a': Permission denied", None, None),
        ("VIR_ERR_INTERNAL_ERROR", "qemu unexpectedly closed the monitor", None, None),
        (
            "VIR_ERR_INTERNAL_ERROR",
            "Cannot check QEMU binary /usr/bin/qemu-x: Permission denied",
            "MACHINE",
            "/usr/bin/qemu-x",
        ),
        # Of a client that lost its power the lock stays for a while.
        (
            "VIR_ERR_INTERNAL_ERROR",
            'Failed to get "write" lock. Is another process using the image [/a]?',
            "DISK",
            None,
        ),
        ("VIR_ERR_INTERNAL_ERROR", "Could not open '/dev/disk/by-path/x': Input/output error", "DISK", None),
        ("VIR_ERR_SYSTEM_ERROR", "cannot access storage file '/a': Input/output error", "DISK", "/a"),
        ("VIR_ERR_INTERNAL_ERROR", "Could not read '/a': Remote I/O error", "DISK", "/a"),
        ("VIR_ERR_INTERNAL_ERROR", "-blockdev x: error connecting: Operation timed out", "DISK", None),
        ("VIR_ERR_INTERNAL_ERROR", "-blockdev x: Failed to read data: Connection reset by peer", "DISK", None),
        ("VIR_ERR_INTERNAL_ERROR", "address resolution failed: Temporary failure in name resolution", "DISK", None),
        ("VIR_ERR_INTERNAL_ERROR", "address resolution failed: Name or service not known", "DISK", None),
        ("VIR_ERR_INTERNAL_ERROR", "Unexpected end-of-file before all bytes were read", "DISK", None),
        ("VIR_ERR_INTERNAL_ERROR", "Requested export not available", "DISK", None),
        ("VIR_ERR_INTERNAL_ERROR", "Could not open '/a': Resource temporarily unavailable", "DISK", "/a"),
        (
            "VIR_ERR_INTERNAL_ERROR",
            "cannot set up guest memory 'pc.ram': Cannot allocate memory",
            "MEMORY",
            None,
        ),
        (
            "VIR_ERR_SYSTEM_ERROR",
            "Unable to open /dev/vfio/12: Device or resource busy",
            "HOST_DEVICE",
            "/dev/vfio/12",
        ),
        ("VIR_ERR_INTERNAL_ERROR", "unsupported configuration: the guest wants too much", None, None),
    ],
)
def test_a_start_that_failed_for_a_missing_need_names_it(
    code: str, message: str, kind: str | None, name: str | None
) -> None:
    try:
        libvirt = binding()
    except ImportError as error:
        pytest.skip(str(error))
    found = missing_need(Raised(getattr(libvirt, code), message=message), libvirt)
    assert (None if found is None else found.kind) == (None if kind is None else NeedKind[kind])
    if found is not None:
        assert name is None or found.name == name
        assert found.why == message
    assert all(hasattr(libvirt, each) for each in CODES)
