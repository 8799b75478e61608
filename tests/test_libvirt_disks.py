"""Disks and definitions: what is kept, taken back, cleaned up and deleted, and what never is."""

from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from bringup.drivers.base import DriverError, PowerState
from support.drivers import driver_guest, uuid_of
from support.libvirt_drivers import a_driver, guests
from support.libvirtd import Libvirtd, the_libvirtd

pytestmark = pytest.mark.anyio

GUEST, UUID = driver_guest(1), uuid_of(1)


@pytest.fixture
def server() -> Libvirtd:
    return the_libvirtd()


RUNNING, SHUTDOWN = PowerState.RUNNING, PowerState.SHUTDOWN


@pytest.fixture
def folder(server: Libvirtd) -> Iterator[Path]:
    """Provide the folder of guest 1's disks."""
    made = server.directory / "instances" / UUID
    made.mkdir()
    (made / "disk").write_text("disk")
    yield made
    for path in (server.directory / "instances").rglob("*"):
        if path.is_file():
            path.unlink()
    for path in sorted((server.directory / "instances").rglob("*"), reverse=True):
        path.rmdir()


async def test_destroy_removes_managed_save_and_snapshots_and_keeps_disks(server: Libvirtd, folder: Path) -> None:
    disk = folder / "disk.qcow2"
    await anyio.run_process(["qemu-img", "create", "-f", "qcow2", str(disk), "1M"])
    with guests(server, [SHUTDOWN], disk=disk) as connection:
        domain = connection.lookupByUUIDString(UUID)
        domain.snapshotCreateXML("<domainsnapshot><name>one</name></domainsnapshot>")
        domain.create()
        domain.managedSave()
        async with a_driver(server) as driver:
            await driver.destroy(GUEST, destroy_disks=False)

        assert connection.listAllDomains() == []
    assert disk.exists()
    assert list((server.directory / "lib/qemu/save").iterdir()) == []


async def test_destroying_with_disks_deletes_the_folders_of_that_guest_alone(server: Libvirtd, folder: Path) -> None:
    other = folder.parent / uuid_of(2)
    other.mkdir()
    folder.with_name(f"{UUID}_resize").mkdir()
    with guests(server, [RUNNING]):
        async with a_driver(server) as driver:
            await driver.destroy(GUEST, destroy_disks=True)
            await driver.destroy(GUEST, destroy_disks=True)

    assert list(folder.parent.iterdir()) == [other]


async def test_kept_disks_outlive_the_guest_and_are_deleted_on_request(server: Libvirtd, folder: Path) -> None:
    with guests(server, [SHUTDOWN]):
        async with a_driver(server) as driver:
            where = await driver.keep_disks(GUEST)
            assert await driver.keep_disks(GUEST) == where
            await driver.destroy(GUEST, destroy_disks=True)
            assert [(Path(path) / "disk").read_text() for path in where] == ["disk"]
            # A new guest of the same name comes and goes.
            folder.mkdir()
            # What somebody has put beside them is not ours to count or to delete.
            for name in ("x", "0", "1.old", "\u0663", "9" * 30):
                (folder.parent / "bringup-kept" / f"{UUID}.{name}").mkdir()
            both = await driver.keep_disks(GUEST)
            assert len(both) == 2

            await driver.delete_kept_disks(UUID, both)
            await driver.delete_kept_disks(UUID, both)

    assert len(list((folder.parent / "bringup-kept").iterdir())) == 5


@pytest.mark.parametrize("where", ["/etc", "../{uuid}.1", "{kept}/../{uuid}", "{kept}/{other}.1"])
async def test_nothing_is_deleted_that_was_not_kept_of_this_guest(server: Libvirtd, folder: Path, where: str) -> None:
    path = where.format(uuid=UUID, other=uuid_of(2), kept=folder.parent / "bringup-kept")
    async with a_driver(server) as driver:
        with pytest.raises(DriverError):
            await driver.delete_kept_disks(UUID, [path])

    assert folder.is_dir()


async def test_a_reverted_guest_has_its_disks_and_its_definition_back(server: Libvirtd, folder: Path) -> None:
    with guests(server, [SHUTDOWN]) as connection:
        domain = connection.lookupByUUIDString(UUID)
        (folder / "libvirt.xml").write_text(domain.XMLDesc())
        folder.rename(folder.with_name(f"{UUID}_resize"))
        # What the resize made here before it was cut short.
        folder.mkdir()
        domain.undefine()
        async with a_driver(server) as driver:
            for _ in range(2):
                await driver.finish_revert_migration(GUEST, power_on=True)

            assert (await driver.get_info(GUEST)).state is RUNNING
    assert (folder / "disk").read_text() == "disk"
    assert not folder.with_name(f"{UUID}_resize").exists()


async def test_a_definition_of_another_guest_is_not_restored(server: Libvirtd, folder: Path) -> None:
    with guests(server, [SHUTDOWN, SHUTDOWN]) as connection:
        (folder / "libvirt.xml").write_text(connection.lookupByUUIDString(uuid_of(2)).XMLDesc())
        connection.lookupByUUIDString(UUID).undefine()
        async with a_driver(server) as driver:
            with pytest.raises(DriverError, match=uuid_of(2)):
                await driver.finish_revert_migration(GUEST, power_on=True)


async def test_a_mark_stays_beside_the_disks_until_it_is_removed(server: Libvirtd, folder: Path) -> None:
    async with a_driver(server) as driver:
        probe = await driver.check_instance_shared_storage_local(GUEST)
        assert probe is not None
        assert Path(probe.path).parent == folder
        assert Path(probe.path).exists()
        await driver.check_instance_shared_storage_cleanup(probe)

        assert not Path(probe.path).exists()
        assert await driver.check_instance_shared_storage_local(driver_guest(2)) is None


async def test_an_interrupted_snapshot_leaves_neither_copy_nor_overlay_and_the_definition_is_back(
    server: Libvirtd, folder: Path
) -> None:
    disk, overlay = folder / "disk.qcow2", folder / "overlay.qcow2"
    for path in (disk, overlay):
        await anyio.run_process(["qemu-img", "create", "-f", "qcow2", str(path), "1M"])
    with guests(server, [RUNNING], disk=disk) as connection:
        domain = connection.lookupByUUIDString(UUID)
        # As Nova's live snapshot does: without a definition the disk is copied, and the copy kept up to date.
        xml = f"<disk type='file'><source file='{overlay}'/><driver type='qcow2'/></disk>"
        domain.undefine()
        domain.blockCopy("hda", xml, {}, 2)  # VIR_DOMAIN_BLOCK_COPY_REUSE_EXT
        assert domain.blockJobInfo("hda")
        async with a_driver(server) as driver:
            for _ in range(2):
                await driver.post_interrupted_snapshot_cleanup(GUEST)

        assert domain.blockJobInfo("hda") == {}
        assert domain.isPersistent()
        assert domain.isActive()
    assert disk.exists()
    assert not overlay.exists()
