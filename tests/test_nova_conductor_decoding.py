"""Nova's objects, made into records; what cannot be read is said, with its name."""

from collections.abc import Mapping
from typing import Any

import pytest

from bringup.daemon.decisions.instances import Expected
from bringup.daemon.decisions.states import PowerState, UnknownState, VmState
from bringup.daemon.errors import StoreError
from bringup.daemon.openstack.conductor import NovaConductorStore
from bringup.daemon.openstack.conductor.decoding import (
    devices_by_instance,
    flavor_of,
    instance_row,
    migration,
    record_state,
)
from bringup.daemon.openstack.rpc.errors import Unreadable
from bringup.daemon.openstack.rpc.objects import primitive
from support.nova_objects import info_cache, instance_data

TEMPLATE = "instance-%08x"
UUID = "132d660e-1520-470b-9cc6-0045deb34bed"
DATA: dict[str, Any] = instance_data(
    UUID,
    metadata={"role": "web"},
    system_metadata={"boot_roles": "admin", "unset": None},
    info_cache=info_cache('[{"id": "5036"}]'),
    invented_later={"by": "a newer Nova"},
)


def instance(**changes: Any) -> dict[str, Any]:
    return primitive("Instance", "2.8", {**DATA, **changes})


def test_an_instance_with_fields_of_a_later_version_is_read() -> None:
    row = instance_row(instance(), name_template=TEMPLATE)
    found = row.instance
    assert (found.uuid, found.name, found.display_name, row.number) == (UUID, "instance-0000001a", "", 26)
    assert (found.vm_state, found.power_state) == (VmState.ACTIVE, PowerState.RUNNING)
    assert (found.system_metadata, row.valueless) == ({"boot_roles": "admin"}, ("unset",))
    assert list(found.network_info) == [{"id": "5036"}]


@pytest.mark.parametrize(
    "cache",
    [
        None,
        info_cache(None),
        info_cache(""),
        info_cache("[]"),
    ],
)
def test_an_empty_cache_gives_no_vifs(cache: Any) -> None:
    assert list(instance_row(instance(info_cache=cache), name_template=TEMPLATE).instance.network_info) == []


def test_of_a_flavor_the_name_the_id_and_our_own_extra_specs_are_kept() -> None:
    specs = {"bringup:priority": "50", "hw:cpu_policy": "dedicated", "bringup:ready": 7}
    flavor = primitive("Flavor", "1.1", {"name": "m1.db", "flavorid": "f1", "vcpus": 4, "extra_specs": specs})

    assert flavor_of(instance(flavor=flavor)) == {
        "name": "m1.db",
        "flavorid": "f1",
        "extra_specs": {"bringup:priority": "50"},
    }


@pytest.mark.parametrize(
    "flavor",
    [None, 7, primitive("Flavor", "2.0", {"name": "m1"}), primitive("Instance", "2.8", {})],
)
def test_a_flavor_that_cannot_be_read_orders_nothing(flavor: Any) -> None:
    assert flavor_of(instance(flavor=flavor)) == {}


@pytest.mark.parametrize("specs", [None, 7, ["bringup:priority"]])
def test_extra_specs_that_cannot_be_read_order_nothing(specs: Any) -> None:
    flavor = primitive("Flavor", "1.1", {"name": 5, "extra_specs": specs})

    assert flavor_of(instance(flavor=flavor)) == {"extra_specs": {}}


def test_a_name_by_a_field_that_is_not_there_is_the_uuid_as_in_nova() -> None:
    assert instance_row(instance(), name_template="%(hostname)s").instance.name == UUID
    assert instance_row(instance(), name_template="%(uuid)s-x").instance.name == f"{UUID}-x"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"uuid": None}, "uuid None"),
        ({"power_state": "running", "metadata": 7}, f"Instance {UUID} in the answer cannot be read"),
        ({"info_cache": primitive("InstanceInfoCache", "2.0", {})}, "InstanceInfoCache of version 2.0"),
        ({"info_cache": primitive("InstanceInfoCache", "1.5", {})}, "InstanceInfoCache in the answer has no field"),
        ({"info_cache": info_cache("{}")}, "network_info is no list"),
        ({"info_cache": info_cache("[1]")}, "network_info is no list"),
        ({"info_cache": info_cache("nonsense")}, "cannot be read"),
    ],
)
def test_what_cannot_be_read_of_an_instance_is_reported(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(Unreadable, match=says):
        instance_row(instance(**changes), name_template=TEMPLATE)


@pytest.mark.parametrize("key", ["uuid", "id", "host", "vm_state", "task_state", "node", "system_metadata"])
def test_a_field_that_is_missing_is_named(key: str) -> None:
    data = {name: value for name, value in DATA.items() if name != key}
    with pytest.raises(Unreadable, match=key):
        instance_row(primitive("Instance", "2.8", data), name_template=TEMPLATE)


def test_a_look_wants_states_and_nothing_else() -> None:
    data = {"uuid": UUID.upper(), "host": None, "vm_state": None, "task_state": "dreaming"}
    found = record_state(primitive("Instance", "2.0", data))
    assert (found.uuid, found.host, found.vm_state, found.task_state) == (
        UUID,
        None,
        UnknownState(""),
        UnknownState("dreaming"),
    )


def test_devices_are_in_the_order_in_which_nova_made_them() -> None:
    devices = [{"id": number, "instance_uuid": UUID.upper()} for number in (3, 1, 2)]
    assert [device["id"] for device in devices_by_instance(devices)[UUID]] == [1, 2, 3]
    with pytest.raises(Unreadable, match="BlockDeviceMapping in the answer has no field id"):
        devices_by_instance([{"instance_uuid": UUID}])


def test_a_migration_of_an_old_record_has_no_type() -> None:
    data = {"uuid": UUID, "instance_uuid": UUID, "migration_type": None, "status": "done", "source_compute": "a"}
    found = migration({**data, "dest_compute": None})
    assert (found.migration_type, found.dest_compute) == ("", None)
    with pytest.raises(Unreadable, match="Migration in the answer has no field dest_compute"):
        migration(data)


class Answering:
    """Caller with prepared answers that keeps the requests."""

    where = "nowhere"

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.asked: list[Mapping[str, Any]] = []

    async def call(self, method: str, arguments: Mapping[str, Any], *, repeatable: bool) -> Any:
        del repeatable
        self.asked.append(arguments)
        return self.answers.get(arguments["objmethod"], self.answers.get(method))


@pytest.mark.anyio
async def test_keys_without_a_value_survive_a_save_of_system_metadata() -> None:
    caller = Answering(
        get_by_filters=primitive("InstanceList", "2.6", {"objects": [instance()]}),
        get_by_instance_uuids=primitive("BlockDeviceMappingList", "1.0", {"objects": []}),
    )
    store = NovaConductorStore(caller)
    await store.get_instance(UUID)

    await store.save(UUID, {"system_metadata": {"a": "b"}}, expected=Expected((VmState.ACTIVE,), (None,)))

    saved = caller.asked[-1]["objinst"]
    assert saved["nova_object.data"] == {"uuid": UUID, "system_metadata": {"unset": None, "a": "b"}}
    assert saved["nova_object.changes"] == ["system_metadata"]


@pytest.mark.anyio
@pytest.mark.parametrize(
    "answer",
    [
        None,
        [],
        primitive("InstanceList", "3.0", {"objects": []}),
        primitive("InstanceList", "2.6", {}),
        primitive("InstanceList", "2.6", {"objects": {}}),
        primitive("InstanceList", "2.6", {"objects": [{}]}),
        primitive("InstanceList", "2.6", {"objects": [primitive("Instance", "2.8", {})]}),
    ],
    ids=repr,
)
async def test_an_answer_that_is_none_is_an_error_of_the_store(answer: Any) -> None:
    store = NovaConductorStore(
        Answering(
            get_by_filters=answer,
            get_by_instance_uuids=primitive("BlockDeviceMappingList", "1.0", {"objects": []}),
        )
    )
    with pytest.raises(StoreError):
        await store.load_instances_by_uuid([UUID])
    with pytest.raises(StoreError):
        await store.list_uuids("host")
