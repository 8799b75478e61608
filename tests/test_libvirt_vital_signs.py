"""What small Linux guests show after their boot, and what they are found to be: healthy, or broken in one way."""

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
from bringup.drivers.libvirt.definitions import count_nics
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
NBD = """<disk type='network' device='disk'><driver name='qemu' type='raw' cache='none'/>
  <source protocol='nbd' name='disk'><host transport='unix' socket='{path}'/></source>
  <target dev='vda' bus='virtio'/></disk>"""
MB = 1 << 20


@pytest.fixture(scope="module")
def server() -> Iterator[Libvirtd]:
    with a_libvirtd(small=[SMALL]) as server:
        yield server


@pytest.fixture(scope="module")
def linux(tmp_path_factory: pytest.TempPathFactory) -> AgentLinux:
    return make_agent_linux(tmp_path_factory.mktemp("linux"), compute_mb=1)


@contextmanager
def read_only_disk(directory: Path) -> Iterator[str]:
    """Serve a disk whose storage refuses to be written to, as a file system that went read-only does."""
    image, socket = directory / "image", directory / "nbd"
    image.write_bytes(bytes(MB))
    refuses = "file.inject-error.0.event=none,file.inject-error.0.iotype=write,file.inject-error.0.errno=30"
    options = f"driver=raw,file.driver=blkdebug,file.image.driver=file,file.image.filename={image},{refuses}"
    command = (path_of("qemu-nbd"), "--persistent", "--export-name=disk", f"--socket={socket}", "--image-opts", options)
    with subprocess.Popen(command) as served:
        try:
            until(socket.exists, "the socket of qemu-nbd")
            yield NBD.format(path=socket)
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
    "no NIC": ((), False, False),
    "a dead agent": (("lose_agent",), True, True),
}
"""What each guest does, and whether it has an agent, and a NIC."""
NUMBERS = {kind: number for number, kind in enumerate(KINDS, start=1)}


@pytest.fixture
def guests(server: Libvirtd, linux: AgentLinux, tmp_path: Path) -> Iterator[Libvirtd]:
    """Define a guest of each kind."""
    with read_only_disk(tmp_path) as read_only, server.connected() as connection:
        disks = {"a read-only disk": read_only, "a full disk": sparse_disk(server)}
        for kind, (does, agent, nic) in KINDS.items():
            uuid, name = uuid_of(NUMBERS[kind]), driver_guest(NUMBERS[kind]).name
            connection.defineXML(linux.domain_xml(uuid, name, *does, agent=agent, nic=nic, disk=disks.get(kind)))
        yield server
        remove_guests(connection)


async def judged(driver: LibvirtDriver, linux: AgentLinux) -> Mapping[str, GuestVerdict]:
    """Start all guests, and return the verdicts on them."""
    policy = VerifyPolicy(within=WITHIN_S)
    verification = Verification(driver, policy, observer=Seen().observe, journal=NO_JOURNAL, every_s=1.0)
    async with background() as beside:
        await beside.start(verification.run)
        for number in NUMBERS.values():
            verification.observe(InstanceBoots(uuid_of(number)))
            await driver.power_on(driver_guest(number))
        booting = set(NUMBERS.values())

        async def all_are_judged() -> bool:
            for number in [*booting]:
                console = linux.console(driver_guest(number).name)
                if console.exists() and "ready" in console.read_text(errors="replace"):
                    booting.discard(number)
                    verification.observe(InstanceReady(uuid_of(number), READY))
            await anyio.sleep(0.2)
            return verification.is_over

        await reached(all_are_judged, "the verdicts", patience_s=PATIENCE_S)
    return {kind: verification.verdicts[uuid_of(number)] for kind, number in NUMBERS.items()}


async def test_each_guest_is_found_to_be_what_it_is(guests: Libvirtd, linux: AgentLinux) -> None:
    async with a_driver(guests) as driver:
        with guests.full(SMALL):
            found = dict(await judged(driver, linux))

    assert found.pop("a kernel that panics").text.startswith("broken: it restarts in a loop, ")
    assert found == {
        "healthy": GuestVerdict("reachable"),
        "healthy, without an agent": GuestVerdict("reachable"),
        "an initramfs without a root": GuestVerdict("silent", "it has sent no packet"),
        "a read-only disk": GuestVerdict("broken", "disk virtio-disk0: I/O error"),
        "a full disk": GuestVerdict("broken", "disk vda: no space left"),
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
    assert count_nics(f"<domain><devices>{devices}</devices></domain>") == nics
