"""Many hosts at one real Keystone and one real Placement: the gate's own code, as after a region has lost its power.

``python region.py [--hosts N] [--spread SECONDS] [--away SECONDS] [--rounds N] [--limit SECONDS]`` prints one JSON
object.  Keystone has one worker, and hashes passwords in 12 rounds, which is its own default.  Each host has a client
of its own and the gate's settings under systemd (``placement.wait`` an hour), and begins at some time of the spread.
With ``--away`` Keystone is stopped first, and comes back after so long: by then all hosts are waiting.
"""

import argparse
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))

import logging  # noqa: E402 - the tests' own servers are used

import anyio  # noqa: E402 - same
import structlog  # noqa: E402 - same

from bringup.placement.client import connect  # noqa: E402 - same
from bringup.placement.credentials import Identity, Named, Password  # noqa: E402 - same
from bringup.placement.errors import PlacementError  # noqa: E402 - same
from bringup.placement.gate import pass_gate  # noqa: E402 - same
from bringup.placement.keystone import KeystoneAuth  # noqa: E402 - same
from support.keystone import PASSWORD, Cloud, start_cloud  # noqa: E402 - same

WAIT_S = 3600.0
"""``placement.wait`` under systemd."""
RESTART_S = 15.0
"""``RestartSec=`` of the unit, which follows an exit with 69."""
ALONE = 8
"""Logins that are measured before the hosts begin, one after the other."""


@dataclass(kw_only=True)
class Region:
    """What is asked of a Keystone, and what comes of it."""

    cloud: Cloud
    hosts: int
    spread_s: float
    passed_after_s: list[float] = field(default_factory=list)
    exits: Counter[int] = field(default_factory=Counter)
    knocks: int = 0
    logins: int = 0

    async def power_on(self, limit_s: float) -> None:
        """Start all hosts; return when each has passed, or when the limit is reached."""
        self._began = time.monotonic()
        with anyio.move_on_after(limit_s):
            async with anyio.create_task_group() as group:
                for number in range(self.hosts):
                    group.start_soon(self._start, f"region-{number}")

    async def _start(self, name: str) -> None:
        await anyio.sleep(random.uniform(0, self.spread_s))  # noqa: S311 - no secret
        while True:
            if await self._life(name):
                return
            await anyio.sleep(RESTART_S)

    async def _life(self, name: str) -> bool:
        """Pass the gate as one process does; tell whether it did."""
        auth = KeystoneAuth(an_identity(self.cloud))
        try:
            async with connect(self.cloud.placement_url, auth=auth) as client:
                await pass_gate(client, provider=name, wait_s=WAIT_S, create=True)
        except PlacementError:
            self.exits[os.EX_UNAVAILABLE] += 1
            return False
        finally:
            self.knocks += auth.knocks
            self.logins += auth.logins
        self.passed_after_s.append(time.monotonic() - self._began)
        return True


def an_identity(cloud: Cloud) -> Identity:
    """Give the administrator."""
    method = Password(user=Named(name="admin"), secret=PASSWORD)
    return Identity(auth_url=cloud.auth_url, method=method, project=Named(name="admin"))


def cpu_s(cloud: Cloud) -> float:
    """Give the CPU seconds that Keystone has used."""
    assert cloud.keystone is not None  # noqa: S101 - it is one's own
    fields = Path(f"/proc/{cloud.keystone.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def login_s(cloud: Cloud) -> float:
    """Give the CPU seconds of a login to a Keystone that does nothing else."""
    before = cpu_s(cloud)
    for _ in range(ALONE):
        cloud.token()
    return (cpu_s(cloud) - before) / ALONE


async def measure(cloud: Cloud, options: argparse.Namespace) -> dict[str, Any]:
    """Have the region power on; give the figures."""
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
        "knocks_per_host": round(region.knocks / options.hosts, 2),
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
    # Whoever embeds the client decides on its log.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    cloud = start_cloud(rounds=options.rounds, looks_up_each_time=False)
    return anyio.run(measure, cloud, options)


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:])))
