"""Whether somebody serves a network disk.  Blocks."""

import errno
import socket
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

from bringup.drivers.libvirt.guest_needs.evidence import Sight
from bringup.drivers.libvirt.guest_needs.rules.definition import Server, Source
from bringup.drivers.libvirt.guest_needs.rules.verdicts import need
from bringup.drivers.needs import MetBy, Need, NeedKind

ANSWERS_S: Final = 1.5
NOT_TOLD: Final = (errno.EACCES, errno.EPERM)


def knock(address: str | tuple[str, int], *, speaks_first: bool) -> str:
    """Say what is wrong with the server at an address, a host and a port or the path of a socket; "" for nothing."""
    try:
        with _connect(address) as connection:
            if not speaks_first or connection.recv(1):
                return ""
            why = "it hangs up"
    except TimeoutError:
        why = "no answer in time"
    except (UnicodeError, OverflowError):
        why = "no name of a host, or no port"
    except OSError as error:
        if error.errno in NOT_TOLD:
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
"""Protocols that find their servers without the definition: in ``ceph.conf``, on this host."""
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
"""Protocols whose servers greet: one that accepts and is silent hangs."""


def network(sight: Sight, source: Source) -> Need:
    """Judge a network disk: one of its servers must answer."""
    name = f"{source.protocol}:{source.name}"
    if not source.servers and source.protocol not in NO_SERVER:
        why = "no server is named that it is read from"
        return need(NeedKind.DISK, name, met_by=MetBy.PERSON, unverified=why)
    if not sight.sees_host or sight.told.active or not source.servers:
        # What a guest that runs is served may be for one client alone; a container may not reach what its host does.
        return need(NeedKind.DISK, name)
    first, *others = source.servers[:MOST_SERVERS]
    silent = [_asked(sight, source.protocol, first)]
    if silent[0] and others:
        # All at once: several that are silent would take longer than a look may.
        with ThreadPoolExecutor(len(others)) as threads:
            silent += threads.map(partial(_asked, sight, source.protocol), others)
    if not all(silent):
        return need(NeedKind.DISK, name)
    why = "its storage does not answer: " + "; ".join(silent)
    if len(source.servers) > MOST_SERVERS:
        return need(NeedKind.DISK, name, unverified=f"{why}; the others were not asked")
    return need(NeedKind.DISK, name, absent=why)


def _asked(sight: Sight, protocol: str, server: Server) -> str:
    return sight.host.kept(f"server {protocol} {server}", partial(_knock, sight, protocol, server))


def _knock(sight: Sight, protocol: str, server: Server) -> str:
    """Say why none of the addresses of a server answers; "" where one does, or none is known."""
    ports = (server.port,) if server.port else PORTS.get(protocol, ())
    addresses = [server.socket] if server.socket else [(server.name, port) for port in ports if server.name]
    silent = []
    for address in addresses:
        sight.host.at = address if isinstance(address, str) else f"{address[0]}:{address[1]}"
        silent.append(knock(address, speaks_first=protocol in SPEAK_FIRST))
        if not silent[-1]:
            return ""
    return ", ".join(silent)
