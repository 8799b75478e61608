"""Whether a block device is the disk that a definition means by a name of it.  Pure."""

from collections.abc import Sequence

from bringup.drivers.libvirt.needed.rules.names import (
    SHORTEST,
    Name,
    Naming,
    is_encrypted,
    is_stable_dm,
    plain_identity,
    read_name,
)
from bringup.drivers.libvirt.needed.rules.volumes import Device, Volume, proves
from bringup.drivers.needs import MetBy

ENCRYPTED = "what is opened with a key here must be opened again by who has the key"

WRITTEN_BY_GUESTS = tuple(
    f"/dev/disk/{links}" for links in ("by-uuid/", "by-partuuid/", "by-label/", "by-partlabel/", "by-id/lvm-pv-uuid-")
)
"""Links that udev names by what is written on the disk."""


def doubt(names: Sequence[str], device: Device | None, volume: Volume | None) -> str:
    """Say why the names of a disk, and the record, do not prove that it is that disk; "" where they do.

    ``device`` is None where only its names are known.
    """
    read = [read_name(name) for name in names]
    if any(name.naming is Naming.ENCRYPTED for name in read) or (device is not None and is_encrypted(device.dm_uuid)):
        return ENCRYPTED
    proof = None if volume is None or device is None else proves(device, volume)
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


def who_can_tell(volume: Volume | None, *, by_nova: bool) -> MetBy:
    """Say who can name a disk anew that was not identified."""
    return MetBy.NOVA if by_nova or (volume is not None and volume.id) else MetBy.PERSON


def _agrees(name: Name, device: Device) -> bool:
    """Tell whether the identity in a name is the device's, as far as it tells one."""
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
    """Tell whether a name says of a target, or of a WWN, what the record does not."""
    if name.target is not None and volume.targets:
        return name.target not in volume.targets
    is_wwn = len(name.identity) >= SHORTEST and all(digit in "0123456789abcdef" for digit in name.identity)
    return bool(is_wwn and volume.wwns) and name.identity not in volume.wwns


def _names_volume(names: Sequence[str], volume: Volume | None) -> bool:
    """Tell whether a link that some storage keeps has the volume's UUID in its name."""
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
