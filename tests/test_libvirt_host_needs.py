"""What guests of a real libvirtd need together: its other drivers, the folder of their disks, what is mounted there."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bringup.drivers.libvirt.driver import LibvirtDriver
from bringup.drivers.needs import MetBy, Need, NeedKind, NeedNotMet, NeedState
from support.drivers import driver_guest
from support.libvirt_drivers import a_driver, guests
from support.libvirtd import DomainExtras, Libvirtd, a_libvirtd, the_libvirtd
from support.network import run
from support.records import uuid_of

pytestmark = pytest.mark.anyio

MODULES = Path("/usr/lib/x86_64-linux-gnu/libvirt/connection-driver")
IN_A_POOL = "<disk type='volume' device='disk'><source pool='p' volume='v'/><target dev='sda' bus='scsi'/></disk>"
IN_A_NETWORK = "<interface type='network'><source network='n'/></interface>"


@pytest.fixture
def server() -> Iterator[Libvirtd]:
    server = the_libvirtd()
    yield server
    shutil.rmtree(server.directory / "instances", ignore_errors=True)
    (server.directory / "instances").mkdir()


@contextmanager
def guests_with_disks(
    server: Libvirtd, count: int = 1, *, folders: bool = True, folder: Path | None = None
) -> Iterator[Any]:
    """Provide guests that are off with a disk each in the folder of local disks, or only named there."""
    place = folder or server.directory / "instances"
    with guests(server, []) as connection:
        for number in range(1, count + 1):
            disk = place / uuid_of(number) / "disk"
            server.define(uuid_of(number), driver_guest(number).name, disk=disk)
            if folders:
                disk.parent.mkdir(parents=True)
                disk.touch()
        yield connection


async def needs_of(driver: LibvirtDriver, *numbers: int) -> list[Need]:
    return list(await driver.host_needs([driver_guest(number) for number in numbers]))


def unmet(needs: list[Need]) -> dict[str, str]:
    return {need.name: need.why for need in needs if need.state is not NeedState.MET}


async def test_missing_drivers_of_libvirt_are_reported_where_a_guest_needs_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not MODULES.is_dir():
        pytest.skip(f"no modules of libvirt in {MODULES}")
    for module in ("qemu", "nodedev", "interface", "secret", "nwfilter"):
        (tmp_path / f"libvirt_driver_{module}.so").symlink_to(MODULES / f"libvirt_driver_{module}.so")
    monkeypatch.setenv("LIBVIRT_DRIVER_DIR", str(tmp_path))
    with a_libvirtd() as server, guests(server, []):
        for number, devices in enumerate((IN_A_POOL, IN_A_NETWORK, ""), start=1):
            server.define(uuid_of(number), driver_guest(number).name, more=DomainExtras(devices=devices))
        async with a_driver(server) as driver:
            away = unmet(await needs_of(driver, 1, 2, 3))
            assert set(away) == {"libvirt's storage driver", "libvirt's network driver"}
            assert "start virtstoraged" in away["libvirt's storage driver"]
            assert "start virtnetworkd" in away["libvirt's network driver"]
            assert set(unmet(await needs_of(driver, 2, 3))) == {"libvirt's network driver"}
            assert await needs_of(driver, 3) == []


async def test_drivers_of_libvirt_that_are_there_are_met(server: Libvirtd) -> None:
    with guests(server, []):
        server.define(uuid_of(1), driver_guest(1).name, more=DomainExtras(devices=IN_A_POOL + IN_A_NETWORK))
        async with a_driver(server) as driver:
            needs = await needs_of(driver, 1)
    assert [need.state for need in needs] == [NeedState.MET] * 2


async def test_an_unused_folder_of_disks_may_be_missing(server: Libvirtd, tmp_path: Path) -> None:
    with guests_with_disks(server):
        async with a_driver(server, instances_path=tmp_path / "nowhere") as driver:
            assert await needs_of(driver, 1) == []
            await driver.destroy(driver_guest(1), destroy_disks=True)
            assert await driver.list_instance_uuids() == []


async def test_a_folder_of_disks_that_is_there_is_met(server: Libvirtd) -> None:
    with guests_with_disks(server, 2):
        # One guest that lost its disks is that guest's trouble.
        shutil.rmtree(server.directory / "instances" / uuid_of(2))
        async with a_driver(server) as driver:
            (need,) = await needs_of(driver, 1, 2)
    assert (need.kind, need.state) == (NeedKind.MOUNT, NeedState.MET)


@pytest.mark.parametrize("name", ["UUID_resize", "bringup-kept/UUID.1"])
async def test_a_folder_that_is_renamed_for_a_while_is_noticed(server: Libvirtd, name: str) -> None:
    with guests_with_disks(server, 1):
        folder = server.directory / "instances"
        other = folder / name.replace("UUID", uuid_of(1))
        other.parent.mkdir(exist_ok=True)
        (folder / uuid_of(1)).rename(other)
        async with a_driver(server) as driver:
            assert unmet(await needs_of(driver, 1)) == {}


@pytest.mark.parametrize("count", [1, 3])
async def test_a_missing_mount_is_distinguished_from_guests_without_disks(server: Libvirtd, count: int) -> None:
    with guests_with_disks(server, count, folders=False):
        folder = str(server.directory / "instances")
        if count > 1:
            # What a nova-compute has left there that was started too early.
            (server.directory / "instances" / "_base").mkdir()
        async with a_driver(server) as driver:
            away = unmet(await needs_of(driver, *range(1, count + 1)))
            assert list(away) == [folder]
            assert f"it has nothing of the {count} guests whose disks are in it" in away[folder]
            assert (await driver.get_available_resource()).local_gb is not None


@pytest.fixture
def away(server: Libvirtd) -> Iterator[Libvirtd]:
    """Provide a guest with disks whose folder is away."""
    folder, elsewhere = server.directory / "instances", server.directory / "elsewhere"
    with guests_with_disks(server):
        folder.rename(elsewhere)
        yield server
    shutil.rmtree(folder, ignore_errors=True)
    elsewhere.rename(folder)


async def test_a_missing_folder_of_disks_is_reported_with_what_to_do(away: Libvirtd) -> None:
    async with a_driver(away) as driver:
        (need,) = await needs_of(driver, 1)
        assert (need.kind, need.state, need.met_by) == (NeedKind.MOUNT, NeedState.ABSENT, MetBy.HOST)
        assert "libvirt.instances_path is not there, and 1 guests have their disks below it" in need.why
        assert (await driver.get_available_resource()).local_gb is None, "not that of the folder above"


async def test_nothing_is_concluded_from_disks_that_cannot_be_seen(away: Libvirtd) -> None:
    async with a_driver(away) as driver:
        for verb in (
            driver.destroy(driver_guest(1), destroy_disks=True),
            driver.check_instance_shared_storage_local(driver_guest(1)),
            driver.keep_disks(driver_guest(1)),
            driver.finish_revert_migration(driver_guest(1), power_on=False),
            driver.delete_kept_disks(uuid_of(2), [f"{away.directory}/instances/bringup-kept/{uuid_of(2)}.1"]),
        ):
            with pytest.raises(NeedNotMet) as raised:
                await verb
            assert [need.kind for need in raised.value.needs] == [NeedKind.MOUNT]
        assert await driver.list_instance_uuids() == [uuid_of(1)], "nothing of it was taken away"
        # Its disks are not asked for: they are another's, or shared.
        await driver.destroy(driver_guest(1), destroy_disks=False)
        assert await driver.list_instance_uuids() == []


async def test_a_continued_deletion_does_not_assume_that_disks_are_deleted(server: Libvirtd) -> None:
    """Its definition went before the host died; others tell that disks are here."""
    with guests_with_disks(server, 2) as connection:
        connection.lookupByUUIDString(uuid_of(1)).undefine()
        folder, elsewhere = server.directory / "instances", server.directory / "elsewhere"
        async with a_driver(server) as driver:
            folder.rename(elsewhere)
            try:
                with pytest.raises(NeedNotMet):
                    await driver.destroy(driver_guest(1), destroy_disks=True)
            finally:
                elsewhere.rename(folder)
            assert (folder / uuid_of(1)).is_dir()
            await driver.destroy(driver_guest(1), destroy_disks=True)
            assert not (folder / uuid_of(1)).exists()


async def test_an_interrupted_resize_is_not_reverted_without_its_disks(server: Libvirtd) -> None:
    with guests_with_disks(server, 2):
        folder = server.directory / "instances"
        shutil.rmtree(folder / uuid_of(1))
        async with a_driver(server) as driver:
            with pytest.raises(NeedNotMet) as raised:
                await driver.finish_revert_migration(driver_guest(1), power_on=True)
            (need,) = raised.value.needs
            assert (need.kind, need.name) == (NeedKind.DISK, str(folder / f"{uuid_of(1)}_resize"))
            assert need.met_by is MetBy.PERSON

            assert any(need.state is NeedState.ABSENT for need in await driver.needs(driver_guest(1)))
            (folder / f"{uuid_of(1)}_resize").mkdir()
            (folder / f"{uuid_of(1)}_resize" / "disk").touch()
            absent = [need for need in await driver.needs(driver_guest(1)) if need.state is NeedState.ABSENT]
            assert [need.met_by for need in absent] == [MetBy.REVERT]
            await driver.finish_revert_migration(driver_guest(1), power_on=False)
            assert (folder / uuid_of(1)).is_dir()


async def test_a_guest_without_local_disks_is_reverted_as_before(server: Libvirtd) -> None:
    with guests(server, []):
        server.define(uuid_of(1), driver_guest(1).name)
        async with a_driver(server) as driver:
            await driver.finish_revert_migration(driver_guest(1), power_on=False)


@contextmanager
def mounted(point: Path) -> Iterator[None]:
    """Mount a file system there while the block lasts."""
    if os.geteuid() != 0:
        pytest.skip("a file system is mounted: needs root")
    run("mount", "-t", "tmpfs", "-o", "size=1m", "bringup-test", str(point))
    try:
        yield
    finally:
        run("umount", str(point))


async def test_expected_mounts_are_waited_for_and_present_ones_recorded(server: Libvirtd, tmp_path: Path) -> None:
    point, memory = tmp_path / "storage", tmp_path / "places.json"
    point.mkdir()
    folder = point / "instances"
    # Left below the mount point: it looks as if all were there.
    (folder / uuid_of(1)).mkdir(parents=True)
    made = {"instances_path": folder, "mounts_file": memory}
    with guests_with_disks(server, folders=False, folder=folder):
        async with a_driver(server, **made, instances_mount=str(point)) as driver:
            away = unmet(await needs_of(driver, 1))
            assert list(away) == [str(point)]
            assert "libvirt.instances_mount says so, and nothing is mounted there" in away[str(point)]
            assert (await driver.get_available_resource()).local_gb is None
            with pytest.raises(NeedNotMet):
                await driver.destroy(driver_guest(1), destroy_disks=True)
        async with a_driver(server, **made) as driver:
            assert unmet(await needs_of(driver, 1)) == {}, "nobody has said so, and it was never seen"
            with mounted(point):
                (folder / uuid_of(1)).mkdir(parents=True)
                assert unmet(await needs_of(driver, 1)) == {}
            away = unmet(await needs_of(driver, 1))
            assert "bringup-test (tmpfs), which was there at the last start, is not mounted" in away[str(point)]
        async with a_driver(server, **made, instances_mount="none") as driver:
            assert unmet(await needs_of(driver, 1)) == {}
        async with a_driver(server, **made) as driver:
            assert unmet(await needs_of(driver, 1)) == {}, "somebody has said that nothing need be mounted"


async def test_a_check_records_no_mounts(server: Libvirtd, tmp_path: Path) -> None:
    with guests_with_disks(server):
        async with a_driver(server, mounts_file=tmp_path / "places.json", may_change=False) as driver:
            assert unmet(await needs_of(driver, 1)) == {}
    assert list(tmp_path.iterdir()) == []


async def test_a_record_of_mounts_that_cannot_be_written_or_read_defers_nothing(
    server: Libvirtd, tmp_path: Path
) -> None:
    broken = tmp_path / "places.json"
    for text in ("{", "[]", '{"folder": 1, "mount": ["x"]}'):
        broken.write_text(text)
        with guests_with_disks(server):
            async with a_driver(server, mounts_file=broken) as driver:
                assert unmet(await needs_of(driver, 1)) == {}
        shutil.rmtree(server.directory / "instances" / uuid_of(1))
    with guests_with_disks(server):
        async with a_driver(server, mounts_file=tmp_path / "no" / "such" / "folder") as driver:
            assert unmet(await needs_of(driver, 1)) == {}
