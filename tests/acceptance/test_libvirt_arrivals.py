"""A whole host whose guests wait for what is late, of each kind: killed, started again, and then everything arrives."""

import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from acceptance.test_libvirt_host import ON, on_libvirt, record_of
from bringup.daemon.decisions.states import VmState
from support.drivers import driver_guest
from support.libvirtd import DomainExtras, Libvirtd, a_libvirtd
from support.namespaces import new_network_namespace
from support.needing import call, disk, nic, qemu_img
from support.placement import END_S, start_placement
from support.polling import until
from support.programs import needs
from support.records import uuid_of

IN_POOL = """<disk type='volume' device='disk'><driver name='qemu' type='raw'/><source pool='late' volume='v.raw'/>
<target dev='hda' bus='ide'/></disk>"""
REMOTE = """<disk type='network' device='disk'><driver name='qemu' type='raw'/><source protocol='nbd' name='x'>
<host name='127.0.0.1' port='10999'/></source><target dev='hda' bus='ide'/></disk>"""


@pytest.fixture
def server() -> Iterator[Libvirtd]:
    """Enter a host of one's own, and start a libvirtd in the same network."""
    needs("ip", "qemu-nbd")
    with new_network_namespace():
        call("ip", "link", "set", "lo", "up")
        with a_libvirtd(network="ours") as server:
            yield server


@contextmanager
def expected_mount(server: Libvirtd, point: Path) -> Iterator[Callable[[], None]]:
    """Make a mount point that a unit of systemd names; yield what mounts it."""
    exported = server.directory / "exported"
    for folder in (point, exported):
        folder.mkdir()
    unit = Path(f"/run/systemd/transient/{server.directory.name}.mount")
    unit.parent.mkdir(parents=True, exist_ok=True)
    unit.write_text(f"[Mount]\nWhat=export\nWhere={point}\n")
    qemu_img("create", "-q", "-f", "raw", exported / "disk.raw", "1M")

    def mount() -> None:
        # First where libvirtd is, which has mounts of its own.
        assert server.inside("mount", "--bind", str(exported), str(point)).returncode == 0
        call("mount", "--bind", exported, point)

    try:
        yield mount
    finally:
        call("umount", point, check=False)
        unit.unlink()


def start_of(server: Libvirtd, kind: str) -> Callable[[], None]:
    """Define a network or a pool; return what starts it."""
    with server.connected() as connection:
        if kind == "network":
            connection.networkDefineXML("<network><name>late</name><bridge name='v-late'/></network>")
        else:
            path = server.directory / "pool"
            path.mkdir()
            qemu_img("create", "-q", "-f", "raw", path / "v.raw", "1M")
            connection.storagePoolDefineXML(
                f"<pool type='dir'><name>late</name><target><path>{path}</path></target></pool>"
            )

    def start() -> None:
        with server.connected() as connection:
            find = connection.networkLookupByName if kind == "network" else connection.storagePoolLookupByName
            find("late").create()

    return start


def test_what_is_late_is_started_when_it_arrives_also_after_a_kill(tmp_path: Path, server: Libvirtd) -> None:
    folder = server.directory
    with ExitStack() as stack:

        def image(path: Path) -> None:
            path.parent.mkdir(parents=True, exist_ok=True)
            qemu_img("create", "-q", "-f", "raw", path, "1M")

        def serve() -> None:
            image(folder / "nbd.raw")
            command = ["qemu-nbd", "-t", "-e", "9", "-p", "10999", "-x", "x", "-f", "raw", folder / "nbd.raw"]
            served = subprocess.Popen([*map(str, command)], stderr=subprocess.DEVNULL)
            stack.callback(served.wait)
            stack.callback(served.kill)

        late: dict[str, tuple[str, Callable[[], object]]] = {
            "disk": (disk(folder / "late.raw"), lambda: image(folder / "late.raw")),
            "folder": (disk(folder / "a/b/late.raw"), lambda: image(folder / "a/b/late.raw")),
            "mount": (
                disk(folder / "share/disk.raw"),
                stack.enter_context(expected_mount(server, folder / "share")),
            ),
            "bridge": (
                nic("bridge", "<source bridge='br-late'/>"),
                lambda: call("ip", "link", "add", "br-late", "type", "bridge"),
            ),
            "tap": (
                nic("ethernet", "<target dev='tap-late' managed='no'/>"),
                lambda: call("ip", "tuntap", "add", "tap-late", "mode", "tap"),
            ),
            "network": (nic("network", "<source network='late'/>"), start_of(server, "network")),
            "pool": (IN_POOL, start_of(server, "pool")),
            "remote disk": (REMOTE, serve),
        }
        for number, (devices, _) in enumerate(late.values(), start=1):
            server.define(uuid_of(number), driver_guest(number).name, more=DomainExtras(devices=devices))
        numbers = range(1, len(late) + 1)
        # One that is forked would be in the network of the process that it is forked from.
        process, url = start_placement(afresh=True)
        stack.callback(process.communicate, timeout=END_S)
        computer = on_libvirt(tmp_path, server).records([record_of(number) for number in numbers])
        computer.having(
            placement={"url": url, "wait": 60}, resume={"guests": "on_host_boot", "wait_for_needs": "10min"}
        )
        before = computer.stored()
        for is_killed in (True, False):
            daemon = stack.enter_context(computer.stay())
            daemon.until("service.ready")
            assert states(server) == dict.fromkeys(map(uuid_of, numbers), False)
            if is_killed:
                daemon.end(signal.SIGKILL)
        assert computer.stored() == before

        for _, comes in late.values():
            comes()
        until(lambda: all(states(server).values()), "the guests")
        ended = daemon.end(signal.SIGTERM)

    assert (ended.code, ended.err) == (0, "")
    assert {computer.stored()[uuid_of(number)].vm_state for number in numbers} == {VmState.ACTIVE}
    assert not ended.named("needs.not_watched")
    assert ended.named("needs.arrived")


def states(server: Libvirtd) -> dict[str, bool]:
    """Return the guests that run."""
    with server.connected() as connection:
        return {domain.UUIDString(): domain.state()[0] == ON for domain in connection.listAllDomains()}
