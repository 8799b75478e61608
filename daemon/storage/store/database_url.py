"""The URL of a PostgreSQL database: user, servers, database.  Pure.

``postgresql://user@host[:port][,host[:port]...]/database``.  A host may be a name, an address (IPv6 in brackets), or
the folder of a UNIX socket with its slashes as ``%2F``.  It has no password and no query: the options
of a connection have keys of their own.
"""

import re
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import unquote

from bringup.daemon.text import VISIBLE
from bringup.placement.unencrypted import is_local_host

POSTGRESQL = "postgresql://"
DEFAULT_PORT = 5432
_WHOLE = re.compile(r"postgresql://(?P<user>[^:@/?#]+)@(?P<hosts>[^@/?#]+)/(?P<database>[^@/?#]+)")
_HOST = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<name>[^\[\]:,]+))(?::(?P<port>[0-9]{1,5}))?")
_LARGEST_PORT = 65535


@dataclass(frozen=True, slots=True)
class DatabaseServer:
    """Address of a server."""

    host: str
    """A name, an address, or the folder of a UNIX socket."""
    port: int = DEFAULT_PORT

    @property
    def is_socket(self) -> bool:
        """Whether it is a UNIX socket."""
        return self.host.startswith("/")

    @property
    def is_local(self) -> bool:
        """Whether traffic to it stays on this host: a UNIX socket or loopback."""
        return self.is_socket or is_local_host(self.host)


@dataclass(frozen=True, slots=True)
class DatabaseUrl:
    """Parts of such a URL."""

    user: str
    endpoints: tuple[DatabaseServer, ...]
    database: str

    @property
    def is_local(self) -> bool:
        """Whether every server that it names is on this host."""
        return all(each.is_local for each in self.endpoints)


def parse_database_url(text: str) -> DatabaseUrl:
    """Parse a URL.  Raises ``ValueError``, which does not show it."""
    found = _WHOLE.fullmatch(text)
    if found is None or not VISIBLE.fullmatch(text):
        raise ValueError("no PostgreSQL database")
    user, database = _unquoted(found["user"]), _unquoted(found["database"])
    if ":" in user:
        # A password, most likely, that was encoded together with its colon.
        raise ValueError("no user")
    return DatabaseUrl(user, tuple(_endpoint(each) for each in found["hosts"].split(",")), database)


def _endpoint(text: str) -> DatabaseServer:
    found = _HOST.fullmatch(text)
    if found is None:
        raise ValueError("no host")
    port = DEFAULT_PORT if found["port"] is None else int(found["port"])
    if not 1 <= port <= _LARGEST_PORT:
        raise ValueError("no port")
    if found["six"] is not None:
        return DatabaseServer(str(ip_address(found["six"])), port)
    host = _unquoted(found["name"])
    # A folder begins with a slash; in a name there is none, and nothing that libpq would parse as two hosts.
    # A name that begins with @ would be an abstract socket, which any user of this host may make.
    if ("/" in host) != host.startswith("/") or "," in host or "@" in host:
        raise ValueError("no host")
    return DatabaseServer(host, port)


def _unquoted(text: str) -> str:
    plain = unquote(text, errors="strict")
    if not plain.isprintable() or not plain.strip():
        raise ValueError("not a name")
    return plain
