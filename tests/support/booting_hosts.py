"""Simulated hosts whose guests boot, for the controller of the pace: a fluid model in steps of a tenth of a second.

A guest holds a slot while it is prepared (storage, libvirt, QEMU), is then started, and boots: so many core-seconds and
megabytes, in alternating bits, shared with all that boot.  When both are done it is ready, frees its slot and uses a
little CPU from then on.  A CPU that more threads want loses efficiency to switches, a disk to each further reader.
What the controller is shown are the counters that libvirt has of such guests, nothing else.

The boot profiles are assumed (8 to 40 core-seconds, 250 to 1200 MB, log-normal with sigma 0.4): no host was measured.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Final, Literal

from bringup.daemon.decisions.pace import START_AT_MOST, PaceController
from bringup.drivers.base import BootCounters

STEP_S: Final = 0.1
BUSY: Final = 0.6
"""Share of its vCPUs that a boot keeps busy."""
BITS: Final = 8
READ_MB: Final = 0.25
DISK_OF_ONE: Final = 500.0
"""MB/s that one guest can read at most."""
SIGMA: Final = 0.4


@dataclass(frozen=True, slots=True)
class BootingHost:
    """A host and its guests."""

    name: str
    threads: int
    bandwidth: float
    """MB/s."""
    guests: int
    best: int
    """The best fixed limit (``benchmarks/pace.py`` finds it)."""
    vcpus: int = 4
    cpu_s: float = 10.0
    io_mb: float = 300.0
    prepare_s: float = 1.0
    seek: float = 0.0
    """Share of the bandwidth that each further reader costs."""
    taken: float = 0.0
    """Threads that something else uses all the time."""
    rests_s: float = 0.0
    """How long a guest that is ready keeps its slot until that is seen."""


HOSTS: Final = (
    BootingHost("64 threads, NVMe", 64, 2000, 60, 64),
    BootingHost("16 threads, NVMe, overcommitted", 16, 2000, 60, 16, cpu_s=15),
    BootingHost("32 threads, network storage 300 MB/s", 32, 300, 60, 12, io_mb=400, prepare_s=3, seek=0.01),
    BootingHost("32 threads, disks, Windows", 32, 250, 40, 8, cpu_s=40, io_mb=1200, seek=0.04),
    BootingHost("16 threads, 10 of them taken", 16, 1000, 40, 32, taken=10),
    BootingHost("8 threads, SATA SSD", 8, 500, 40, 16, vcpus=2, cpu_s=8, io_mb=250, seek=0.005),
    BootingHost(
        "128 threads, network storage 1 GB/s", 128, 1000, 200, 48, cpu_s=12, io_mb=400, prepare_s=4, seek=0.002
    ),
)


CROWDED: Final = BootingHost("16 threads, 48 wanted by others", 16, 1000, 40, 64, taken=48)
"""A host on which even the fewest guests boot several times slower than alone, whatever the limit."""


@dataclass(slots=True)
class _Guest:
    cpu_s: float
    io_mb: float
    left: float
    state: Literal["waits", "prepares", "reads", "runs", "ready"] = "waits"
    bits: int = 0
    is_silent: bool = False
    """It never shows that it is ready, and holds its slot for as long as it may."""
    holds: bool = False
    started_s: float = 0.0
    ready_s: float = 0.0
    is_marked: bool = False
    """It has a higher priority."""
    run_s: float = 0.0
    delay_s: float = 0.0
    reads: float = 0.0
    read_s: float = 0.0

    @property
    def counters(self) -> BootCounters:
        return BootCounters(self.run_s, self.delay_s, int(self.reads), self.read_s)


@dataclass(frozen=True, slots=True)
class Result:
    """How the guests of a host came back."""

    all_s: float
    half_s: float
    boot_p95_s: float
    first_s: float
    """When the tenth that is first in line was ready."""
    limits: tuple[int, ...]
    """The limit at each look."""


class _Simulation:
    """One host that brings its guests back."""

    def __init__(self, host: BootingHost, seed: int, *, silent: float, hold_s: float, marked: bool) -> None:
        chosen = random.Random(seed)  # noqa: S311 - no secret

        def drawn(average: float) -> float:
            return average * chosen.lognormvariate(-SIGMA * SIGMA / 2, SIGMA)

        self.host, self.hold_s, self.now_s = host, hold_s, 0.0
        self.guests = [_Guest(drawn(host.cpu_s), drawn(host.io_mb), drawn(host.prepare_s)) for _ in range(host.guests)]
        for guest in self.guests:
            guest.is_silent = chosen.random() < silent
        for guest in self.guests[: host.guests // 10 if marked else 0]:
            guest.is_marked = True
        self.queue = self.guests[::-1]
        self.active: list[_Guest] = []

    @property
    def used(self) -> int:
        return sum(guest.holds for guest in self.active)

    def step(self, limit: int, may_start_beside: Callable[[], bool]) -> None:
        """Start what the limit allows, and let a tenth of a second pass."""
        host = self.host
        for _ in range(max(0, min(limit - self.used, len(self.queue)))):
            is_preceded = any(guest.holds and guest.is_marked for guest in self.active)
            if is_preceded and not self.queue[-1].is_marked and not may_start_beside():
                break
            guest = self.queue.pop()
            guest.state, guest.holds = "prepares", True
            self.active.append(guest)
        states = [guest.state for guest in self.active]
        readers = states.count("reads")
        wanted = host.taken + host.vcpus * BUSY * states.count("runs") + 0.3 * states.count("prepares")
        load = (wanted + 0.1 * states.count("ready")) / host.threads
        share = min(1.0, 1 / load) if load else 1.0
        speed = share / (1 + 0.02 * max(0.0, load - 1))
        bandwidth = min(DISK_OF_ONE, host.bandwidth / (1 + host.seek * max(0, readers - 1)) / max(1, readers))
        self.now_s += STEP_S
        for guest in self.active:
            self._advance(guest, share, speed, bandwidth)

    def _advance(self, guest: _Guest, share: float, speed: float, bandwidth: float) -> None:
        busy = STEP_S * self.host.vcpus * BUSY
        if guest.state == "prepares":
            guest.left -= STEP_S * (0.3 + 0.7 * speed)
            if guest.left <= 0:
                guest.state, guest.left, guest.started_s = "reads", guest.io_mb / BITS, self.now_s
        elif guest.state == "runs":
            guest.left -= busy * speed
            guest.run_s += busy * share
            guest.delay_s += busy * (1 - share)
            if guest.left <= 0:
                guest.bits += 1
                guest.state, guest.left = ("reads", guest.io_mb / BITS) if guest.bits < BITS else ("ready", 0.0)
        elif guest.state == "reads":
            guest.left -= STEP_S * bandwidth
            guest.reads += STEP_S * bandwidth / READ_MB
            guest.read_s += STEP_S
            if guest.left <= 0:
                guest.state, guest.left = "runs", guest.cpu_s / BITS
        if guest.state == "ready" and not guest.ready_s:
            guest.ready_s = self.now_s
        if guest.holds and guest.started_s:
            is_over = self.now_s - guest.started_s > self.hold_s
            is_seen = guest.state == "ready" and self.now_s - guest.ready_s >= self.host.rests_s
            guest.holds = not is_over and (guest.is_silent or not is_seen)


def simulate(
    host: BootingHost, limit: int | None, seed: int, *, silent: float = 0.0, hold_s: float = 120.0, marked: bool = False
) -> Result:
    """Bring the guests of a host back; without a ``limit`` the controller has it.

    ``silent`` is the share of guests that never show that they are ready; ``marked``: a tenth have a higher priority.
    """
    simulation = _Simulation(host, seed, silent=silent, hold_s=hold_s, marked=marked)
    controller = PaceController(ceiling=64, start=min(START_AT_MOST, host.threads))
    limits: list[int] = []
    looked_s = 0.0
    while any(guest.state != "ready" for guest in simulation.guests):
        simulation.step(controller.limit if limit is None else limit, controller.take_spare)
        if simulation.now_s - looked_s >= controller.every_s - STEP_S / 2:
            looked_s = simulation.now_s
            counters = {
                str(number): g.counters for number, g in enumerate(simulation.guests) if g.holds and g.started_s
            }
            controller.look(counters, booting=len(counters), used=simulation.used)
            limits.append(controller.limit)
    first = max(guest.ready_s for guest in simulation.guests[: max(1, host.guests // 10)])
    ready = sorted(guest.ready_s for guest in simulation.guests)
    boots = sorted(guest.ready_s - guest.started_s for guest in simulation.guests)
    return Result(ready[-1], ready[len(ready) // 2], boots[int(0.95 * len(boots))], first, tuple(limits))


def averaged(simulate_one: Callable[[int], Result], seeds: Sequence[int]) -> Result:
    """Return the averages of several seeds, with the limits of the first."""
    found = [simulate_one(seed) for seed in seeds]
    return Result(
        mean(each.all_s for each in found),
        mean(each.half_s for each in found),
        mean(each.boot_p95_s for each in found),
        mean(each.first_s for each in found),
        found[0].limits,
    )
