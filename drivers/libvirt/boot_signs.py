"""What guests that boot show: libvirt's counters of their vCPUs, disks and NICs, and the state of their agents."""

from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any, Final

from bringup.drivers.base import BootCounters, BootSigns
from bringup.drivers.libvirt.binding import Connection, Domain
from bringup.drivers.libvirt.definitions import agent_state

NANOSECOND: Final = 1e-9


def signs_of(connection: Connection, uuids: Collection[str], libvirt: Any) -> dict[str, BootSigns]:
    """Read them for the guests that run.

    :raises libvirtError: they cannot be read, or this hypervisor has none.
    """
    domains: list[Domain] = []
    for uuid in uuids:
        with suppress(libvirt.libvirtError):  # it is gone
            domains.append(connection.lookupByUUIDString(uuid))
    if not domains:
        return {}
    which = libvirt.VIR_DOMAIN_STATS_VCPU | libvirt.VIR_DOMAIN_STATS_BLOCK | libvirt.VIR_DOMAIN_STATS_INTERFACE
    # Of a guest whose QEMU does not answer there is less, and the others do not wait for it.
    flags = libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE | libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT
    signs = {}
    for domain, stats in connection.domainListGetStats(domains, which, flags):
        with suppress(libvirt.libvirtError):
            signs[domain.UUIDString()] = BootSigns(counters_of(stats), agent_state(domain.XMLDesc()))
    return signs


def counters_of(stats: Mapping[str, Any]) -> BootCounters:
    """Return the sums over all vCPUs, disks and NICs; what this libvirt does not count is 0."""

    def total(group: str, key: str, number: str = "count") -> int:
        return sum(int(stats.get(f"{group}.{each}.{key}", 0)) for each in range(int(stats.get(f"{group}.{number}", 0))))

    return BootCounters(
        run_s=total("vcpu", "time", "current") * NANOSECOND,
        delay_s=total("vcpu", "delay", "current") * NANOSECOND,
        reads=total("block", "rd.reqs"),
        read_s=total("block", "rd.times") * NANOSECOND,
        sent=total("net", "tx.pkts"),
    )
