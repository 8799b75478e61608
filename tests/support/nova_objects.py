"""Nova's objects as nova-conductor writes them."""

from typing import Any

from bringup.daemon.openstack.rpc.objects import primitive
from support.drivers import uuid_of
from support.hosts import HOST


def info_cache(text: Any) -> dict[str, Any]:
    return primitive("InstanceInfoCache", "1.5", {"network_info": text})


def instance_data(uuid: str, **changes: Any) -> dict[str, Any]:
    """Make the fields of an Instance that is active and has nothing beside."""
    return {
        "id": 26,
        "uuid": uuid,
        "host": HOST,
        "node": HOST,
        "vm_state": "active",
        "task_state": None,
        "power_state": 1,
        "display_name": None,
        "project_id": "p1",
        "user_id": "u1",
        "metadata": {},
        "system_metadata": {},
        "info_cache": info_cache("[]"),
        "shutdown_terminate": False,
        "terminated_at": None,
        **changes,
    }


def instance_object(uuid: str, **changes: Any) -> dict[str, Any]:
    return primitive("Instance", "2.8", instance_data(uuid, **changes))


def migration_data(instance_uuid: str, **changes: Any) -> dict[str, Any]:
    """Make the fields of a Migration of an instance that is about to leave this host."""
    return {
        "id": 1,
        "uuid": uuid_of(77),
        "instance_uuid": instance_uuid,
        "migration_type": "live-migration",
        "status": "running",
        "source_compute": HOST,
        "dest_compute": "compute-2",
        **changes,
    }
