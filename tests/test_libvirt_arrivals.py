"""What guests wait for, watched on the real kernel, by a real libvirtd, and at real servers."""

import contextlib
import os
import select
import socket
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from bringup.drivers.libvirt.arrivals import host_events, servers
from bringup.drivers.libvirt.arrivals.folders import Folders
from bringup.drivers.libvirt.arrivals.host_events import Awaited, HostEvents, watch_host
from bringup.drivers.libvirt.arrivals.watch import awaited_of, kept
from bringup.drivers.libvirt.guest_needs.disk_servers import DiskServers
from bringup.drivers.libvirt.guest_needs.host import HostFiles, PathTarget
from bringup.drivers.libvirt.guest_needs.rules.definition import Server
from bringup.drivers.libvirt.guest_needs.rules.verdicts import LibvirtObject
from bringup.drivers.needs import LinkOrigin, Need, NeedKind, NeedState
from support.drivers import driver_guest, uuid_of
from support.libvirt_drivers import emptied_libvirtd, opened, options
from support.libvirtd import DomainExtras, Libvirtd, a_libvirtd
from support.needing import call, nic

pytestmark = pytest.mark.anyio

PATIENCE_S = 60.0
ABSENT, UNVERIFIED = NeedState.ABSENT, NeedState.UNVERIFIED


def need(name: str, kind: NeedKind = NeedKind.DISK, state: NeedState = ABSENT, origin: object = None) -> Need:
    return Need(kind=kind, name=name, state=state, origin=origin)


class Reports:
    """What was reported, in order."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._more = anyio.Event()

    def __call__(self, name: str) -> None:
        self.names.append(name)
        self._more.set()

    async def of(self, name: str) -> None:
        with anyio.fail_after(PATIENCE_S):
            while name not in self.names:
                self._more = anyio.Event()
                await self._more.wait()


@asynccontextmanager
async def watching(paths: Collection[Path] = (), points: Collection[Path] = ()) -> AsyncIterator[Reports]:
    reports = Reports()
    # A link that is there is reported when the first look is over.
    awaited = Awaited(frozenset(map(str, paths)), frozenset(map(str, points)), frozenset({"lo"}))
    async with anyio.create_task_group() as group:
        group.start_soon(watch_host, HostFiles(), awaited, reports)
        await reports.of("lo")
        reports.names.remove("lo")
        yield reports
        group.cancel_scope.cancel()


# Files


def write(path: Path) -> None:
    path.write_bytes(b"disk")


def rename(path: Path) -> None:
    written = path.with_suffix(".new")
    write(written)
    written.rename(path)


def link(path: Path) -> None:
    path.symlink_to("/dev/null")


def hard_link(path: Path) -> None:
    other = path.with_suffix(".other")
    write(other)
    path.hardlink_to(other)


def listen(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


@pytest.mark.parametrize("come", [write, rename, link, hard_link, listen, os.mkdir], ids=lambda come: come.__name__)
async def test_a_path_that_appears_is_reported_and_no_other(tmp_path: Path, come: Callable[[Path], None]) -> None:
    async with watching([tmp_path / "late", tmp_path / "never"]) as reports:
        write(tmp_path / "something")
        come(tmp_path / "late")
        await reports.of(str(tmp_path / "late"))
    assert set(reports.names) == {str(tmp_path / "late")}


async def test_a_file_counts_once_it_is_written(tmp_path: Path) -> None:
    late = tmp_path / "late"
    with contextlib.closing(Folders()) as folders:
        folders.wait_for(str(tmp_path), "late")
        with late.open("wb") as file:
            file.write(b"half")
            file.flush()
            assert list(folders.read()) == []
        assert list(folders.read()) == [(str(tmp_path), "late")]


async def test_folders_that_come_one_after_the_other_are_followed(tmp_path: Path) -> None:
    late = tmp_path / "a" / "b" / "late"
    async with watching([late]) as reports:
        (tmp_path / "a").mkdir()
        await reports.of(str(late))
        reports.names.clear()
        (tmp_path / "a" / "b").mkdir()
        await reports.of(str(late))
        reports.names.clear()
        write(late)
        await reports.of(str(late))


async def test_what_a_link_leads_to_is_followed(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "disk").symlink_to("far/late")
    async with watching([tmp_path / "disk"]) as reports:
        write(tmp_path / "far" / "late")
        await reports.of(str(tmp_path / "disk"))


async def test_a_folder_that_is_replaced_is_watched_again(tmp_path: Path) -> None:
    late = tmp_path / "folder" / "late"
    late.parent.mkdir()
    async with watching([late]) as reports:
        late.parent.rename(tmp_path / "old")
        await reports.of(str(late))
        reports.names.clear()
        (tmp_path / "new").mkdir()
        write(tmp_path / "new" / "late")
        (tmp_path / "new").rename(late.parent)
        await reports.of(str(late))


async def test_a_file_that_is_half_written_is_not_reported_when_another_one_comes(tmp_path: Path) -> None:
    late = tmp_path / "late"
    async with watching([late, tmp_path / "other"]) as reports:
        with late.open("wb"):
            write(tmp_path / "other")
            await reports.of(str(tmp_path / "other"))
            assert str(late) not in reports.names
        await reports.of(str(late))


@pytest.mark.parametrize(
    ("type_", "is_reported"), [("nfs4", True), ("fuse.sshfs", True), ("ext4", False), ("xfs", False)]
)
def test_on_a_file_system_of_several_machines_a_file_is_seen_and_not_heard(
    tmp_path: Path, type_: str, *, is_reported: bool
) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/mountinfo").write_text(f"1 0 0:1 / / rw - {type_} x rw\n")
    with host_events.opened(HostFiles(tmp_path), Awaited(paths=frozenset({"/late"}))) as events:
        before = events.look_now()
        write(tmp_path / "late")
        assert events.look_now().new_since(before) == ({"/late"} if is_reported else set())


def test_a_file_that_comes_before_its_folder_is_watched_is_seen(tmp_path: Path) -> None:
    late = tmp_path / "late"

    class Host(HostFiles):
        """The file comes right after it was found missing."""

        def find(self, path: str) -> PathTarget:
            found = super().find(path)
            write(late)
            return found

    with host_events.opened(Host(), Awaited(paths=frozenset({str(late)}))) as events:
        assert events.look_now().there == {str(late)}


def test_a_folder_that_comes_before_the_one_above_it_is_watched_is_watched_itself(tmp_path: Path) -> None:
    late = tmp_path / "by-id" / "late"

    class Racing(Folders):
        """The folder comes right after it was found missing."""

        def wait_for(self, folder: str, name: str) -> None:
            try:
                super().wait_for(folder, name)
            except FileNotFoundError:
                Path(folder).mkdir()
                raise

    with (
        contextlib.closing(Racing()) as folders,
        select.epoll() as epoll,
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW) as netlink,
    ):
        events = HostEvents(HostFiles(), Awaited(paths=frozenset({str(late)})), epoll, folders, netlink)
        seen = events.look_now()
        link(late)
        assert seen.touched_by(set(folders.read())) == {str(late)}


def test_events_that_are_too_many_are_for_all(tmp_path: Path) -> None:
    most = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    with contextlib.closing(Folders()) as folders:
        folders.wait_for(str(tmp_path), "late")
        here, there = tmp_path / "here", tmp_path / "there"
        write(here)
        for _ in range(most + 10):
            # Two events that differ: equal ones, one after the other, are one.
            here, there = here.rename(there), here
        assert (str(tmp_path), "") in list(folders.read())


def test_a_folder_in_which_nothing_is_awaited_any_more_is_left(tmp_path: Path) -> None:
    with contextlib.closing(Folders()) as folders:
        folders.wait_for(str(tmp_path), "late")
        folders.forget_names()
        folders.leave_others()
        write(tmp_path / "late")
        assert list(folders.read()) == []


# Mounts and links


@contextlib.contextmanager
def mounted(point: Path) -> Iterator[None]:
    call("mount", "-t", "tmpfs", "late", point)
    try:
        yield
    finally:
        call("umount", point)


async def test_a_file_system_that_is_mounted_is_reported_with_what_is_on_it(tmp_path: Path) -> None:
    point, other = tmp_path / "point", tmp_path / "other"
    point.mkdir()
    other.mkdir()
    async with watching([point / "disk", tmp_path / "elsewhere"], [point]) as reports:
        with mounted(other):
            pass
        with mounted(point):
            await reports.of(str(point))
            await reports.of(str(point / "disk"))
            # On the file system that is mounted now.
            reports.names.clear()
            write(point / "disk")
            await reports.of(str(point / "disk"))
    assert str(tmp_path / "elsewhere") not in reports.names


async def test_what_is_needed_of_this_host_is_awaited_where_it_is_missing() -> None:
    needs = [
        need("/a/disk"),
        need("/a", NeedKind.MOUNT),
        need("/silent", NeedKind.MOUNT, UNVERIFIED),
        need("/dev/sdb", state=UNVERIFIED),
        need("br-int", NeedKind.NETWORK, origin=LinkOrigin()),
        need("nft", NeedKind.NETWORK),
        need("/run/vhost.sock", NeedKind.NETWORK),
        need("512 huge pages", NeedKind.MEMORY),
    ]
    assert awaited_of(needs) == Awaited(
        paths=frozenset({"/a", "/a/disk", "/run/vhost.sock"}), points=frozenset({"/a"}), links=frozenset({"br-int"})
    )


# Servers of disks


async def test_a_server_that_answers_again_is_reported_for_each_disk_of_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    late = DiskServers("http", (Server(name="127.0.0.1", port=port), Server(name="127.0.0.1", port=1)))
    disks = {need("http:a"): late, need("http:b"): late, need("http:c"): DiskServers("http", late.servers[1:])}
    reports = Reports()

    async with anyio.create_task_group() as group:
        group.start_soon(lambda: servers.watch_servers(HostFiles(), disks, lambda one: reports(one.name), every_s=0.02))
        with socket.create_server(("127.0.0.1", port)):
            await reports.of("http:b")
        group.cancel_scope.cancel()
    assert reports.names == ["http:a", "http:b"]


# libvirt


server = pytest.fixture(emptied_libvirtd)


NETWORK = "<network><name>late</name></network>"
POOL = "<pool type='dir'><name>late</name><target><path>{}</path></target></pool>"
IN_POOL = """<disk type='volume' device='disk'><driver name='qemu' type='raw'/><source pool='late' volume='halt.img'/>
<target dev='hda' bus='ide'/></disk>"""


@contextlib.contextmanager
def objects(server: Libvirtd) -> Iterator[dict[str, Any]]:
    """Define a network and a pool that are not active."""
    with server.connected() as connection:
        made = {
            "network": connection.networkDefineXML(NETWORK),
            "pool": connection.storagePoolDefineXML(POOL.format(server.directory / "images")),
        }
        try:
            yield made
        finally:
            for each in made.values():
                if each.isActive():
                    each.destroy()
                each.undefine()


@pytest.mark.parametrize(
    ("kind", "devices"), [("network", nic("network", "<source network='late'/>")), ("pool", IN_POOL)]
)
async def test_what_libvirt_starts_is_reported_to_who_needs_it(server: Libvirtd, kind: str, devices: str) -> None:
    server.define(uuid_of(1), driver_guest(1).name, more=DomainExtras(devices=devices))
    with objects(server) as made:
        async with opened(options(server)) as driver:
            missing = [one for one in await driver.needs(driver_guest(1)) if one.state is ABSENT]
            assert [one.origin for one in missing] == [LibvirtObject(kind, "late")]
            reports = Reports()
            async with anyio.create_task_group() as group:
                group.start_soon(driver.watch_needs, missing, lambda one: reports(one.name))
                # It may have been started before libvirt was asked to report that.
                await reports.of(missing[0].name)
                reports.names.clear()
                for each in made.values():
                    each.create()
                await reports.of(missing[0].name)
                group.cancel_scope.cancel()
            # What was kept of the answers before is forgotten.
            assert [one for one in await driver.needs(driver_guest(1)) if one.state is ABSENT] == []


async def test_a_libvirt_that_answers_again_is_reported_to_who_could_not_be_checked() -> None:
    unknown = need(uuid_of(1), NeedKind.DEFINITION, UNVERIFIED)
    disk_need = need("/nonexistent/disk")
    reports = Reports()
    with a_libvirtd() as server:
        async with opened(options(server)) as driver, anyio.create_task_group() as group:
            group.start_soon(driver.watch_needs, [unknown, disk_need], lambda one: reports(one.name))
            server.kill()
            server.start_again()
            await reports.of(uuid_of(1))
            group.cancel_scope.cancel()
    assert set(reports.names) == {uuid_of(1)}


# A watcher that fails


async def test_a_watcher_that_fails_is_logged_and_started_again(capsys: pytest.CaptureFixture[str]) -> None:
    calls: list[int] = []

    async def fails_twice() -> None:
        await anyio.lowlevel.checkpoint()
        calls.append(len(calls))
        if len(calls) < 3:
            raise OSError("too many watches")

    reports = Reports()
    with anyio.fail_after(PATIENCE_S):
        await kept("mounts", fails_twice, [need("/a")], lambda one: reports(one.name), again_s=0.01)

    assert calls == [0, 1, 2]
    # While nobody watches it, it is checked.
    assert reports.names == ["/a", "/a"]
    assert capsys.readouterr().out.count("needs.not_watched") == 2
