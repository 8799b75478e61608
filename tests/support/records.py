"""Records to test with."""

import uuid
from typing import Any

from hypothesis import strategies as st

from bringup.daemon.decisions.instances import Expected, Instance, Migration
from bringup.daemon.decisions.states import (
    PowerState,
    TaskState,
    UnknownState,
    VmState,
    power_state,
    task_state,
    vm_state,
)
from bringup.daemon.storage.record_files import Records

HOST = "compute-1"
ANY_TASK: tuple[TaskState | UnknownState | None, ...] = (None, *TaskState)


def uuid_of(number: int) -> str:
    """Return the UUID that a number stands for."""
    return str(uuid.UUID(int=number))


def instance(number: int = 1, **fields: Any) -> Instance:
    """Make a healthy instance of HOST; ``fields`` say what is particular."""
    values: dict[str, Any] = {
        "uuid": uuid_of(number),
        "host": HOST,
        "vm_state": VmState.ACTIVE,
        "power_state": PowerState.RUNNING,
        "node": f"{HOST}.example.org",
        "name": f"instance-{number:08x}",
        "display_name": f"vm {number}",
        "project_id": "8c3a",
        "user_id": "51f0",
        "flavor": {"vcpus": 1, "ram": 512},
        "metadata": {"role": "db"},
        "system_metadata": {"image_os": "linux"},
        "network_info": ({"id": uuid_of(number + 10_000), "address": "fa:16:3e:00:00:01"},),
        "block_devices": ({"boot_index": 0}, {"boot_index": None, "volume_id": uuid_of(number + 20_000)}),
    }
    return Instance(**(values | fields))


def migration(number: int = 1, **fields: Any) -> Migration:
    """Make an evacuation from HOST that was done; ``fields`` say what is particular."""
    values: dict[str, Any] = {
        "uuid": uuid_of(number + 30_000),
        "instance_uuid": uuid_of(number),
        "migration_type": "evacuation",
        "status": "done",
        "source_compute": HOST,
        "dest_compute": "compute-2",
    }
    return Migration(**(values | fields))


def records(*instances: Instance, migrations: tuple[Migration, ...] = ()) -> Records:
    """Put records together."""
    return Records(instances=instances, migrations=migrations)


def expected(
    *vm_states: VmState | UnknownState, task_states: tuple[TaskState | UnknownState | None, ...] = (None,)
) -> Expected:
    """Expect one of these vm_states and, unless said otherwise, no task_state."""
    return Expected(vm_states, task_states)


# Not every database can hold a NUL.
_CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
_texts = st.text(_CHARACTERS, max_size=12)
_words = st.text(_CHARACTERS, min_size=1, max_size=12)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_texts, inner, max_size=2),
    max_leaves=4,
)
_objects = st.lists(st.dictionaries(_texts, _json, max_size=2), max_size=2).map(tuple)
_pairs = st.dictionaries(_texts, _texts, max_size=3)
_uuids = st.uuids().map(str)

instances = st.builds(
    Instance,
    uuid=_uuids,
    host=st.none() | _words,
    vm_state=(st.sampled_from(VmState).map(lambda state: state.value) | _words).map(vm_state),
    task_state=(st.none() | st.sampled_from(TaskState).map(lambda state: state.value) | _words).map(task_state),
    power_state=(st.none() | st.integers(-1, 9)).map(power_state),
    node=st.none() | _texts,
    name=_texts,
    display_name=_texts,
    project_id=st.none() | _texts,
    user_id=st.none() | _texts,
    flavor=st.dictionaries(_texts, _json, max_size=2),
    metadata=_pairs,
    system_metadata=_pairs,
    network_info=_objects,
    block_devices=_objects,
    shutdown_terminate=st.booleans(),
    terminated_at=st.none() | _texts,
)
migrations = st.builds(
    Migration,
    uuid=_uuids,
    instance_uuid=_uuids,
    migration_type=st.sampled_from(["evacuation", "live-migration", "migration", "resize"]),
    status=_words,
    source_compute=_words,
    dest_compute=st.none() | _words,
)
files_of_records = st.builds(
    Records,
    instances=st.lists(instances, max_size=4, unique_by=lambda one: one.uuid).map(tuple),
    migrations=st.lists(migrations, max_size=3, unique_by=lambda one: one.uuid).map(tuple),
)
