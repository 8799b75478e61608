"""VIFs of the lab, and what a definition has that its host has not; see :mod:`support.regret_lab`."""

import uuid
from typing import Any

ABSENT = "5f1c0c5e-3b3e-4f0e-9d55-6a1d7a1b9d10"
# What a definition has that this host has not; Nova makes each definition anew from its records, which have none of it.
DEVICES = {
    "disk by a kernel name that is gone": (
        "<disk type='block' device='disk'><driver name='qemu' type='raw'/><source dev='/dev/sdzz'/>"
        "<target dev='vdb' bus='virtio'/></disk>"
    ),
    "file of a volume below a mount point that is not mounted": (
        "<disk type='file' device='disk'><driver name='qemu' type='raw'/>"
        "<source file='{state}/mnt/8c5a52a1f2d7f0f3/volume-1'/><target dev='vdb' bus='virtio'/></disk>"
    ),
    "CD image gone": (
        "<disk type='file' device='cdrom'><driver name='qemu' type='raw'/><source file='/nonexistent/cd.iso'/>"
        "<target dev='hdc' bus='ide'/><readonly/></disk>"
    ),
    "share that is not mounted": (
        "<filesystem type='mount' accessmode='passthrough'><source dir='{state}/mnt/share'/><target dir='t'/>"
        "</filesystem>"
    ),
    "bridge gone": "<interface type='bridge'><source bridge='brgone0'/><model type='virtio'/></interface>",
    "libvirt network not active": (
        "<interface type='network'><source network='gone'/><model type='virtio'/></interface>"
    ),
    "parent of a macvtap gone": (
        "<interface type='direct'><source dev='ethgone0' mode='bridge'/><model type='virtio'/></interface>"
    ),
    "PCI device gone": (
        "<hostdev mode='subsystem' type='pci' managed='yes'><source>"
        "<address domain='0x00ff' bus='0x7e' slot='0x1d' function='0x7'/></source></hostdev>"
    ),
    "mediated device gone": (
        f"<hostdev mode='subsystem' type='mdev' model='vfio-pci'><source><address uuid='{ABSENT}'/></source></hostdev>"
    ),
    "USB device gone": (
        "<hostdev mode='subsystem' type='usb'><source><vendor id='0xdead'/><product id='0xbeef'/></source></hostdev>"
    ),
    "secret of an encrypted disk gone": (
        "<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{disk}.luks'>"
        f"<encryption format='luks'><secret type='passphrase' uuid='{ABSENT}'/></encryption></source>"
        "<target dev='vdb' bus='virtio'/></disk>"
    ),
}
TAGS = {
    "firmware gone": ("</type>", "</type><loader readonly='yes' type='pflash'>/nonexistent/OVMF_CODE.fd</loader>"),
    "huge pages not there": (
        "<os>",
        "<memoryBacking><hugepages><page size='1' unit='GiB'/></hugepages></memoryBacking><os>",
    ),
}


def a_vif(kind: str, number: int) -> dict[str, Any]:
    """Return a VIF as Nova's info cache has it."""
    port = str(uuid.uuid5(uuid.NAMESPACE_OID, f"port {number}"))
    details = {"port_filter": True, "ovs_hybrid_plug": False, "datapath_type": "netdev", "bridge_name": "br-int"}
    if kind == "ovs-tap":
        details["ovs_create_tap"] = True
    meta = {"mtu": 1450, "injected": False, "tenant_id": "p1", "bridge_interface": None, "should_create_bridge": True}
    return {
        "id": port,
        "address": f"fa:16:3e:00:00:{number:02x}",
        "type": "ovs",
        "vnic_type": "normal",
        "devname": f"tap{port[:11]}",
        "active": True,
        "ovs_interfaceid": port,
        "profile": {},
        "details": details,
        "preserve_on_delete": False,
        "qbh_params": None,
        "qbg_params": None,
        "delegate_create": True,
        "meta": {},
        "network": {"id": ABSENT, "bridge": "br-int", "label": "private", "meta": meta, "subnets": []},
    }
