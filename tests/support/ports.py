"""Ports for servers that are told theirs before they listen."""

import contextlib
import secrets
import socket

# Below those that the system gives out by itself (net.ipv4.ip_local_port_range): no client, and no other server that
# asks for any port, gets one of them between the choice and the server's start.
FIRST, COUNT = 20_000, 12_000
_given: set[int] = set()


def free_ports(count: int) -> list[int]:
    """Return ports that nobody has now, each once in this process."""
    with contextlib.ExitStack() as held:
        ports: list[int] = []
        while len(ports) < count:
            port = FIRST + secrets.randbelow(COUNT)
            if port in _given:
                continue
            with contextlib.suppress(OSError):
                held.enter_context(socket.create_server(("127.0.0.1", port)))
                ports.append(port)
                _given.add(port)
        return ports


def free_port() -> int:
    """Return a port that nobody has now."""
    return free_ports(1)[0]
