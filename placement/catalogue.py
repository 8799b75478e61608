"""Keystone's service catalogue: addresses of services.  Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

SERVICE_TYPE = "placement"
ALIASES = {"publicURL": "public", "internalURL": "internal", "adminURL": "admin"}
"""As the interfaces were called in Keystone's v2 API, and are in many a configuration file."""


class NotInCatalogue(Exception):
    """The catalogue has no such endpoint; the message lists those that it has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """An address of a service."""

    service_type: str
    interface: str
    region: str
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedEndpoint:
    """Choice among Placement's endpoints: interfaces, region, scheme."""

    interfaces: Sequence[str] = ("internal", "public")
    """In the order in which they are preferred."""
    region: str | None = None
    """None: the only one."""
    allow_http: bool = False
    """Whether an endpoint without TLS is accepted although Keystone uses TLS."""


def read_catalogue(document: Any) -> tuple[Endpoint, ...]:
    """Parse the ``catalog`` of a token; malformed entries are ignored."""
    if not isinstance(document, list):
        return ()
    return tuple(
        Endpoint(service_type=kind, interface=interface, region=region, url=url)
        for service in document
        for kind, endpoint in _endpoints_of(service)
        for interface, region, url in _read(endpoint)
    )


def _endpoints_of(service: Any) -> list[tuple[str, Any]]:
    match service:
        case {"type": str() as kind, "endpoints": [*endpoints]}:
            return [(kind, endpoint) for endpoint in endpoints]
        case _:
            return []


def _read(endpoint: Any) -> list[tuple[str, str, str]]:
    match endpoint:
        case {"interface": str() as interface, "url": str() as url}:
            region = endpoint.get("region_id") or endpoint.get("region") or ""
            return [(interface, str(region), url)]
        case _:
            return []


def find(endpoints: Sequence[Endpoint], wanted: WantedEndpoint) -> str:
    """Return the address of Placement.

    :raises NotInCatalogue: there is none, or more than one region has one and none was named.
    """
    ours = [endpoint for endpoint in endpoints if endpoint.service_type == SERVICE_TYPE]
    if not ours:
        kinds = sorted({endpoint.service_type for endpoint in endpoints})
        has = f"it has {', '.join(kinds)}" if kinds else "it is empty: the token has no scope with a role in it"
        raise NotInCatalogue(f"the catalogue has no service of type {SERVICE_TYPE}; {has}")
    interfaces = [ALIASES.get(name, name) for name in wanted.interfaces]
    there = [one for one in ours if wanted.region in (None, one.region) and one.interface in interfaces]
    regions = sorted({endpoint.region for endpoint in there})
    if len(regions) > 1:
        raise NotInCatalogue(
            f"the catalogue has Placement in the regions {', '.join(regions)}; set placement.region to this host's"
        )
    if not there:
        region = f"region {wanted.region}" if wanted.region is not None else "any region"
        raise NotInCatalogue(
            f"the catalogue has no {' or '.join(interfaces)} endpoint of Placement in {region}; it has "
            f"{_describe_regions(ours)}; set placement.region and placement.interfaces"
        )
    return min(there, key=lambda endpoint: interfaces.index(endpoint.interface)).url


def _describe_regions(endpoints: Sequence[Endpoint]) -> str:
    regions = sorted({endpoint.region for endpoint in endpoints})
    return ", ".join(
        f"{region or '(no region)'} ({', '.join(sorted({e.interface for e in endpoints if e.region == region}))})"
        for region in regions
    )
