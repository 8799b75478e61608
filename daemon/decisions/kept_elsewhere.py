"""Ports and volumes of an instance, which other services keep and which its deletion must release.

Whoever destroys the row of such an instance destroys what the other services could be notified by.
"""

from bringup.daemon.decisions.instances import Instance
from bringup.daemon.decisions.rules import Facts

VOLUME = "volume"


def ports_of(instance: Instance) -> tuple[str, ...]:
    """Return the ids of the ports that a record names."""
    return tuple(str(vif.get("id", "?")) for vif in instance.network_info)


def volumes_of(instance: Instance) -> tuple[str, ...]:
    """Return the ids of the volumes that a record names."""
    return tuple(
        str(each.get("volume_id") or each.get("attachment_id") or "?")
        for each in instance.block_devices
        if each.get("volume_id") or each.get("attachment_id") or VOLUME in _ends(each)
    )


def _ends(block_device: object) -> tuple[object, ...]:
    get = getattr(block_device, "get", lambda _key: None)
    return get("source_type"), get("destination_type")


def is_kept_elsewhere(facts: Facts) -> bool:
    """Check whether the deletion of an instance is not over when its guest, its disks and its row are gone."""
    return facts.owes_elsewhere and bool(ports_of(facts.instance) or volumes_of(facts.instance))


def describe_kept_elsewhere(instance: Instance) -> str:
    """Describe what nova-compute must release."""
    parts = []
    for what, ids in (("port", ports_of(instance)), ("volume", volumes_of(instance))):
        if ids:
            parts.append(f"{what}{'' if len(ids) == 1 else 's'} {', '.join(ids)}")
    return (
        f"the guest and its local disks are gone; {' and '.join(parts)} must be given back by nova-compute, "
        "which finishes the deletion when it starts"
    )
