"""A VIF of Nova's info cache (``nova.network.model.VIF``), parsed once and checked.

Pure: no I/O, no clock, no logger.  What a VIF needs is in :mod:`bringup.drivers.network.rules.vif_types`, which packets
may pass its device in :mod:`bringup.drivers.network.rules.ruleset`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NewType

from bringup.drivers.base import Guest
from bringup.drivers.bounded_repr import bounded_repr
from bringup.drivers.identifiers import is_device_name

NIC_NAME_LENGTH = 14
"""Nova's ``NIC_NAME_LEN``: names that contain a VIF's id are cut to it."""

# Values that become an argument of ovs-vsctl; Neutron's ids are UUIDs.
WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/-]{0,254}")
MAC = re.compile(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}")
MTU = range(68, 65536)

DeviceName = NewType("DeviceName", str)
"""Only :func:`device_name` creates it, so it may be a word of nft."""
Mac = NewType("Mac", str)
"""Only :func:`mac_of` creates it: six octets in lower case, with colons."""


class VifProblem(Exception):
    """A value of a VIF in an info cache is invalid; the message has the value and what would be right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vif:
    """One NIC of one guest."""

    id: str
    type: str | None
    """Nova's ``VIF_TYPE_*``; empty if the record has none because it is from no info cache."""
    device: DeviceName
    """Name of its device on this host."""
    mac: Mac | None = None
    vnic_type: str = "normal"
    bridge: str | None = None
    mtu: int | None = None
    """Bytes."""
    should_create_bridge: bool = False
    should_create_vlan: bool = False
    """Whether nova-network would put a VLAN below that bridge."""
    bridge_interface: str | None = None
    interface_id: str = ""
    """Id of the port in Open vSwitch (``iface-id``)."""
    delegate_create: bool = False
    """Whether bringup creates the port in Open vSwitch, not libvirt."""
    details: Mapping[str, Any] = field(default_factory=dict)
    profile: Mapping[str, Any] = field(default_factory=dict)
    plain: Mapping[str, Any] = field(default_factory=dict)
    """All of it, as in the record."""

    def has(self, detail: str) -> bool:
        """Check whether a detail of the binding is set, as Nova does: any value that is not empty counts."""
        return bool(self.details.get(detail))

    def named(self, prefix: str) -> str:
        """Return the name of a device with the VIF's id in it, as Nova and os-vif do (``qbr``, ``qvo``, ``vhu``)."""
        return f"{prefix}{self.id}"[:NIC_NAME_LENGTH]


def vifs_of(guest: Guest) -> list[Vif | VifProblem]:
    """Parse each VIF of a guest; for an invalid one its problem is returned."""
    return [_read(plain, number) for number, plain in enumerate(guest.network_info)]


def _read(plain: object, number: int) -> Vif | VifProblem:
    if not isinstance(plain, Mapping):
        return VifProblem(f"VIF number {number} is {bounded_repr(plain)}, and no object")
    try:
        return read_vif(plain)
    except VifProblem as problem:
        vif_id = plain.get("id")
        named = isinstance(vif_id, str) and WORD.fullmatch(vif_id)
        return VifProblem(f"VIF {vif_id if named else f'number {number}'}: {problem}")


def read_vif(plain: Mapping[str, Any]) -> Vif:
    """Parse one VIF.

    :raises VifProblem: a value in it is invalid.
    """
    network = _object(plain, "network")
    # Nova's model keeps values without a field in "meta" once it was read back; before, they are beside the fields.
    meta = {**network, **_object(network, "meta")}
    vif_id = _text(plain, "id") or ""
    if vif_id and not WORD.fullmatch(vif_id):
        raise VifProblem(f"id {bounded_repr(vif_id)} is no UUID")
    device = _text(plain, "devname") or f"nic{vif_id}"[:NIC_NAME_LENGTH]
    return Vif(
        id=vif_id,
        type=_text(plain, "type") if "type" in plain else "",
        device=device_name(device, "devname"),
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
    """Return a list of objects; empty for None.

    :raises VifProblem: it is something else.
    """
    if value is None:
        return ()
    if not isinstance(value, Sequence) or isinstance(value, str) or not all(isinstance(v, Mapping) for v in value):
        raise VifProblem(f"{what} is no list of objects")
    return value


def device_name(value: Any, what: str) -> DeviceName:
    """Return the name of a device.

    :raises VifProblem: it is none.
    """
    if not is_device_name(value):
        raise VifProblem(f"{what} {bounded_repr(value)} is no device name of at most 15 letters, digits and _.-")
    return DeviceName(value)


def flag_of(value: Any, what: str) -> bool | None:
    """Return a flag; None if it is not set.

    :raises VifProblem: it is something else.
    """
    if value is not None and not isinstance(value, bool):
        raise VifProblem(f"{what} {bounded_repr(value)} is neither true nor false")
    return value


def mac_of(value: Any, what: str) -> Mac:
    """Return a MAC address in lower case.

    :raises VifProblem: it is none.
    """
    text = value.lower() if isinstance(value, str) else ""
    if not MAC.fullmatch(text):
        raise VifProblem(f'{what} {bounded_repr(value)} is no MAC address such as "fa:16:3e:00:00:01"')
    return Mac(text)


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
        raise VifProblem(f"{key} {bounded_repr(value)} is no text")
    return value


def _device(what: str, name: str | None) -> DeviceName | None:
    return device_name(name, what) if name else None


def _word(what: str, text: str | None) -> str | None:
    if text and not WORD.fullmatch(text):
        raise VifProblem(f"{what} {bounded_repr(text)} is no UUID")
    return text


def _mac(text: str | None) -> Mac | None:
    return None if text is None else mac_of(text, "address")


def _mtu(value: Any) -> int | None:
    # Neutron's "not set" was 0 before Mitaka.
    if value is None or (value == 0 and not isinstance(value, bool)):
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value not in MTU:
        raise VifProblem(f"mtu {bounded_repr(value)} is no number from {MTU.start} to {MTU.stop - 1}")
    return value
