"""What small Linux guests show after their boot, and what they are found to be: healthy, or broken in one way."""

import errno
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from bringup.daemon.decisions.policies import VerifyPolicy
from bringup.daemon.decisions.readiness import Readiness
from bringup.daemon.decisions.run_events import InstanceBoots, InstanceReady
from bringup.daemon.decisions.verdicts import GuestVerdict
from bringup.daemon.recovery.verification import Verification
from bringup.daemon.storage.journal import NO_JOURNAL
from bringup.daemon.tasks import background
from bringup.drivers.base import PowerState
from bringup.drivers.libvirt.definitions import devices_of
from bringup.drivers.libvirt.driver import LibvirtDriver
from support.agent_linux import DISK, AgentLinux, Does, make_agent_linux
from support.drivers import driver_guest, uuid_of
from support.libvirt_drivers import a_driver, remove_guests
from support.libvirtd import Libvirtd, a_libvirtd
from support.polling import reached, until
from support.programs import path_of
from support.seen_events import Seen

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(400)]

PATIENCE_S = 300.0
"""Guests boot under TCG, on a machine that may be ten times slower."""
WITHIN_S = 15.0
SMALL = "instances"
READY = Readiness(by=None, at_s=1.0, queued_s=0.0, start_s=0.0, boot_s=1.0)
# Of a disk that has no name there libvirt 9 reports no I/O error.
NBD = """<disk type='network' device='disk'><driver name='qemu' type='raw' cache='none' {policy}/>
  <source protocol='nbd' name='disk'><host transport='unix' socket='{path}'/></source>
  <target dev='vda' bus='virtio'/></disk>"""
MB = 1 << 20


@pytest.fixture(scope="module")
def server() -> Iterator[Libvirtd]:
    with a_libvirtd(small=[SMALL]) as server:
        yield server


@pytest.fixture(scope="module")
def linux(tmp_path_factory: pytest.TempPathFactory) -> AgentLinux:
    return make_agent_linux(tmp_path_factory.mktemp("linux"), compute_mb=0, disk_mb=1)


@contextmanager
def failing_disk(directory: Path, *, on: str, error: int, policy: str = "") -> Iterator[str]:
    """Serve a disk whose storage fails so; ``policy``: what QEMU does then, where that is not to report it."""
    directory.mkdir()
    image, socket = directory / "image", directory / "nbd"
    image.write_bytes(bytes(MB))
    fails = f"file.inject-error.0.event=none,file.inject-error.0.iotype={on},file.inject-error.0.errno={error}"
    options = f"driver=raw,file.driver=blkdebug,file.image.driver=file,file.image.filename={image},{fails}"
    command = (path_of("qemu-nbd"), "--persistent", "--export-name=disk", f"--socket={socket}", "--image-opts", options)
    with subprocess.Popen(command) as served:
        try:
            until(socket.exists, "the socket of qemu-nbd")
            yield NBD.format(path=socket, policy=policy)
        finally:
            served.kill()


def sparse_disk(server: Libvirtd) -> str:
    """Describe a disk whose storage has no room for it."""
    with (server.within(SMALL) / "sparse").open("wb") as file:
        file.truncate(64 * MB)
    return DISK.format(path=server.directory / SMALL / "sparse")


KINDS: Mapping[str, tuple[tuple[Does, ...], bool, bool]] = {
    "healthy": (("network",), True, True),
    "healthy, without an agent": (("network",), False, True),
    "a kernel that panics": (("panic",), True, True),
    "an initramfs without a root": ((), False, True),
    "a read-only disk": (("network", "write"), True, True),
    "a full disk": (("network", "write"), True, True),
    "a disk with errors": ((), False, True),
    "a dead agent": (("lose_agent",), True, True),
}
"""What each Linux does, and whether it has an agent, and a NIC."""
NO_NIC = "no NIC"
"""Of it nothing is seen whatever it boots: a sector is enough."""
NUMBERS = {kind: number for number, kind in enumerate([*KINDS, NO_NIC], start=1)}


@pytest.fixture
def guests(server: Libvirtd, linux: AgentLinux, tmp_path: Path) -> Iterator[Libvirtd]:
    """Define a guest of each kind."""
    with (
        failing_disk(tmp_path / "1", on="write", error=errno.EROFS) as read_only,
        failing_disk(tmp_path / "2", on="read", error=errno.EIO, policy="rerror_policy='stop'") as failing,
        server.connected() as connection,
    ):
        disks = {"a read-only disk": read_only, "a full disk": sparse_disk(server), "a disk with errors": failing}
        for kind, (does, agent, nic) in KINDS.items():
            uuid, name = uuid_of(NUMBERS[kind]), driver_guest(NUMBERS[kind]).name
            connection.defineXML(linux.domain_xml(uuid, name, *does, agent=agent, nic=nic, disk=disks.get(kind)))
        server.define(uuid_of(NUMBERS[NO_NIC]), driver_guest(NUMBERS[NO_NIC]).name)
        yield server
        remove_guests(connection)


async def judged(server: Libvirtd, driver: LibvirtDriver, linux: AgentLinux) -> Mapping[str, GuestVerdict]:
    """Start all guests, and return the verdicts on them; one that has its verdict is stopped."""
    policy = VerifyPolicy(within=WITHIN_S)
    verification = Verification(driver, policy, observer=Seen().observe, journal=NO_JOURNAL, every_s=1.0)
    async with background() as beside:
        await beside.start(verification.run)
        for number in NUMBERS.values():
            verification.observe(InstanceBoots(uuid_of(number)))
            await driver.power_on(driver_guest(number))
        verification.observe(InstanceReady(uuid_of(NUMBERS[NO_NIC]), READY))
        booting, running = {NUMBERS[kind] for kind in KINDS}, set(NUMBERS.values())

        async def all_are_judged() -> bool:
            for number in [*booting]:
                console = linux.console(driver_guest(number).name)
                if console.exists() and "ready" in console.read_text(errors="replace"):
                    booting.discard(number)
                    verification.observe(InstanceReady(uuid_of(number), READY))
            for number in [number for number in running if uuid_of(number) in verification.verdicts]:
                running.discard(number)
                with server.connected() as connection:
                    connection.lookupByUUIDString(uuid_of(number)).destroy()
            await anyio.sleep(0.2)
            return verification.is_over

        await reached(all_are_judged, "the verdicts", patience_s=PATIENCE_S)
    return {kind: verification.verdicts[uuid_of(number)] for kind, number in NUMBERS.items()}


async def test_each_guest_is_found_to_be_what_it_is(guests: Libvirtd, linux: AgentLinux) -> None:
    async with a_driver(guests) as driver:
        with guests.full(SMALL):
            found = dict(await judged(guests, driver, linux))

    assert found.pop("a kernel that panics").text.startswith("broken: it restarts in a loop, ")
    assert found == {
        "healthy": GuestVerdict("reachable"),
        "healthy, without an agent": GuestVerdict("reachable"),
        "an initramfs without a root": GuestVerdict("silent", "it has sent no packet"),
        "a read-only disk": GuestVerdict("broken", "disk vda: I/O error"),
        "a full disk": GuestVerdict("broken", "disk vda: no space left"),
        "a disk with errors": GuestVerdict("broken", "disk vda: I/O error"),
        "no NIC": GuestVerdict("silent", "it has no NIC, and no agent is connected"),
        "a dead agent": GuestVerdict("silent", "its agent has disconnected, and it has sent no packet since"),
    }


async def test_how_a_guest_has_ended_is_known(server: Libvirtd) -> None:
    for number, kind in enumerate(("halt", "halt", "halt", "panic"), start=1):
        server.define(uuid_of(number), driver_guest(number).name, guest=kind)
    async with a_driver(server) as driver:
        for number in (1, 2, 3, 4):
            await driver.power_on(driver_guest(number))
        with server.connected() as connection:
            connection.lookupByUUIDString(uuid_of(1)).suspend()
            connection.lookupByUUIDString(uuid_of(2)).destroy()
        uuids = [uuid_of(number) for number in range(1, 6)]

        async def has_panicked() -> bool:
            return (await driver.vital_signs(uuids))[uuid_of(4)].state == "crashed"

        await reached(has_panicked, "the panic", patience_s=PATIENCE_S)
        found = await driver.vital_signs(uuids)
        server.end_guests()

        async def is_gone() -> bool:
            return (await driver.vital_signs(uuids))[uuid_of(3)].state != "running"

        await reached(is_gone, "the end of QEMU", patience_s=PATIENCE_S)
        killed = (await driver.vital_signs(uuids))[uuid_of(3)].state
    with server.connected() as connection:
        remove_guests(connection)

    states = {uuid: each.state for uuid, each in found.items()}
    assert states == dict(zip(uuids, ("paused", "stopped", "running", "crashed"), strict=False))
    assert killed == "crashed"
    assert (found[uuid_of(3)].nics, found[uuid_of(3)].disk_errors) == (0, ())


async def test_a_guest_whose_qemu_is_killed_has_crashed_and_one_that_somebody_stops_has_no_verdict(
    server: Libvirtd,
) -> None:
    for number in (1, 2):
        server.define(uuid_of(number), driver_guest(number).name)
    async with a_driver(server) as driver, background() as beside:
        seen = Seen()
        policy = VerifyPolicy(within=PATIENCE_S)
        verification = Verification(driver, policy, observer=seen.observe, journal=NO_JOURNAL, every_s=0.1)
        await beside.start(verification.run)
        for number in (1, 2):
            await driver.power_on(driver_guest(number))
            verification.observe(InstanceBoots(uuid_of(number)))
            verification.observe(InstanceReady(uuid_of(number), READY))
        await driver.power_off(driver_guest(2), timeout_s=0, retry_interval_s=1)
        server.end_guests()

        async def is_over() -> bool:
            return verification.is_over

        await reached(is_over, "the verdict", patience_s=PATIENCE_S)
    with server.connected() as connection:
        remove_guests(connection)

    assert seen.verdicts == {uuid_of(1): "broken: it has crashed"}


async def test_a_qemu_that_hangs_keeps_no_other_guest_waiting(server: Libvirtd) -> None:
    uuids = [uuid_of(number) for number in (1, 2)]
    async with a_driver(server) as driver:
        for number in (1, 2):
            server.define(uuid_of(number), driver_guest(number).name)
            await driver.power_on(driver_guest(number))
        with server.hung(driver_guest(1).name):
            # The first look waits for it, and is given up; the next leaves out what only its QEMU knows.
            with pytest.raises(TimeoutError), anyio.fail_after(1):
                await driver.vital_signs(uuids)
            found = [await driver.vital_signs(uuids) for _ in range(6)]
            info = await driver.get_info(driver_guest(2))
    with server.connected() as connection:
        remove_guests(connection)

    assert all(signs.keys() == set(uuids) for signs in found)
    assert {signs[uuid].state for signs in found for uuid in uuids} == {"running"}
    hung = [signs[uuid_of(1)].boot for signs in found]
    assert hung == [hung[0]] * 6
    assert hung[0] is not None
    assert hung[0].counters.delay_s > 0
    assert info.state is PowerState.RUNNING


@pytest.mark.parametrize(
    ("devices", "nics"),
    [
        ("", 0),
        ("<interface type='bridge'/><interface type='ethernet'/>", 2),
        ("<interface type='bridge'/><interface type='vhostuser'/>", None),
        ("<interface type='bridge'/><hostdev mode='subsystem' type='pci'/>", None),
    ],
)
def test_nics_are_counted_where_their_packets_are(devices: str, nics: int | None) -> None:
    assert devices_of(f"<domain><devices>{devices}</devices></domain>").nics == nics
