"""Checks of addresses: what would be sent unencrypted.  Pure."""

import re
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

LONGEST_SHOWN: Final = 300
_LOGIN: Final = re.compile(r"//.*@", re.DOTALL)
_AFTER_PATH: Final = re.compile(r"([?#]).*", re.DOTALL)


def is_unencrypted(url: str) -> bool:
    """Check whether an address is neither TLS nor on this host."""
    address = urlsplit(url)
    return address.scheme.lower() == "http" and not is_local_host(address.hostname or "")


def is_local_host(host: str) -> bool:
    """Check whether the host of an address is this one, independent of DNS and of the version of Python."""
    try:
        address = ip_address(host)
        # Python 3.13 takes ::ffff:127.0.0.1 for loopback, earlier ones do not: an odd address is never trusted more.
        return address.is_loopback and getattr(address, "ipv4_mapped", None) is None
    except ValueError:
        # With a dot at the end it is not the name in /etc/hosts, and DNS resolves it.
        return host.lower() == "localhost"


def without_secrets(url: str) -> str:
    """Return an address for a message: bounded, without what may be a user, a password or a token."""
    where = _LOGIN.sub("//***@", _AFTER_PATH.sub(r"\1***", url))
    return where if len(where) <= LONGEST_SHOWN else f"{where[:LONGEST_SHOWN]}..."


def downgrades_to_http(auth_url: str, endpoint: str) -> bool:
    """Check whether a token that came over TLS would be sent without it."""
    return urlsplit(auth_url).scheme.lower() == "https" and is_unencrypted(endpoint)
