"""Addresses that a NIC may send from: its fixed ones, and its allowed address pairs.

Pure.  The info cache of Nova has the fixed ones; ``allowed_address_pairs`` (in Neutron's format) counts if a record
has it, on the VIF or in its ``details``.
"""

import ipaddress
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from bringup.drivers.bounded_repr import bounded_repr
from bringup.drivers.network.rules.vifs import Mac, Vif, VifProblem, mac_of, objects

IPNetwork: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """Source addresses that a NIC may use."""

    macs: tuple[Mac, ...]
    ipv4: tuple[tuple[Mac, ipaddress.IPv4Network], ...] = ()
    """Pairs of a MAC and an address or network; no two overlap."""
    ipv6: tuple[tuple[Mac, ipaddress.IPv6Network], ...] = ()
    any_ip: bool = False
    """The port has no address at all, so only its MAC is known (as in Neutron)."""


def allowed_addresses(vif: Vif) -> Allowed:
    """Return the source addresses of a NIC, with the link-local IPv6 address of each MAC (EUI-64).

    :raises VifProblem: it has no MAC, or an invalid address.
    """
    if vif.mac is None:
        raise VifProblem("it has no address, so it is unknown what it may send from")
    pairs = [(vif.mac, network) for network in _fixed(vif)] + list(_pairs(vif, vif.mac))
    macs = dict.fromkeys([vif.mac, *(mac for mac, _ in pairs)])
    by_mac: dict[tuple[Mac, int], list[Any]] = defaultdict(list)
    for mac, network in [*pairs, *((mac, link_local(mac)) for mac in macs)]:
        by_mac[mac, network.version].append(network)
    return Allowed(
        macs=tuple(macs),
        ipv4=tuple((mac, net) for mac in macs for net in ipaddress.collapse_addresses(by_mac[mac, 4])),
        ipv6=tuple((mac, net) for mac in macs for net in ipaddress.collapse_addresses(by_mac[mac, 6])),
        any_ip=not pairs,
    )


def link_local(mac: Mac) -> ipaddress.IPv6Network:
    """Return the link-local address of a MAC (RFC 4291, appendix A)."""
    octets = bytes.fromhex(mac.replace(":", ""))
    suffix = bytes([octets[0] ^ 2, *octets[1:3], 0xFF, 0xFE, *octets[3:]])
    return ipaddress.IPv6Network((bytes.fromhex("fe80" + 12 * "0") + suffix, 128))


def network_of(value: Any, what: str) -> IPNetwork:
    """Parse an address or a network.

    An IPv6 address with a scope (``fe80::1%eth0``) is invalid: a scope belongs to one host, and may be any text.

    :raises VifProblem: it is invalid.
    """
    try:
        if isinstance(value, str) and "%" not in value:
            return ipaddress.ip_network(value, strict=False)
    except ValueError:
        pass
    raise VifProblem(f"{what} {bounded_repr(value)} is no IP address or network")


def _fixed(vif: Vif) -> Iterator[IPNetwork]:
    network = vif.plain.get("network") or {}
    for subnet in objects(network.get("subnets"), "network.subnets"):
        for ip in objects(subnet.get("ips"), "network.subnets.ips"):
            if ip.get("type", "fixed") == "fixed":
                yield network_of(ip.get("address"), "fixed address")


def _pairs(vif: Vif, mac: Mac) -> Iterable[tuple[Mac, IPNetwork]]:
    pairs = vif.plain.get("allowed_address_pairs", vif.details.get("allowed_address_pairs"))
    for pair in objects(pairs, "allowed_address_pairs"):
        own = pair.get("mac_address")
        yield (
            mac if own is None else mac_of(own, "allowed_address_pairs.mac_address"),
            network_of(pair.get("ip_address"), "allowed_address_pairs.ip_address"),
        )
