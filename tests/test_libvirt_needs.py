"""What real guests need of this host's disks, mounts and folders: each is missing once, and there once."""

import contextlib
import ctypes
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from bringup.drivers.needs import MetBy, NeedKind
from support.drivers import driver_guest, uuid_of
from support.libvirt_drivers import emptied_libvirtd
from support.libvirtd import DomainExtras, Libvirtd
from support.needing import (
    ABSENT,
    GUEST,
    MET,
    NOVA_XML,
    UNVERIFIED,
    UUID,
    block,
    call,
    defined,
    disk,
    loop_device,
    qemu_img,
    xml_of,
)
from support.polling import reached, until

pytestmark = pytest.mark.anyio


server = pytest.fixture(emptied_libvirtd)


@pytest.fixture
def link_by_id(server: Libvirtd) -> Iterator[Path]:
    """A link as udev makes it, of this test's own; nothing is linked yet."""
    folder = Path("/dev/disk/by-id")
    made = [parent for parent in (folder.parent, folder) if not parent.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    link = folder / f"wwn-0x5000{server.directory.name.encode().hex()[:12]:0<12}"
    yield link
    link.unlink(missing_ok=True)
    for parent in reversed(made):
        with contextlib.suppress(OSError):
            parent.rmdir()


async def test_a_guest_never_gets_another_disk_with_the_same_kernel_name(server: Libvirtd, tmp_path: Path) -> None:
    images = tmp_path
    ours, theirs = images / "tenant-a.raw", images / "tenant-b.raw"
    ours.write_bytes(b"A" * 1024**2)
    theirs.write_bytes(b"B" * 1024**2)
    with loop_device(ours) as device:
        async with defined(server, xml_of(server, block(device))) as guest:
            pass
    with loop_device(theirs) as now:
        # After the "boot" somebody else's disk has the name.
        xml = xml_of(server, block(now))
        async with defined(server, xml) as guest:
            need = await guest.is_not_started(NeedKind.DISK, now, UNVERIFIED)
            assert need.met_by is MetBy.PERSON
            assert "/dev/disk/by-id" in need.why
        with_record = [{"volume_id": uuid_of(7), "device_name": "/dev/hda", "connection_info": {"data": {}}}]
        async with defined(server, xml, block_devices=with_record) as guest:
            need = await guest.is_not_started(NeedKind.DISK, now, UNVERIFIED)
            assert need.met_by is MetBy.NOVA
    assert theirs.read_bytes() == b"B" * 1024**2


@pytest.mark.parametrize("how", ["link", "relative link", "link to a link", "link below a linked folder"])
async def test_a_link_to_a_device_is_no_better_than_the_devices_name(
    server: Libvirtd, tmp_path: Path, how: str
) -> None:
    image = tmp_path / "linked.raw"
    image.write_bytes(bytes(1024**2))
    with loop_device(image) as device:
        link = tmp_path / "volume-of-somebody"
        if how == "relative link":
            link.symlink_to(os.path.relpath(device, tmp_path))
        elif how == "link to a link":
            (tmp_path / "between").symlink_to(device)
            link.symlink_to("between")
        elif how == "link below a linked folder":
            (tmp_path / "devices").symlink_to("/dev")
            link = tmp_path / "devices" / Path(device).name
        else:
            link.symlink_to(device)
        async with defined(server, xml_of(server, block(link))) as guest:
            need = await guest.is_not_started(NeedKind.DISK, str(link), UNVERIFIED)
            assert device in need.why


async def test_a_disk_by_id_is_started_and_not_while_its_link_leads_nowhere(
    server: Libvirtd, link_by_id: Path, tmp_path: Path
) -> None:
    image = tmp_path / "by-id.raw"
    image.write_bytes(bytes(1024**2))
    async with defined(server, xml_of(server, block(link_by_id))) as guest:
        need = await guest.is_not_started(NeedKind.DISK, str(link_by_id), ABSENT)
        assert need.met_by is MetBy.HOST
        link_by_id.symlink_to("../../loop-that-is-not-there")
        assert (await guest.needs())[str(link_by_id)].state is ABSENT
        link_by_id.unlink()
        with loop_device(image) as device:
            link_by_id.symlink_to(f"../../{Path(device).name}")
            await guest.is_started()
            guest.connection.lookupByUUIDString(UUID).destroy()


async def test_a_file_a_backing_file_and_a_data_file_that_are_gone_are_named(server: Libvirtd, tmp_path: Path) -> None:
    images = tmp_path
    base, middle, top = images / "base.qcow2", images / "middle.qcow2", images / "top.qcow2"
    data, outside = images / "data.raw", images / "outside.qcow2"
    qemu_img("create", "-f", "qcow2", base, "1M")
    qemu_img("create", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", middle)
    qemu_img("create", "-f", "qcow2", "-b", middle, "-F", "qcow2", top)
    qemu_img("create", "-f", "qcow2", "-o", f"data_file={data},data_file_raw=on", outside, "1M")
    async with defined(server, xml_of(server, disk(top, form="qcow2"))) as guest:
        assert [name for name in await guest.needs() if name.startswith(str(images)) and name.endswith("qcow2")] == [
            str(top),
            str(middle),
            str(base),
        ]
        for path in (base, middle, top):
            away = path.rename(images / "away")
            await guest.is_not_started(NeedKind.DISK, str(path), ABSENT)
            away.rename(path)
        await guest.is_started()
    async with defined(server, xml_of(server, disk(outside, form="qcow2"))) as guest:
        guest.connection.lookupByUUIDString(UUID).destroy()
        data.unlink()
        await guest.is_not_started(NeedKind.DISK, str(data), ABSENT)


async def test_the_content_of_a_raw_disk_is_not_interpreted(server: Libvirtd, tmp_path: Path) -> None:
    images = tmp_path
    secret = images / "hosts-secret"
    secret.write_bytes(bytes(1024**2))
    fake = images / "raw-with-a-header"
    qemu_img("create", "-f", "qcow2", "-b", secret, "-F", "raw", fake)
    secret.unlink()
    async with defined(server, xml_of(server, disk(fake))) as guest:
        assert await guest.missing() == []


async def test_a_pipe_in_the_place_of_a_disk_is_never_opened(server: Libvirtd, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    async with defined(server, xml_of(server, disk(pipe, form="qcow2"))) as guest:
        with anyio.fail_after(60):
            assert await guest.missing() == [(NeedKind.DISK, str(pipe), UNVERIFIED)]


async def test_a_volume_in_a_file_needs_its_mount(server: Libvirtd) -> None:
    mount = server.directory / "mnt" / "0123456789abcdef0123456789abcdef"
    mount.mkdir(parents=True, exist_ok=True)
    volume = mount / f"volume-{uuid_of(9)}"
    # An old file below the mount point is not the volume.
    volume.write_bytes(bytes(1024**2))
    async with defined(server, xml_of(server, disk(volume))) as guest:
        need = await guest.is_not_started(NeedKind.MOUNT, str(mount), ABSENT)
        assert need.met_by is MetBy.NOVA
        call("mount", "-t", "tmpfs", "export", mount)
        try:
            assert await guest.missing() == [(NeedKind.DISK, str(volume), ABSENT)]
            volume.write_bytes(bytes(1024**2))
            assert await guest.missing() == []
            record = {
                "volume_id": uuid_of(9),
                "device_name": "/dev/hda",
                "connection_info": {"driver_volume_type": "nfs", "data": {"export": "export"}},
            }
            guest.guest = replace(GUEST, block_devices=[record])
            assert await guest.missing() == []
            record["connection_info"] = {"driver_volume_type": "nfs", "data": {"export": "nas:/another"}}
            assert await guest.missing() == [(NeedKind.MOUNT, str(mount), UNVERIFIED)]
        finally:
            call("umount", mount)


def share(path: object) -> Callable[[str], str]:
    memory = "<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking><vcpu>"
    device = f"""<filesystem type='mount' accessmode='passthrough'><driver type='virtiofs'/><source dir='{path}'/>
      <target dir='data'/></filesystem></devices>"""
    return lambda xml: xml.replace("<vcpu>", memory).replace("</devices>", device)


async def test_a_share_whose_mount_point_is_not_mounted_is_absent(server: Libvirtd, tmp_path: Path) -> None:
    folder = tmp_path / "share"
    async with defined(server, xml_of(server, changes=share(folder))) as guest:
        await guest.is_not_started(NeedKind.SHARE, str(folder), ABSENT)
        folder.mkdir()
        await guest.is_not_started(NeedKind.SHARE, str(folder), ABSENT)
        (folder / "file").touch()
        # A folder of an administrator's own.
        assert await guest.missing() == []
    by_nova = xml_of(server, changes=lambda xml: share(folder)(xml).replace("<memory ", f"{NOVA_XML}<memory ", 1))
    async with defined(server, by_nova) as guest:
        need = await guest.is_not_started(NeedKind.SHARE, str(folder), ABSENT)
        assert need.met_by is MetBy.NOVA
        call("mount", "-t", "tmpfs", "share", folder)
        try:
            assert await guest.missing() == []
        finally:
            call("umount", folder)


NBD = ("qemu-nbd", "-t", "-f", "raw", "-k")
ONCE = ("qemu-nbd", "-f", "raw", "-k")


def nbd_disk(host: str) -> str:
    """Describe a disk that is served over the network."""
    return f"""<disk type='network'><driver name='qemu' type='raw'/><source protocol='nbd' name=''>{host}</source>
      <target dev='hda' bus='ide'/></disk>"""


@contextlib.contextmanager
def nbd(image: Path, path: Path, command: tuple[str, ...] = NBD) -> Iterator[None]:
    process = subprocess.Popen([*command, path, image])
    try:
        until(path.exists, "the socket of qemu-nbd")
        yield
    finally:
        process.kill()
        process.wait()
        path.unlink(missing_ok=True)


async def test_network_storage_that_refuses_is_absent_until_it_answers(server: Libvirtd, tmp_path: Path) -> None:
    image = tmp_path / "nbd.raw"
    image.write_bytes(bytes(1024**2))
    path = server.directory / "nbd.sock"

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    refusing = xml_of(server, nbd_disk(f"<host name='127.0.0.1' port='{port}'/>"))
    async with defined(server, refusing) as guest:
        need = await guest.is_not_started(NeedKind.DISK, "nbd:", ABSENT)
        assert need.met_by is MetBy.HOST
        assert f"127.0.0.1:{port}" in need.why
    unix = xml_of(server, nbd_disk(f"<host transport='unix' socket='{path}'/>"))
    async with defined(server, unix) as guest:
        [(kind, name, state)] = await guest.missing()
        assert (kind, name, state) == (NeedKind.DISK, "nbd:", ABSENT)
    with nbd(image, path):
        async with defined(server, unix) as guest:
            await guest.is_started()
            guest.connection.lookupByUUIDString(UUID).destroy()


async def test_storage_that_accepts_and_is_silent_is_absent_too(server: Libvirtd) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host = f"<host name='127.0.0.1' port='{silent.getsockname()[1]}'/>"
        async with defined(server, xml_of(server, nbd_disk(host))) as guest:
            need = await guest.is_not_started(NeedKind.DISK, "nbd:", ABSENT)
            assert "no answer in time" in need.why


async def test_a_check_does_not_end_a_disk_server_for_one_client(server: Libvirtd, tmp_path: Path) -> None:
    image, path = tmp_path / "once.raw", tmp_path / "once.sock"
    image.write_bytes(bytes(1024**2))
    with nbd(image, path, ONCE):
        async with defined(server, xml_of(server, nbd_disk(f"<host transport='unix' socket='{path}'/>"))) as guest:
            await guest.is_started()
            guest.connection.lookupByUUIDString(UUID).destroy()


@contextlib.contextmanager
def silent_storage(point: Path) -> Iterator[None]:
    """Mount a file system whose server answers nothing, as a network storage that is away."""
    point.mkdir()
    server = os.open("/dev/fuse", os.O_RDWR)
    libc = ctypes.CDLL(None, use_errno=True)
    data = f"fd={server},rootmode=40000,user_id=0,group_id=0".encode()
    if libc.mount(b"silent", bytes(point), b"fuse", 0, data):
        os.close(server)
        pytest.skip(f"no FUSE: {os.strerror(ctypes.get_errno())}")
    try:
        yield
    finally:
        # What waits for an answer hears that nobody is there any more.
        os.close(server)
        call("umount", "-l", point)


async def test_silent_storage_defers_its_own_guests_and_no_others(server: Libvirtd, tmp_path: Path) -> None:
    point = tmp_path / "nas"
    well = tmp_path / "well.raw"
    well.write_bytes(bytes(1024**2))
    server.define(uuid_of(2), driver_guest(2).name, more=DomainExtras(devices=disk(well)))
    async with defined(server, xml_of(server, disk(point / "disk.raw")), look_deadline_s=0.5) as guest:
        with silent_storage(point):
            assert await guest.missing() == [(NeedKind.MOUNT, str(point), UNVERIFIED)]
            # More often than there are threads: who has heard that it is silent does not go in.
            with anyio.fail_after(60):
                for _ in range(100):
                    assert await guest.missing() == [(NeedKind.DISK, str(point / "disk.raw"), UNVERIFIED)]
                needs = await guest.driver.needs(driver_guest(2))
            assert all(need.state is MET for need in needs)
            await guest.driver.power_on(driver_guest(2))

        # It hears that the server has gone, and everything is looked at again.
        async def is_looked_at() -> bool:
            return await guest.missing() == [(NeedKind.DISK, str(point / "disk.raw"), ABSENT)]

        await reached(is_looked_at, "the look at the disk")
