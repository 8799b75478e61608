"""Sockets of the endpoint: a UNIX socket with just the mode that is set, and a TCP address.

The path of a UNIX socket is at most 107 bytes; ``/proc/self/fd`` makes any path short enough, on both sides.
"""

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bringup.daemon.errors import SettingsError

BACKLOG = 1024
"""Connections that wait while the process that answers is started, or has no slot."""
IP_FREEBIND = 15  # linux/in.h; Python has no name for it before 3.12


@contextmanager
def short(path: Path) -> Iterator[str]:
    """Return a short name of ``path``, for as long as the block lasts.

    :raises OSError: there is no such folder.
    """
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


CLIENT = "bringup"
"""The ``Host`` that our own client sends to the UNIX socket."""


def listen_unix(path: Path, mode: int) -> socket.socket:
    """Listen at a path; no other process listens there: the caller holds the lock of this host.

    :raises OSError: it cannot be made.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # Before it has a name: it is never open to more users than this.
        os.fchmod(listener.fileno(), mode)
        with short(path) as name:
            if path.is_socket():
                Path(name).unlink()
            listener.bind(name)
            Path(name).chmod(mode)  # the umask may have removed bits
        listener.listen(BACKLOG)
        listener.settimeout(0)
    except BaseException:
        listener.close()
        raise
    return listener


NOT_ALLOWED = (
    "the unit of the daemon does not allow port {port}: write SocketBindAllow=tcp:{port} below [Service] into "
    "/etc/systemd/system/bringup.service.d/port.conf, then systemctl daemon-reload"
)
WHY_NOT = {
    errno.EADDRINUSE: "another process listens there; set a free address and port",
    errno.EPERM: NOT_ALLOWED,
    errno.EACCES: f"{NOT_ALLOWED}; below 1024 it needs CAP_NET_BIND_SERVICE too: set a higher one",
}


def listen_tcp(address: str) -> socket.socket:
    """Listen at an address; it need not be there yet: a booting host's network may come later.

    :raises SettingsError: another process listens there, or the address may not be used.
    """
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
        if listener.family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((host, int(port)))
        listener.listen(BACKLOG)
        listener.settimeout(0)
    except OSError as error:
        listener.close()
        why = WHY_NOT.get(error.errno or 0, f"{error.strerror}; set a free address and port")
        raise SettingsError([f'status.listen = "{address}": cannot listen: {why.format(port=port)}']) from error
    return listener


def remove(path: Path) -> None:
    """Remove the name of a socket, if it is still there."""
    with suppress(OSError):
        path.unlink(missing_ok=True)
