"""The datagrams of sd_notify(3): a socket that the service manager names, and lines of ``KEY=value``."""

import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bringup.daemon.status.systemd.messages import MICROSECONDS

# The manager reads all the time; one that does not must not delay the daemon.
SEND_S = 0.5


@dataclass(frozen=True, slots=True)
class Notifier:
    """Socket of a service manager that expects notifications."""

    address: str
    """The path of its socket; with ``@`` in front it is an abstract one."""
    watchdog_s: float | None = None
    """How soon after each ping it expects the next; None: it expects none."""

    def send(self, lines: Iterable[str]) -> bool:
        """Send lines as one message; return whether it was accepted."""
        message = "\n".join(lines).encode("utf-8", "replace")
        address = self.address.replace("@", "\0", 1) if self.address.startswith("@") else self.address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as end:
                end.settimeout(SEND_S)
                end.sendto(message, address)
        except OSError:
            return False
        return True


def from_environment(environment: Mapping[str, str], *, pid: int) -> Notifier | None:
    """Return the manager that the environment of process ``pid`` names; None where there is none."""
    address = environment.get("NOTIFY_SOCKET", "")
    # The other kinds of address (vsock) are for a machine that notifies its host.
    if not address.startswith(("/", "@")):
        return None
    return Notifier(address, _watchdog_s(environment, pid))


def _watchdog_s(environment: Mapping[str, str], pid: int) -> float | None:
    """Return the interval as sd_watchdog_enabled(3) does: a ``WATCHDOG_PID`` that is not ours is another process."""
    meant, usec = environment.get("WATCHDOG_PID", ""), environment.get("WATCHDOG_USEC", "")
    if meant not in ("", str(pid)) or not usec.isascii() or not usec.isdigit() or not int(usec):
        return None
    return int(usec) / MICROSECONDS
