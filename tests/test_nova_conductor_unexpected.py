"""Answers of nova-conductor that repeat, overlap or hold what is none of Nova's: what they say of the others counts."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from bringup.daemon.decisions.instances import Expected, Instance, UnreadableInstance
from bringup.daemon.decisions.states import VmState
from bringup.daemon.errors import RecordNotFound, StateConflict, StoreError
from bringup.daemon.openstack.conductor import NovaConductorStore
from bringup.daemon.openstack.conductor.reader import PAGE
from bringup.daemon.openstack.rpc.objects import primitive
from bringup.daemon.storage.store.base import Claimant
from support.drivers import uuid_of
from support.hostile_conductor import Hostile
from support.hosts import HOST
from support.nova_objects import instance_data, instance_object, migration_data

pytestmark = pytest.mark.anyio

GOOD, BAD = uuid_of(1), uuid_of(2)


@pytest.mark.parametrize("strange", [7, None, True, ["a"], {"a": 1}, 1e400, BAD + "\n"], ids=repr)
async def test_an_entry_in_the_list_of_uuids_that_is_none_is_left_out_and_the_others_are_read(strange: Any) -> None:
    store = NovaConductorStore(Listing([strange, GOOD], instance_object(GOOD)))
    assert [each.uuid for each in await store.load_instances(HOST)] == [GOOD]
    # Of a host that has instances, and none that can be named, it is not known that it has none.
    with pytest.raises(StoreError, match="cannot list the instances"):
        await NovaConductorStore(Listing([strange])).load_instances(HOST)


class Listing(Hostile):
    """Caller that lists the instances of a host, whatever its rows are."""

    def __init__(self, uuids: list[Any], *rows: Any, moves: tuple[Any, ...] = ()) -> None:
        super().__init__(*rows, moves=moves)
        self.uuids = uuids

    async def call(self, method: str, arguments: Mapping[str, Any], *, repeatable: bool) -> Any:
        if arguments["objmethod"] == "get_uuids_by_host":
            return self.uuids
        return await super().call(method, arguments, repeatable=repeatable)


async def test_rows_that_stand_in_more_than_one_page_are_one_instance_each() -> None:
    uuids = [uuid_of(number) for number in range(1, 2 * PAGE + 2)]
    rows = [instance_object(each) for each in uuids[:3]]
    # Each page is answered with all rows there are.
    found = await NovaConductorStore(Listing(uuids + uuids, *rows)).load_instances(HOST)
    assert [(each.uuid, type(each)) for each in found] == [(each, Instance) for each in uuids[:3]]
    again = await NovaConductorStore(Listing(uuids, *rows)).load_instances_by_uuid(uuids)
    assert [each.uuid for each in again] == uuids[:3]


@pytest.mark.parametrize(
    "other",
    [
        {"vm_state": "deleted"},
        {"host": "compute-2"},
        {"task_state": "migrating"},
        {"task_state": 7},
        {"host": "\ud800"},
        {"vm_state": "x" * 256},
    ],
    ids=ascii,
)
@pytest.mark.parametrize("turned", [False, True])
async def test_two_rows_of_one_instance_that_differ_start_none(other: dict[str, Any], turned: bool) -> None:  # noqa: FBT001 - a column
    two = [instance_object(BAD), instance_object(BAD, **other)]
    store = NovaConductorStore(
        Hostile(*(reversed(two) if turned else two), instance_object(GOOD), instance_object(GOOD))
    )
    states = Expected((VmState.ACTIVE,), (None,))
    await store.begin_start(GOOD, Claimant(HOST, "n"), expected=states, reverting=False)
    with pytest.raises(StoreError, match=f"cannot read the state of instance {BAD}: ") as raised:
        await store.begin_start(BAD, Claimant(HOST, "n"), expected=states, reverting=False)
    assert not isinstance(raised.value, StateConflict | RecordNotFound)


DEEP_NAME = json.loads("[" * 900 + "]" * 900)


@pytest.mark.parametrize("strange", [DEEP_NAME, "\x1b[2J", "x" * 100_000, None, 7], ids=lambda value: ascii(value)[:20])
async def test_names_versions_and_uuids_of_any_shape_are_shown_short_and_fit_for_a_terminal(strange: Any) -> None:
    rows = (
        *(primitive(strange, "2.0", instance_data(BAD)), primitive("Instance", strange, instance_data(BAD))),
        *(instance_object(strange), instance_object(GOOD), strange),
    )
    found = await NovaConductorStore(Listing([GOOD, BAD], *rows)).load_instances(HOST)
    whys = [each.why for each in found if isinstance(each, UnreadableInstance)]
    assert [each.uuid for each in found if not isinstance(each, UnreadableInstance)] == [GOOD]
    assert BAD in {each.uuid for each in found}
    assert all(why.isprintable() and len(why) < 300 for why in whys)


@pytest.mark.parametrize("strange", [None, "7", [], {}, 1.5, 1e400, float("nan"), True, -1, DEEP_NAME], ids=str)
async def test_a_migration_without_a_number_is_not_saved(strange: Any) -> None:
    store = NovaConductorStore(Answering(primitive("Migration", "1.7", migration_data(BAD, id=strange))))
    with pytest.raises(StoreError, match="cannot read migration"):
        await store.save_migration(uuid_of(77), status="done")


@pytest.mark.parametrize("strange", [None, 7, [HOST], {"a": 7}, "\ud800", "x" * 256, DEEP_NAME], ids=ascii)
async def test_a_compute_node_of_a_host_that_is_no_text_is_not_ours(strange: Any) -> None:
    store = NovaConductorStore(Answering(primitive("ComputeNode", "1.16", {"host": strange})))
    with pytest.raises(StoreError):
        await store.take_lease(Claimant(HOST, uuid_of(5)), for_s=60)


class Answering(Hostile):
    """Caller with one answer to every request."""

    async def call(self, method: str, arguments: Mapping[str, Any], *, repeatable: bool) -> Any:
        del method, arguments, repeatable
        return self.rows[0]
