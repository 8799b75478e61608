"""What an info cache says of a VIF, and what the host must have for it: the table of VIF types."""

from collections.abc import Mapping
from typing import Any

import pytest

from bringup.drivers.needs import MetBy
from bringup.drivers.network.host import make_host_network
from bringup.drivers.network.rules.links import BridgeWanted, LinkWanted, PresentWanted, TapWanted, VethWanted
from bringup.drivers.network.rules.vif_types import (
    ELSEWHERE,
    KNOWN_DETAILS,
    NOTHING,
    TYPES,
    NotPluggedHere,
    OvsPort,
    PlugContext,
    VifNeeds,
    needs_of_vif,
)
from bringup.drivers.network.rules.vifs import VifProblem, read_vif
from support.network import BRIDGE, GuestOf, a_vif, an_ovs_vif, device_of, hybrid, mac_of, port_of
from support.records import uuid_of

TAP = device_of(1)
AROUND = PlugContext(instance=uuid_of(1), ovs_bridge="br-int")
QBR, QVB, QVO, VHU = (f"{prefix}{port_of(1)}"[:14] for prefix in ("qbr", "qvb", "qvo", "vhu"))
SLOT = "0000:81:00.1"
# As services.md has it: what Nova's own objects wrote.
FROM_NOVA = {
    "id": "5036bff2-369e-4ac1-b8a2-2023f7ec3837",
    "address": "fa:16:3e:00:00:00",
    "network": {
        "id": "aff70806-42f0-45ff-a863-a3c3309fd926",
        "bridge": "br-int",
        "label": "private",
        "subnets": [
            {
                "cidr": "10.0.0.0/24",
                "dns": [{"address": "8.8.8.8", "type": "dns", "version": 4, "meta": {}}],
                "gateway": {"address": "10.0.0.1", "type": "gateway", "version": 4, "meta": {}},
                "ips": [{"address": "10.0.0.10", "type": "fixed", "version": 4, "meta": {}, "floating_ips": []}],
                "routes": [],
                "version": 4,
                "meta": {"dhcp_server": "10.0.0.2"},
            }
        ],
        "meta": {"mtu": 1442, "injected": False, "tenant_id": "p1"},
    },
    "type": "ovs",
    "details": {"port_filter": True, "bridge_name": "br-int", "datapath_type": "system"},
    "devname": "tap132d660e-15",
    "ovs_interfaceid": "132d660e-1520-470b-9cc6-0045deb34bed",
    "qbh_params": None,
    "qbg_params": None,
    "active": True,
    "vnic_type": "normal",
    "profile": {},
    "preserve_on_delete": False,
    "delegate_create": False,
    "meta": {},
}


def port(name: str | None = None, **fields: Any) -> OvsPort:
    ids = {"interface_id": port_of(1), "mac": mac_of(1), "instance": uuid_of(1)} if name else {}
    return OvsPort(**({"bridge": "br-int", "datapath_type": "netdev", "name": name, **ids} | fields))


def links(*each: LinkWanted, ovs: OvsPort | None = None) -> VifNeeds:
    return VifNeeds(links=each, ovs=ovs)


def with_network(vif: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return vif | {"network": vif["network"] | fields}


WANTED = {
    "bridge, to be made": (
        a_vif(),
        links(BridgeWanted(name=BRIDGE, make=True, mtu=1442), PresentWanted(name=TAP, master=BRIDGE, mtu=1442)),
    ),
    "bridge, as Nova's object has it before it is written": (
        with_network(a_vif(), meta={}, should_create_bridge=True),
        links(BridgeWanted(name=BRIDGE, make=True), PresentWanted(name=TAP, master=BRIDGE)),
    ),
    "bridge, somebody else's": (
        with_network(a_vif(), meta={}),
        links(BridgeWanted(name=BRIDGE, make=False), PresentWanted(name=TAP, master=BRIDGE)),
    ),
    "bridge above a VLAN of the host": (
        with_network(a_vif(), meta={"should_create_bridge": True, "should_create_vlan": True, "vlan": 7}),
        links(BridgeWanted(name=BRIDGE, make=False), PresentWanted(name=TAP, master=BRIDGE)),
    ),
    "bridge with an interface of the host": (
        with_network(a_vif(), meta={"should_create_bridge": True, "bridge_interface": "eth1"}),
        links(BridgeWanted(name=BRIDGE, make=False), PresentWanted(name=TAP, master=BRIDGE)),
    ),
    "ovs, as Nova wrote it": (
        FROM_NOVA,
        links(PresentWanted(name="tap132d660e-15", mtu=1442), ovs=OvsPort(bridge="br-int", datapath_type="system")),
    ),
    "ovs, port by us": (an_ovs_vif(), links(PresentWanted(name=TAP, mtu=1442), ovs=port(TAP))),
    "ovs without a bridge's name": (
        with_network(an_ovs_vif(delegate_create=False), bridge=None),
        links(PresentWanted(name=TAP, mtu=1442), ovs=port()),
    ),
    "ovs hybrid": (
        an_ovs_vif(details=hybrid()),
        links(
            BridgeWanted(name=QBR, make=True, mtu=1442),
            VethWanted(name=QVB, peer=QVO, master=QBR, mtu=1442),
            PresentWanted(name=TAP, master=QBR, mtu=1442),
            ovs=port(QVO),
        ),
    ),
    "ovs hybrid, said in a word as some plugins do": (
        an_ovs_vif(details={"ovs_hybrid_plug": "yes", "datapath_type": "netdev"}),
        links(
            BridgeWanted(name=QBR, make=True, mtu=1442),
            VethWanted(name=QVB, peer=QVO, master=QBR, mtu=1442),
            PresentWanted(name=TAP, master=QBR, mtu=1442),
            ovs=port(QVO),
        ),
    ),
    "ovs, port and tap by us": (
        an_ovs_vif(details={"ovs_create_tap": True, "datapath_type": "netdev"}),
        links(TapWanted(name=TAP, mac=mac_of(1), mtu=1442, silent=True), ovs=port(TAP)),
    ),
    "ovs, a detail that is not set": (
        an_ovs_vif(details={"ovs_create_tap": False, "ovs_of_a_later_nova": None, "datapath_type": "netdev"}),
        links(PresentWanted(name=TAP, mtu=1442), ovs=port(TAP)),
    ),
    "ovs, a detail that changes nothing here": (
        an_ovs_vif(details={"connectivity": "l2", "bound_drivers": {"0": "ovn"}, "datapath_type": "netdev"}),
        links(PresentWanted(name=TAP, mtu=1442), ovs=port(TAP)),
    ),
    "agilio_ovs that is plain ovs": (
        an_ovs_vif(type="agilio_ovs"),
        links(PresentWanted(name=TAP, mtu=1442), ovs=port(TAP)),
    ),
    "an MTU that Neutron has not set": (
        with_network(an_ovs_vif(), meta={"mtu": 0}),
        links(PresentWanted(name=TAP), ovs=port(TAP)),
    ),
    "tap": (
        a_vif(type="tap", details={"mac_address": "00:61:FE:ED:CA:FE"}),
        links(TapWanted(name=TAP, mac="00:61:fe:ed:ca:fe", mtu=1442)),
    ),
    "vhost-user that nobody plugs": (a_vif(type="vhostuser", details={"vhostuser_socket": "/run/vhu"}), VifNeeds()),
    "vhost-user, guest is the client": (
        an_ovs_vif(
            type="vhostuser",
            details={"vhostuser_socket": "/run/vhu", "vhostuser_ovs_plug": True, "vhostuser_mode": "client"},
        ),
        links(ovs=port(VHU, type="dpdkvhostuser", mtu_request=1442)),
    ),
    "hw_veb": (a_vif(type="hw_veb", vnic_type="direct", profile={"pci_slot": SLOT}), VifNeeds(pci_slot=SLOT)),
    "hostdev_physical": (a_vif(type="hostdev_physical", profile={"pci_slot": SLOT}), VifNeeds(pci_slot=SLOT)),
    "macvtap": (
        a_vif(type="macvtap", details={"macvtap_source": "eth1"}),
        links(PresentWanted(name="eth1", required=True)),
    ),
    "macvtap above a VLAN, which Nova makes": (
        a_vif(type="macvtap", details={"macvtap_source": "eth1.7", "vlan": 7, "physical_interface": "eth1"}),
        links(PresentWanted(name="eth1.7", required=True, made_by=MetBy.NOVA)),
    ),
    "a virtual function that is not trusted": (
        a_vif(type="hw_veb", vnic_type="direct", profile={"pci_slot": SLOT, "trusted": "False"}),
        VifNeeds(pci_slot=SLOT),
    ),
    "nothing in Nova either": (a_vif(type="802.1qbh"), VifNeeds()),
    "from no info cache": (
        {"address": "fa:16:3e:00:00:01", "network": {"label": "private", "subnets": []}},
        VifNeeds(),
    ),
}
REFUSED = {
    "binding failed": (a_vif(type="binding_failed"), "its port could not be bound to this host (binding_failed)"),
    "unbound": (a_vif(type="unbound"), "its port is bound to no host (unbound)"),
    "no type": (a_vif(type=None), "its type is null"),
    "type is a number": (a_vif(type=7), "type 7 is no text"),
    "bridge without a name": (with_network(a_vif(), bridge=None), "network.bridge is null"),
    "bridge with two words": (with_network(a_vif(), bridge="br 0"), "network.bridge 'br 0' is no device name"),
    "option for a bridge": (with_network(a_vif(), bridge="--all"), "network.bridge '--all' is no device name"),
    "device with quotes": (a_vif(devname='tap"1'), "devname 'tap\"1' is no device name"),
    "device that is too long": (a_vif(devname="tap0123456789abc"), "is no device name of at most 15"),
    "id with quotes": (a_vif(id='a"b'), "id 'a\"b' is no UUID"),
    "interface id with spaces": (an_ovs_vif(ovs_interfaceid="a b"), "ovs_interfaceid 'a b' is no UUID"),
    "no MAC": (a_vif(address="fa:16"), "address 'fa:16' is no MAC address"),
    "no address for a port": (an_ovs_vif(address=None), "it has no address"),
    "MTU in words": (with_network(a_vif(), meta={"mtu": "1500"}), "mtu '1500' is no number from 68 to 65535"),
    "MTU that is true": (with_network(a_vif(), meta={"mtu": True}), "mtu True is no number"),
    "network is a list": (a_vif(network=[]), "network is no object"),
    "vhost-user without a socket": (a_vif(type="vhostuser"), "details.vhostuser_socket is no path"),
    "no PCI address": (a_vif(type="hw_veb"), "profile.pci_slot None is no PCI address"),
    "PCI address that climbs": (a_vif(type="hostdev", profile={"pci_slot": "../x"}), "is no PCI address"),
    "macvtap on nothing": (a_vif(type="macvtap"), "details.macvtap_source None is no device name"),
}
LATER = {
    "ovs_create_veth": True,
    "ovs_isolated": 1,
    "vhostuser_dpdk_plug": "true",
    "macvtap_vlan_stack": [1, 2],
    "flowvisor_plug": {"a": 1},
    "create_bridge": True,
}
NOT_OURS = {
    "representor": an_ovs_vif(vnic_type="direct"),
    "vdpa": an_ovs_vif(vnic_type="vdpa"),
    "VLAN of a virtual function": a_vif(
        type="hw_veb", vnic_type="macvtap", profile={"pci_slot": SLOT}, details={"vlan": 7}
    ),
    "MAC of a virtual function with a macvtap": a_vif(
        type="hw_veb", vnic_type="macvtap", profile={"pci_slot": SLOT}, details={"vlan": 0}
    ),
    "trusted virtual function": a_vif(type="hw_veb", vnic_type="direct", profile={"pci_slot": SLOT, "trusted": "true"}),
    "smart network card": an_ovs_vif(vnic_type="remote-managed"),
    "tap and hybrid together, which os-vif refuses": an_ovs_vif(details=hybrid(ovs_create_tap=True)),
    "tap without its port": an_ovs_vif(details={"ovs_create_tap": True}, delegate_create=False),
    "unknown datapath": an_ovs_vif(details={"datapath_type": "afxdp"}),
    "unknown type": a_vif(type="carrier_pigeon"),
    "unknown vnic_type": an_ovs_vif(vnic_type="quantum"),
    "unknown mode of vhost-user": a_vif(
        type="vhostuser", details={"vhostuser_socket": "/run/vhu", "vhostuser_mode": "reconnect"}
    ),
    **{
        f"detail of a later Nova: {key}": an_ovs_vif(details={key: value, "datapath_type": "netdev"})
        for key, value in LATER.items()
    },
    "agilio_ovs offloaded": an_ovs_vif(type="agilio_ovs", vnic_type="virtio-forwarder"),
    "6WIND": a_vif(type="vhostuser", details={"vhostuser_fp_plug": True}),
    "Contrail": a_vif(type="vhostuser", details={"vhostuser_vrouter_plug": True}),
    **{name: a_vif(type=name) for name in ELSEWHERE},
}


@pytest.mark.parametrize(("plain", "expected"), WANTED.values(), ids=WANTED)
def test_what_the_host_must_have_for_a_vif(plain: Mapping[str, Any], expected: VifNeeds) -> None:
    assert needs_of_vif(read_vif(plain), AROUND) == expected


@pytest.mark.parametrize(("plain", "sentence"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_right_is_refused_in_a_sentence(plain: Mapping[str, Any], sentence: str) -> None:
    with pytest.raises(VifProblem) as raised:
        needs_of_vif(read_vif(plain), AROUND)
    assert sentence in str(raised.value)


@pytest.mark.parametrize("plain", NOT_OURS.values(), ids=NOT_OURS)
def test_what_only_others_can_plug_is_distinguished_from_what_is_wrong(plain: Mapping[str, Any]) -> None:
    with pytest.raises(NotPluggedHere):
        needs_of_vif(read_vif(plain), AROUND)


def test_every_type_stands_in_one_table_and_every_row_is_tried() -> None:
    assert not set(TYPES) & set(ELSEWHERE)
    assert not (set(TYPES) | set(ELSEWHERE)) & NOTHING
    assert all(needs_of_vif(read_vif(an_ovs_vif(details={key: None})), AROUND) for key in KNOWN_DETAILS)
    tried = [plain for plain, _ in (*WANTED.values(), *REFUSED.values())] + [*NOT_OURS.values()]
    assert set(TYPES) | set(ELSEWHERE) <= {plain.get("type") for plain in tried}


def test_a_name_is_made_of_the_id_where_nova_has_written_none() -> None:
    assert read_vif(a_vif(devname=None)).device == f"nic{port_of(1)}"[:14]


def several(queues: frozenset[str] | None, image: str = "") -> PlugContext:
    return PlugContext(
        instance=uuid_of(1),
        ovs_bridge="br-int",
        system_metadata={"image_hw_vif_multiqueue_enabled": image},
        several_queues=queues,
    )


@pytest.mark.parametrize(
    ("around", "expected"),
    [
        (several(None), False),
        (several(None, "True"), True),
        (several(None, "on"), True),
        (several(frozenset()), False),
        # The flavor has one CPU: Nova gives no queues then, whatever the image says.
        (several(frozenset(), "true"), False),
        # The flavor asks for them, of which the record says nothing.
        (several(frozenset({mac_of(1)})), True),
        (several(frozenset({mac_of(2)}), "true"), False),
    ],
)
@pytest.mark.parametrize("plain", [a_vif(type="tap"), an_ovs_vif(details={"ovs_create_tap": True})], ids=["tap", "ovs"])
def test_a_tap_has_the_queues_that_its_guest_is_defined_with(
    plain: Mapping[str, Any], around: PlugContext, *, expected: bool
) -> None:
    (tap,) = needs_of_vif(read_vif(plain), around).links
    assert isinstance(tap, TapWanted)
    assert tap.multi_queue is expected


def test_a_bridge_without_a_name_is_none() -> None:
    assert read_vif(with_network(an_ovs_vif(), bridge="")).bridge is None


@pytest.mark.parametrize(
    ("vif", "made"),
    [
        (an_ovs_vif(details=hybrid()), {QBR, QVB, QVO, "br-int"}),
        (an_ovs_vif(), {"br-int"}),
        (a_vif(), {BRIDGE}),
        (with_network(a_vif(), meta={}), set[str]()),
        ({**a_vif(), "type": "tap"}, {TAP}),
        ({**a_vif(), "type": "nonsense"}, set[str]()),
    ],
    ids=["hybrid", "Open vSwitch", "a bridge to make", "a bridge of others", "tap", "nonsense"],
)
def test_what_is_plugged_before_a_start_is_known_before_it_is_plugged(vif: dict[str, Any], made: set[str]) -> None:
    network = make_host_network()
    assert network.created_names(GuestOf([vif])) == made
    assert make_host_network(plugs=False).created_names(GuestOf([vif])) == frozenset()
