"""What goes over the network unencrypted.  Pure."""

import re
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

LONGEST_SHOWN: Final = 300
_LOGIN: Final = re.compile(r"//.*@", re.DOTALL)
_AFTER_PATH: Final = re.compile(r"([?#]).*", re.DOTALL)


def is_open(url: str) -> bool:
    """Tell whether what is sent there can be read on the way: no TLS, and not on this host."""
    address = urlsplit(url)
    return address.scheme.lower() == "http" and not is_here(address.hostname or "")


def is_here(host: str) -> bool:
    """Tell whether a host of an address is this one, whatever DNS says."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        # With a dot at its end it is not the name in /etc/hosts, and DNS says where it is.
        return host.lower() == "localhost"


def without_secrets(url: str) -> str:
    """Return an address for a message: bounded, without what may be a user, a password or a token."""
    where = _LOGIN.sub("//***@", _AFTER_PATH.sub(r"\1***", url))
    return where if len(where) <= LONGEST_SHOWN else f"{where[:LONGEST_SHOWN]}..."


def falls_to_http(auth_url: str, endpoint: str) -> bool:
    """Tell whether a token that came over TLS would go on without it."""
    return urlsplit(auth_url).scheme.lower() == "https" and is_open(endpoint)
