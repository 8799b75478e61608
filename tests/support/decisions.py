"""Facts to decide on, and plans as they are expected."""

from collections.abc import Sequence
from dataclasses import replace

from bringup.daemon.decisions.actions import (
    Action,
)
from bringup.daemon.decisions.instances import Instance, Migration
from bringup.daemon.decisions.outcomes import Kind
from bringup.daemon.decisions.rules import (
    Facts,
    Plan,
    Rule,
    Step,
    decide,
)
from bringup.daemon.decisions.states import PowerState, TaskState, UnknownState, VmState

HERE = "compute-1"
ELSEWHERE = "compute-2"
MIGRATION_UUID = "0f0dfc4a-5d0e-4b52-9d5d-2d2f53d3a1b0"
INSTANCE = Instance(uuid="6f1c2a4e-4a52-4c42-8a6f-0f3c1d2b3a49", host=HERE, vm_state=VmState.ACTIVE)
FACTS = Facts(instance=INSTANCE, host=HERE)


def facts(
    vm_state: VmState | UnknownState = VmState.ACTIVE,
    task_state: TaskState | UnknownState | None = None,
    look: PowerState | None = None,
    *,
    host: str = HERE,
    evacuation: str | None = None,
) -> Facts:
    instance = replace(INSTANCE, host=host, vm_state=vm_state, task_state=task_state)
    return replace(FACTS, instance=instance, look=look, evacuation=migration("evacuation", evacuation))


def migration(migration_type: str, status: str | None) -> Migration | None:
    if status is None:
        return None
    return Migration(
        uuid=MIGRATION_UUID,
        instance_uuid=INSTANCE.uuid,
        migration_type=migration_type,
        status=status,
        source_compute=HERE,
        dest_compute=ELSEWHERE,
    )


def plan(*steps: tuple[str, Sequence[Action]], ends: bool = True, kind: Kind = Kind.INITIALIZED) -> Plan:
    names = tuple(name for name, _ in steps)
    return Plan(names, tuple(Step(name, action) for name, actions in steps for action in actions), ends=ends, kind=kind)


def actions(table: Sequence[Rule], case: Facts) -> list[Action]:
    return [step.action for step in decide(table, case).steps]
