"""Names of disks: whether the same name is the same disk after the next boot.  Pure.

A name is *stable* if it contains an identity, or if the program that resolves it uses an identity of its own; it is
*unstable* if it is a number in the order of detection, a slot, or a label that anybody can set.

========================================= ========= ================================================================
``/dev/disk/by-id/``                      stable    serial, WWN, EUI, UUID of the device; ``dm-uuid-``, ``md-uuid-``
``/dev/disk/by-id/dm-name-``, ``md-name-``  see dm  a name that an administrator chose
``/dev/disk/by-id/os-brick+``             encrypted a link of os-brick: a kernel name, or what it opened with a key
``/dev/disk/by-path/`` with the target    stable    IQN and LUN, WWPN and LUN, SAS address, NVMe subsystem
``/dev/disk/by-path/`` of a slot          unstable  whatever is plugged in there
``/dev/disk/by-uuid/``, ``by-partuuid/``, unstable  written on the disk: by a guest too, and a clone has the same
``by-id/lvm-pv-uuid-``
``by-label/``, ``by-partlabel/``, others  unstable  a label; ``by-diskseq`` is a number of this boot
``/dev/VG/LV``, ``/dev/mapper/VG-LV``     stable    if device-mapper says ``LVM-``: LVM finds its volumes by UUID
``/dev/mapper/WWID``                      stable    if device-mapper says ``mpath-`` and the same
``/dev/mapper/`` anything else            unstable  a friendly name of multipath, what os-brick makes
``/dev/mapper/crypt-...``, ``CRYPT-``     encrypted opened with a key; it may be another one the next time
``/dev/zvol/``, ``/dev/rbd/POOL/IMAGE``,
``/dev/drbd/by-res/``, ``/dev/storpool/`` stable    named by the storage itself
anything else below ``/dev``              unstable  ``sda``, ``vda``, ``dm-0``, ``nvme0n1``, ``md0``, ``loop0``, ...
anything else                             plain     a file, or a link to one of the above
========================================= ========= ================================================================
"""

import enum
import re
from dataclasses import dataclass
from typing import Final


class Naming(enum.Enum):
    """Kind of a name."""

    STABLE = "stable"
    DM = "dm"
    """Device-mapper's UUID decides."""
    ENCRYPTED = "encrypted"
    UNSTABLE = "unstable"
    PLAIN = "plain"
    """Not the name of a device."""


@dataclass(frozen=True, slots=True)
class Name:
    """One parsed name."""

    naming: Naming
    dm_name: str = ""
    """Device-mapper's name for it."""
    identity: str = ""
    """The identity in it, as :func:`plain_identity` returns it, if it can be compared."""
    target: tuple[str, int] | None = None
    """IQN, or WWPN, and LUN in it."""


_NODES: Final = "/dev/"
_BY_ID: Final = "/dev/disk/by-id/"
_BY_PATH: Final = "/dev/disk/by-path/"
_BY_ITSELF: Final = ("/dev/zvol/", "/dev/drbd/by-res/", "/dev/storpool/", "/dev/storpool-byid/")
_MAPPER: Final = "/dev/mapper/"
# The name of a slot, a port or a bus contains no target.
_TARGETS: Final = (
    re.compile(r"-iscsi-((?:iqn|eui|naa)\..+)-lun-([0-9]+|0x[0-9a-f]+)(?:-part[0-9]+)?$"),
    re.compile(r"(?:^|-)fc-0x([0-9a-f]{16})-lun-([0-9]+|0x[0-9a-f]+)(?:-part[0-9]+)?$"),
    re.compile(r"-zfcp-0x[0-9a-f]{16}:0x[0-9a-f]+"),
    re.compile(r"-sas-0x[0-9a-f]{16}-lun-[0-9a-fx]+"),
    re.compile(r"(?:^|-)nvme-fabrics-nqn\..+-nsid-[0-9]+"),
)
# Folders of /dev in which a second part is not a logical volume.
_NO_GROUPS: Final = frozenset(
    """block bsg bus char cpu disk dri drbd fd hugepages input mapper md mqueue net pts rbd shm snd stratis vfio vhost
    virtio-ports zvol""".split()  # noqa: SIM905 - read as prose
)
_WWN: Final = re.compile(r"(?:wwn-|scsi-)([0-9a-fx.]+?)(?:-part\d+)?")


def read_name(path: str) -> Name:  # noqa: PLR0911 - one line a row of the table
    """Parse an absolute path without ``.``, ``..`` and doubled slashes."""
    if not path.startswith(_NODES):
        return Name(Naming.PLAIN)
    if {".", "..", ""} & set(path[1:].split("/")):
        # Where it leads depends on folders that may be links.
        return Name(Naming.UNSTABLE)
    rest = path.removeprefix(_NODES)
    if path.startswith(_BY_ID):
        return _by_id(path.removeprefix(_BY_ID))
    if path.startswith(_BY_PATH):
        return _by_path(path.removeprefix(_BY_PATH))
    if path.startswith(_BY_ITSELF) and not path.endswith("/"):
        return Name(Naming.STABLE)
    if path.startswith(_MAPPER):
        return _mapper(path.removeprefix(_MAPPER))
    parts = rest.split("/")
    if parts[0] == "rbd" and len(parts) in (3, 4):
        return Name(Naming.STABLE)
    if len(parts) == 2 and parts[0] not in _NO_GROUPS and parts[1]:  # noqa: PLR2004 - a group and a volume
        return Name(Naming.DM, dm_name="-".join(part.replace("-", "--") for part in parts))
    return Name(Naming.UNSTABLE)


def _by_path(name: str) -> Name:
    found = next(filter(None, (target.search(name) for target in _TARGETS)), None)
    if found is None:
        return Name(Naming.UNSTABLE)
    # A LUN that is not a small number is written as SCSI has it, all eight bytes.
    is_plain = len(found.groups()) > 1 and found[2].isdecimal()
    return Name(Naming.STABLE, target=(found[1], int(found[2])) if is_plain else None)


def _by_id(name: str) -> Name:
    if name.startswith("os-brick"):
        return Name(Naming.ENCRYPTED)
    if name.startswith("lvm-pv-uuid-"):
        return Name(Naming.UNSTABLE)
    if name.startswith("dm-name-"):
        return _mapper(name.removeprefix("dm-name-"))
    if name.startswith("dm-uuid-"):
        uuid = name.removeprefix("dm-uuid-")
        return Name(Naming.ENCRYPTED) if is_encrypted(uuid) else Name(Naming.STABLE, identity=uuid.lower())
    if not name or name.startswith("md-name-") or "/" in name:
        return Name(Naming.UNSTABLE)
    found = _WWN.fullmatch(name)
    return Name(Naming.STABLE, identity=plain_identity(found.group(1)) if found else "")


def _mapper(name: str) -> Name:
    lowered = name.lower()
    if lowered.startswith(("crypt-", "crypt_", "luks-", "luks_")) or lowered in ("crypt", "luks"):
        return Name(Naming.ENCRYPTED)
    return Name(Naming.DM, dm_name=name) if name and "/" not in name else Name(Naming.UNSTABLE)


def is_encrypted(dm_uuid: str) -> bool:
    """Check whether device-mapper decrypts the device."""
    return "CRYPT-" in dm_uuid.upper()


def is_stable_dm(name: Name, dm_name: str, dm_uuid: str) -> bool:
    """Check whether a name of device-mapper is that of a logical volume of this host, or a WWID."""
    if not name.dm_name or name.dm_name != dm_name:
        return False
    kind, _, identity = dm_uuid.partition("-")
    if kind == "LVM":
        return True
    partition = re.fullmatch(r"part(\d+)", kind)
    if partition:
        kind, _, identity = identity.partition("-")
    bare = re.sub(r"-part\d+$|p\d+$", "", dm_name) if partition else dm_name
    return (
        kind == "mpath" and len(plain_identity(bare)) >= SHORTEST and plain_identity(bare) == plain_identity(identity)
    )


SHORTEST: Final = 16
"""Digits of the shortest WWN; fewer are no identity."""


def plain_identity(text: str) -> str:
    """Return a WWN or UUID of the kernel, udev, multipath or a record in one spelling."""
    text = re.sub(r"^(?:mpath-|wwn-|naa\.|eui\.|uuid\.|nvme\.|0x)+", "", text.strip().lower())
    text = text.removeprefix("0x")
    if re.fullmatch(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", text):
        return text.replace("-", "")
    # scsi_id and multipath prefix the type of the designator: 3 is NAA, 2 is EUI.
    if re.fullmatch(r"[23][0-9a-f]{16}|3[0-9a-f]{32}", text):
        return text[1:]
    return text
