"""``make bench-openstack``: a host of a real OpenStack is brought back, by us and by Nova's own loop, and one table.

Both have the same number of instances on hosts of one cloud: all were running, their guests are off, a few in the
middle of a reboot or of a stop.  Records come through one real nova-conductor (SQLite, one thread); each call of the
hypervisor takes as long as is said.  The floor is what the conductor needs for our requests alone.  Arguments: how many
instances, seconds of a driver call, instances at once.
"""

import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import structlog

from bringup.daemon.decisions.instances import Expected
from bringup.daemon.decisions.states import PowerState, TaskState, VmState
from bringup.daemon.openstack.conductor import NovaConductorStore
from bringup.daemon.openstack.rpc.client import open_rpc
from bringup.drivers.simulated import SimulatedGuest
from support.nova import Nova, a_nova
from support.openstack import CloudHost, a_cloud_host

COUNT, LATENCY_S, LIMIT = 1000, 0.05, 16
CRASHED = {3: "reboot_started_hard", 23: "powering-off"}
PROBES = 200
RESUMES = "resume_guests_state_on_host_boot = true"


@dataclass(frozen=True, slots=True)
class Took:
    """Cost of one way to bring all instances back."""

    wall_s: float
    requests: int


def filled(nova: Nova, directory: Path, count: int) -> tuple[CloudHost, list[str]]:
    """Run a host with ``count`` instances whose guests are off."""
    directory.mkdir()
    host = a_cloud_host(nova, directory, resume={"guests": "on_every_start"}, driver={"handle_lifecycle_events": False})
    instances = [host.instance(number, task_state=CRASHED.get(number % 40)) for number in range(count)]
    for start in range(0, count, 250):
        nova.make(*instances[start : start + 250])
    return host, [one["uuid"] for one in instances]


def ours(host: CloudHost, uuids: list[str], latency_s: float, limit: int) -> Took:
    """Run ``bringup run --once``, from the start of the process to its end."""
    guests = [SimulatedGuest(uuid=each, name=each, power_state=PowerState.SHUTDOWN) for each in uuids]
    host.guests(guests, latency={"default": latency_s})
    host.computer.having(limits={"concurrency": limit, "instance_deadline": 600, "host_deadline": 300})
    began = time.monotonic()
    ended = host.computer.run()
    took = time.monotonic() - began
    if ended.code != 0:
        raise SystemExit(ended.out[-2000:] + ended.err)
    [end], [closed] = ended.named("run.ended"), ended.named("rpc.closed")
    if end["initialized"] != len(uuids):
        raise SystemExit(f"not all were initialized: {end}")
    return Took(took, closed["requests"])


def novas(nova: Nova, host: CloudHost, uuids: list[str], latency_s: float) -> tuple[Took, int]:
    """Run ``ComputeManager.init_host``, without the start of the process; return its calls of the hypervisor too."""
    powers = dict.fromkeys(uuids, PowerState.SHUTDOWN.value)
    started = nova.start_compute(host.name, host.node, powers, latency_s=latency_s, default=RESUMES)
    if started.error is not None:
        raise SystemExit(started.error)
    return Took(started.took_s, len(started.calls)), len(started.verbs)


async def conductor_limits(nova: Nova, host: CloudHost, uuids: list[str]) -> dict[str, float]:
    """Measure operations per second of the conductor: instances loaded, smallest requests, saves."""
    async with open_rpc(nova.broker.broker(), in_flight=16, deadline_s=120) as rpc:
        store = NovaConductorStore(rpc)
        began = time.monotonic()
        await store.load_instances(host.name)
        loaded = time.monotonic() - began
        some = uuids[:PROBES]

        async def save(uuid: str) -> None:
            expected = Expected((VmState.ACTIVE,), (None, *TaskState))
            await store.save(uuid, {"power_state": PowerState.RUNNING}, expected=expected)

        return {
            "instances loaded": len(uuids) / loaded,
            "smallest requests": await _rate(lambda _: store.list_uuids("nobody"), some),
            "saves": await _rate(save, some),
        }


async def _rate(work: Callable[[str], Coroutine[Any, Any, object]], uuids: list[str]) -> float:
    began = time.monotonic()
    async with anyio.create_task_group() as group:
        for uuid in uuids:
            group.start_soon(work, uuid)
    return len(uuids) / (time.monotonic() - began)


def report(mine: Took, peer: Took, count: int, ideal_s: float) -> Iterator[str]:
    """Return the lines of the table."""
    for name, took in (("bringup run", mine), ("Nova's loop", peer)):
        yield f"{name:12} {took.wall_s:8.1f} s {took.requests:6} requests ({took.requests / count:.2f} an instance)"
    yield f"Nova's loop / bringup run, wall: {peer.wall_s / mine.wall_s:.1f}"
    yield f"Nova's loop / bringup run, requests: {peer.requests / mine.requests:.1f}"
    yield f"bringup run / the calls of the hypervisor side by side ({ideal_s:.1f} s): {mine.wall_s / ideal_s:.2f}"


def main() -> None:
    """Measure both ways in one run, and print the table."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("warning"))
    given = dict(enumerate(sys.argv[1:]))
    count, latency_s, limit = int(given.get(0, COUNT)), float(given.get(1, LATENCY_S)), int(given.get(2, LIMIT))
    print(
        f"{count} instances, {latency_s:g} s a driver call, {limit} at once; load {os.getloadavg()[0]:.1f}", flush=True
    )
    with tempfile.TemporaryDirectory() as name:
        nova = a_nova()
        host, uuids = filled(nova, Path(name) / "ours", count)
        other, others = filled(nova, Path(name) / "novas", count)
        for what, rate in anyio.run(conductor_limits, nova, host, uuids).items():
            print(f"nova-conductor alone: {rate:.0f} {what} a second", flush=True)
        mine = ours(host, uuids, latency_s, limit)
        peer, calls = novas(nova, other, others, latency_s)
        for line in report(mine, peer, count, calls * latency_s / limit):
            print(line)
        nova.close()
        nova.broker.stop(signal.SIGKILL)


if __name__ == "__main__":
    main()
