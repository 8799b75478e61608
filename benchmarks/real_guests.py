"""``make bench-libvirt``: N real guests that are off are brought back in every way, side by side, and one table.

Each way in turn finds the same guests off, without a hook and with one that takes a second a start, as slow storage
would: without it two cores are the limit, and concurrency shows nothing.  The floor is the same number of concurrent
``virDomainCreate`` calls with nothing else.  Arguments: how many guests, how many of the limits to leave out, and how
often our own CPU is measured.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import anyio
from hosts import uuid_of
from libvirt_host import command, store

from bringup.daemon.cli.demo_site.children import serving
from bringup.drivers.libvirt.binding import binding
from support.libvirtd import Libvirtd, domain_xml
from support.process import children_of
from support.programs import find

LIMITS = (1, 2, 4, 8, 16)
FLOOR_LIMIT = 16
SIZE = (40, 0, 3)
SCRIPT = Path("/usr/lib/libvirt/libvirt-guests.sh")
VIRSH = find("virsh") or "virsh"


@dataclass(frozen=True, slots=True)
class Took:
    """Cost of one way to start all guests."""

    wall_s: float
    process_s: float | None = None
    """The whole process: Python's start, Placement, records, report.  None: it is the same."""
    cpu_s: float = 0.0
    """Of our own process."""


@dataclass(slots=True)
class Bench:
    """A libvirtd with guests that are off."""

    server: Libvirtd
    count: int
    placement: str
    uuids: list[str] = field(default_factory=list)

    def define(self) -> None:
        """Define the guests."""
        self.uuids = [uuid_of(number) for number in range(self.count)]
        with self.server.connected() as connection:
            for number, uuid in enumerate(self.uuids):
                connection.defineXML(domain_xml(uuid, f"guest-{number}", images=self.server.directory / "images"))

    def measured(self, way: Callable[[], Took | None], count: int | None = None) -> Took:
        """Start all guests (or ``count``) in one way, check that they run, and stop them again."""
        began = time.perf_counter()
        took = way() or Took(time.perf_counter() - began)
        with self.server.connected() as connection:
            running = [domain for domain in connection.listAllDomains() if domain.isActive()]
            wanted = self.count if count is None else count
            assert len(running) == wanted, f"{len(running)} of {wanted} guests run"  # noqa: S101 - it says why
            with ThreadPoolExecutor(1) as pool:
                list(pool.map(lambda domain: domain.destroy(), running))
        return took

    def floor(self) -> None:
        """Call virDomainCreate and nothing else, each thread on a connection of its own."""
        free = [binding().open(self.server.uri) for _ in range(FLOOR_LIMIT)]

        def start(uuid: str) -> None:
            connection = free.pop()
            connection.lookupByUUIDString(uuid).create()
            free.append(connection)

        with ThreadPoolExecutor(FLOOR_LIMIT) as pool:
            list(pool.map(start, self.uuids))
        for connection in free:
            connection.close()

    def libvirt_guests(self) -> None:
        """Run the script of the package with ON_BOOT=start, in the folders of libvirtd."""
        script = self.server.directory / "libvirt-guests.sh"
        text = SCRIPT.read_text().replace('ON_BOOT="ignore"', 'ON_BOOT="start"')
        script.write_text(text.replace('"$localstatedir"/lock/', f'"{self.server.directory}"/'))
        (self.server.directory / "lib/libvirt-guests").write_text(f"default {' '.join(self.uuids)}\n")
        subprocess.run([*self._inside(), "sh", str(script), "start"], check=True, stdout=subprocess.DEVNULL)

    def virsh(self) -> None:
        """Call virsh in a loop."""
        for uuid in self.uuids:
            command = [VIRSH, "-q", "-c", self.server.uri, "start", uuid]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def novas_order(self) -> None:
        """Send the calls of Nova's init_host for a guest that is off, one guest after the other."""
        with self.server.connected() as connection:
            for uuid in self.uuids:
                for _ in range(3):
                    connection.lookupByUUIDString(uuid).state()
                connection.lookupByUUIDString(uuid).create()
                connection.lookupByUUIDString(uuid).state()

    def bringup(self, limit: int, count: int | None = None) -> Took:
        """Run the command itself, from its start to its end; ``count``: with records of so many of the guests only."""
        with tempfile.TemporaryDirectory() as directory:
            anyio.run(store, Path(directory), self.uuids[:count])
            began = time.perf_counter()
            with subprocess.Popen(self._command(Path(directory), limit), stdout=subprocess.PIPE, text=True) as child:
                lines = child.stdout.readlines() if child.stdout else []
                _, status, usage = os.wait4(child.pid, 0)
                child.returncode = os.waitstatus_to_exitcode(status)
            assert child.returncode == 0, "the run failed"  # noqa: S101 - a run that failed measures nothing
            process_s = time.perf_counter() - began
            [end] = [line for line in map(json.loads, lines) if line["event"] == "run.ended"]
            return Took(end["took_s"], process_s, usage.ru_utime + usage.ru_stime)

    def _command(self, directory: Path, limit: int) -> list[str]:
        # Its guests have nothing to boot: a slot is free when its guest is started.
        pace = {"limits.concurrency": str(limit), "limits.pace": "fixed", "pace.hold": "0"}
        python = os.environ.get("BENCH_PYTHON", sys.executable)
        return command(directory, self.server.uri, self.placement, pace, "--once", python=python)

    def _inside(self) -> tuple[str, ...]:
        unshare = next(pid for pid in children_of(os.getpid()) if _is_unshare(pid))
        [init] = children_of(unshare)
        return "nsenter", "--target", str(init), "--mount"


def _is_unshare(pid: int) -> bool:
    return Path(f"/proc/{pid}/comm").read_text().strip() == "unshare"


def table(bench: Bench, hook: str, limits: tuple[int, ...]) -> None:
    """Measure every way and print a row each."""
    bench.define()
    floor = bench.measured(bench.floor)
    script = bench.measured(bench.libvirt_guests)

    def row(what: str, took: Took) -> None:
        print(
            f"| {what} | {hook} | {took.wall_s:.1f} s | {took.process_s or took.wall_s:.1f} s "
            f"| {took.wall_s / floor.wall_s:.2f} | {script.wall_s / took.wall_s:.1f} |",
            flush=True,
        )

    row(f"floor: virDomainCreate alone, {FLOOR_LIMIT} at once", floor)
    row("libvirt-guests.sh start", script)
    row("virsh start, in a loop", bench.measured(bench.virsh))
    row("Nova's order of calls, serially", bench.measured(bench.novas_order))
    for limit in limits:
        row(f"bringup run --once, limit {limit}", bench.measured(partial(bench.bringup, limit)))


def own_cpu(bench: Bench, runs: int) -> None:
    """Print what one more guest costs our own process, without the fixed cost of a run."""
    bench.define()
    few = max(1, bench.count // 4)
    costs = {
        count: min(bench.measured(partial(bench.bringup, FLOOR_LIMIT, count), count).cpu_s for _ in range(runs))
        for count in (few, bench.count)
    }
    each_s = (costs[bench.count] - costs[few]) / (bench.count - few)
    print(f"\nOur own CPU a guest: {each_s * 1000:.2f} ms (aim: under 3 ms); of a run with {few}: {costs[few]:.2f} s")


@contextmanager
def host(count: int, placement: str, pause_s: float | None) -> Iterator[Bench]:
    """Run a libvirtd with guests."""
    server = Libvirtd(pause_s=pause_s)
    try:
        server.start()
        yield Bench(server, count, placement)
    finally:
        server.stop()


def main(count: int, leave_out: int, runs: int) -> None:
    """Print the table."""
    limits = LIMITS[leave_out:]
    print(f"{count} guests; load before: {' '.join(f'{load:.1f}' for load in os.getloadavg())}\n")
    print("| way | hook | guests | whole process | guests / floor | libvirt-guests.sh / guests |")
    print("|---|---|---|---|---|---|")
    with serving("bringup.daemon.cli.demo_site.placement_server", ["--database", "memory"]) as placement:
        with host(count, placement, None) as bench:
            table(bench, "none", limits)
        with host(count, placement, 1) as bench:
            table(bench, "1 s", limits)
        with host(count, placement, None) as bench:
            own_cpu(bench, runs)


if __name__ == "__main__":
    if find("libvirtd") is None:
        sys.exit("libvirtd is not installed: see benchmarks/real_guests.py and .ci/run for the packages")
    main(*(int(word) for word in sys.argv[1:]), *SIZE[len(sys.argv) - 1 :])
