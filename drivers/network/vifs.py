"""A VIF as Nova's info cache holds it (``nova.network.model.VIF``), read once and checked.

Pure: no I/O, no clock, no logger.  What is to be done with a VIF stands in :mod:`bringup.drivers.network.ports` and
:mod:`bringup.drivers.network.rules`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bringup.drivers.base import Guest

NIC_NAME_LENGTH = 14
"""Nova's ``NIC_NAME_LEN``: names that are made of a VIF's id are cut to it."""

# What Linux takes, less what nft and ovs-vsctl would want in quotes.
DEVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}")
# What becomes a word of ovs-vsctl's command line; Neutron's ids are UUIDs.
WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/-]{0,254}")
MAC = re.compile(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}")
MTU = range(68, 65536)


class VifProblem(Exception):
    """What an info cache says of a VIF cannot be right; the text says what and what would be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vif:
    """One NIC of one guest."""

    id: str
    type: str | None
    """Nova's ``VIF_TYPE_*``; empty where the record has none because it is from no info cache."""
    device: str
    """Name of its device on this host."""
    mac: str | None = None
    """Lower case, with colons."""
    vnic_type: str = "normal"
    bridge: str | None = None
    mtu: int | None = None
    """Bytes."""
    should_create_bridge: bool = False
    should_create_vlan: bool = False
    """Whether nova-network would put a VLAN below that bridge."""
    bridge_interface: str | None = None
    interface_id: str = ""
    """What Open vSwitch knows the port by (``iface-id``)."""
    delegate_create: bool = False
    """Whether the port in Open vSwitch is ours to make, not libvirt's."""
    details: Mapping[str, Any] = field(default_factory=dict)
    profile: Mapping[str, Any] = field(default_factory=dict)
    plain: Mapping[str, Any] = field(default_factory=dict)
    """All of it, as it was read."""

    def has(self, detail: str) -> bool:
        """Tell whether a detail of the binding is set, as Nova reads it: whatever is not empty counts."""
        return bool(self.details.get(detail))

    def named(self, prefix: str) -> str:
        """Give a device's name made of the id, as Nova and os-vif make it (``qbr``, ``qvb``, ``qvo``, ``vhu``)."""
        return f"{prefix}{self.id}"[:NIC_NAME_LENGTH]


def vifs_of(guest: Guest) -> list[Vif | VifProblem]:
    """Read each VIF of a guest; one that cannot be read gives what is wrong with it."""
    return [_read(plain, number) for number, plain in enumerate(guest.network_info)]


def _read(plain: Mapping[str, Any], number: int) -> Vif | VifProblem:
    try:
        return read_vif(plain)
    except VifProblem as problem:
        return VifProblem(f"VIF {plain.get('id') or f'number {number}'}: {problem}")


def read_vif(plain: Mapping[str, Any]) -> Vif:
    """Read one VIF.

    :raises VifProblem: something in it cannot be right.
    """
    network = _object(plain, "network")
    # Nova's model keeps what it has no field for in "meta" once it was read back; before, it stands beside the fields.
    meta = {**network, **_object(network, "meta")}
    vif_id = _text(plain, "id") or ""
    if vif_id and not WORD.fullmatch(vif_id):
        raise VifProblem(f"id {vif_id!r} is no UUID")
    device = _text(plain, "devname") or f"nic{vif_id}"[:NIC_NAME_LENGTH]
    return Vif(
        id=vif_id,
        type=_text(plain, "type") if "type" in plain else "",
        device=_device("devname", device),
        mac=_mac(_text(plain, "address")),
        vnic_type=_text(plain, "vnic_type") or "normal",
        bridge=_device("network.bridge", _text(network, "bridge") or None),
        mtu=_mtu(meta.get("mtu")),
        should_create_bridge=bool(meta.get("should_create_bridge")),
        should_create_vlan=bool(meta.get("should_create_vlan")),
        bridge_interface=_device("bridge_interface", _text(meta, "bridge_interface") or None),
        interface_id=_word("ovs_interfaceid", _text(plain, "ovs_interfaceid")) or vif_id,
        delegate_create=bool(plain.get("delegate_create")),
        details=_object(plain, "details"),
        profile=_object(plain, "profile"),
        plain=plain,
    )


def objects(value: Any, what: str) -> Sequence[Mapping[str, Any]]:
    """Give a list of objects; nothing for None.

    :raises VifProblem: it is something else.
    """
    if value is None:
        return ()
    if not isinstance(value, Sequence) or isinstance(value, str) or not all(isinstance(v, Mapping) for v in value):
        raise VifProblem(f"{what} is no list of objects")
    return value


def mac_of(value: Any, what: str) -> str:
    """Read a MAC address.

    :raises VifProblem: it is none.
    """
    text = value.lower() if isinstance(value, str) else ""
    if not MAC.fullmatch(text):
        raise VifProblem(f'{what} {value!r} is no MAC address such as "fa:16:3e:00:00:01"')
    return text


def _object(plain: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = plain.get(key)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise VifProblem(f"{key} is no object")
    return value


def _text(plain: Mapping[str, Any], key: str) -> str | None:
    value = plain.get(key)
    if value is not None and not isinstance(value, str):
        raise VifProblem(f"{key} {value!r} is no text")
    return value


def _device(what: str, name: str | None) -> Any:
    if name == "":
        return None
    if name is not None and not DEVICE.fullmatch(name):
        raise VifProblem(f"{what} {name!r} is no device name of at most 15 letters, digits and _.-")
    return name


def _word(what: str, text: str | None) -> str | None:
    if text and not WORD.fullmatch(text):
        raise VifProblem(f"{what} {text!r} is no UUID")
    return text


def _mac(text: str | None) -> str | None:
    return None if text is None else mac_of(text, "address")


def _mtu(value: Any) -> int | None:
    # Neutron's "not set" was 0 before Mitaka.
    if value is None or (value == 0 and not isinstance(value, bool)):
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value not in MTU:
        raise VifProblem(f"mtu {value!r} is no number from {MTU.start} to {MTU.stop - 1}")
    return value
