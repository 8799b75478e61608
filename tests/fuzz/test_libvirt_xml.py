"""Definitions of guests: what libvirt gives, and the file beside the disks."""

from collections.abc import Callable
from random import Random
from typing import Any, Final
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given

from bringup.drivers.base import DriverError
from bringup.drivers.libvirt import host_needs
from bringup.drivers.libvirt.definitions import (
    copies_of,
    features_of,
    host_cpu,
    nics_with_several_queues,
    require_definition_of,
    requires_kvm,
    values_of,
)
from bringup.drivers.libvirt.guest_needs.rules.backing_files import MAGIC, read_header, source_of
from bringup.drivers.libvirt.guest_needs.rules.definition import read_definition
from support.drivers import uuid_of
from support.fuzzing import CHANCES, Border, fuzz
from support.mutating import TEXTS, hostile, mangled

BORDER = "libvirt XML"
UUID: Final = uuid_of(1)
XML: Final = f"""<domain type='kvm'><name>instance-00000001</name><uuid>{UUID}</uuid>
<metadata><nova:instance xmlns:nova='http://openstack.org/xmlns/libvirt/nova/1.1'><nova:name>a</nova:name></nova:instance>
</metadata><memory unit='KiB'>524288</memory><currentMemory unit='KiB'>524288</currentMemory>
<memoryBacking><hugepages><page size='2048' unit='KiB' nodeset='0-3'/></hugepages></memoryBacking>
<vcpu placement='static' cpuset='0-3,^2'>1</vcpu><cputune><vcpupin vcpu='0' cpuset='1'/></cputune>
<os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type><loader>/usr/share/OVMF/OVMF_CODE.fd</loader>
<nvram template='/usr/share/OVMF/OVMF_VARS.fd'>/var/lib/libvirt/qemu/nvram/a.fd</nvram><kernel>/vmlinuz</kernel></os>
<cpu><numa><cell id='0' cpus='0' memory='524288' unit='KiB'/></numa></cpu>
<devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/var/lib/nova/instances/{UUID}/disk'/>
<backingStore type='file'><format type='raw'/><source file='/var/lib/nova/instances/_base/x'/><backingStore/>
</backingStore>
<target dev='vda' bus='virtio'/><serial>{uuid_of(5)}</serial><mirror type='file' job='copy' file='/x'/></disk>
<disk type='network' device='disk'><auth username='a'><secret type='ceph' uuid='{uuid_of(6)}'/></auth>
<source protocol='rbd' name='volumes/v'><host name='192.0.2.1' port='6789'/></source><target dev='vdb'/></disk>
<disk type='volume' device='cdrom'><source pool='p' volume='v' startupPolicy='optional'/><target dev='sda'/></disk>
<disk type='nvme' device='disk'><source type='pci' namespace='1'>
<address domain='0x0000' bus='0x01' slot='0x00' function='0x0'/>
</source><target dev='vdd'/></disk>
<filesystem type='mount'><source dir='/share' socket='/s'/><target dir='tag'/></filesystem>
<interface type='bridge'><mac address='fa:16:3e:00:00:01'/><source bridge='br-int'/><virtualport type='openvswitch'/>
<target dev='tap1' managed='no'/><driver name='vhost' queues='4'/></interface>
<interface type='network'><mac address='fa:16:3e:00:00:02'/><source network='default'/></interface>
<hostdev mode='subsystem' type='usb'><source><vendor id='0x1234'/><product id='0xbeef'/>
<address bus='1' device='2'/></source></hostdev><hostdev mode='subsystem' type='scsi'><source>
<adapter name='scsi_host0'/><address bus='0' target='0' unit='0'/>
</source></hostdev><memory model='nvdimm'><source><path>/nv</path></source></memory>
<tpm model='tpm-crb'><backend type='emulator'><encryption secret='{uuid_of(7)}'/></backend></tpm>
</devices></domain>"""
CAPABILITIES: Final = """<capabilities><host><cpu><arch>x86_64</arch><feature name='vmx'/></cpu></host>
<devices><disk><enum name='bus'><value>virtio</value></enum></disk></devices></capabilities>"""
READERS: Final[tuple[Callable[[str], Any], ...]] = (
    copies_of,
    requires_kvm,
    nics_with_several_queues,
    host_cpu,
    lambda xml: list(features_of(xml)),
    lambda xml: values_of(xml, "disk", "bus"),
    lambda xml: host_needs.parse_definition(UUID, xml, "/var/lib/nova/instances"),
)


def text(chance: Random) -> str:
    """Return a text that XML may hold; deep ones and long ones too."""
    given = hostile(chance)
    found = given if isinstance(given, str) else str(given)[:4000]
    return "".join(each for each in found if each >= " " and not "\ud800" <= each <= "\udfff")


def changed(chance: Random, xml: str) -> str:
    """Change elements and attributes in a few places; libvirt gives XML that is well formed."""
    root = ET.fromstring(xml)  # noqa: S314 - our own
    for _ in range(chance.randint(1, 4)):
        above = list(root.iter())
        parent = above[chance.randrange(len(above))]
        match chance.randrange(6):
            case 0 if len(parent):
                parent.remove(parent[chance.randrange(len(parent))])
            case 1 if len(parent):
                parent.append(parent[chance.randrange(len(parent))])
            case 2:
                parent.text = text(chance)
            case 3:
                parent.tag = chance.choice(("disk", "source", "backingStore", "address", "x", "uuid"))
            case 4 if parent.attrib:
                del parent.attrib[chance.choice(list(parent.attrib))]
            case _:
                names = [*parent.attrib, "type", "port", "queues", "cpuset", "job", "unit"]
                parent.set(chance.choice(names), text(chance))
    return ET.tostring(root, encoding="unicode")


@fuzz(250)
@given(chance=CHANCES)
def test_whatever_a_definition_says_it_is_read(border: Border, chance: Random) -> None:
    xml = changed(chance, chance.choice((XML, XML, XML, CAPABILITIES)))
    for reads in READERS:
        with border.one():
            reads(xml)
    with border.one():
        repr(read_definition(xml)).encode()


@fuzz(200)
@given(chance=CHANCES)
def test_a_file_beside_the_disks_is_the_definition_or_refused(border: Border, chance: Random) -> None:
    xml = changed(chance, XML)
    if chance.randrange(2):
        xml = mangled(chance, xml.encode()).decode(errors="replace")
    with border.one(DriverError):
        assert require_definition_of(xml, UUID) == xml
    with border.one(ValueError):
        read_definition(xml)


@fuzz(150)
@given(chance=CHANCES)
def test_whatever_an_image_names_as_its_backing_file_it_is_read(border: Border, chance: Random) -> None:
    header = (
        MAGIC
        + b"\0\0\0\3"
        + (104).to_bytes(8, "big")
        + (20).to_bytes(4, "big")
        + bytes(84)
        + b"/var/lib/base.raw\0\0\0"
    )
    with border.one():
        read_header(mangled(chance, header))
    names = (
        "nbd://192.0.2.1:10809/x",
        'json:{"driver":"qcow2","file":{"driver":"rbd","pool":"p","image":"i","server":[{"host":"a","port":"1"}]}}',
        "rbd:volumes/x:id=a:mon_host=192.0.2.1\\:6789",
        "gluster+unix:///v/x?socket=/s",
        "../base",
    )
    backing = mangled(chance, chance.choice(names).encode()).decode(errors="replace")
    with border.one():
        source_of(backing, chance.choice(("qcow2", "raw", "", chance.choice(TEXTS))), "/var/lib/nova/instances/a/disk")


ENTITIES: Final = "".join(f'<!ENTITY e{at} "{f"&e{at - 1};" * 10}">' for at in range(1, 12))
FOUND: Final = {
    "not XML": "<domain>",
    "entities that grow": f'<!DOCTYPE d [<!ENTITY e0 "0">{ENTITIES}]><domain><uuid>&e11;</uuid></domain>',
    "an entity that is a file": '<!DOCTYPE d [<!ENTITY e SYSTEM "file:///etc/passwd">]><domain><uuid>&e;</uuid></domain>',
    "another guest's": f"<domain><uuid>{uuid_of(2)}</uuid></domain>",
    "an escape sequence": f"<domain><uuid>{UUID}&#x9b;2J</uuid></domain>",
    "a UUID of 70000 characters": f"<domain><uuid>{'x' * 70_000}</uuid></domain>",
    "nested too deep": "<a>" * 100_000,
}


@pytest.mark.parametrize("xml", FOUND.values(), ids=FOUND)
def test_what_is_not_the_definition_of_the_instance_is_refused(border: Border, xml: str) -> None:
    with border.one(DriverError):
        require_definition_of(xml, UUID)
    assert border.refused


def test_a_number_of_queues_of_5000_digits_is_none() -> None:
    xml = XML.replace("queues='4'", f"queues='{'4' * 5000}'")
    assert nics_with_several_queues(xml) == frozenset()
