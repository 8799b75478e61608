"""Packet filter of many guests, with the real nft in a network namespace of its own."""

import ctypes
import os
import time
from typing import Any

import anyio
from hosts import uuid_of

from bringup.daemon.decisions.instances import Instance
from bringup.daemon.decisions.states import VmState
from bringup.drivers.network.host import make_host_network

CLONE_NEWNET = 0x40000000
# Those of Neutron's default group, and one port.
RULES = (
    {"direction": "egress", "ethertype": "IPv4"},
    {"direction": "egress", "ethertype": "IPv6"},
    {"direction": "ingress", "ethertype": "IPv4", "remote_ip_prefix": "10.0.0.0/16"},
    {"direction": "ingress", "ethertype": "IPv4", "protocol": "tcp", "port_range_min": 22, "port_range_max": 22},
)


def guest(number: int) -> Instance:
    """Return an instance with one NIC on a Linux bridge."""
    ip = {"address": f"10.0.{number >> 8}.{number & 255}", "type": "fixed"}
    vif = {
        "id": uuid_of(number),
        "address": f"fa:16:3e:00:{number >> 8:02x}:{number & 255:02x}",
        "type": "bridge",
        "devname": f"tap{number}",
        "network": {"bridge": "br0", "subnets": [{"ips": [ip]}]},
        "security_group_rules": RULES,
    }
    return Instance(uuid=uuid_of(number), host="compute-1", vm_state=VmState.ACTIVE, network_info=(vif,))


def cpu_s() -> float:
    """Return the CPU seconds of this process and of its children that have ended."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def filters(count: int, how: str) -> dict[str, Any]:
    """Apply the rules of all guests; return wall seconds, and CPU seconds of ours with those of nft.

    ``serially``: one after the other, a transaction each.  ``at_once``: eight at a time, which share transactions.
    ``deferred``: between filter_defer_apply_on and off, in one transaction.
    """
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), "a network namespace")
    guests = [guest(number) for number in range(1, count + 1)]

    async def measured() -> dict[str, Any]:
        network = make_host_network(plugs=False, filters=True)
        await network.check([])
        eight = anyio.CapacityLimiter(8)

        async def ensure(one: Instance) -> None:
            async with eight:
                await network.ensure_filtering_rules_for_instance(one)

        began, began_cpu = time.perf_counter(), cpu_s()
        if how == "deferred":
            await network.filter_defer_apply_on()
        if how == "at_once":
            async with anyio.create_task_group() as tasks:
                for one in guests:
                    tasks.start_soon(ensure, one)
        else:
            for one in guests:
                await network.ensure_filtering_rules_for_instance(one)
        if how == "deferred":
            await network.filter_defer_apply_off()
        took, spent = time.perf_counter() - began, cpu_s() - began_cpu
        listed = await anyio.run_process(["nft", "list", "table", "bridge", "bringup"])
        assert listed.stdout.count(b"chain from.") == count  # noqa: S101 - a benchmark that lost rules measures nothing
        return {"wall_s": took, "cpu_s": spent}

    return anyio.run(measured)
