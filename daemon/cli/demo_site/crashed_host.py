"""Records and guests of a host that lost power in the middle of everything: every rule applies to an instance.

The UUIDs are the same every time, so that logs of two runs can be compared.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID, uuid5

from bringup.daemon.decisions.instances import Instance, Migration
from bringup.daemon.decisions.states import PowerState, TaskState, UnknownState, VmState
from bringup.daemon.storage.store.base import Records
from bringup.drivers.identifiers import NAME_TEMPLATE
from bringup.drivers.simulated import (
    Exponential,
    Fault,
    Latency,
    LatencyKey,
    Lognormal,
    Scenario,
    SimulatedCapacity,
    SimulatedGuest,
    Uniform,
)

HOST = "compute-1"
OTHER_HOST = "compute-2"
NAMESPACE = UUID("0f9d3a52-6a0f-5d5b-9d5c-0c1f6d6a2b11")
RUNNING, PAUSED, OFF = PowerState.RUNNING, PowerState.PAUSED, PowerState.SHUTDOWN

LATENCY: Mapping[LatencyKey, Latency] = {
    "default": Uniform(0.02, 0.15),
    "get_info": Uniform(0.005, 0.03),
    "plug_vifs": Uniform(0.05, 0.3),
    "reboot": Lognormal(1.5, 0.5),
    "power_on": Lognormal(1.0, 0.4),
    "power_off": Lognormal(1.2, 0.6),
    "resume_state_on_host_boot": Lognormal(1.0, 0.5),
    "finish_revert_migration": Lognormal(1.5, 0.4),
    "destroy": Exponential(0.4),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sort:
    """Sort of instance and its count; ``guest`` None: the hypervisor has no such guest."""

    name: str
    count: int
    vm: VmState | UnknownState
    task: TaskState | None = None
    power: PowerState = RUNNING
    guest: PowerState | None = OFF
    system_metadata: tuple[tuple[str, str], ...] = ()
    elsewhere: bool = False
    migration: tuple[str, str] | None = None
    """Type and status of its migration from this host."""
    fault: dict[str, Any] | None = None


_SORTS = (
    _Sort(name="web", count=16, vm=VmState.ACTIVE),
    _Sort(name="survivor", count=6, vm=VmState.ACTIVE, guest=RUNNING),
    _Sort(name="batch", count=6, vm=VmState.STOPPED, power=OFF),
    _Sort(name="frozen", count=2, vm=VmState.PAUSED, power=PAUSED, guest=PAUSED),
    _Sort(name="building", count=2, vm=VmState.BUILDING, task=TaskState.SPAWNING, guest=None),
    _Sort(name="rebuilding", count=2, vm=VmState.ACTIVE, task=TaskState.REBUILD_SPAWNING),
    _Sort(name="snapshot", count=2, vm=VmState.ACTIVE, task=TaskState.IMAGE_UPLOADING, guest=RUNNING),
    _Sort(name="resize-asked", count=2, vm=VmState.ACTIVE, task=TaskState.RESIZE_PREP),
    _Sort(name="deleting", count=3, vm=VmState.ACTIVE, task=TaskState.DELETING),
    _Sort(name="half-deleted", count=1, vm=VmState.DELETED, guest=None),
    _Sort(name="trash", count=1, vm=VmState.SOFT_DELETED, power=OFF),
    _Sort(name="broken", count=1, vm=VmState.ERROR, power=OFF),
    _Sort(name="soft-reboot", count=1, vm=VmState.ACTIVE, task=TaskState.REBOOT_PENDING, guest=RUNNING),
    _Sort(name="soft-reboot-down", count=2, vm=VmState.ACTIVE, task=TaskState.REBOOT_STARTED),
    _Sort(name="hard-reboot", count=2, vm=VmState.ACTIVE, task=TaskState.REBOOTING_HARD),
    _Sort(name="rebooted", count=1, vm=VmState.ACTIVE, task=TaskState.REBOOT_STARTED, guest=RUNNING),
    _Sort(name="unpausing", count=1, vm=VmState.PAUSED, task=TaskState.UNPAUSING, power=PAUSED, guest=PAUSED),
    _Sort(name="stopping", count=3, vm=VmState.ACTIVE, task=TaskState.POWERING_OFF, guest=RUNNING),
    _Sort(name="starting", count=3, vm=VmState.STOPPED, task=TaskState.POWERING_ON, power=OFF),
    _Sort(
        name="resizing",
        count=2,
        vm=VmState.ACTIVE,
        task=TaskState.RESIZE_MIGRATING,
        system_metadata=(("old_vm_state", "active"),),
    ),
    _Sort(
        name="leaving",
        count=1,
        vm=VmState.ACTIVE,
        task=TaskState.MIGRATING,
        guest=RUNNING,
        migration=("live-migration", "running"),
    ),
    _Sort(name="evacuated", count=3, vm=VmState.ACTIVE, elsewhere=True, migration=("evacuation", "done")),
    _Sort(
        name="evacuating", count=1, vm=VmState.ACTIVE, task=TaskState.REBUILDING, migration=("evacuation", "accepted")
    ),
    _Sort(name="came-back", count=1, vm=VmState.ACTIVE, migration=("evacuation", "done")),
    _Sort(name="from-the-future", count=1, vm=UnknownState("hibernating")),
    _Sort(
        name="bad-port",
        count=1,
        vm=VmState.ACTIVE,
        fault={"verb": "plug_vifs", "error": "VirtualInterfacePlugError", "message": "port binding failed"},
    ),
    _Sort(
        name="no-disk",
        count=1,
        vm=VmState.STOPPED,
        task=TaskState.POWERING_ON,
        power=OFF,
        fault={"verb": "power_on", "error": "DriverError", "message": "cannot open its disk: no such file"},
    ),
    _Sort(
        name="hung",
        count=1,
        vm=VmState.ACTIVE,
        task=TaskState.REBOOT_STARTED_HARD,
        fault={"verb": "reboot", "hang": True},
    ),
)


def crashed_host() -> tuple[Records, Scenario]:
    """Return the records of the host and the guests of its hypervisor."""
    instances: list[Instance] = []
    migrations: list[Migration] = []
    guests: list[SimulatedGuest] = []
    faults: list[Fault] = []
    for sort, instance in _instances():
        instances.append(instance)
        if sort.migration is not None:
            migrations.append(_migration(sort.migration, instance))
        if sort.guest is not None:
            guests.append(_guest(sort, instance))
        if sort.fault is not None:
            faults.append(replace(Fault(**sort.fault), uuid=instance.uuid))
    scenario = Scenario(
        seed=1,
        capacity=SimulatedCapacity(running=len(guests)),
        latency=LATENCY,
        guests=tuple(guests),
        faults=tuple(faults),
    )
    return Records(instances=tuple(instances), migrations=tuple(migrations)), scenario


def _instances() -> Iterator[tuple[_Sort, Instance]]:
    number = 0
    for sort in _SORTS:
        for index in range(1, sort.count + 1):
            number += 1
            yield (
                sort,
                Instance(
                    uuid=str(uuid5(NAMESPACE, f"{sort.name}-{index}")),
                    host=OTHER_HOST if sort.elsewhere else HOST,
                    node=OTHER_HOST if sort.elsewhere else HOST,
                    name=NAME_TEMPLATE % number,
                    display_name=f"{sort.name}-{index}",
                    vm_state=sort.vm,
                    task_state=sort.task,
                    power_state=sort.power,
                    system_metadata=dict(sort.system_metadata),
                    network_info=(_vif(number),),
                ),
            )


def _vif(number: int) -> dict[str, Any]:
    port = str(uuid5(NAMESPACE, f"port-{number}"))
    return {
        "id": port,
        "address": f"fa:16:3e:00:{number >> 8:02x}:{number & 255:02x}",
        "network": {"bridge": "br-int", "label": "private"},
        "type": "ovs",
        "devname": f"tap{port[:11]}",
        "active": True,
    }


def _migration(kind_and_status: tuple[str, str], instance: Instance) -> Migration:
    kind, status = kind_and_status
    return Migration(
        uuid=str(uuid5(NAMESPACE, f"migration-{instance.uuid}")),
        instance_uuid=instance.uuid,
        migration_type=kind,
        status=status,
        source_compute=HOST,
        dest_compute=OTHER_HOST,
    )


def _guest(sort: _Sort, instance: Instance) -> SimulatedGuest:
    return SimulatedGuest(
        uuid=instance.uuid,
        name=instance.name,
        power_state=sort.guest or OFF,
        migrating=sort.task is TaskState.MIGRATING,
        snapshot_in_progress=sort.task is TaskState.IMAGE_UPLOADING,
    )
