"""Starts of real guests whose needs are not met, or stop being met: what becomes of them, and what is said."""

import json
import sys
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from bringup.drivers.base import InstanceNotFound, RebootType
from bringup.drivers.needs import MetBy, NeedKind, NeedNotMet
from support.drivers import driver_guest, uuid_of
from support.libvirt_drivers import a_driver, emptied_libvirtd
from support.libvirtd import DomainExtras, Libvirtd, a_libvirtd
from support.needing import ABSENT, GUEST, MET, UUID, call, defined, disk, qemu_img, xml_of
from support.surroundings import Within, nobody

pytestmark = pytest.mark.anyio


server = pytest.fixture(emptied_libvirtd)


async def test_a_guest_without_a_definition_needs_nova(server: Libvirtd) -> None:
    async with a_driver(server) as driver:
        [need] = await driver.needs(GUEST)
        assert (need.kind, need.state, need.met_by) == (NeedKind.DEFINITION, ABSENT, MetBy.NOVA)
        for verb in (driver.power_on, driver.resume_state_on_host_boot):
            with pytest.raises(NeedNotMet) as raised:
                await verb(GUEST)
            assert raised.value.needs == (need,)
            assert isinstance(raised.value, InstanceNotFound)
        with pytest.raises(NeedNotMet):
            await driver.reboot(GUEST, RebootType.SOFT)


async def test_a_guest_that_runs_is_not_stopped_for_a_reboot_that_could_not_start_it(
    server: Libvirtd, tmp_path: Path
) -> None:
    image = tmp_path / "rebooted.raw"
    image.write_bytes(bytes(1024**2))
    async with defined(server, xml_of(server, disk(image))) as guest:
        guest.connection.lookupByUUIDString(UUID).create()
        image.unlink()
        for kind in RebootType:
            with pytest.raises(NeedNotMet):
                await guest.driver.reboot(GUEST, kind)
            assert guest.state == 1
        guest.connection.lookupByUUIDString(UUID).suspend()
        with pytest.raises(NeedNotMet):
            await guest.driver.power_on(GUEST)
        assert guest.state == 3


async def test_a_need_lost_between_check_and_start_is_reported_as_missing(tmp_path: Path) -> None:
    with a_libvirtd(pause_s=0) as server:
        image = tmp_path / "fleeting.raw"
        image.write_bytes(bytes(1024**2))
        async with defined(server, xml_of(server, disk(image))) as guest:
            before = guest.definition
            raised: list[NeedNotMet] = []

            async def start() -> None:
                with pytest.raises(NeedNotMet) as error:
                    await guest.driver.resume_state_on_host_boot(GUEST)
                raised.append(error.value)

            async with anyio.create_task_group() as tasks:
                with server.held(GUEST.name):
                    tasks.start_soon(start)
                    await anyio.to_thread.run_sync(server.until_start_hangs, GUEST.name)
                    image.unlink()
            [need] = raised[0].needs
            assert (need.kind, need.name, need.state, need.met_by) == (
                NeedKind.DISK,
                str(image),
                ABSENT,
                MetBy.HOST,
            )
            assert (guest.state, guest.definition) == (5, before)


def saved_image(server: Libvirtd) -> Path:
    return server.directory / f"lib/qemu/save/{GUEST.name}.save"


@pytest.mark.parametrize("how", ["garbage", "cut"])
async def test_a_managed_save_image_that_cannot_be_read_is_named_with_what_drops_it(server: Libvirtd, how: str) -> None:
    async with defined(server, xml_of(server)) as guest:
        domain = guest.connection.lookupByUUIDString(UUID)
        domain.create()
        domain.managedSave()
        content = saved_image(server).read_bytes()
        saved_image(server).write_bytes(b"x" * len(content) if how == "garbage" else content[: len(content) // 2])

        with pytest.raises(NeedNotMet) as raised:
            await guest.driver.resume_state_on_host_boot(GUEST)

        [need] = raised.value.needs
        assert need.met_by is MetBy.PERSON
        assert f"virsh managedsave-remove {GUEST.name}" in str(raised.value)
        assert "managed save image" in str(raised.value)
        assert guest.state == 5
        assert domain.hasManagedSaveImage()


async def test_a_managed_save_image_discarded_by_libvirt_is_logged(
    server: Libvirtd, capsys: pytest.CaptureFixture[str]
) -> None:
    async with defined(server, xml_of(server)) as guest:
        domain = guest.connection.lookupByUUIDString(UUID)
        domain.create()
        domain.managedSave()
        saved_image(server).write_bytes(b"")

        await guest.driver.resume_state_on_host_boot(GUEST)

        assert guest.state == 1
    assert "libvirt.saved_memory_lost" in capsys.readouterr().out


async def test_thirty_guests_are_checked_at_once(server: Libvirtd, tmp_path: Path) -> None:
    count = 30
    images = tmp_path
    qemu_img("create", "-f", "qcow2", images / "shared.qcow2", "1M")
    for number in range(1, count + 1):
        path = images / f"many-{number}.qcow2"
        qemu_img("create", "-f", "qcow2", "-b", "shared.qcow2", "-F", "qcow2", path)
        server.define(uuid_of(number), driver_guest(number).name, disk=path)
    async with a_driver(server) as driver:
        found: list[Any] = []

        async def look(number: int) -> None:
            found.append(await driver.needs(driver_guest(number)))

        # More than two orders of magnitude above what it takes on a machine that does nothing else.
        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                for number in range(1, count + 1):
                    tasks.start_soon(look, number)
    assert len(found) == count
    assert all(need.state is MET for needs in found for need in needs)


async def test_a_verb_without_effect_on_a_running_guest_needs_nothing(server: Libvirtd, tmp_path: Path) -> None:
    image = tmp_path / "running.raw"
    image.write_bytes(bytes(1024**2))
    async with defined(server, xml_of(server, disk(image))) as guest:
        guest.connection.lookupByUUIDString(UUID).create()
        image.unlink()
        await guest.driver.power_on(GUEST)
        await guest.driver.resume_state_on_host_boot(GUEST)
        assert guest.state == 1


async def test_disks_moved_aside_by_a_resize_are_provided_by_its_revert() -> None:
    with a_libvirtd() as server:
        folder = server.directory / "instances" / UUID
        folder.mkdir()
        qemu_img("create", "-q", "-f", "qcow2", folder / "disk", "1M")
        async with defined(server, xml_of(server, disk(folder / "disk", form="qcow2"))) as guest:
            folder.rename(folder.with_name(f"{UUID}_resize"))
            moved = (await guest.needs())[str(folder / "disk")]
            assert (moved.state, moved.met_by) == (ABSENT, MetBy.REVERT)
            assert f"{UUID}_resize" in moved.why
            with pytest.raises(NeedNotMet):
                await guest.driver.power_on(GUEST)
            await guest.driver.finish_revert_migration(GUEST, power_on=True)
            assert guest.state == 1
            assert await guest.missing() == []


async def test_a_disk_not_moved_aside_is_not_provided_by_a_revert() -> None:
    with a_libvirtd() as server:
        folder = server.directory / "instances" / UUID
        folder.with_name(f"{UUID}_resize").mkdir()
        async with defined(server, xml_of(server, disk(folder / "disk"))) as guest:
            gone = (await guest.needs())[str(folder / "disk")]
            assert (gone.state, gone.met_by) != (ABSENT, MetBy.REVERT)
            with pytest.raises(NeedNotMet):
                await guest.driver.finish_revert_migration(GUEST, power_on=True)
            assert guest.state != 1


def test_without_permission_on_a_folder_libvirts_answer_counts(
    server: Libvirtd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o700)
    there, gone = tmp_path / "there.raw", tmp_path / "gone.raw"
    there.write_bytes(bytes(1024**2))
    for number, path in ((1, there), (2, gone)):
        server.define(uuid_of(number), driver_guest(number).name, more=DomainExtras(devices=disk(path)))
    server.directory.chmod(0o755)
    child = Path(__file__).parent / "support/needs_child.py"
    monkeypatch.setenv("PYTHONPATH", str(child.parent.parent))

    first, second = map(json.loads, call(*Within(nobody).command, sys.executable, child, server.uri).splitlines())

    assert first[str(there)] == ["met", "host"]
    assert second[str(gone)] == ["absent", "host"]
