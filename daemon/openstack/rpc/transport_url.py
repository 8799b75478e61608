"""Addresses, credentials and options of RabbitMQ, parsed from oslo.messaging's ``transport_url``.  Pure.

``rabbit://USER:PASSWORD@HOST:PORT[,USER:PASSWORD@HOST:PORT...]/VIRTUAL_HOST?OPTION=VALUE``
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from bringup.placement.tls import Trust
from bringup.placement.unencrypted import is_local_host

SCHEME = "rabbit"
PORT = 5672
GUEST = "guest"
"""RabbitMQ's default user and password."""
HEARTBEAT_S = 60
TRUE = frozenset({"1", "true", "yes", "on"})
FALSE = frozenset({"0", "false", "no", "off"})
ENCRYPTED = "where it has TLS, give ssl=true in the transport_url, or messaging.ca_file"
FORM = "rabbit://USER:PASSWORD@HOST:PORT/VIRTUAL_HOST"


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerAddress:
    """One of the broker's hosts."""

    host: str
    port: int
    username: str
    password: str = field(repr=False)

    @property
    def where(self) -> str:
        """Its host and port, as in a URL: an IPv6 address in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


TRUST = Trust(ca_name="messaging.ca_file", cert_name="messaging.cert_file", key_name="messaging.key_file")
"""TLS with the certificates of the system."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    """RabbitMQ, a single host or a cluster."""

    endpoints: tuple[BrokerAddress, ...]
    virtual_host: str = "/"
    tls: Trust | None = None
    exchange: str = "nova"
    """Nova's ``control_exchange``."""
    heartbeat_s: int = HEARTBEAT_S
    """0: none."""

    @property
    def unencrypted(self) -> str | None:
        """The warning for user, password and records sent unencrypted; None: they are not, or stay on this host."""
        if self.tls is not None:
            return None
        open_ones = [endpoint.where for endpoint in self.endpoints if not is_local_host(endpoint.host)]
        if not open_ones:
            return None
        return f"user, password and records go to RabbitMQ at {', '.join(open_ones)} unencrypted: {ENCRYPTED}"


def parse_transport_url(text: str, options: Mapping[str, str | None] | None = None) -> Broker:
    """Parse a ``transport_url``; ``options`` are those of ``[oslo_messaging_rabbit]``, which the URL overrides.

    :raises ValueError: it is invalid; the message shows no part of it, since it contains a password.
    """
    try:
        parts = urlsplit(text)
    except ValueError:
        raise ValueError(f"cannot be read; it must be {FORM}") from None
    if parts.scheme != SCHEME:
        raise ValueError(f"must begin with {SCHEME}://: only RabbitMQ is spoken here")
    endpoints = _endpoints(parts)
    query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    chosen = {**(options or {}), **query}
    return Broker(
        endpoints=endpoints,
        virtual_host=unquote(parts.path.removeprefix("/")) or "/",
        tls=_tls(chosen),
        heartbeat_s=_heartbeat(chosen.get("heartbeat_timeout_threshold")),
    )


def _endpoints(parts: SplitResult) -> tuple[BrokerAddress, ...]:
    hosts = [host for host in parts.netloc.split(",") if host] or ["localhost"]
    with_login = [host for host in hosts if "@" in host]
    if with_login and len(with_login) != len(hosts):
        raise ValueError("names a user for some of its hosts only; give USER:PASSWORD@ for each")
    return tuple(map(_endpoint, hosts))


def _endpoint(text: str) -> BrokerAddress:
    login, separator, address = text.rpartition("@")
    username, _, password = login.partition(":") if separator else (GUEST, "", GUEST)
    try:
        where = urlsplit(f"//{address}")
        host, port = where.hostname, where.port
    except ValueError:
        host, port = None, None
    if not host or port == 0 or where.path or not username:
        raise ValueError(f"has a host that cannot be read; each must be USER:PASSWORD@HOST:PORT, as in {FORM}")
    return BrokerAddress(host=host, port=port or PORT, username=unquote(username), password=unquote(password))


def _tls(options: Mapping[str, str | None]) -> Trust | None:
    uses_tls = (options.get("ssl") or "false").strip().lower()
    if uses_tls not in TRUE | FALSE:
        # It may mean TLS: a typing error must not send a password unencrypted.
        raise ValueError("has an ssl that is neither true nor false; give ssl=true or ssl=false")
    if uses_tls in FALSE:
        return None
    ca, cert, key = (
        Path(path) if (path := options.get(f"ssl_{each}_file")) else None for each in ("ca", "cert", "key")
    )
    return replace(TRUST, ca_file=ca, cert_file=cert, key_file=key)


def _heartbeat(text: str | None) -> int:
    if text is None:
        return HEARTBEAT_S
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ValueError("has a heartbeat_timeout_threshold that is no whole number of seconds")
    return int(text)
