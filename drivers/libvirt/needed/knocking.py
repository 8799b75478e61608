"""Whether somebody serves a network disk: connect, hear the greeting, hang up.  Blocks.

To a server that is an interrupted port scan: QEMU's and nbdkit's, Ceph's and LIO go on (QEMU since 2.10).
"""

import errno
import socket
from typing import Final

ANSWERS_S: Final = 1.5
NOT_TOLD: Final = (errno.EACCES, errno.EPERM)


def knock(address: str | tuple[str, int], *, speaks_first: bool) -> str:
    """Say what is wrong with the server at an address, a host and a port or the path of a socket; "" for nothing."""
    try:
        with _connected(address) as connection:
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


def _connected(address: str | tuple[str, int]) -> socket.socket:
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
