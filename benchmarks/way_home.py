"""``make bench-way-home``: real guests that are off are brought back in each way in turn, until they have booted.

A real nova-compute has defined them: small Linux guests that read their disks, compute for a while, say on their
consoles that they serve, and start their guest agents.  The ways: libvirt-guests.sh, virsh in a loop, the algorithms of
Proxmox VE and Incus as published, through libvirt's calls, the whole real nova-compute, and bringup with Nova's
records.  The floor calls virDomainCreate for 16 at once and nothing else.  Each finds the host as it was: guests off,
records active.  With ``--idle``, nova-compute and bringup also start so many guests that have nothing to boot.
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
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from other_ways import incus, proxmox_boot, proxmox_bulk
from real_guests import Bench

from support.agent_linux import make_agent_linux
from support.libvirtd import Libvirtd
from support.neutron import a_neutron
from support.nova import a_nova
from support.nova_made import NovaMade, Peers, in_own_host
from support.programs import path_of, run
from support.real_compute import image_metadata, with_compute

ALREADY_INSIDE: Final = "BRINGUP_BENCH_INSIDE"
POLL_S: Final = 0.05
PATIENCE_S: Final = 900.0
DISK: Final = "16M"
COMMAND_LINE: Final = "quiet panic=-1 random.trust_cpu=on"
READY: Final = b"ready"
PRESSURE: Final = ("cpu", "io", "memory")
ACTIVE: Final = 1
"""``VIR_CONNECT_LIST_DOMAINS_ACTIVE``."""


@dataclass(slots=True)
class Came:
    """How the guests came back; seconds since the way began."""

    started: list[float] = field(default_factory=list)
    ready: list[float] = field(default_factory=list)
    pressure: dict[str, float] = field(default_factory=dict)
    """Share of the time until all were ready in which something waited for a CPU, for a disk, for memory."""
    cpu_s: float = 0.0
    """Of the processes of the way itself, without libvirtd and QEMU; 0 where it has none of its own."""
    load: float = 0.0


class Host(NovaMade):
    """A host that is booted again and again, whose guests are off then."""

    def __init__(
        self, directory: Path, server: Libvirtd, peers: Peers, count: int, record: Mapping[str, Any] | None = None
    ) -> None:
        """Make the guests; ``record`` is what theirs have beside what all have."""
        super().__init__(directory, server, peers, [record or {}] * count, resume={"guests": "on_every_start"})
        # What an operator has who sets nothing.
        del self.computer.sections["limits"]
        self.bench = Bench(server, count, "", uuids=self.uuids)

    def boot(self) -> None:
        """Boot: all guests are off, as Nova has defined them."""
        super().boot()
        with self.server.connected() as connection:
            for definition in self.definitions.values():
                connection.defineXML(definition)

    def is_ready(self, _uuid: str) -> bool:
        """Check whether a guest that was started serves: one that has nothing to boot does."""
        return True


class LinuxHost(Host):
    """A host whose guests boot a small Linux."""

    def __init__(self, directory: Path, server: Libvirtd, peers: Peers, count: int, compute_mb: int) -> None:
        """Make the guests."""
        self._linux = make_agent_linux(server.directory, compute_mb=compute_mb)
        self._kernel = server.directory / "kernel"
        self._kernel.write_bytes(self._linux.kernel.read_bytes())
        of_image = {"image_os_command_line": COMMAND_LINE, "image_hw_qemu_guest_agent": "yes"}
        metadata = {**image_metadata(), **of_image}
        image = metadata["image_base_image_ref"]
        record = {"kernel_id": image, "ramdisk_id": image, "system_metadata": metadata, "memory_mb": 128}
        super().__init__(directory, server, peers, count, record)

    def make_files(self, folder: Path) -> None:
        """Make kernel, initrd and disk of a guest."""
        (folder / "kernel").hardlink_to(self._kernel)
        (folder / "ramdisk").hardlink_to(self._linux.initrd)
        run(path_of("qemu-img"), "create", "-q", "-f", "qcow2", "-o", "preallocation=full", folder / "disk", DISK)

    def store_files(self) -> None:
        """Store nothing: no guest writes to its disk."""

    def restore_files(self) -> None:
        """Delete what the guests have written to their consoles."""
        for each in self.uuids:
            (self.instances / each / "console.log").unlink(missing_ok=True)

    def is_ready(self, uuid: str) -> bool:
        """Check whether a guest has written that it serves."""
        with suppress(FileNotFoundError):
            return READY in (self.instances / uuid / "console.log").read_bytes()
        return False


class Observer:
    """Thread that notes when each guest was started and was ready."""

    def __init__(self, host: Host) -> None:
        """Start to observe."""
        self._host = host
        self.came = Came(load=os.getloadavg()[0])
        reap()
        self._cpu_before, self._stalled_before = _own_cpu_s(), _stalled_s()
        self._thread = threading.Thread(target=self._observe, daemon=True)
        self._began = time.monotonic()
        self._thread.start()

    def until_ready(self) -> None:
        """Wait until all guests are ready."""
        self._thread.join(PATIENCE_S)
        if self._thread.is_alive():
            sys.exit(f"{len(self.came.ready)} of {len(self._host.uuids)} guests are ready after {PATIENCE_S:g} s")

    def ended(self) -> Came:
        """Return what was noted, once the processes of the way have ended."""
        self.came.cpu_s = _own_cpu_s() - self._cpu_before
        return self.came

    def _observe(self) -> None:
        off, booting = set(self._host.uuids), set[str]()
        with self._host.server.connected() as connection:
            while off or booting:
                active = {domain.UUIDString() for domain in connection.listAllDomains(ACTIVE)} & off
                off, booting = off - active, booting | active
                ready = {uuid for uuid in booting if self._host.is_ready(uuid)}
                now = time.monotonic() - self._began
                self.came.started += [now] * len(active)
                self.came.ready += [now] * len(ready)
                booting -= ready
                time.sleep(POLL_S)
        took, stalled = time.monotonic() - self._began, _stalled_s()
        self.came.pressure = {name: (stalled[name] - self._stalled_before[name]) / took for name in stalled}


def reap() -> None:
    """Reap orphans: this is the first process of its namespace, and what they used counts once they are reaped."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _own_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _stalled_s() -> dict[str, float]:
    """Return for how long something has waited since this machine runs; nothing where the kernel does not say."""
    found: dict[str, float] = {}
    for name in PRESSURE:
        with suppress(OSError):
            some = Path("/proc/pressure", name).read_text().splitlines()[0]
            found[name] = int(some.rpartition("total=")[2]) / 1e6
    return found


@contextmanager
def called(call: Callable[[], Any]) -> Iterator[None]:
    """Bring guests back by a call that returns when all are started."""
    call()
    yield


@contextmanager
def bringup(host: Host, *settings: str) -> Iterator[None]:
    """Run the daemon, which stays until the guests are ready."""
    sets = [part for each in settings for part in ("-s", each)]
    with host.computer.stay(*sets, afresh=True) as daemon:
        daemon.until("service.ready")
        yield
        daemon.end(signal.SIGTERM)


@contextmanager
def nova_compute(host: Host) -> Iterator[None]:
    """Run Nova's own command, which stays until the guests are ready."""
    process = host.compute.command()
    try:
        yield
        if process.poll() is not None:
            sys.exit(f"nova-compute has ended: {host.compute.log.read_text()[-4000:]}")
    finally:
        # It does not end in 15 s when it is asked to.
        host.compute.end_command()
        process.wait()
        reap()


OUR_WAY: Final = "bringup run"
FIXED: Final = "limits.pace=fixed"
Way = Callable[[Host], AbstractContextManager[None]]
OF_RECORDS: Final[Mapping[str, Way]] = {
    "nova-compute 34": nova_compute,
    OUR_WAY: bringup,
    "bringup run, fixed pace": lambda host: bringup(host, FIXED),
}
"""Those that know from records which guests are to run."""
OF_IDLE: Final[Mapping[str, Way]] = {
    **OF_RECORDS,
    "bringup run, no wait for ready": lambda host: bringup(host, FIXED, "pace.hold=0"),
}
WAYS: Final[Mapping[str, Way]] = {
    "virDomainCreate alone, 16 at once": lambda host: called(host.bench.floor),
    "libvirt-guests.sh start": lambda host: called(host.bench.libvirt_guests),
    "virsh start, in a loop": lambda host: called(host.bench.virsh),
    "Proxmox VE, at boot": lambda host: called(lambda: proxmox_boot(host.server, host.uuids)),
    "Proxmox VE, bulk start": lambda host: called(lambda: proxmox_bulk(host.server, host.uuids)),
    "Incus": lambda host: called(lambda: incus(host.server, host.uuids)),
    **OF_RECORDS,
}


def measured(host: Host, way: Way) -> Came:
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


Found = dict[str, list[Came]]
HEAD: Final = (
    "| way | hook | started: p50 / p95 / all, s | ready: p50 / p95 / all, s "
    "| all ready / ours | waited for CPU / disk / memory | own CPU | load before |"
)


def table(rounds: Mapping[str, Sequence[Came]], hook_s: float) -> None:
    """Print a row for each way."""
    ours = middle(rounds[OUR_WAY])
    for name, each in rounds.items():
        came = middle(each)
        cpu = f"{came.cpu_s:.2f} s" if came.cpu_s else "-"
        pressure = " / ".join(f"{share:.0%}" for share in came.pressure.values()) or "-"
        print(
            f"| {name} | {hook_s:g} s | {quantiles(came.started)} | {quantiles(came.ready)} "
            f"| {came.ready[-1] / ours.ready[-1]:.2f} | {pressure} | {cpu} | {came.load:.1f} |",
            flush=True,
        )


@contextmanager
def cloud() -> Iterator[Peers]:
    """Run what there is of a cloud beside its host."""
    with tempfile.TemporaryDirectory(prefix="way-home-", dir="/tmp") as directory, a_neutron() as neutron:
        yield Peers(a_nova(programs=with_compute(Path(directory))), neutron, "unix:/nonexistent")


@contextmanager
def a_host(make: Callable[[Path, Libvirtd], Host], hook_s: float) -> Iterator[Host]:
    """Make a host whose starts take so much longer."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="way-home-", dir="/tmp")))
        server = Libvirtd(network="ours", pause_s=hook_s or None)
        stack.callback(server.stop)
        server.start()
        host = make(directory, server)
        stack.callback(host.close)
        yield host


def compared(make: Callable[[Path, Libvirtd], Host], ways: Mapping[str, Way], hook_s: float, rounds: int) -> Found:
    """Bring the guests of a host back in these ways, so often, and print a table."""
    found: Found = {name: [] for name in ways}
    with a_host(make, hook_s) as host:
        for _ in range(rounds):
            for name, way in ways.items():
                found[name].append(measured(host, way))
    table(found, hook_s)
    return found


def main(options: argparse.Namespace) -> None:
    """Print the tables, and write what was measured."""
    began = time.monotonic()
    print(f"{os.cpu_count()} CPUs; load before: {os.getloadavg()[0]:.1f}")
    document: dict[str, Any] = {"guests": options.guests, "idle": options.idle, "hooks": {}, "idle_hooks": {}}
    with cloud() as peers:

        def of_linux(directory: Path, server: Libvirtd) -> Host:
            return LinuxHost(directory, server, peers, options.guests, options.compute)

        def of_idle(directory: Path, server: Libvirtd) -> Host:
            return Host(directory, server, peers, options.idle)

        kinds = (
            (options.guests, "Linux guests", "hooks", of_linux, WAYS),
            (options.idle, "guests that have nothing to boot", "idle_hooks", of_idle, OF_IDLE),
        )
        for count, what, key, make, ways in kinds:
            if not count:
                continue
            print(f"\n{count} {what}\n\n{HEAD}\n{'|---' * HEAD.count(' | ')}|---|", flush=True)
            for hook_s in options.hooks:
                found = compared(make, ways, hook_s, options.rounds)
                document[key][f"{hook_s:g}"] = {name: asdict(middle(each)) for name, each in found.items()}
    if options.json is not None:
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    print(f"\nmeasured in {time.monotonic() - began:.0f} s")


def parsed() -> argparse.Namespace:
    """Parse the arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("guests", type=int, nargs="?", default=10, help="0: no Linux guests")
    parser.add_argument("--hooks", type=float, nargs="*", default=[0.0, 1.0], help="seconds of each start")
    parser.add_argument("--compute", type=int, default=8, help="MB that a guest computes the checksum of")
    parser.add_argument("--idle", type=int, default=0, help="how many guests that have nothing to boot, beside them")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", type=Path, help="where to write when each guest was started and ready")
    return parser.parse_args()


if __name__ == "__main__":
    options = parsed()
    if ALREADY_INSIDE not in os.environ:
        command = in_own_host(sys.executable, *sys.argv)
        os.execvpe(command[0], command, {**os.environ, ALREADY_INSIDE: "1"})  # noqa: S606 - the same command, inside
    main(options)
