"""Identity of a disk: what a record says the volume is, and whether a device of this host is it.  Pure.

Only keys that name the volume are read: ``connection_info`` contains passwords too.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bringup.drivers.libvirt.guest_needs.rules.disk_names import (
    SHORTEST,
    Name,
    Naming,
    is_encrypted,
    is_stable_dm,
    plain_identity,
    read_name,
)
from bringup.drivers.needs import MetBy
from bringup.drivers.volume_identity import NAMESPACE_KEYS, WWN_KEYS, as_object

MULTIPATH: Final = "mpath-"
"""Prefix of device-mapper's UUID of a multipath device."""
FILE_TYPES: Final = frozenset({"nfs", "smbfs", "cifs", "glusterfs", "quobyte", "vzstorage", "scality", "sofs"})
"""Protocols of Cinder whose volumes are files below a mount."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """Facts of the kernel and udev about a block device."""

    name: str
    """The kernel's name."""
    dm_name: str = ""
    dm_uuid: str = ""
    wwns: frozenset[str] = frozenset()
    """As :func:`plain_identity` has them."""
    targets: frozenset[tuple[str, int]] = frozenset()
    """IQN, or WWPN, with LUN."""
    nqn: str = ""
    namespaces: frozenset[str] = frozenset()
    """UUID, NGUID, EUI of an NVMe namespace, as :func:`plain_identity` has them."""
    is_part: bool = False
    """It is a partition: the identity is that of its disk."""
    paths: tuple["Device", ...] = ()
    """The paths of a multipath device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """Facts of a record about a disk of a guest."""

    id: str = ""
    """Cinder's UUID; empty: the disk is no volume."""
    device_name: str = ""
    protocol: str = ""
    """Nova's ``driver_volume_type``."""
    wwns: frozenset[str] = frozenset()
    targets: frozenset[tuple[str, int]] = frozenset()
    nqn: str = ""
    namespaces: frozenset[str] = frozenset()
    export: str = ""
    """Export that is mounted, if the volume is a file."""


def volumes_of(block_devices: Iterable[Mapping[str, Any]]) -> list[Volume]:
    """Parse block device mappings; a value of a wrong type is ignored."""
    return [_volume(device) for device in block_devices]


def volume_of(volumes: Sequence[Volume], target: str, serial: str) -> Volume | None:
    """Find the volume of a disk: by its serial, which Nova makes of the volume's id, else by its name in the guest."""
    for volume in volumes:
        if volume.id and volume.id == serial.lower():
            return volume
    if re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", serial.lower()):
        # It is another volume: names in the guest change when volumes are swapped.
        return None
    for volume in volumes:
        if target and volume.device_name.rpartition("/")[2] == target:
            return volume
    return None


def is_volume(device: Device, volume: Volume) -> bool | None:
    """Check whether a device is a volume; None: they have no identity in common that can be compared."""
    verdicts = [
        verdict
        for verdict in (_by_wwn(device, volume), _by_target(device, volume), _by_namespace(device, volume))
        if verdict is not None
    ]
    if not all(verdicts):
        return False
    # A partition of the right disk, or a device built on it, is not that disk.
    is_other = device.is_part or ((device.dm_name or device.dm_uuid) and not device.dm_uuid.startswith(MULTIPATH))
    return True if verdicts and not is_other else None


def _by_wwn(device: Device, volume: Volume) -> bool | None:
    known = device.wwns | {wwn for path in device.paths for wwn in path.wwns}
    if device.dm_uuid.startswith(MULTIPATH):
        known |= {plain_identity(device.dm_uuid)}
    if not volume.wwns or not known:
        return None
    return bool(known & volume.wwns) and all(not path.wwns or path.wwns & volume.wwns for path in device.paths)


def _by_target(device: Device, volume: Volume) -> bool | None:
    if not volume.targets:
        return None
    each = [path.targets for path in (device, *device.paths) if path.targets]
    return all(targets & volume.targets for targets in each) if each else None


def _by_namespace(device: Device, volume: Volume) -> bool | None:
    if not volume.nqn or not device.nqn:
        return None
    if device.nqn != volume.nqn:
        return False
    if volume.namespaces:
        return bool(device.namespaces & volume.namespaces) if device.namespaces else None
    # The volume has a subsystem of its own.
    return True if volume.id and volume.id in device.nqn else None


def _volume(device: Mapping[str, Any]) -> Volume:
    info = as_object(device.get("connection_info"))
    data = as_object(info.get("data"))
    protocol = _text(info.get("driver_volume_type"))
    return Volume(
        id=(_text(device.get("volume_id")) or _text(data.get("volume_id")) or _text(info.get("serial"))).lower(),
        device_name=_text(device.get("device_name")),
        protocol=protocol,
        wwns=frozenset(_identities(data, WWN_KEYS)),
        targets=frozenset(_targets(data)),
        nqn=_text(data.get("target_nqn")) or _text(data.get("nqn")),
        namespaces=frozenset(_identities(data, NAMESPACE_KEYS)),
        export=_text(data.get("export")) if protocol in FILE_TYPES else "",
    )


def _identities(data: Mapping[str, Any], keys: Iterable[str]) -> Iterable[str]:
    for key in keys:
        identity = plain_identity(_text(data.get(key)))
        if len(identity) >= SHORTEST and identity.strip("0"):
            yield identity


def _targets(data: Mapping[str, Any]) -> Iterable[tuple[str, int]]:
    names = _texts(data.get("target_iqns")) or _texts(data.get("target_iqn"))
    names = names or _texts(data.get("target_wwns")) or _texts(data.get("target_wwn"))
    luns = _numbers(data.get("target_luns")) or _numbers(data.get("target_lun"))
    if len(luns) == len(names):
        yield from ((_target(name), lun) for name, lun in zip(names, luns, strict=True))
    elif len(luns) == 1:
        yield from ((_target(name), luns[0]) for name in names)


def _target(name: str) -> str:
    return name if name.startswith(("iqn.", "eui.", "naa.")) else plain_identity(name.replace(":", ""))


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""


def _texts(value: Any) -> list[str]:
    values = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    return [text for each in values if (text := _text(each))]


def _numbers(value: Any) -> list[int]:
    values = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    return [int(each) for each in values if (isinstance(each, int) and not isinstance(each, bool)) or _digits(each)]


def _digits(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[0-9]{1,10}", value) is not None


ENCRYPTED = "it is opened with a key, and only the owner of that key can open it again"

WRITTEN_BY_GUESTS = tuple(
    f"/dev/disk/{links}" for links in ("by-uuid/", "by-partuuid/", "by-label/", "by-partlabel/", "by-id/lvm-pv-uuid-")
)
"""Links that udev names by data on the disk."""


def identity_problem(names: Sequence[str], device: Device | None, volume: Volume | None) -> str:
    """Return why the names of a disk, and the record, do not prove that it is that disk; "" if they do.

    ``device`` is None if only its names are known.
    """
    read = [read_name(name) for name in names]
    if any(name.naming is Naming.ENCRYPTED for name in read) or (device is not None and is_encrypted(device.dm_uuid)):
        return ENCRYPTED
    proof = None if volume is None or device is None else is_volume(device, volume)
    if proof is False or (volume is not None and any(_contradicts(name, volume) for name in read)):
        return f"{names[-1]} is another disk than the record says"
    if proof or _names_volume(names, volume):
        return ""
    for name in read:
        if name.naming is Naming.STABLE:
            agrees = device is None or _agrees(name, device)
            return "" if agrees else f"{names[-1]} has another identity than the name says"
        if name.naming is Naming.DM and device is not None and is_stable_dm(name, device.dm_name, device.dm_uuid):
            return ""
    return f"nothing proves that {names[-1]} is the same disk as before the boot"


def who_can_identify(volume: Volume | None, *, by_nova: bool) -> MetBy:
    """Return who can identify a disk that was not identified."""
    return MetBy.NOVA if by_nova or (volume is not None and volume.id) else MetBy.PERSON


def _agrees(name: Name, device: Device) -> bool:
    """Check whether the identity in a name, if there is one, is that of the device."""
    if not name.identity:
        return True
    if device.dm_uuid:
        if name.identity == device.dm_uuid.lower():
            return True
        return not device.dm_uuid.startswith("mpath-") or plain_identity(device.dm_uuid) == plain_identity(
            name.identity
        )
    return not device.wwns or name.identity in device.wwns


def _contradicts(name: Name, volume: Volume) -> bool:
    """Check whether a name contains another target, or another WWN, than the record."""
    if name.target is not None and volume.targets:
        return name.target not in volume.targets
    is_wwn = len(name.identity) >= SHORTEST and all(digit in "0123456789abcdef" for digit in name.identity)
    return bool(is_wwn and volume.wwns) and name.identity not in volume.wwns


def _names_volume(names: Sequence[str], volume: Volume | None) -> bool:
    """Check whether a link that the storage creates has the volume's UUID in its name."""
    if volume is None or not volume.id:
        return False
    links = [
        name
        for name in names[:-1]
        if name.startswith("/dev/")
        and not name.startswith(WRITTEN_BY_GUESTS)
        and read_name(name).naming is not Naming.ENCRYPTED
    ]
    return any(volume.id in link.lower() for link in links)
