"""Many hosts that start at once, as after a region has lost its power: at a real Keystone, and simulated.

``python region.py`` prints four tables.

1. Real: N hosts at one Keystone worker and one Placement, the gate's own code and a client each, settings as under
   systemd.  Keystone hashes passwords in 12 rounds, its default.  With ``--away 0 120`` they are measured a second time
   with a Keystone that is stopped first and comes back after so many seconds: by then all hosts are waiting.
2. One host alone, with the probe before its login and without, in turn.
3. Simulated: thousands of hosts, ours beside other ways.  Ours decides with the product's own functions.
4. Simulated: the same hosts at nova-conductor, with messages that expire and without.
"""

import argparse
import logging
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))

import anyio  # noqa: E402 - the tests' own servers are used
import httpx  # noqa: E402 - same
import structlog  # noqa: E402 - same

from bringup.placement.keystone import KeystoneAuth  # noqa: E402 - same
from support import simulated_conductors  # noqa: E402 - same
from support.keystone import Cloud, start_cloud  # noqa: E402 - same
from support.region import Region, an_identity  # noqa: E402 - same
from support.simulated_region import WAYS, simulate  # noqa: E402 - same

ALONE = 8
"""Logins that are measured before the hosts start, one after the other."""
OUTAGES_S = (0.0, 600.0)
GUESTS = 30
SEED = 1


def size(text: str) -> tuple[int, int]:
    """Parse hosts and workers, as in ``1000x6``."""
    hosts, _, workers = text.partition("x")
    return int(hosts), int(workers)


SIZES = [size(text) for text in ("1000x6", "1000x24", "1000x96", "10000x6", "10000x24", "10000x96")]
CELLS = [size(text) for text in ("1000x2", "1000x3", "1000x6")]


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Print a table, each row as soon as it is there."""
    columns = list(head)
    for row in chain((columns, ["---"] * len(columns)), rows):
        print(f"| {' | '.join(map(str, row))} |", flush=True)
    print(flush=True)


def seconds(value: float | None) -> str:
    """Return a time, or that there was none."""
    return "never" if value is None else f"{value:.1f} s"


def cpu_s(cloud: Cloud) -> float:
    """Return the CPU seconds that the threads of Keystone have used."""
    assert cloud.keystone is not None  # noqa: S101 - it is one's own
    threads = Path(f"/proc/{cloud.keystone.pid}/task").glob("*/schedstat")
    return sum(int(thread.read_text(encoding="ascii").split()[0]) for thread in threads) / 1e9


def login_s(cloud: Cloud) -> float:
    """Return the CPU seconds of a login to a Keystone that does nothing else."""
    before = cpu_s(cloud)
    for _ in range(ALONE):
        cloud.token()
    return (cpu_s(cloud) - before) / ALONE


REAL = (
    "hosts",
    "Keystone away",
    "passed",
    "exits with 69",
    "logins a host",
    "probes a host",
    "half passed after",
    "all passed after",
    "all / CPU time of the logins",
    "Keystone's CPU time / that of the logins",
)


async def power_on(cloud: Cloud, hosts: int, away_s: float, options: argparse.Namespace) -> list[object]:
    """Start all hosts of a real region; return the row."""
    alone_s = login_s(cloud)
    region = Region(cloud=cloud, hosts=hosts, spread_s=options.spread)
    before: list[float] = []

    def begin() -> None:
        before.append(cpu_s(cloud))

    async with anyio.create_task_group() as group:
        if away_s:
            await anyio.to_thread.run_sync(cloud.stop_keystone)
            group.start_soon(_come_back, cloud, away_s, begin)
        else:
            begin()
        await region.power_on(options.limit)
    used_s, times = cpu_s(cloud) - before[0], sorted(region.passed_after_s)
    all_s = times[-1] - away_s if len(times) == hosts else None
    return [
        hosts,
        f"{away_s:g} s",
        len(times),
        region.exits[os.EX_UNAVAILABLE],
        f"{region.logins / hosts:.2f}",
        f"{region.probes / hosts:.1f}",
        seconds(times[len(times) // 2] - away_s if times else None),
        seconds(all_s),
        "-" if all_s is None else f"{all_s / (alone_s * hosts):.2f}",
        f"{used_s / (alone_s * hosts):.2f}",
    ]


async def _come_back(cloud: Cloud, away_s: float, begin: Callable[[], None]) -> None:
    await anyio.sleep(away_s)
    await anyio.to_thread.run_sync(cloud.start_keystone)
    begin()


class WithoutProbe(KeystoneAuth):
    """A client that logs in at once."""

    async def _probe(self, http: httpx.AsyncClient, *, insists: bool) -> None:
        """Do nothing."""


LATER = ("pairs of logins", "later with the probe, median", "mean", "CPU time of the host for it", "of Keystone")


async def alone(cloud: Cloud, pairs: int) -> list[object]:
    """Log in with and without the probe, in turn; return the row."""
    added: list[tuple[float, float, float]] = []
    for number in range(pairs):
        took = {
            kind: await _log_in(cloud, kind(an_identity(cloud)))
            for kind in (KeystoneAuth, WithoutProbe)[:: 1 if number % 2 else -1]
        }
        added.append(tuple(1000 * (a - b) for a, b in zip(took[KeystoneAuth], took[WithoutProbe], strict=True)))  # type: ignore[arg-type]
    walls, own, keystones = zip(*added, strict=True)
    middles = (statistics.median(walls), statistics.fmean(walls), statistics.median(own), statistics.median(keystones))
    return [pairs, *(f"{value:.1f} ms" for value in middles)]


async def _log_in(cloud: Cloud, auth: KeystoneAuth) -> tuple[float, float, float]:
    """Return the seconds of a login: wall, CPU time of this process, CPU time of Keystone."""
    async with httpx.AsyncClient(trust_env=False, timeout=60) as http:
        before = time.perf_counter(), time.process_time(), cpu_s(cloud)
        await auth.log_in(http, insists=True)
        after = time.perf_counter(), time.process_time(), cpu_s(cloud)
    return (after[0] - before[0], after[1] - before[1], after[2] - before[2])


SIMULATED = (
    "hosts",
    "workers",
    "Keystone away",
    "way",
    "passed",
    "ideal",
    "all passed after",
    "/ ideal",
    "longest wait of others",
    "longest refusal",
    "logins a host",
    "probes a host",
    "exits with 69",
    "work for nobody",
)


def ways(sizes: Iterable[tuple[int, int]], limit_s: float) -> Iterable[list[object]]:
    """Simulate every way; return the rows."""
    for hosts, workers in sizes:
        for outage_s in OUTAGES_S:
            for way in WAYS:
                found = simulate(way, hosts, workers, outage_s=outage_s, limit_s=limit_s, seed=SEED)
                yield [
                    hosts,
                    workers,
                    f"{outage_s / 60:g} min",
                    way.name,
                    found.passed,
                    seconds(found.ideal_s),
                    seconds(found.all_s),
                    "-" if found.times_ideal is None else f"{found.times_ideal:.2f}",
                    seconds(found.longest_queue_s),
                    seconds(found.longest_refusal_s),
                    f"{found.logins_per_host:.2f}",
                    f"{found.probes_per_host:.1f}",
                    found.exits,
                    f"{found.wasted:.0%}",
                ]


CONDUCTORS = (
    "hosts",
    "workers",
    "messages expire",
    "ideal",
    "all back after",
    "work for nobody",
    "longest wait",
    "failed",
)


def cells(sizes: Iterable[tuple[int, int]]) -> Iterable[list[object]]:
    """Simulate hosts at nova-conductor; return the rows."""
    for hosts, workers in sizes:
        for expires in (False, True):
            found = simulated_conductors.simulate(hosts, GUESTS, workers, expires=expires, seed=SEED)
            yield [
                hosts,
                workers,
                "yes" if expires else "no",
                seconds(found.ideal_s),
                seconds(found.all_s),
                f"{found.wasted:.0%}",
                seconds(found.longest_queue_s),
                found.failed,
            ]


def options_of(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, nargs="*", default=[40, 120, 250], help="real ones; none: nothing is real")
    parser.add_argument("--away", type=float, nargs="+", default=[0.0], help="seconds until Keystone is there")
    parser.add_argument("--spread", type=float, default=5.0, help="seconds over which real hosts begin")
    parser.add_argument("--rounds", type=int, default=12, help="of bcrypt; Keystone's default is 12")
    parser.add_argument("--limit", type=float, default=900.0, help="seconds after which real hosts are given up")
    parser.add_argument("--pairs", type=int, default=60, help="logins of one host alone")
    parser.add_argument("--simulate", type=size, nargs="*", default=SIZES, help="hosts and workers, as 1000x6")
    parser.add_argument("--simulate-limit", type=float, default=300.0, help="seconds after which it is given up")
    parser.add_argument("--conductors", type=size, nargs="*", default=CELLS, help="the same for nova-conductor")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> None:
    """Print all tables."""
    options = options_of(arguments)
    # The program that embeds the client decides on its log.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    if options.hosts:
        cloud = start_cloud(rounds=options.rounds, looks_up_each_time=False)
        real = (
            anyio.run(power_on, cloud, hosts, away_s, options) for away_s in options.away for hosts in options.hosts
        )
        table(REAL, real)
        # With few rounds: what is measured is a thousandth of a second.
        quick = start_cloud(rounds=4)
        table(LATER, [anyio.run(alone, quick, options.pairs)])
    if options.simulate:
        table(SIMULATED, ways(options.simulate, options.simulate_limit))
    if options.conductors:
        table(CONDUCTORS, cells(options.conductors))


if __name__ == "__main__":
    main(sys.argv[1:])
