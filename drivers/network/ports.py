"""What must be on the host for a VIF before libvirt starts its guest: the table of VIF types.

Pure: no I/O, no clock, no logger.  What libvirt makes itself is not here: the tap of a guest on a bridge, and the port
in Open vSwitch unless Nova says ``delegate_create``.  Who makes what is Nova's ``virt/libvirt/vif.py`` and
``network/os_vif_util.py`` with os-vif's plugins ``linux_bridge`` and ``ovs``.
"""

from collections.abc import Callable, Mapping

from bringup.drivers.network.links import BridgeWanted, PresentWanted, TapWanted, VethWanted
from bringup.drivers.network.vifs import DEVICE, Vif, VifProblem, mac_of
from bringup.drivers.network.wants import Around, NotOurs, OvsPort, Wanted

MULTI_QUEUE = "image_hw_vif_multiqueue_enabled"
"""System metadata of an instance whose image asks for as many queues as CPUs."""


def wanted(vif: Vif, around: Around) -> Wanted:
    """Say what a VIF needs.

    :raises VifProblem: Nova refuses it too.
    :raises NotOurs: bringup has no way to plug it.
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
        raise VifProblem(f"type {vif.type!r} is not one that Nova knows")
    return TYPES[vif.type](vif, around)


def _bridge(vif: Vif, _around: Around) -> Wanted:
    name = _named(vif)
    # os-vif would move the addresses of an interface that it puts into a new bridge; no host is cut off for a guest.
    bridge = BridgeWanted(name=name, make=vif.should_create_bridge and vif.bridge_interface is None, mtu=vif.mtu)
    return Wanted(links=(bridge, PresentWanted(name=vif.device, master=name, mtu=vif.mtu)))


def _ovs(vif: Vif, around: Around) -> Wanted:
    if vif.vnic_type in ("direct", "vdpa", "remote-managed"):
        # The port of a representor wants its switchdev, which os-vif finds in sysfs.
        raise NotOurs(f"{vif.vnic_type} ports of Open vSwitch are plugged by os-vif or the network card")
    if vif.details.get("ovs_hybrid_plug") is True:
        return _hybrid(vif, around)
    present = (PresentWanted(name=vif.device, mtu=vif.mtu),)
    if not vif.delegate_create:
        return Wanted(links=present, ovs=OvsPort(bridge=vif.bridge or around.ovs_bridge, datapath_type=_datapath(vif)))
    return Wanted(links=present, ovs=_ovs_port(vif, around, vif.device))


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
    if vif.details.get("vhostuser_fp_plug") is True or vif.details.get("vhostuser_vrouter_plug") is True:
        raise NotOurs("vhost-user VIFs of 6WIND and Contrail are plugged by their os-vif plugins")
    socket = vif.details.get("vhostuser_socket")
    if not isinstance(socket, str) or not socket.startswith("/"):
        raise VifProblem("details.vhostuser_socket is no path of a socket")
    if vif.details.get("vhostuser_ovs_plug") is not True:
        return Wanted()
    port = _ovs_port(vif, around, vif.named("vhu"))
    # The mode is the guest's: where QEMU connects as the client, Open vSwitch listens.
    client = vif.details.get("vhostuser_mode") == "client"
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
                multi_queue=around.system_metadata.get(MULTI_QUEUE, "").lower() in ("true", "1", "yes"),
            ),
        )
    )


def _pci(vif: Vif, _around: Around) -> Wanted:
    slot = vif.profile.get("pci_slot")
    if not isinstance(slot, str) or not slot or "/" in slot or slot.startswith("."):
        raise VifProblem(f'profile.pci_slot {slot!r} is no PCI address such as "0000:81:00.1"')
    if vif.vnic_type == "macvtap" and vif.details.get("vlan") is not None:
        raise NotOurs("the VLAN of a virtual function with a macvtap is set by Nova")
    return Wanted(pci_slot=slot)


def _macvtap(vif: Vif, _around: Around) -> Wanted:
    source = vif.details.get("macvtap_source")
    if not isinstance(source, str) or not DEVICE.fullmatch(source):
        raise VifProblem(f"details.macvtap_source {source!r} is no device name")
    return Wanted(links=(PresentWanted(name=source, required=True),))


def _named(vif: Vif) -> str:
    if vif.bridge is None:
        raise VifProblem("network.bridge is null; a VIF of type bridge names its bridge")
    return vif.bridge


def _datapath(vif: Vif) -> str | None:
    datapath = vif.details.get("datapath_type")
    if datapath not in (None, "", "system", "netdev"):
        raise VifProblem(f'details.datapath_type {datapath!r} is neither "system" nor "netdev"')
    return datapath or None


def _refused(why: str) -> Callable[[Vif, Around], Wanted]:
    def refuse(_vif: Vif, _around: Around) -> Wanted:
        raise VifProblem(why)

    return refuse


TYPES: Mapping[str, Callable[[Vif, Around], Wanted]] = {
    "bridge": _bridge,
    "ovs": _ovs,
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
NOTHING = frozenset({"802.1qbg", "802.1qbh", "dvs"})
"""Nova plugs nothing either."""
ELSEWHERE: Mapping[str, str] = {
    "agilio_ovs": "os-vif's plugin agilio_ovs",
    "ib_hostdev": "ebrctl",
    "iovisor": "ifc_ctl",
    "ivs": "os-vif's plugin ivs",
    "midonet": "mm-ctl",
    "vrouter": "os-vif's plugin vrouter",
}
