"""Rows of nova-conductor that cannot be right: each is the outcome of its own instance, and no other's."""

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from bringup.daemon.decisions.instances import Expected, Instance, UnreadableInstance
from bringup.daemon.decisions.outcomes import Kind
from bringup.daemon.decisions.resume_policy import Resuming
from bringup.daemon.decisions.states import PowerState, VmState
from bringup.daemon.errors import RecordNotFound, StoreError
from bringup.daemon.openstack.conductor import NovaConductorStore
from bringup.daemon.openstack.conductor.decoding import instance_row, migration, unreadable
from bringup.daemon.openstack.rpc.envelope import LARGEST, parse_reply
from bringup.daemon.openstack.rpc.errors import RemoteError, Unreadable
from bringup.daemon.openstack.rpc.objects import primitive
from bringup.daemon.recovery.context import Host
from bringup.daemon.recovery.init_host import init_host
from bringup.daemon.recovery.load_records import load_records
from bringup.daemon.storage.store.base import Claimant, Store
from support.drivers import uuid_of
from support.hostile_conductor import Hostile
from support.hosts import HOST, arranged, executor_of, guest
from support.nova_objects import info_cache, instance_data, instance_object, migration_data

pytestmark = pytest.mark.anyio

GOOD, BAD = uuid_of(1), uuid_of(2)
DEEP = '[{"a":' * 100_000
LEVELS = "[" + '{"a":[' * 60 + "1" + "]}" * 60 + "]"


NAMES = [
    "../victim",
    "/abs/victim",
    "*",
    "",
    "..",
    BAD + "/..",
    BAD + "\n",
    BAD + '" ; flush ruleset #',
    "{" + BAD + "}",
    "urn:uuid:" + BAD,
    BAD.replace("-", ""),
    "\ud800",
    "\uff10" + BAD[1:],
    7,
    ["a"],
    {"a": 1},
    True,
]
CHANGES: dict[str, dict[str, Any]] = {
    "info cache null": {"info_cache": info_cache("null")},
    "info cache garbage": {"info_cache": info_cache("garbage")},
    "info cache a number": {"info_cache": info_cache(7)},
    "info cache deep": {"info_cache": info_cache(DEEP)},
    "info cache of many levels": {"info_cache": info_cache(LEVELS)},
    "info cache with half a surrogate": {"info_cache": info_cache('[{"devname": "\\ud800"}]')},
    "info cache another object": {"info_cache": primitive("Instance", "2.8", {})},
    "id text": {"id": "26"},
    "id none": {"id": None},
    "metadata a list": {"metadata": ["a"]},
    "metadata of numbers": {"metadata": {"a": 1}},
    "metadata with half a surrogate": {"metadata": {"\ud800": "x"}},
    "system metadata text": {"system_metadata": "x"},
    "host a number": {"host": 7},
    "host with half a surrogate": {"host": "\udfff"},
    "vm_state a list": {"vm_state": ["active"]},
    "task_state an object": {"task_state": {"a": 1}},
    "power_state text": {"power_state": "running"},
    "power_state huge": {"power_state": 10**30},
    "power_state true": {"power_state": True},
    "display name a number": {"display_name": 5},
    "project an object": {"project_id": {"a": 1}},
    "id negative": {"id": -1},
    "id larger than a column": {"id": 2**63},
    # Whatever is taken for true would have the instance deleted when its guest shuts down.
    "shutdown_terminate text": {"shutdown_terminate": "false"},
    "shutdown_terminate a list": {"shutdown_terminate": [False]},
    "shutdown_terminate two": {"shutdown_terminate": 2},
}


class WithoutFlavors(Hostile):
    """A conductor that answers everything but what flavors instances have."""

    async def call(self, method: str, arguments: Mapping[str, Any], *, repeatable: bool) -> Any:
        if arguments["kwargs"].get("expected_attrs") == ["flavor"]:
            raise RemoteError("KeyError", "flavor")
        return await super().call(method, arguments, repeatable=repeatable)


def with_flavor(uuid: str, number: int, priority: str) -> Any:
    flavor = primitive("Flavor", "1.1", {"name": "m1", "extra_specs": {"bringup:priority": priority}})
    return instance_object(uuid, id=number, instance_type_id=5, flavor=flavor)


async def test_all_instances_of_a_flavor_have_it_as_the_newest_has() -> None:
    store = NovaConductorStore(Hostile(with_flavor(GOOD, 2, "7"), with_flavor(BAD, 1, "3")))

    found = await store.load_instances(HOST)

    assert [each.flavor for each in found] == [{"name": "m1", "extra_specs": {"bringup:priority": "7"}}] * 2
    assert [await store.get_instance(each.uuid) for each in found] == found


async def test_without_flavors_the_instances_are_loaded_and_flavors_order_nothing() -> None:
    store = NovaConductorStore(WithoutFlavors(with_flavor(GOOD, 2, "7")))

    with capture_logs() as logs:
        (found,) = await store.load_instances(HOST)

    assert (found.uuid, found.flavor) == (GOOD, {})
    assert [line["means"] for line in logs if line["event"] == "store.flavors_unknown"] == ["flavors order no guest"]


@pytest.mark.parametrize("name", CHANGES)
async def test_a_row_that_cannot_be_right_fails_its_own_instance_and_no_other(name: str) -> None:
    store = NovaConductorStore(Hostile(instance_object(GOOD), instance_object(BAD, **CHANGES[name])))

    for found in (await store.load_instances(HOST), await store.load_instances_by_uuid([GOOD, BAD])):
        kinds = {each.uuid: type(each) for each in found}
        assert kinds == {GOOD: Instance, BAD: UnreadableInstance}
    assert (await store.get_instance(GOOD)).vm_state is VmState.ACTIVE
    with pytest.raises(StoreError, match=f"cannot read instance {BAD}: ") as raised:
        await store.get_instance(BAD)
    assert not isinstance(raised.value, RecordNotFound)


@pytest.mark.parametrize("key", sorted(set(instance_data(BAD)) - {"uuid", "info_cache"}))
async def test_a_row_that_lacks_a_field_fails_its_own_instance_and_no_other(key: str) -> None:
    lacking = {name: value for name, value in instance_data(BAD).items() if name != key}
    store = NovaConductorStore(Hostile(instance_object(GOOD), primitive("Instance", "2.8", lacking)))
    found = await store.load_instances(HOST)
    assert {each.uuid: type(each) for each in found} == {GOOD: Instance, BAD: UnreadableInstance}


@pytest.mark.parametrize("name", NAMES, ids=ascii)
async def test_what_is_no_canonical_uuid_never_becomes_one_of_ours(name: Any) -> None:
    store = NovaConductorStore(Hostile(instance_object(GOOD), instance_object(name)))

    found = await store.load_instances(HOST)
    [strange] = [each for each in found if isinstance(each, UnreadableInstance)]
    assert strange.uuid not in {GOOD, BAD}
    assert strange.uuid.isascii()
    assert len(found) == 2
    assert strange.why.isprintable()
    assert await store.list_uuids(HOST) == [GOOD]
    # Any that is asked for may be the one: it is not known to be gone.
    with pytest.raises(StoreError) as raised:
        await store.get_instance(BAD)
    assert not isinstance(raised.value, RecordNotFound)
    by_uuid = {each.uuid: type(each) for each in await store.load_instances_by_uuid([GOOD, BAD])}
    assert by_uuid == {GOOD: Instance, BAD: UnreadableInstance}


@pytest.mark.parametrize(
    "wrong",
    [
        *({"uuid": "x"}, {"status": 7}, {"dest_compute": ["a"]}, {"id": "1"}, {"id": True}, {"migration_type": {}}),
        *({"source_compute": 1}, {"dest_compute": "\ud800"}, {"status": "x" * 256}),
    ],
    ids=ascii,
)
async def test_a_migration_that_cannot_be_read_keeps_its_own_instance_from_being_started(wrong: dict[str, Any]) -> None:
    rows = instance_object(GOOD), instance_object(BAD)
    store = NovaConductorStore(Hostile(*rows, moves=(primitive("Migration", "1.7", migration_data(BAD, **wrong)),)))

    records = await load_records(store, HOST, local=frozenset({GOOD, BAD}), resuming=Resuming(), deadline_s=30)
    assert {facts.instance.uuid: type(facts.instance) for facts in records.own} == {
        GOOD: Instance,
        BAD: UnreadableInstance,
    }
    expected = Expected((VmState.ACTIVE,), (None,))
    await store.begin_start(GOOD, Claimant(HOST, "n"), expected=expected, reverting=False)
    with pytest.raises(StoreError, match="nothing is started on a guess"):
        await store.begin_start(BAD, Claimant(HOST, "n"), expected=expected, reverting=False)


async def test_a_migration_or_a_device_that_names_no_instance_is_left_out(  # the text of others is not shown raw
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = NovaConductorStore(
        Hostile(
            instance_object(GOOD),
            moves=(primitive("Migration", "1.7", migration_data("\x1b[2J../x")), primitive("Other", "1.0", {})),
            devices=(primitive("BlockDeviceMapping", "1.20", {"id": 1, "instance_uuid": "*"}), {"a": 1}),
        )
    )
    [found] = await store.load_instances(HOST)
    assert (type(found), list(found.block_devices)) == (Instance, [])
    assert await store.load_migrations(HOST, ["running"]) == []
    assert "\x1b" not in capsys.readouterr().out


async def test_a_device_that_cannot_be_right_fails_its_own_instance() -> None:
    wrong = primitive("BlockDeviceMapping", "1.20", {"instance_uuid": BAD})
    store = NovaConductorStore(Hostile(instance_object(GOOD), instance_object(BAD), devices=(wrong,)))
    found = await store.load_instances(HOST)
    assert {each.uuid: type(each) for each in found} == {GOOD: Instance, BAD: UnreadableInstance}


@pytest.mark.parametrize("numbers", [(1, "2"), ("1", None), ([], {}), (1, True), (float("nan"), 1)], ids=repr)
async def test_devices_whose_numbers_are_none_fail_their_own_instance(numbers: tuple[Any, Any]) -> None:
    devices = [primitive("BlockDeviceMapping", "1.20", {"id": number, "instance_uuid": BAD}) for number in numbers]
    store = NovaConductorStore(Hostile(instance_object(GOOD), instance_object(BAD), devices=tuple(devices)))
    for found in (await store.load_instances(HOST), await store.load_instances_by_uuid([GOOD, BAD])):
        assert {each.uuid: type(each) for each in found} == {GOOD: Instance, BAD: UnreadableInstance}
    assert (await store.get_instance(GOOD)).uuid == GOOD


async def test_a_row_that_names_no_instance_is_an_outcome_of_its_own_beside_rows_that_do() -> None:
    nameless = {key: value for key, value in instance_data(BAD).items() if key != "uuid"}
    store = NovaConductorStore(Hostile(instance_object(GOOD), primitive("Instance", "2.8", nameless)))
    found = await store.load_instances(HOST)
    assert sorted(type(each).__name__ for each in found) == ["Instance", "UnreadableInstance"]
    # None that names an instance is an answer to something else.
    with pytest.raises(StoreError, match="no row of nova-conductor has a UUID"):
        await NovaConductorStore(Hostile(primitive("Instance", "2.8", nameless))).load_instances_by_uuid([GOOD])


@pytest.mark.parametrize("turned", [False, True])
async def test_two_rows_of_one_instance_that_differ_are_its_own_failure(turned: bool) -> None:  # noqa: FBT001 - a column
    two = [instance_object(BAD), instance_object(BAD, vm_state="deleted")]
    rows = [
        *(reversed(two) if turned else two),
        instance_object(GOOD),
        instance_object(GOOD),
    ]
    found = await NovaConductorStore(Hostile(*rows)).load_instances(HOST)
    assert {each.uuid: type(each) for each in found} == {GOOD: Instance, BAD: UnreadableInstance}


class Spoiling:
    """A store of which one row cannot be read."""

    def __init__(self, store: Store, bad: Instance) -> None:
        self._store, self._bad = store, bad

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def load_instances(self, host: str) -> list[Instance]:
        return [self._bad if each.uuid == self._bad.uuid else each for each in await self._store.load_instances(host)]


async def opened_with(host: Host, store: Store) -> Host:
    executor = executor_of(host.driver, store)
    return replace(host, executor=executor)


async def test_in_a_run_it_is_failed_with_what_to_do_and_its_guest_and_record_are_left() -> None:
    good = instance_row(instance_object(GOOD), name_template="instance-%08x").instance
    why = Unreadable("its id is no number")
    bad = unreadable(instance_object(BAD), why)
    guests = (guest(1), guest(2, PowerState.SHUTDOWN))
    async with arranged([good, bad], guests=guests, resume_guests=True) as host:
        store = cast("Store", Spoiling(host.store, bad))
        start = replace(host.start, open_host=partial(opened_with, host.host, store))
        result = (await init_host(start)).result
        kinds = {outcome.uuid: outcome.kind for outcome in result.outcomes}
        assert kinds == {GOOD: Kind.INITIALIZED, BAD: Kind.FAILED}
        [problem] = [outcome.problem for outcome in result.outcomes if outcome.uuid == BAD]
        assert problem is not None
        assert "its id is no number" in problem.message
        assert "openstack server show" in problem.message
        assert host.power(2) is PowerState.SHUTDOWN
        assert (await host.store.get_instance(BAD)).vm_state is not VmState.ERROR


@pytest.mark.parametrize(
    "body",
    [
        b'{"oslo.version": "2.0", "oslo.message": "' + b"[" * 200_000 + b'"}',
        b"[" * 200_000,
        b'{"oslo.version": "2.0", "oslo.message": "{\\"_msg_id\\": \\"a\\", \\"result\\": ' + b"[" * 200_000 + b'"}',
    ],
    ids=["inner", "outer", "result"],
)
def test_an_answer_that_is_nested_too_deep_is_refused(body: bytes) -> None:
    with pytest.raises(Unreadable):
        parse_reply(body)


def test_a_number_of_too_many_digits_is_what_is_wrong_with_its_own_row() -> None:
    result = '[{"id": 7, "n": 1.5}, {"id": ' + "9" * 5_000 + "}]"
    body = json.dumps({"oslo.version": "2.0", "oslo.message": '{"_msg_id": "a", "result": ' + result + "}"}).encode()
    assert parse_reply(body).result == [{"id": 7, "n": 1.5}, {"id": "9" * 5_000}]


def test_an_answer_that_is_too_large_is_refused_before_it_is_read() -> None:
    with pytest.raises(Unreadable, match=f"at most {LARGEST} are read"):
        parse_reply(b" " * LARGEST + b"{}")


PLAIN = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["\ud800", "../x", "active"])
)
NESTED = st.lists(PLAIN, max_size=3) | st.dictionaries(st.text(), PLAIN, max_size=3)
JSON = PLAIN | NESTED | st.lists(NESTED, max_size=2) | st.dictionaries(st.text(), NESTED, max_size=2)


@given(changes=st.dictionaries(st.sampled_from(sorted(instance_data(BAD))), JSON, min_size=1, max_size=4))
@settings(max_examples=400, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
def test_any_row_is_a_record_that_can_be_written_down_or_is_unreadable(changes: dict[str, Any]) -> None:
    try:
        found = instance_row(
            primitive("Instance", "2.8", instance_data(BAD) | changes), name_template="instance-%08x"
        ).instance
    except Unreadable:
        return
    assert found.uuid == BAD
    repr(found).encode()
    repr((list(found.network_info), list(found.block_devices))).encode()


@given(changes=st.dictionaries(st.sampled_from(sorted(migration_data(BAD))), JSON, min_size=1, max_size=4))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_any_migration_is_read_or_unreadable(changes: dict[str, Any]) -> None:
    try:
        found = migration(migration_data(BAD) | changes)
    except Unreadable:
        return
    assert (len(found.uuid), len(found.instance_uuid)) == (36, 36)
