"""What nova-scheduler is told of a report: casts to its host manager.  Pure.

The rules are those of ``nova.scheduler.host_manager``: instances of an update are merged into what is known of a
host; where nothing is known a list of two or more is taken as it is, and a shorter one is read from the cell's
database instead; a sync whose UUIDs are not those that are known has the host read anew.  So an update is followed by
a sync, which is right in every case: what the update did not change, the database does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from bringup.daemon.openstack.rpc.objects import primitive
from bringup.daemon.storage.outbox.report import Report, ReportedInstance

TOPIC: Final = "scheduler"
VERSION: Final = "4.2"
"""The oldest of the scheduler's RPC that has the three methods; a newer scheduler takes it."""
# The lowest versions that have these fields: a scheduler asks the conductor to translate what is newer than its own.
INSTANCE_VERSION: Final = "2.0"
INSTANCE_LIST_VERSION: Final = "2.0"
MOST_DELETED: Final = 50
"""Of more no cast each is sent: the sync says it in one, and the host is read anew."""


@dataclass(frozen=True, slots=True)
class Cast:
    """A method of all schedulers, and its arguments."""

    method: str
    arguments: dict[str, Any]


def casts_of(report: Report) -> list[Cast]:
    """Give what is told, in its order: what is gone, what is there, and that this is all.

    An update of nothing is never told (bug 1680661).  That nothing is there is told where the run was complete: else
    the scheduler would go on counting what was evacuated from the host.  Instances that were not settled are on the
    host all the same.

    :raises LookupError: an instance of the report has no state.
    """
    host = report["host"]
    gone = [*report["deleted"], *(each["uuid"] for each in report["elsewhere"])]
    told: list[Cast] = []
    if len(gone) <= MOST_DELETED:
        told = [Cast("delete_instance_info", {"host_name": host, "instance_uuid": uuid}) for uuid in gone]
    if report["instances"]:
        objects = [_instance(each) for each in report["instances"]]
        instances = primitive("InstanceList", INSTANCE_LIST_VERSION, {"objects": objects})
        told.append(Cast("update_instance_info", {"host_name": host, "instance_info": instances}))
    there = [each["uuid"] for each in report["instances"]] + report["unfinished"]
    if there or report["complete"]:
        told.append(sync(host, there))
    return told


def sync(host: str, uuids: Sequence[str]) -> Cast:
    """Tell all instances of a host by their UUIDs."""
    return Cast("sync_instance_info", {"host_name": host, "instance_uuids": list(uuids)})


def _instance(reported: ReportedInstance) -> dict[str, Any]:
    data: dict[str, Any] = {key: reported[key] for key in ("uuid", "host", "vm_state", "task_state")}
    power_state = reported["power_state"]
    if isinstance(power_state, int):
        data["power_state"] = power_state
    return primitive("Instance", INSTANCE_VERSION, data)
