"""``make bench-way-home``: real guests that are off are brought back in each way in turn, until they have booted.

A real nova-compute has defined them: small Linux guests that read their disks, compute for a while, and then say on
their consoles that they serve.  The ways: libvirt-guests.sh, virsh in a loop, the algorithms of Proxmox VE and Incus as
published, through libvirt's calls, the whole real nova-compute, and bringup with Nova's records.  The floor calls
virDomainCreate for 16 at once and nothing else.  Each finds the host as it was: guests off, records active.
"""

import argparse
import json
import os
import resource
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from real_guests import Bench

from bringup.drivers.libvirt.binding import binding
from support.libvirtd import Libvirtd
from support.neutron import a_neutron
from support.nova import a_nova
from support.nova_made import NovaMade, Peers, in_own_host
from support.programs import path_of, run
from support.real_compute import image_metadata, with_compute
from support.small_linux import READY, make_booting_linux

ALREADY_INSIDE: Final = "BRINGUP_BENCH_INSIDE"
POLL_S: Final = 0.05
PATIENCE_S: Final = 900.0
DISK: Final = "16M"
COMMAND_LINE: Final = "quiet panic=-1 random.trust_cpu=on"


@dataclass(slots=True)
class Came:
    """How the guests came back; seconds since the way began."""

    started: list[float] = field(default_factory=list)
    ready: list[float] = field(default_factory=list)
    pressure: float = 0.0
    """Share of the time until all were ready in which something waited for a CPU."""
    cpu_s: float = 0.0
    """Of the processes of the way itself, without libvirtd and QEMU; 0 where it has none that can be waited for."""
    load: float = 0.0


class LinuxHost(NovaMade):
    """A host whose guests boot a small Linux."""

    def __init__(self, directory: Path, server: Libvirtd, peers: Peers, count: int, compute_mb: int) -> None:
        """Make the guests."""
        self._linux = make_booting_linux(server.directory, compute_mb=compute_mb)
        self._kernel = server.directory / "kernel"
        self._kernel.write_bytes(self._linux.kernel.read_bytes())
        metadata = {**image_metadata(), "image_os_command_line": COMMAND_LINE}
        image = metadata["image_base_image_ref"]
        record = {"kernel_id": image, "ramdisk_id": image, "system_metadata": metadata, "memory_mb": 128}
        super().__init__(directory, server, peers, [record] * count, resume={"guests": "on_every_start"})
        # What an operator has who sets nothing.
        del self.computer.sections["limits"]
        self.bench = Bench(server, count, "", uuids=self.uuids)

    def make_files(self, folder: Path) -> None:
        """Make kernel, initrd and disk of a guest."""
        (folder / "kernel").hardlink_to(self._kernel)
        (folder / "ramdisk").hardlink_to(self._linux.initrd)
        run(path_of("qemu-img"), "create", "-q", "-f", "qcow2", "-o", "preallocation=full", folder / "disk", DISK)

    def boot(self) -> None:
        """Boot: all guests are off, as Nova has defined them."""
        super().boot()
        for each in self.uuids:
            (self.instances / each / "console.log").unlink(missing_ok=True)
        with self.server.connected() as connection:
            for definition in self.definitions.values():
                connection.defineXML(definition)

    def is_ready(self, uuid: str) -> bool:
        """Check whether a guest has written that it serves."""
        with suppress(FileNotFoundError):
            return READY.encode() in (self.instances / uuid / "console.log").read_bytes()
        return False


class Observer:
    """Thread that notes when each guest was started and was ready."""

    def __init__(self, host: LinuxHost) -> None:
        """Start to observe."""
        self._host = host
        self.came = Came(load=os.getloadavg()[0])
        self._cpu_before, self._stalled_before = _own_cpu_s(), _stalled_s()
        self._thread = threading.Thread(target=self._observe, daemon=True)
        self._began = time.monotonic()
        self._thread.start()

    def until_ready(self) -> None:
        """Wait until all guests are ready."""
        self._thread.join(PATIENCE_S)
        if self._thread.is_alive():
            sys.exit(f"{len(self.came.ready)} of {len(self._host.uuids)} guests are ready after {PATIENCE_S:g} s")
        self.came.pressure = (_stalled_s() - self._stalled_before) / self.came.ready[-1]

    def ended(self) -> Came:
        """Return what was noted, once the processes of the way have ended."""
        self.came.cpu_s = _own_cpu_s() - self._cpu_before
        return self.came

    def _observe(self) -> None:
        off, booting = set(self._host.uuids), set[str]()
        with self._host.server.connected() as connection:
            while off or booting:
                active = {domain.UUIDString() for domain in connection.listAllDomains() if domain.isActive()} & off
                ready = {uuid for uuid in booting if self._host.is_ready(uuid)}
                now = time.monotonic() - self._began
                self.came.started += [now] * len(active)
                self.came.ready += [now] * len(ready)
                off, booting = off - active, (booting | active) - ready
                time.sleep(POLL_S)


def _own_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _stalled_s() -> float:
    """Return for how long something has waited for a CPU since this machine runs; 0 where the kernel does not say."""
    with suppress(OSError):
        some = Path("/proc/pressure/cpu").read_text().splitlines()[0]
        return int(some.rpartition("total=")[2]) / 1e6
    return 0.0


@contextmanager
def called(call: Callable[[], Any]) -> Iterator[None]:
    """Bring guests back by a call that returns when all are started."""
    call()
    yield


@contextmanager
def bringup(host: LinuxHost) -> Iterator[None]:
    """Run the daemon, which stays until the guests are ready."""
    with host.computer.stay(afresh=True) as daemon:
        daemon.until("service.ready")
        yield
        daemon.end(signal.SIGTERM)


def nova_compute(host: LinuxHost) -> None:
    """Run a nova-compute, its imports included, until it has initialized the host."""
    error = host.compute.run(with_compute(Path(tempfile.mkdtemp(dir=host.directory))))
    if error is not None:
        sys.exit(f"nova-compute has failed: {error}")


class Creating:
    """Starts of guests in threads, each on a connection of its own."""

    def __init__(self, host: LinuxHost, at_once: int) -> None:
        """Connect."""
        self._free = [binding().open(host.server.uri) for _ in range(at_once)]
        self._pool = ThreadPoolExecutor(at_once)

    def submit(self, uuid: str) -> "Future[None]":
        """Start a guest in a thread."""
        return self._pool.submit(self._create, uuid)

    def _create(self, uuid: str) -> None:
        connection = self._free.pop()
        connection.lookupByUUIDString(uuid).create()
        self._free.append(connection)


PROXMOX_LOOKS_S: Final = 1.0
PROXMOX_DELAY_S: Final = 3.0
PROXMOX_WORKERS: Final = 4


def proxmox_boot(host: LinuxHost) -> None:
    """Start one guest after the other: each second a look whether its task has ended, and then three seconds more.

    ``startall`` of pve-manager (PVE/API2/Nodes.pm), which a node calls when it boots; no guest has a delay of its own.
    """
    creating = Creating(host, 1)
    for uuid in host.uuids:
        task = creating.submit(uuid)
        while not task.done():
            time.sleep(PROXMOX_LOOKS_S)
        task.result()
        time.sleep(PROXMOX_DELAY_S)


def proxmox_bulk(host: LinuxHost) -> None:
    """Start four guests at once, with a look each second for one that has ended.

    Its bulk action for operators (PVE/API2/Cluster/BulkAction/Guest.pm), with ``max-workers`` as it is by default.
    """
    creating = Creating(host, PROXMOX_WORKERS)
    tasks: list[Future[None]] = []
    for uuid in host.uuids:
        while sum(not task.done() for task in tasks) >= PROXMOX_WORKERS:
            time.sleep(PROXMOX_LOOKS_S)
        tasks.append(creating.submit(uuid))
    for task in tasks:
        task.result()


INCUS_ATTEMPTS: Final = 3
INCUS_AGAIN_S: Final = 5.0


def incus(host: LinuxHost) -> None:
    """Start one guest after the other, by priority and name; one that fails is tried three times, after five seconds.

    ``instancesStart`` of incusd (cmd/incusd/instances.go); all have the same priority, and none has a delay.
    """
    with host.server.connected() as connection:
        for uuid in sorted(host.uuids):
            for attempt in range(1, INCUS_ATTEMPTS + 1):
                try:
                    connection.lookupByUUIDString(uuid).create()
                    break
                except binding().libvirtError:
                    if attempt == INCUS_ATTEMPTS:
                        raise
                    time.sleep(INCUS_AGAIN_S)


OUR_WAY: Final = "bringup run"
WAYS: Final[Mapping[str, Callable[[LinuxHost], AbstractContextManager[None]]]] = {
    "virDomainCreate alone, 16 at once": lambda host: called(host.bench.floor),
    "libvirt-guests.sh start": lambda host: called(host.bench.libvirt_guests),
    "virsh start, in a loop": lambda host: called(host.bench.virsh),
    "Proxmox VE, at boot": lambda host: called(lambda: proxmox_boot(host)),
    "Proxmox VE, bulk start": lambda host: called(lambda: proxmox_bulk(host)),
    "Incus": lambda host: called(lambda: incus(host)),
    "nova-compute 34": lambda host: called(lambda: nova_compute(host)),
    OUR_WAY: bringup,
}


def measured(host: LinuxHost, way: Callable[[LinuxHost], AbstractContextManager[None]]) -> Came:
    """Boot the host, and bring its guests back."""
    host.boot()
    observer = Observer(host)
    with way(host):
        observer.until_ready()
    return observer.ended()


def middle(rounds: Sequence[Came]) -> Came:
    """Return the round in the middle, by when all guests were ready."""
    last = statistics.median_low(came.ready[-1] for came in rounds)
    return next(came for came in rounds if came.ready[-1] == last)


def quantiles(values: Sequence[float]) -> str:
    """Return the median, the 95th percentile and the last of sorted values."""
    last = len(values) - 1
    return " / ".join(f"{values[min(last, int(share * len(values)))]:.1f}" for share in (0.5, 0.95, 1.0))


HEAD: Final = (
    "| way | hook | started: p50 / p95 / all, s | ready: p50 / p95 / all, s "
    "| all ready / ours | CPU waited for | own CPU | load before |"
)


def table(rounds: Mapping[str, Sequence[Came]], hook_s: float) -> None:
    """Print a row for each way."""
    ours = middle(rounds[OUR_WAY])
    for name, each in rounds.items():
        came = middle(each)
        cpu = f"{came.cpu_s:.2f} s" if came.cpu_s else "-"
        print(
            f"| {name} | {hook_s:g} s | {quantiles(came.started)} | {quantiles(came.ready)} "
            f"| {came.ready[-1] / ours.ready[-1]:.2f} | {came.pressure:.0%} | {cpu} | {came.load:.1f} |",
            flush=True,
        )


@contextmanager
def cloud() -> Iterator[Peers]:
    """Run what there is of a cloud beside its host."""
    with tempfile.TemporaryDirectory(prefix="way-home-", dir="/tmp") as directory, a_neutron() as neutron:
        yield Peers(a_nova(programs=with_compute(Path(directory))), neutron, "unix:/nonexistent")


@contextmanager
def linux_host(peers: Peers, count: int, compute_mb: int, hook_s: float) -> Iterator[LinuxHost]:
    """Make a host of the cloud."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="way-home-", dir="/tmp")))
        server = Libvirtd(network="ours", pause_s=hook_s or None)
        stack.callback(server.stop)
        server.start()
        host = LinuxHost(directory, server, peers, count, compute_mb)
        stack.callback(host.close)
        yield host


def main(options: argparse.Namespace) -> None:
    """Print the table, and write what was measured."""
    print(f"{options.guests} guests, {os.cpu_count()} CPUs; load before: {os.getloadavg()[0]:.1f}\n")
    print(HEAD)
    print("|---" * HEAD.count(" | ") + "|---|")
    found: dict[str, dict[str, list[Came]]] = {}
    with cloud() as peers:
        for hook_s in options.hooks:
            rounds: dict[str, list[Came]] = {name: [] for name in WAYS}
            with linux_host(peers, options.guests, options.compute, hook_s) as host:
                for _ in range(options.rounds):
                    for name, way in WAYS.items():
                        rounds[name].append(measured(host, way))
            table(rounds, hook_s)
            found[f"{hook_s:g}"] = rounds
    if options.json is not None:
        document = {hook: {name: asdict(middle(each)) for name, each in ways.items()} for hook, ways in found.items()}
        options.json.write_text(json.dumps({"guests": options.guests, "hooks": document}, indent=1) + "\n")


def parsed() -> argparse.Namespace:
    """Parse the arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("guests", type=int, nargs="?", default=14)
    parser.add_argument("--hooks", type=float, nargs="*", default=[0.0, 1.0], help="seconds of each start")
    parser.add_argument("--compute", type=int, default=16, help="MB that a guest computes the checksum of")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", type=Path, help="where to write when each guest was started and ready")
    return parser.parse_args()


if __name__ == "__main__":
    options = parsed()
    if ALREADY_INSIDE not in os.environ:
        command = in_own_host(sys.executable, *sys.argv)
        os.execvpe(command[0], command, {**os.environ, ALREADY_INSIDE: "1"})  # noqa: S606 - the same command, inside
    main(options)
