"""Which names of a disk, with which device and record, prove that it is that disk.  Pure tables."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bringup.drivers.libvirt.guest_needs.block_devices import page_83
from bringup.drivers.libvirt.guest_needs.rules.disk_identity import (
    Device,
    Volume,
    identity_problem,
    is_volume,
    volume_of,
    volumes_of,
    who_can_identify,
)
from bringup.drivers.libvirt.guest_needs.rules.disk_names import Naming, is_stable_dm, plain_identity, read_name
from bringup.drivers.needs import MetBy

VOLUME_ID = "0a1b2c3d-1111-2222-3333-444455556666"
WWID = "60014055d7e1f2a4c3b2d1e0f9a8b7c6"
IQN = f"iqn.2010-10.org.openstack:volume-{VOLUME_ID}"
NQN = "nqn.2014-08.org.nvmexpress:uuid:beefbeef-0000-0000-0000-000000000001"
NGUID = "0123456789abcdef0123456789abcdef"
STABLE, UNSTABLE, DM, ENCRYPTED, PLAIN = (
    Naming.STABLE,
    Naming.UNSTABLE,
    Naming.DM,
    Naming.ENCRYPTED,
    Naming.PLAIN,
)


@pytest.mark.parametrize(
    ("path", "naming"),
    [
        *(
            (f"/dev/{name}", UNSTABLE)
            for name in ["sda", "sdb1", "sdaa", "vda", "vdb2", "xvda", "dm-0", "dm-12", "nvme0n1", "nvme1n1p2"]
        ),
        *(
            (f"/dev/{name}", UNSTABLE)
            for name in ["md0", "md127", "loop0", "loop7p1", "nbd0", "sr0", "cdrom", "zd0", "rbd0", "drbd0", "ram0"]
        ),
        ("/dev/disk/by-id/wwn-0x6001405abc", STABLE),
        ("/dev/disk/by-id/scsi-36001405abc", STABLE),
        ("/dev/disk/by-id/nvme-uuid.0123", STABLE),
        ("/dev/disk/by-id/nvme-eui.0123", STABLE),
        ("/dev/disk/by-id/ata-QEMU_HARDDISK_QM00001", STABLE),
        ("/dev/disk/by-id/virtio-0a1b2c3d-1111-2222-3", STABLE),
        (f"/dev/disk/by-id/dm-uuid-mpath-3{WWID}", STABLE),
        ("/dev/disk/by-id/dm-uuid-LVM-abcdef", STABLE),
        ("/dev/disk/by-id/dm-uuid-CRYPT-LUKS2-abc-crypt-x", ENCRYPTED),
        ("/dev/disk/by-id/dm-name-mpatha", DM),
        ("/dev/disk/by-id/dm-name-crypt-scsi-3600", ENCRYPTED),
        ("/dev/disk/by-id/md-name-host:0", UNSTABLE),
        ("/dev/disk/by-id/md-uuid-0123", STABLE),
        ("/dev/disk/by-id/os-brick+dev+sdb", ENCRYPTED),
        ("/dev/disk/by-id/", UNSTABLE),
        ("/dev/disk/by-id/dm-uuid-LVM-x/../../../sdb", UNSTABLE),
        ("/dev/zvol/../sdb", UNSTABLE),
        ("/dev/vg/./lv", UNSTABLE),
        (f"/dev/disk/by-path/ip-192.0.2.1:3260-iscsi-{IQN}-lun-1", STABLE),
        ("/dev/disk/by-path/ip-[2001:db8::1]:3260-iscsi-iqn.2000-01.com.synology:x-lun-0", STABLE),
        ("/dev/disk/by-path/pci-0000:05:00.0-fc-0x50060160c1e0abcd-lun-3", STABLE),
        ("/dev/disk/by-path/fc-0x50060160c1e0abcd-lun-3", STABLE),
        ("/dev/disk/by-path/ccw-0.0.1940-zfcp-0x50050763030bd327:0x4010403200000000", STABLE),
        ("/dev/disk/by-path/pci-0000:02:00.0-sas-0x5000c500a1b2c3d4-lun-0", STABLE),
        ("/dev/disk/by-path/pci-0000:02:00.0-sas-exp0x500056b3-phy4-lun-0", UNSTABLE),
        ("/dev/disk/by-path/pci-0000:00:1f.2-ata-1", UNSTABLE),
        ("/dev/disk/by-path/pci-0000:00:04.0", UNSTABLE),
        ("/dev/disk/by-path/pci-0000:00:14.0-usb-0:1:1.0-scsi-0:0:0:0", UNSTABLE),
        ("/dev/disk/by-uuid/0a1b", UNSTABLE),
        ("/dev/disk/by-partuuid/0a1b-01", UNSTABLE),
        ("/dev/disk/by-id/lvm-pv-uuid-0a1b", UNSTABLE),
        ("/dev/disk/by-label/data", UNSTABLE),
        ("/dev/disk/by-partlabel/data", UNSTABLE),
        ("/dev/disk/by-diskseq/3", UNSTABLE),
        ("/dev/disk/by-loop-ref/x", UNSTABLE),
        ("/dev/vg0/lv0", DM),
        ("/dev/mapper/vg0-lv0", DM),
        ("/dev/mapper/mpatha", DM),
        ("/dev/mapper/crypt-ip-192.0.2.1-lun-1", ENCRYPTED),
        ("/dev/mapper/luks-0a1b", ENCRYPTED),
        ("/dev/mapper/", UNSTABLE),
        ("/dev/md/data", UNSTABLE),
        ("/dev/zvol/tank/vm-1", STABLE),
        ("/dev/rbd/volumes/volume-1", STABLE),
        ("/dev/rbd/volumes/namespace/volume-1", STABLE),
        ("/dev/drbd/by-res/r0/0", STABLE),
        ("/dev/drbd/by-disk/vg/lv", UNSTABLE),
        ("/dev/storpool/os--volume--1", STABLE),
        ("/var/lib/nova/instances/x/disk", PLAIN),
        ("/srv/dev/disk/by-id/wwn-0x1", PLAIN),
        ("/devices/sda", PLAIN),
    ],
)
def test_names_of_disks_are_classified_as_in_the_table(path: str, naming: Naming) -> None:
    assert read_name(path).naming is naming


@given(st.text(st.characters(exclude_characters="/\0"), min_size=1, max_size=40))
def test_no_name_right_below_dev_is_stable(name: str) -> None:
    assert read_name(f"/dev/{name}").naming is UNSTABLE


@given(st.text(max_size=80))
def test_any_text_is_read_and_a_link_that_ends_at_a_kernel_name_proves_nothing(text: str) -> None:
    read_name(text)
    plain_identity(text)
    if not text.startswith("/dev/"):
        assert identity_problem([text, "/dev/sdb"], Device(name="sdb"), None)


@pytest.mark.parametrize(
    ("path", "dm_name", "dm_uuid", "is_stable"),
    [
        ("/dev/vg0/lv0", "vg0-lv0", "LVM-abc", True),
        ("/dev/my-vg/my-lv", "my--vg-my--lv", "LVM-abc", True),
        ("/dev/mapper/vg0-lv0", "vg0-lv0", "LVM-abc", True),
        ("/dev/vg0/lv0", "vg0-lv1", "LVM-abc", False),
        ("/dev/vg0/lv0", "vg0-lv0", "", False),
        ("/dev/vg0/lv0", "vg0-lv0", "CRYPT-PLAIN-vg0-lv0", False),
        (f"/dev/mapper/3{WWID}", f"3{WWID}", f"mpath-3{WWID}", True),
        (f"/dev/mapper/3{WWID}-part1", f"3{WWID}-part1", f"part1-mpath-3{WWID}", True),
        ("/dev/mapper/mpatha", "mpatha", f"mpath-3{WWID}", False),
        ("/dev/mapper/linear", "linear", "", False),
    ],
)
def test_device_mapper_decides_on_its_names(path: str, dm_name: str, dm_uuid: str, *, is_stable: bool) -> None:
    device = Device(name="dm-3", dm_name=dm_name, dm_uuid=dm_uuid)
    assert is_stable_dm(read_name(path), dm_name, dm_uuid) is is_stable
    assert (identity_problem([path, "/dev/dm-3"], device, None) == "") is is_stable


def test_a_decrypted_device_is_never_identified() -> None:
    crypt = Device(name="dm-5", dm_name="x", dm_uuid="CRYPT-LUKS1-abc-x", wwns=frozenset({WWID}))
    volume = Volume(id=VOLUME_ID, wwns=frozenset({WWID}))
    for path in ("/dev/mapper/x", f"/dev/disk/by-id/wwn-0x{WWID}", "/dev/disk/by-uuid/0a1b", "/dev/dm-5"):
        assert "key" in identity_problem([path, "/dev/dm-5"], crypt, volume)
    assert identity_problem(["/dev/disk/by-id/os-brick+dev+sdb", "/dev/sdb"], Device(name="sdb"), None)


def iscsi(**data: Any) -> list[Volume]:
    info = {"driver_volume_type": "iscsi", "data": data}
    return volumes_of([{"volume_id": VOLUME_ID, "device_name": "/dev/vdb", "connection_info": json.dumps(info)}])


SDB = Device(name="sdb", wwns=frozenset({WWID}), targets=frozenset({(IQN, 1)}))


@pytest.mark.parametrize(
    ("device", "data", "proof"),
    [
        (SDB, {"target_iqn": IQN, "target_lun": 1}, True),
        (SDB, {"target_iqn": IQN, "target_lun": 2}, False),
        (SDB, {"target_iqn": f"{IQN}0", "target_lun": 1}, False),
        (SDB, {"target_iqns": ["iqn.other", IQN], "target_luns": [1, 1]}, True),
        (SDB, {"target_iqns": ["iqn.other", IQN], "target_luns": [1, 2]}, False),
        (SDB, {"wwn": f"0x{WWID}"}, True),
        (SDB, {"wwn": f"3{WWID.upper()}"}, True),
        (SDB, {"wwn": f"naa.{WWID[:-1]}7"}, False),
        # What agrees in one and not in the other is not that volume.
        (SDB, {"target_iqn": IQN, "target_lun": 1, "wwn": f"naa.{WWID[:-1]}7"}, False),
        (SDB, {"wwn": "0"}, None),
        (SDB, {}, None),
        (Device(name="sdc"), {"target_iqn": IQN, "target_lun": 1}, None),
        (Device(name="dm-0", dm_uuid=f"mpath-3{WWID}"), {"multipath_id": f"3{WWID}"}, True),
        (Device(name="dm-0", dm_uuid=f"mpath-3{WWID}", paths=(SDB,)), {"target_iqn": IQN, "target_lun": 1}, True),
        (
            Device(name="dm-0", paths=(SDB, Device(name="sdc", targets=frozenset({(IQN, 9)})))),
            {"target_iqn": IQN, "target_lun": 1},
            False,
        ),
        (Device(name="dm-0", dm_uuid="LVM-abc"), {"target_iqn": IQN, "target_lun": 1}, None),
        (
            Device(name="sdd", targets=frozenset({("50060160c1e0abcd", 3)})),
            {"target_wwn": ["50060160C1E0ABCD", "50060160c1e0abce"], "target_lun": 3},
            True,
        ),
        (
            Device(name="nvme0n1", nqn=NQN, namespaces=frozenset({NGUID})),
            {"target_nqn": NQN, "volume_nguid": NGUID},
            True,
        ),
        (
            Device(name="nvme0n1", nqn=NQN, namespaces=frozenset({NGUID})),
            {"target_nqn": NQN, "vol_uuid": VOLUME_ID},
            False,
        ),
        (Device(name="nvme0n1", nqn=NQN, namespaces=frozenset({NGUID})), {"target_nqn": NQN}, None),
        (Device(name="nvme0n1", nqn=f"nqn.x:{VOLUME_ID}"), {"nqn": f"nqn.x:{VOLUME_ID}"}, True),
        (Device(name="nvme0n1", nqn="nqn.other"), {"nqn": NQN}, False),
    ],
)
def test_a_record_identifies_a_device_by_what_both_name(
    device: Device, data: dict[str, Any], *, proof: bool | None
) -> None:
    [volume] = iscsi(**data)
    assert is_volume(device, volume) is proof
    assert (identity_problem([f"/dev/{device.name}"], device, volume) == "") is bool(proof)


def test_a_stable_name_that_record_or_device_contradicts_does_not_identify() -> None:
    [volume] = iscsi(target_iqn=IQN, target_lun=2)
    by_path = f"/dev/disk/by-path/ip-192.0.2.1:3260-iscsi-{IQN}-lun-1"
    assert "record" in identity_problem([by_path, "/dev/sdb"], SDB, volume)
    other = f"/dev/disk/by-id/wwn-0x{WWID[:-1]}7"
    assert "identity" in identity_problem([other, "/dev/sdb"], SDB, None)
    assert identity_problem([f"/dev/disk/by-id/scsi-3{WWID}", "/dev/sdb"], SDB, None) == ""


def test_a_name_with_another_target_than_the_record_does_not_identify() -> None:
    loop = Device(name="loop0")
    by_path = f"/dev/disk/by-path/ip-192.0.2.1:3260-iscsi-{IQN}-lun-1"
    for data, is_proof in (
        ({"target_iqn": IQN, "target_lun": 1}, True),
        ({"target_iqn": IQN, "target_lun": 2}, False),
        ({"target_iqn": "iqn.x:other", "target_lun": 1}, False),
        ({}, True),
    ):
        assert (identity_problem([by_path, "/dev/loop0"], loop, iscsi(**data)[0]) == "") is is_proof
    by_id = f"/dev/disk/by-id/wwn-0x{WWID}"
    assert identity_problem([by_id, "/dev/loop0"], loop, iscsi(wwn=WWID)[0]) == ""
    assert identity_problem([by_id, "/dev/loop0"], loop, iscsi(wwn=f"{WWID[:-1]}7")[0])


def test_a_link_that_has_the_volumes_id_in_its_name_is_that_volume() -> None:
    [volume] = iscsi()
    assert identity_problem([f"/dev/fabric/volume-{VOLUME_ID}", "/dev/sdx"], Device(name="sdx"), volume) == ""
    # Not outside of /dev, where anybody could have made it.
    assert identity_problem([f"/srv/volume-{VOLUME_ID}", "/dev/sdx"], Device(name="sdx"), volume)
    assert identity_problem([f"/dev/fabric/volume-{VOLUME_ID}", "/dev/sdx"], Device(name="sdx"), None)


def test_a_disk_is_found_in_the_record_by_its_serial_first() -> None:
    volumes = volumes_of(
        [
            {"volume_id": VOLUME_ID, "device_name": "/dev/vda"},
            {"volume_id": VOLUME_ID.replace("0a", "0b"), "device_name": "vdb"},
        ]
    )
    assert volume_of(volumes, "vdb", VOLUME_ID) is volumes[0]
    assert volume_of(volumes, "vdb", "") is volumes[1]
    # Names in the guest change when volumes are swapped: a serial that the record has not is another volume's.
    assert volume_of(volumes, "vdb", VOLUME_ID.replace("0a", "0c")) is None
    assert who_can_identify(None, by_nova=False) is MetBy.PERSON
    assert who_can_identify(volumes[0], by_nova=False) is MetBy.NOVA


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
)


@given(JSON, JSON)
def test_any_record_is_read(data: Any, other: Any) -> None:
    keys = ("target_iqn", "target_iqns", "target_lun", "target_luns", "wwn", "target_nqn", "vol_uuid", "export")
    info = {"driver_volume_type": other, "data": dict.fromkeys(keys, data)}
    for value in (info, json.dumps(info), data):
        for volume in volumes_of([{"volume_id": other, "device_name": data, "connection_info": value}]):
            assert is_volume(Device(name="sda"), volume) is None


def test_passwords_of_a_record_are_not_kept() -> None:
    [volume] = iscsi(target_iqn=IQN, target_lun=1, auth_password="hunter2", auth_username="u", secret_uuid="hunter2")
    assert "hunter2" not in repr(volume)


def test_page_83_is_read_for_the_unit_and_not_for_its_port() -> None:
    def designator(code_set: int, kind: int, value: bytes) -> bytes:
        return bytes([code_set, kind, 0, len(value)]) + value

    unit, port = bytes.fromhex(WWID), bytes.fromhex("50060160c1e0abcd")
    page = designator(1, 3, unit) + designator(1, 0x13, port) + designator(2, 1, b"VENDOR  serial") + b"\1\3\0\xff"
    header = b"\0\x83" + len(page).to_bytes(2, "big")
    assert list(page_83(header + page)) == [WWID]
    assert list(page_83(b"")) == []


@given(st.binary(max_size=300))
def test_any_page_83_is_read(page: bytes) -> None:
    assert all(len(found) >= 16 for found in page_83(page))


@pytest.mark.parametrize("dm_uuid", ["LVM-abc", f"part1-mpath-3{WWID}", "LINEAR-x", "DMRAID-x"])
def test_a_partition_or_derived_device_of_the_right_disk_does_not_identify(dm_uuid: str) -> None:
    target = ("iqn.2010-10.org.openstack:x", 1)
    volume = Volume(id=VOLUME_ID, wwns=frozenset({WWID}), targets=frozenset({target}))
    path = Device(name="sdb", wwns=frozenset({WWID}), targets=frozenset({target}))
    whole = Device(name="dm-3", dm_uuid=f"mpath-3{WWID}", paths=(path,))
    assert is_volume(whole, volume) is True
    assert is_volume(replace(whole, dm_uuid=dm_uuid), volume) is None
    assert is_volume(replace(path, name="sdb1", is_part=True), volume) is None
    assert is_volume(replace(path, is_part=True, wwns=frozenset({"6" + "0" * 30 + "1"})), volume) is False


@pytest.mark.parametrize("links", ["by-uuid", "by-partuuid", "by-label", "by-partlabel", "by-id/lvm-pv-uuid"])
def test_a_link_named_by_guest_data_identifies_only_with_the_record(links: str) -> None:
    names = (f"/dev/disk/{links}{'-' if 'by-id' in links else '/'}{VOLUME_ID}", "/dev/sdb")
    volume = Volume(id=VOLUME_ID, wwns=frozenset({WWID}))
    assert identity_problem(names, Device(name="sdb"), volume)
    assert identity_problem(names, Device(name="sdb", wwns=frozenset({WWID})), volume) == ""
