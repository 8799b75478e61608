"""What guests that boot show: libvirt's counters of their vCPUs, disks and NICs, and the state of their agents."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from bringup.drivers.base import BootCounters, BootSigns
from bringup.drivers.libvirt.binding import Connection, Domain
from bringup.drivers.libvirt.running_devices import DevicesReader

NANOSECOND: Final = 1e-9


def signs_of(
    connection: Connection, uuids: Collection[str], devices: DevicesReader, libvirt: Any
) -> dict[str, BootSigns]:
    """Read them for the guests that run.

    :raises libvirtError: they cannot be read, or this hypervisor has none.
    """
    signs = {}
    running = libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE
    for domain, stats in stats_of(connection, uuids, libvirt, which=running):
        with unless_gone(libvirt):
            signs[domain.UUIDString()] = BootSigns(counters_of(stats), devices.of(domain).agent)
    return signs


@contextmanager
def unless_gone(libvirt: Any) -> Iterator[None]:
    """Ignore that a guest is gone by now; a connection that is lost says that of none."""
    try:
        yield
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
            raise


def stats_of(
    connection: Connection, uuids: Collection[str], libvirt: Any, *, which: int = 0
) -> Sequence[tuple[Domain, Mapping[str, Any]]]:
    """Return libvirt's state and counters of the guests that are there; ``which``: of those alone.

    :raises libvirtError: they cannot be read, or this hypervisor has none.
    """
    domains: list[Domain] = []
    for uuid in uuids:
        with unless_gone(libvirt):
            domains.append(connection.lookupByUUIDString(uuid))
    if not domains:
        return []
    groups = sum(getattr(libvirt, f"VIR_DOMAIN_STATS_{each}") for each in ("STATE", "VCPU", "BLOCK", "INTERFACE"))
    # Of a guest whose QEMU does not answer there is less, and the others do not wait for it.
    return connection.domainListGetStats(domains, groups, libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT | which)


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
