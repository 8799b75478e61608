"""What goes over the network unencrypted.  Pure."""

from ipaddress import ip_address
from urllib.parse import urlsplit


def is_open(url: str) -> bool:
    """Tell whether what is sent there can be read on the way: no TLS, and not on this host."""
    address = urlsplit(url)
    return address.scheme.lower() == "http" and not _is_here(address.hostname or "")


def _is_here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"


def falls_to_http(auth_url: str, endpoint: str) -> bool:
    """Tell whether a token that came over TLS would go on without it."""
    return urlsplit(auth_url).scheme.lower() == "https" and is_open(endpoint)
