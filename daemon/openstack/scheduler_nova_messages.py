"""Casts of a report to nova-scheduler's host manager.  Pure.

The rules are those of ``nova.scheduler.host_manager``: instances of an update are merged into the cache of a host; for
a host without a cache a list of two or more is stored, and a shorter one is read from the cell's database instead; a
sync whose UUIDs differ from the cache makes the scheduler read the host again.  So an update is followed by a sync,
which is right in every case: the database has what the update did not change.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from bringup.daemon.openstack.rpc.objects import primitive
from bringup.daemon.storage.outbox.report import Report, ReportedInstance

TOPIC: Final = "scheduler"
VERSION: Final = "4.2"
"""The oldest version of the scheduler's RPC with the three methods; newer schedulers accept it."""
# The lowest versions with these fields: a scheduler has the conductor translate newer ones.
INSTANCE_VERSION: Final = "2.0"
INSTANCE_LIST_VERSION: Final = "2.0"
MOST_DELETED: Final = 50
"""Above this number no cast each is sent: the sync covers them, and the host is read again."""


@dataclass(frozen=True, slots=True)
class Cast:
    """A cast to all schedulers: method and arguments."""

    method: str
    arguments: dict[str, Any]


def casts_of(report: Report) -> list[Cast]:
    """Return the casts in order: deleted instances, instances of the host, the list of all UUIDs.

    An empty update is never sent (bug 1680661).  An empty list is sent where the run was complete: else the scheduler
    would still count instances that were evacuated from the host.  Unfinished instances are on the host too.

    :raises LookupError: an instance of the report has no state.
    """
    host = report["host"]
    gone = [*report["deleted"], *(each["uuid"] for each in report["elsewhere"])]
    casts: list[Cast] = []
    if len(gone) <= MOST_DELETED:
        casts = [Cast("delete_instance_info", {"host_name": host, "instance_uuid": uuid}) for uuid in gone]
    if report["instances"]:
        objects = [_instance(each) for each in report["instances"]]
        instances = primitive("InstanceList", INSTANCE_LIST_VERSION, {"objects": objects})
        casts.append(Cast("update_instance_info", {"host_name": host, "instance_info": instances}))
    there = [each["uuid"] for each in report["instances"]] + report["unfinished"]
    if there or report["complete"]:
        casts.append(sync(host, there))
    return casts


def sync(host: str, uuids: Sequence[str]) -> Cast:
    """Return the cast with the UUIDs of all instances of a host."""
    return Cast("sync_instance_info", {"host_name": host, "instance_uuids": list(uuids)})


def _instance(reported: ReportedInstance) -> dict[str, Any]:
    data: dict[str, Any] = {key: reported[key] for key in ("uuid", "host", "vm_state", "task_state")}
    power_state = reported["power_state"]
    if isinstance(power_state, int):
        data["power_state"] = power_state
    return primitive("Instance", INSTANCE_VERSION, data)
