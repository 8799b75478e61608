"""Servers of network disks: whether one of them answers.  Blocks.

A probe connects, waits for the greeting and disconnects.  To a server that is an interrupted port scan: QEMU's and
nbdkit's, Ceph's and LIO continue (QEMU since 2.10).
"""

import errno
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final

from bringup.drivers.libvirt.guest_needs.evidence import Evidence
from bringup.drivers.libvirt.guest_needs.host import HostFiles
from bringup.drivers.libvirt.guest_needs.rules.definition import Server, Source
from bringup.drivers.libvirt.guest_needs.rules.verdicts import need
from bringup.drivers.needs import MetBy, Need, NeedKind

ANSWERS_S: Final = 1.5
NOT_PERMITTED: Final = (errno.EACCES, errno.EPERM)


def probe(address: str | tuple[str, int], *, speaks_first: bool) -> str:
    """Return what is wrong with the server at an address (host and port, or path of a socket); "" if it answers."""
    try:
        with _connect(address) as connection:
            if not speaks_first or connection.recv(1):
                return ""
            why = "it disconnects"
    except TimeoutError:
        why = "no answer in time"
    except (UnicodeError, OverflowError):
        why = "no name of a host, or no port"
    except OSError as error:
        if error.errno in NOT_PERMITTED:
            return ""
        why = error.strerror or "it cannot be reached"
    return f"{address if isinstance(address, str) else f'{address[0]}:{address[1]}'}: {why}"


def _connect(address: str | tuple[str, int]) -> socket.socket:
    if not isinstance(address, str):
        return socket.create_connection(address, timeout=ANSWERS_S)
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(ANSWERS_S)
        connection.connect(address)
    except OSError:
        connection.close()
        raise
    return connection


MOST_SERVERS: Final = 16
NO_SERVER: Final = frozenset({"rbd", "sheepdog"})
"""Protocols that need no server in the definition: it is in ``ceph.conf``, or this host."""
PORTS: Final = {
    "rbd": (3300, 6789),
    "nbd": (10809,),
    "iscsi": (3260,),
    "iser": (3260,),
    "gluster": (24007,),
    "http": (80,),
    "https": (443,),
    "ftp": (21,),
    "ftps": (990,),
    "ssh": (22,),
    "nfs": (2049,),
    "sheepdog": (7000,),
}
SPEAK_FIRST: Final = frozenset({"nbd", "rbd", "ssh"})
"""Protocols whose servers greet: one that accepts and sends nothing hangs."""


@dataclass(frozen=True, slots=True)
class DiskServers:
    """Origin of the need of a network disk: one of these servers must answer."""

    protocol: str
    servers: tuple[Server, ...]


def network_disk(evidence: Evidence, source: Source) -> Need:
    """Return the need of a network disk: one of its servers must answer."""
    name = f"{source.protocol}:{source.name}"
    if not source.servers and source.protocol not in NO_SERVER:
        why = "the definition names no server for it"
        return need(NeedKind.DISK, name, met_by=MetBy.PERSON, unverified=why)
    if not evidence.sees_host or evidence.libvirt.active or not source.servers:
        # A server may accept one client only, which a running guest is; a container may not reach what its host does.
        return need(NeedKind.DISK, name)
    first, *others = source.servers[:MOST_SERVERS]
    silent = [_cached_probe(evidence, source.protocol, first)]
    if silent[0] and others:
        # All at once: several silent ones would take longer than a check may.
        with ThreadPoolExecutor(len(others)) as threads:
            silent += threads.map(partial(_cached_probe, evidence, source.protocol), others)
    if not all(silent):
        return need(NeedKind.DISK, name)
    why = "its storage does not answer: " + "; ".join(silent)
    origin = DiskServers(source.protocol, source.servers[:MOST_SERVERS])
    if len(source.servers) > MOST_SERVERS:
        return need(NeedKind.DISK, name, unverified=f"{why}; the others were not probed", origin=origin)
    return need(NeedKind.DISK, name, absent=why, origin=origin)


def _cached_probe(evidence: Evidence, protocol: str, server: Server) -> str:
    return evidence.host.kept(f"server {protocol} {server}", partial(probe_server, evidence.host, protocol, server))


def probe_server(host: HostFiles, protocol: str, server: Server) -> str:
    """Return why none of the addresses of a server answers; "" if one does, or none is known."""
    ports = (server.port,) if server.port else PORTS.get(protocol, ())
    addresses = [server.socket] if server.socket else [(server.name, port) for port in ports if server.name]
    silent = []
    for address in addresses:
        host.at = address if isinstance(address, str) else f"{address[0]}:{address[1]}"
        silent.append(probe(address, speaks_first=protocol in SPEAK_FIRST))
        if not silent[-1]:
            return ""
    return ", ".join(silent)
