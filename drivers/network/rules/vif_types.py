"""What must exist on the host for a VIF before libvirt starts its guest: the table of VIF types.

Pure: no I/O, no clock, no logger.  Without what libvirt creates itself: the tap of a guest on a bridge, and the port
in Open vSwitch unless Nova sets ``delegate_create``.  Who creates what follows Nova's ``virt/libvirt/vif.py`` and
``network/os_vif_util.py`` with os-vif's plugins ``linux_bridge`` and ``ovs``.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from bringup.drivers.base import Guest
from bringup.drivers.identifiers import is_device_name
from bringup.drivers.needs import MetBy
from bringup.drivers.network.rules.links import BridgeWanted, LinkWanted, PresentWanted, TapWanted, VethWanted
from bringup.drivers.network.rules.vifs import Vif, VifProblem, mac_of, vifs_of


class NotPluggedHere(Exception):
    """Such a VIF is plugged by another program, or requires something unknown; the message has the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OvsPort:
    """A port in Open vSwitch."""

    bridge: str
    datapath_type: str | None
    name: str | None = None
    """None: only the bridge must exist, libvirt creates the port."""
    interface_id: str = ""
    mac: str = ""
    instance: str = ""
    type: str | None = None
    """Open vSwitch's type of the interface."""
    options: tuple[tuple[str, str], ...] = ()
    mtu_request: int | None = None
    """For interfaces that are no device of the kernel, in bytes."""

    @property
    def is_trunk(self) -> bool:
        """Check by its name, which Neutron and os-vif choose, whether the bridge is that of one trunk."""
        return self.bridge.startswith("tbr-")


@dataclass(frozen=True, slots=True, kw_only=True)
class VifNeeds:
    """Needs of one VIF.  Links are created before the port: Open vSwitch opens the device at once."""

    links: tuple[LinkWanted, ...] = ()
    ovs: OvsPort | None = None
    pci_slot: str | None = None
    """Address of a PCI device that must exist."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlugContext:
    """Facts beside the VIF that decide on its needs."""

    instance: str
    ovs_bridge: str
    """For a VIF that names no bridge (Nova's ``[neutron] ovs_bridge``)."""
    system_metadata: Mapping[str, str] = field(default_factory=dict)
    several_queues: frozenset[str] | None = None
    """MACs of the guest's NICs that are defined with several queues; None: unknown."""


MULTI_QUEUE = "image_hw_vif_multiqueue_enabled"
"""System metadata of an instance whose image requires as many queues as CPUs."""
TRUE = ("1", "t", "true", "on", "y", "yes")
"""Values that oslo accepts as true."""
KNOWN_DETAILS = frozenset(
    {
        "macvtap_mode",
        "macvtap_source",
        "ovs_create_tap",
        "ovs_hybrid_plug",
        "vhostuser_fp_plug",
        "vhostuser_mode",
        "vhostuser_ovs_plug",
        "vhostuser_socket",
        "vhostuser_vrouter_plug",
    }
)
"""Details of Nova 34 that change what is plugged, with names that :data:`PLUGS` matches."""
# Names of details that change what is plugged: an unknown one that is set is from a later Nova.
PLUGS = re.compile(r"(ovs|vhostuser|macvtap)_.*|.*(_plug|create_.*)")
VNIC_TYPES = frozenset(
    {
        "accelerator-direct",
        "accelerator-direct-physical",
        "baremetal",
        "direct",
        "direct-physical",
        "macvtap",
        "normal",
        "remote-managed",
        "smart-nic",
        "vdpa",
        "virtio-forwarder",
    }
)
SHOWN = 60


def needs_of_vif(vif: Vif, context: PlugContext) -> VifNeeds:
    """Return the needs of a VIF.

    :raises VifProblem: Nova refuses it too.
    :raises NotPluggedHere: bringup cannot plug it, or does not know what it requires.
    """
    if vif.type == "":
        return VifNeeds()
    if vif.type is None:
        raise VifProblem("its type is null; a port that is bound to this host has one")
    if vif.type in NOTHING:
        return VifNeeds()
    if vif.type in ELSEWHERE:
        raise NotPluggedHere(f"VIFs of type {vif.type} are plugged by {ELSEWHERE[vif.type]}")
    if vif.type not in TYPES:
        raise NotPluggedHere(f"its type {vif.type[:SHOWN]!r} is unknown to Nova 34")
    _refuse_unknown(vif)
    return TYPES[vif.type](vif, context)


def needs_taps(guest: Guest) -> bool:
    """Check whether bringup creates taps for a guest: then its definition matters."""
    return any(
        vif.type == "tap" or vif.has("ovs_create_tap") for vif in vifs_of(guest) if not isinstance(vif, VifProblem)
    )


def _refuse_unknown(vif: Vif) -> None:
    """Refuse to plug by halves: what a later Nova requires is left to it.

    :raises NotPluggedHere: a detail or the ``vnic_type`` is unknown.
    """
    if vif.vnic_type not in VNIC_TYPES:
        raise NotPluggedHere(f"its vnic_type {vif.vnic_type[:SHOWN]!r} is unknown to Nova 34")
    for key, value in vif.details.items():
        if value and key not in KNOWN_DETAILS and PLUGS.fullmatch(key):
            raise NotPluggedHere(f"details.{key[:SHOWN]} = {repr(value)[:SHOWN]} is unknown to os-vif 5.3")


def _bridge(vif: Vif, _context: PlugContext) -> VifNeeds:
    name = _named(vif)
    # os-vif would move the addresses of an interface into a new bridge; no host is disconnected for a guest.
    # Nor is a bridge over a VLAN created: without that it would lead nowhere.
    bare = vif.bridge_interface is None and not vif.should_create_vlan
    bridge = BridgeWanted(name=name, make=vif.should_create_bridge and bare, mtu=vif.mtu)
    return VifNeeds(links=(bridge, PresentWanted(name=vif.device, master=name, mtu=vif.mtu)))


def _ovs(vif: Vif, context: PlugContext) -> VifNeeds:
    if vif.vnic_type in ("direct", "vdpa", "remote-managed"):
        # The port of a representor requires its switchdev, which os-vif finds in sysfs.
        raise NotPluggedHere(f"{vif.vnic_type} ports of Open vSwitch are plugged by os-vif or the network card")
    if vif.has("ovs_hybrid_plug"):
        if vif.has("ovs_create_tap"):
            raise NotPluggedHere("details.ovs_create_tap does not go together with ovs_hybrid_plug")
        return _hybrid(vif, context)
    if vif.has("ovs_create_tap"):
        return _ovs_tap(vif, context)
    present = (PresentWanted(name=vif.device, mtu=vif.mtu),)
    if not vif.delegate_create:
        return VifNeeds(
            links=present, ovs=OvsPort(bridge=vif.bridge or context.ovs_bridge, datapath_type=_datapath(vif))
        )
    return VifNeeds(links=present, ovs=_ovs_port(vif, context, vif.device))


def _ovs_tap(vif: Vif, context: PlugContext) -> VifNeeds:
    """Return the needs with a tap, which libvirt uses as it is (``managed='no'``)."""
    if not vif.delegate_create:
        raise NotPluggedHere("details.ovs_create_tap is set and delegate_create is not, so no program creates its port")
    port = _ovs_port(vif, context, vif.device)
    tap = TapWanted(
        name=vif.device, mac=port.mac, mtu=vif.mtu, multi_queue=_has_several_queues(vif, context), silent=True
    )
    return VifNeeds(links=(tap,), ovs=port)


def _agilio_ovs(vif: Vif, context: PlugContext) -> VifNeeds:
    if vif.vnic_type != "normal":
        raise NotPluggedHere(f"{vif.vnic_type} VIFs of type agilio_ovs are plugged by os-vif's plugin agilio_ovs")
    return _ovs(vif, context)


def _hybrid(vif: Vif, context: PlugContext) -> VifNeeds:
    """Return a Linux bridge between guest and Open vSwitch, on which iptables or nftables filter the packets."""
    qbr, qvb, qvo = vif.named("qbr"), vif.named("qvb"), vif.named("qvo")
    return VifNeeds(
        links=(
            BridgeWanted(name=qbr, make=True, mtu=vif.mtu),
            VethWanted(name=qvb, peer=qvo, master=qbr, mtu=vif.mtu),
            PresentWanted(name=vif.device, master=qbr, mtu=vif.mtu),
        ),
        ovs=_ovs_port(vif, context, qvo),
    )


def _ovs_port(vif: Vif, context: PlugContext, name: str) -> OvsPort:
    if vif.mac is None:
        raise VifProblem("it has no address")
    return OvsPort(
        bridge=vif.bridge or context.ovs_bridge,
        datapath_type=_datapath(vif),
        name=name,
        interface_id=vif.interface_id,
        mac=vif.mac,
        instance=context.instance,
    )


def _vhostuser(vif: Vif, context: PlugContext) -> VifNeeds:
    if vif.has("vhostuser_fp_plug") or vif.has("vhostuser_vrouter_plug"):
        raise NotPluggedHere("vhost-user VIFs of 6WIND and Contrail are plugged by their os-vif plugins")
    socket = vif.details.get("vhostuser_socket")
    if not isinstance(socket, str) or not socket.startswith("/"):
        raise VifProblem("details.vhostuser_socket is no path of a socket")
    mode = vif.details.get("vhostuser_mode", "server")
    if mode not in ("client", "server"):
        raise NotPluggedHere(f'details.vhostuser_mode {repr(mode)[:SHOWN]} is neither "client" nor "server"')
    if not vif.has("vhostuser_ovs_plug"):
        return VifNeeds()
    port = _ovs_port(vif, context, vif.named("vhu"))
    # The mode is that of the guest: if QEMU is the client, Open vSwitch listens.
    client = mode == "client"
    return VifNeeds(
        ovs=OvsPort(
            bridge=port.bridge,
            datapath_type=_datapath(vif) or "netdev",
            name=port.name,
            interface_id=port.interface_id,
            mac=port.mac,
            instance=port.instance,
            type="dpdkvhostuser" if client else "dpdkvhostuserclient",
            options=() if client else (("vhost-server-path", socket),),
            mtu_request=vif.mtu,
        )
    )


def _tap(vif: Vif, context: PlugContext) -> VifNeeds:
    mac = vif.details.get("mac_address")
    return VifNeeds(
        links=(
            TapWanted(
                name=vif.device,
                mac=None if mac is None else mac_of(mac, "details.mac_address"),
                mtu=vif.mtu,
                multi_queue=_has_several_queues(vif, context),
            ),
        )
    )


def _has_several_queues(vif: Vif, context: PlugContext) -> bool:
    """Check whether QEMU will open the tap with several queues: by the definition, since flavor and image decide."""
    if context.several_queues is not None:
        return vif.mac in context.several_queues
    return context.system_metadata.get(MULTI_QUEUE, "").strip().lower() in TRUE


def _pci(vif: Vif, _context: PlugContext) -> VifNeeds:
    slot = vif.profile.get("pci_slot")
    if not isinstance(slot, str) or not slot or "/" in slot or slot.startswith("."):
        raise VifProblem(f'profile.pci_slot {slot!r} is no PCI address such as "0000:81:00.1"')
    if vif.type == "hw_veb" and vif.vnic_type == "macvtap":
        raise NotPluggedHere("MAC and VLAN of a virtual function with a macvtap are set by Nova")
    if vif.type == "hw_veb" and str(vif.profile.get("trusted", "")).strip().lower() in TRUE:
        raise NotPluggedHere("that a virtual function is trusted (profile.trusted) is set by Nova")
    return VifNeeds(pci_slot=slot)


def _macvtap(vif: Vif, _context: PlugContext) -> VifNeeds:
    source = vif.details.get("macvtap_source")
    if not is_device_name(source):
        raise VifProblem(f"details.macvtap_source {source!r} is no device name")
    # Nova creates that of a VLAN.
    by = MetBy.NOVA if vif.has("vlan") else MetBy.HOST
    return VifNeeds(links=(PresentWanted(name=source, required=True, made_by=by),))


def _named(vif: Vif) -> str:
    if vif.bridge is None:
        raise VifProblem("network.bridge is null; a VIF of type bridge names its bridge")
    return vif.bridge


def _datapath(vif: Vif) -> str | None:
    datapath = vif.details.get("datapath_type")
    if datapath not in (None, "", "system", "netdev"):
        raise NotPluggedHere(f'details.datapath_type {repr(datapath)[:SHOWN]} is neither "system" nor "netdev"')
    return datapath or None


def _refused(why: str) -> Callable[[Vif, PlugContext], VifNeeds]:
    def refuse(_vif: Vif, _context: PlugContext) -> VifNeeds:
        raise VifProblem(why)

    return refuse


TYPES: Mapping[str, Callable[[Vif, PlugContext], VifNeeds]] = {
    "bridge": _bridge,
    "ovs": _ovs,
    "agilio_ovs": _agilio_ovs,
    "vhostuser": _vhostuser,
    "tap": _tap,
    "hw_veb": _pci,
    "hostdev_physical": _pci,
    "hostdev": _pci,
    "macvtap": _macvtap,
    "binding_failed": _refused(
        "its port could not be bound to this host (binding_failed); see the Neutron server's log, and bind it again"
    ),
    "unbound": _refused("its port is bound to no host (unbound); bind it to this one"),
}
NOTHING = frozenset({"802.1qbg", "802.1qbh"})
"""Types for which Nova plugs nothing either."""
ELSEWHERE: Mapping[str, str] = {
    "dvs": "VMware",
    "ib_hostdev": "ebrctl",
    "iovisor": "ifc_ctl",
    "ivs": "os-vif's plugin ivs",
    "midonet": "mm-ctl",
    "vrouter": "os-vif's plugin vrouter",
}
