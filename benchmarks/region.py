"""Many hosts at one real Keystone and one real Placement: the gate's own code, as after a region has lost its power.

``python region.py [--hosts N] [--spread SECONDS] [--away SECONDS] [--rounds N] [--limit SECONDS]`` prints one JSON
object.  Keystone has one worker, and hashes passwords in 12 rounds, which is its own default.  Each host has a client
of its own and the gate's settings under systemd (``placement.wait`` an hour), and begins at some time of the spread.
With ``--away`` Keystone is stopped first, and comes back after so long: by then all hosts are waiting.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))

import logging  # noqa: E402 - the tests' own servers are used

import anyio  # noqa: E402 - same
import structlog  # noqa: E402 - same

from support.keystone import Cloud, start_cloud  # noqa: E402 - same
from support.region import Region  # noqa: E402 - same

ALONE = 8
"""Logins that are measured before the hosts start, one after the other."""


def cpu_s(cloud: Cloud) -> float:
    """Return the CPU seconds that Keystone has used."""
    assert cloud.keystone is not None  # noqa: S101 - it is one's own
    fields = Path(f"/proc/{cloud.keystone.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def login_s(cloud: Cloud) -> float:
    """Return the CPU seconds of a login to a Keystone that does nothing else."""
    before = cpu_s(cloud)
    for _ in range(ALONE):
        cloud.token()
    return (cpu_s(cloud) - before) / ALONE


async def measure(cloud: Cloud, options: argparse.Namespace) -> dict[str, Any]:
    """Start all hosts of the region; return the figures."""
    alone_s = login_s(cloud)
    region = Region(cloud=cloud, hosts=options.hosts, spread_s=options.spread)
    before: list[float] = []

    def begin() -> None:
        before.append(cpu_s(cloud))

    async with anyio.create_task_group() as group:
        if options.away:
            await anyio.to_thread.run_sync(cloud.stop_keystone)
            group.start_soon(_come_back, cloud, options.away, begin)
        else:
            begin()
        await region.power_on(options.limit)
    used_s = cpu_s(cloud) - before[0]
    times = sorted(region.passed_after_s)
    return {
        "hosts": options.hosts,
        "away_s": options.away,
        "passed": len(times),
        "exits_with_69": region.exits[os.EX_UNAVAILABLE],
        "logins_per_host": round(region.logins / options.hosts, 3),
        "probes_per_host": round(region.probes / options.hosts, 2),
        "half_passed_after_s": round(times[len(times) // 2], 1) if times else None,
        "all_passed_after_s": round(times[-1], 1) if len(times) == options.hosts else None,
        "keystone_cpu_s": round(used_s, 1),
        "login_cpu_s": round(alone_s, 4),
        "cpu_of_logins_alone": round(used_s / (alone_s * options.hosts), 3),
    }


async def _come_back(cloud: Cloud, away_s: float, begin: Callable[[], None]) -> None:
    await anyio.sleep(away_s)
    await anyio.to_thread.run_sync(cloud.start_keystone)
    begin()


def options_of(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=120)
    parser.add_argument("--spread", type=float, default=5.0, help="seconds over which the hosts begin")
    parser.add_argument("--away", type=float, default=0.0, help="seconds until Keystone is there")
    parser.add_argument("--rounds", type=int, default=12, help="of bcrypt; Keystone's default is 12")
    parser.add_argument("--limit", type=float, default=900.0, help="seconds after which it is given up")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> dict[str, Any]:
    """Measure once."""
    options = options_of(arguments)
    # The program that embeds the client decides on its log.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    cloud = start_cloud(rounds=options.rounds, looks_up_each_time=False)
    return anyio.run(measure, cloud, options)


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:])))
