"""Identity of a volume from ``connection_info``, and nothing else: it also contains keys and passwords of storage.

No I/O, no clock, no logger.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

WWN_KEYS: Final = ("wwn", "scsi_wwn", "wwid", "multipath_id", "volume_wwn", "unique_id", "scsi_id")
NAMESPACE_KEYS: Final = ("vol_uuid", "volume_nguid", "nguid", "uuid", "namespace_uuid", "ns_uuid", "eui")
TARGET_KEYS: Final = ("target_iqn", "target_iqns", "target_wwn", "target_wwns", "target_lun", "target_luns")
KEYS: Final = frozenset({*WWN_KEYS, *NAMESPACE_KEYS, *TARGET_KEYS, "target_nqn", "nqn", "export", "volume_id"})
"""Keys of ``connection_info["data"]`` that are kept."""
LONGEST: Final = 1024
MOST: Final = 64


def without_credentials(device: Mapping[str, Any]) -> dict[str, Any]:
    """Return a block device mapping whose ``connection_info`` contains only the identity of the volume."""
    kept = {key: value for key, value in device.items() if key != "connection_info"}
    identity = identity_of(device.get("connection_info"))
    return kept | {"connection_info": identity} if identity else kept


def identity_of(connection_info: Any) -> dict[str, Any]:
    """Return the identity of a volume; {}: it has none.  Nova stores ``connection_info`` as text."""
    info = as_object(connection_info)
    data = {key: plain for key, value in as_object(info.get("data")).items() if (plain := _plain(key, value)) != []}
    found: dict[str, Any] = {"data": data} if data else {}
    for key in ("driver_volume_type", "serial"):
        if isinstance(value := info.get(key), str) and len(value) <= LONGEST:
            found[key] = value
    return found


def as_object(value: Any) -> Mapping[str, Any]:
    """Return an object, also from its JSON text; {} for anything else."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return {}
    return value if isinstance(value, Mapping) else {}


def _plain(key: str, value: Any) -> Any:
    """Return texts and numbers, one or several; []: it is neither, or the key names no volume."""
    if key not in KEYS:
        return []
    if isinstance(value, str):
        # A URL may have a name and a password before its host.
        return re.sub(r"(//|^)[^/@\s]*@", r"\1", value) if len(value) <= LONGEST else []
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, Sequence) and len(value) <= MOST:
        return [plain for each in value if not isinstance(each, list) and (plain := _plain(key, each)) != []]
    return []
