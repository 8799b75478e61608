"""Many hosts that start at the same time: the gate's own code, a client each, one Keystone and one Placement."""

import os
import random
import time
from collections import Counter
from dataclasses import dataclass, field

import anyio

from bringup.placement.client import connect
from bringup.placement.credentials import Login, Named, Password
from bringup.placement.errors import PlacementError
from bringup.placement.gate import pass_gate
from bringup.placement.keystone import KeystoneAuth
from support.keystone import PASSWORD, Cloud

WAIT_S = 3600.0
"""``placement.wait`` under systemd."""
RESTART_S = 15.0
"""``RestartSec=`` of the unit, which follows an exit with 69."""


@dataclass(kw_only=True)
class Region:
    """What is asked of them, and what comes of it."""

    cloud: Cloud
    hosts: int
    spread_s: float
    """Over so many seconds they begin."""
    read_timeout_s: float = 10.0
    passed_after_s: list[float] = field(default_factory=list)
    """Seconds, of each host that did, from when the first could begin."""
    exits: Counter[int] = field(default_factory=Counter)
    """Codes that the processes end with."""
    probes: int = 0
    logins: int = 0
    _began: float = 0.0

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
            async with connect(self.cloud.placement_url, auth=auth, read_timeout_s=self.read_timeout_s) as client:
                await pass_gate(client, provider=name, wait_s=WAIT_S, create=True)
        except PlacementError:
            self.exits[os.EX_UNAVAILABLE] += 1
            return False
        finally:
            self.probes += auth.probes
            self.logins += auth.logins
        self.passed_after_s.append(time.monotonic() - self._began)
        return True


def an_identity(cloud: Cloud) -> Login:
    """Return the administrator."""
    method = Password(user=Named(name="admin"), secret=PASSWORD)
    return Login(auth_url=cloud.auth_url, method=method, project=Named(name="admin"))
