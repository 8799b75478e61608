"""What must be on the host for a VIF before libvirt starts its guest: the table of VIF types.

Pure: no I/O, no clock, no logger.  What libvirt makes itself is not here: the tap of a guest on a bridge, and the port
in Open vSwitch unless Nova says ``delegate_create``.  Who makes what is Nova's ``virt/libvirt/vif.py`` and
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


class NotOurs(Exception):
    """Such a VIF is plugged by others, or asks for what is not known here; the text says what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OvsPort:
    """A port in Open vSwitch."""

    bridge: str
    datapath_type: str | None
    name: str | None = None
    """None: only the bridge has to be there, libvirt makes the port."""
    interface_id: str = ""
    mac: str = ""
    instance: str = ""
    type: str | None = None
    """Open vSwitch's type of the interface."""
    options: tuple[tuple[str, str], ...] = ()
    mtu_request: int | None = None
    """For interfaces that are no device of the kernel; bytes."""

    @property
    def is_trunk(self) -> bool:
        """Tell whether the bridge is one of a trunk: its own for each, by Neutron's and os-vif's name for them."""
        return self.bridge.startswith("tbr-")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """All that one VIF needs.  Links are made before the port: Open vSwitch looks for the device at once."""

    links: tuple[LinkWanted, ...] = ()
    ovs: OvsPort | None = None
    pci_slot: str | None = None
    """Address of a PCI device that must be there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """What else decides, beside the VIF."""

    instance: str
    ovs_bridge: str
    """Where a VIF names no bridge (Nova's ``[neutron] ovs_bridge``)."""
    system_metadata: Mapping[str, str] = field(default_factory=dict)
    several_queues: frozenset[str] | None = None
    """MACs of the guest's NICs that are defined with several queues; None: that is not known."""


MULTI_QUEUE = "image_hw_vif_multiqueue_enabled"
"""System metadata of an instance whose image asks for as many queues as CPUs."""
TRUE = ("1", "t", "true", "on", "y", "yes")
"""What oslo takes for true."""
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
"""Those of Nova 34 that change what is plugged, by the names of :data:`PLUGS`."""
# How the details that change what is plugged are named: one that is set and not known is one of a later Nova.
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


def wanted(vif: Vif, around: Around) -> Wanted:
    """Say what a VIF needs.

    :raises VifProblem: Nova refuses it too.
    :raises NotOurs: bringup has no way to plug it, or does not know what it asks for.
    """
    if vif.type == "":
        return Wanted()
    if vif.type is None:
        raise VifProblem("its type is null; a port that is bound to this host has one")
    if vif.type in NOTHING:
        return Wanted()
    if vif.type in ELSEWHERE:
        raise NotOurs(f"VIFs of type {vif.type} are plugged by {ELSEWHERE[vif.type]}")
    if vif.type not in TYPES:
        raise NotOurs(f"its type {vif.type[:SHOWN]!r} is none that Nova 34 knows")
    _refuse_unknown(vif)
    return TYPES[vif.type](vif, around)


def wants_taps(guest: Guest) -> bool:
    """Tell whether taps are made for a guest here: then it counts how it is defined."""
    return any(
        vif.type == "tap" or vif.has("ovs_create_tap") for vif in vifs_of(guest) if not isinstance(vif, VifProblem)
    )


def _refuse_unknown(vif: Vif) -> None:
    """Plug nothing by halves: what a later Nova asks for is left to it."""
    if vif.vnic_type not in VNIC_TYPES:
        raise NotOurs(f"its vnic_type {vif.vnic_type[:SHOWN]!r} is none that Nova 34 knows")
    for key, value in vif.details.items():
        if value and key not in KNOWN_DETAILS and PLUGS.fullmatch(key):
            raise NotOurs(f"details.{key[:SHOWN]} = {repr(value)[:SHOWN]} is none that os-vif 5.3 knows")


def _bridge(vif: Vif, _around: Around) -> Wanted:
    name = _named(vif)
    # os-vif would move the addresses of an interface that it puts into a new bridge; no host is cut off for a guest.
    # The same goes for one above a VLAN: without it the bridge would lead nowhere.
    bare = vif.bridge_interface is None and not vif.should_create_vlan
    bridge = BridgeWanted(name=name, make=vif.should_create_bridge and bare, mtu=vif.mtu)
    return Wanted(links=(bridge, PresentWanted(name=vif.device, master=name, mtu=vif.mtu)))


def _ovs(vif: Vif, around: Around) -> Wanted:
    if vif.vnic_type in ("direct", "vdpa", "remote-managed"):
        # The port of a representor wants its switchdev, which os-vif finds in sysfs.
        raise NotOurs(f"{vif.vnic_type} ports of Open vSwitch are plugged by os-vif or the network card")
    if vif.has("ovs_hybrid_plug"):
        if vif.has("ovs_create_tap"):
            raise NotOurs("details.ovs_create_tap does not go together with ovs_hybrid_plug")
        return _hybrid(vif, around)
    if vif.has("ovs_create_tap"):
        return _ovs_tap(vif, around)
    present = (PresentWanted(name=vif.device, mtu=vif.mtu),)
    if not vif.delegate_create:
        return Wanted(links=present, ovs=OvsPort(bridge=vif.bridge or around.ovs_bridge, datapath_type=_datapath(vif)))
    return Wanted(links=present, ovs=_ovs_port(vif, around, vif.device))


def _ovs_tap(vif: Vif, around: Around) -> Wanted:
    """Make the tap as well, which libvirt takes as it finds it (``managed='no'``)."""
    if not vif.delegate_create:
        raise NotOurs("details.ovs_create_tap is set and delegate_create is not, so nobody makes its port")
    port = _ovs_port(vif, around, vif.device)
    tap = TapWanted(
        name=vif.device, mac=port.mac, mtu=vif.mtu, multi_queue=_has_several_queues(vif, around), silent=True
    )
    return Wanted(links=(tap,), ovs=port)


def _agilio_ovs(vif: Vif, around: Around) -> Wanted:
    if vif.vnic_type != "normal":
        raise NotOurs(f"{vif.vnic_type} VIFs of type agilio_ovs are plugged by os-vif's plugin agilio_ovs")
    return _ovs(vif, around)


def _hybrid(vif: Vif, around: Around) -> Wanted:
    """Put a Linux bridge between guest and Open vSwitch, where iptables or nftables can see the packets."""
    qbr, qvb, qvo = vif.named("qbr"), vif.named("qvb"), vif.named("qvo")
    return Wanted(
        links=(
            BridgeWanted(name=qbr, make=True, mtu=vif.mtu),
            VethWanted(name=qvb, peer=qvo, master=qbr, mtu=vif.mtu),
            PresentWanted(name=vif.device, master=qbr, mtu=vif.mtu),
        ),
        ovs=_ovs_port(vif, around, qvo),
    )


def _ovs_port(vif: Vif, around: Around, name: str) -> OvsPort:
    if vif.mac is None:
        raise VifProblem("it has no address")
    return OvsPort(
        bridge=vif.bridge or around.ovs_bridge,
        datapath_type=_datapath(vif),
        name=name,
        interface_id=vif.interface_id,
        mac=vif.mac,
        instance=around.instance,
    )


def _vhostuser(vif: Vif, around: Around) -> Wanted:
    if vif.has("vhostuser_fp_plug") or vif.has("vhostuser_vrouter_plug"):
        raise NotOurs("vhost-user VIFs of 6WIND and Contrail are plugged by their os-vif plugins")
    socket = vif.details.get("vhostuser_socket")
    if not isinstance(socket, str) or not socket.startswith("/"):
        raise VifProblem("details.vhostuser_socket is no path of a socket")
    mode = vif.details.get("vhostuser_mode", "server")
    if mode not in ("client", "server"):
        raise NotOurs(f'details.vhostuser_mode {repr(mode)[:SHOWN]} is neither "client" nor "server"')
    if not vif.has("vhostuser_ovs_plug"):
        return Wanted()
    port = _ovs_port(vif, around, vif.named("vhu"))
    # The mode is the guest's: where QEMU connects as the client, Open vSwitch listens.
    client = mode == "client"
    return Wanted(
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


def _tap(vif: Vif, around: Around) -> Wanted:
    mac = vif.details.get("mac_address")
    return Wanted(
        links=(
            TapWanted(
                name=vif.device,
                mac=None if mac is None else mac_of(mac, "details.mac_address"),
                mtu=vif.mtu,
                multi_queue=_has_several_queues(vif, around),
            ),
        )
    )


def _has_several_queues(vif: Vif, around: Around) -> bool:
    """Tell how QEMU will open the tap: as the guest is defined, for its flavor may say so as well as its image."""
    if around.several_queues is not None:
        return vif.mac in around.several_queues
    return around.system_metadata.get(MULTI_QUEUE, "").strip().lower() in TRUE


def _pci(vif: Vif, _around: Around) -> Wanted:
    slot = vif.profile.get("pci_slot")
    if not isinstance(slot, str) or not slot or "/" in slot or slot.startswith("."):
        raise VifProblem(f'profile.pci_slot {slot!r} is no PCI address such as "0000:81:00.1"')
    if vif.type == "hw_veb" and vif.vnic_type == "macvtap":
        raise NotOurs("MAC and VLAN of a virtual function with a macvtap are set by Nova")
    if vif.type == "hw_veb" and str(vif.profile.get("trusted", "")).strip().lower() in TRUE:
        raise NotOurs("that a virtual function is trusted (profile.trusted) is set by Nova")
    return Wanted(pci_slot=slot)


def _macvtap(vif: Vif, _around: Around) -> Wanted:
    source = vif.details.get("macvtap_source")
    if not is_device_name(source):
        raise VifProblem(f"details.macvtap_source {source!r} is no device name")
    # That of a VLAN is made by Nova.
    by = MetBy.NOVA if vif.has("vlan") else MetBy.HOST
    return Wanted(links=(PresentWanted(name=source, required=True, made_by=by),))


def _named(vif: Vif) -> str:
    if vif.bridge is None:
        raise VifProblem("network.bridge is null; a VIF of type bridge names its bridge")
    return vif.bridge


def _datapath(vif: Vif) -> str | None:
    datapath = vif.details.get("datapath_type")
    if datapath not in (None, "", "system", "netdev"):
        raise NotOurs(f'details.datapath_type {repr(datapath)[:SHOWN]} is neither "system" nor "netdev"')
    return datapath or None


def _refused(why: str) -> Callable[[Vif, Around], Wanted]:
    def refuse(_vif: Vif, _around: Around) -> Wanted:
        raise VifProblem(why)

    return refuse


TYPES: Mapping[str, Callable[[Vif, Around], Wanted]] = {
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
"""Nova plugs nothing either."""
ELSEWHERE: Mapping[str, str] = {
    "dvs": "VMware",
    "ib_hostdev": "ebrctl",
    "iovisor": "ifc_ctl",
    "ivs": "os-vif's plugin ivs",
    "midonet": "mm-ctl",
    "vrouter": "os-vif's plugin vrouter",
}
