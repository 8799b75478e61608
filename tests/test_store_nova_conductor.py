"""The store of Nova's own records, over a real RabbitMQ and a real nova-conductor."""

import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest

from bringup.daemon.decisions.instances import Changes, Expected
from bringup.daemon.decisions.migrating import AWAY_STATUSES
from bringup.daemon.decisions.states import PowerState, TaskState, UnknownState, VmState
from bringup.daemon.errors import LeaseHeld, RecordNotFound, StateConflict, StoreError, StoreUnavailable
from bringup.daemon.openstack.conductor import NovaConductorStore
from bringup.daemon.openstack.conductor.calls import Caller
from bringup.daemon.openstack.rpc.client import Rpc, open_rpc
from bringup.daemon.openstack.rpc.errors import Unanswered
from bringup.daemon.storage.store.base import Claimant
from support.nova import Nova, the_nova
from support.openstack import uuid_of
from support.records import expected

pytestmark = pytest.mark.anyio

VIF = {
    "id": "5036bff2-369e-4ac1-b8a2-2023f7ec3837",
    "address": "fa:16:3e:00:00:00",
    "type": "ovs",
    "devname": "tap5036",
}
VOLUME = {
    "source_type": "volume",
    "destination_type": "volume",
    "volume_id": "0a5d2a2e-5b1c-4bfb-9f6d-3d1f4a0c7e11",
    "boot_index": 0,
    "device_name": "/dev/vda",
    "connection_info": '{"data": {"auth_password": "s3cr3t-chap"}}',
}
ACTIVE = expected(VmState.ACTIVE)


@pytest.fixture
def anyio_backend() -> str:
    """aio-pika knows asyncio alone."""
    return "asyncio"


@dataclass
class Cloud:
    """A host of one's own in a real cloud."""

    nova: Nova
    rpc: Rpc
    store: NovaConductorStore
    host: str
    node: str

    @property
    def claimant(self) -> Claimant:
        return Claimant(self.host, self.node)

    def add_instance(self, number: int, **values: Any) -> str:
        """Create an instance, active and running by default; return its UUID."""
        one = {
            "uuid": uuid_of(self.host, number),
            "host": self.host,
            "vm_state": "active",
            "task_state": None,
            "power_state": 1,
            **values,
        }
        self.nova.make(one)
        return str(one["uuid"])

    def add_evacuation(self, number: int, **values: Any) -> dict[str, Any]:
        """Create an evacuation from this host that was done."""
        one = {
            "uuid": uuid_of(self.host, 10_000 + number),
            "instance_uuid": uuid_of(self.host, number),
            "migration_type": "evacuation",
            "status": "done",
            "source_compute": self.host,
            "dest_compute": "compute-2",
            **values,
        }
        self.nova.make(migrations=[one])
        return one

    async def claim(self, uuid: str, *, states: Expected = ACTIVE, reverting: bool = False) -> None:
        await self.store.begin_start(uuid, self.claimant, expected=states, reverting=reverting)


@pytest.fixture
async def cloud() -> AsyncIterator[Cloud]:
    nova = the_nova()
    host, node = nova.a_host()
    async with open_rpc(nova.broker.broker(), in_flight=8, deadline_s=30) as rpc:
        store = NovaConductorStore(rpc)
        yield Cloud(nova, rpc, store, host, node)
        await store.close()


async def test_an_instance_comes_whole(cloud: Cloud) -> None:
    uuid = cloud.add_instance(
        1,
        task_state="rebooting",
        display_name="web 1",
        metadata={"role": "web"},
        extra_specs={"bringup:priority": "50", "hw:mem_page_size": "large"},
        system_metadata={"old_vm_state": "active"},
        network_info=[VIF],
        block_devices=[VOLUME, {"source_type": "blank", "destination_type": "local", "boot_index": -1}],
        shutdown_terminate=True,
        terminated_at="2026-11-26T09:00:00Z",
    )

    [found] = await cloud.store.load_instances(cloud.host)

    assert found == await cloud.store.get_instance(uuid) == (await cloud.store.load_instances_by_uuid([uuid]))[0]
    assert (found.uuid, found.host, found.node) == (uuid, cloud.host, cloud.host)
    assert (found.vm_state, found.task_state, found.power_state) == (
        VmState.ACTIVE,
        TaskState.REBOOTING,
        PowerState.RUNNING,
    )
    assert found.name == cloud.nova.read([uuid])[uuid]["name"]
    assert (found.display_name, found.project_id, found.user_id) == ("web 1", "p1", "u1")
    assert (found.metadata, found.system_metadata) == ({"role": "web"}, {"old_vm_state": "active"})
    assert found.flavor == {"name": "m1.tiny", "flavorid": "f1", "extra_specs": {"bringup:priority": "50"}}
    assert (found.shutdown_terminate, found.terminated_at) == (True, "2026-11-26T09:00:00Z")
    [vif] = found.network_info
    assert VIF.items() <= vif.items()
    assert [device["boot_index"] for device in found.block_devices] == [0, -1]
    assert found.block_devices[0]["volume_id"] == VOLUME["volume_id"]
    assert "s3cr3t" not in repr(found.block_devices)


@pytest.mark.parametrize(("template", "name"), [("guest-%d", "guest-{id}"), ("vm-%(uuid)s", "vm-{uuid}")])
async def test_the_name_of_a_guest_is_made_as_nova_makes_it(cloud: Cloud, template: str, name: str) -> None:
    uuid = cloud.add_instance(1)
    [plain] = await cloud.store.load_instances(cloud.host)

    [found] = await NovaConductorStore(cloud.rpc, name_template=template).load_instances(cloud.host)

    assert found.name == name.format(id=int(plain.name.removeprefix("instance-"), 16), uuid=uuid)


async def test_all_instances_of_the_host_that_are_not_deleted_are_loaded_in_the_order_of_their_uuids(
    cloud: Cloud,
) -> None:
    kept = [
        cloud.add_instance(1),
        cloud.add_instance(2, vm_state="soft-delete"),
        cloud.add_instance(3, hidden=True),
        cloud.add_instance(4, vm_state="deleted"),
    ]
    cloud.add_instance(5, host="elsewhere", node="elsewhere", compute_id=1)
    gone = cloud.add_instance(6)
    await cloud.store.destroy(gone)

    assert [one.uuid for one in await cloud.store.load_instances(cloud.host)] == sorted(kept)
    assert await cloud.store.list_uuids(cloud.host) == sorted(kept)
    assert [one.uuid for one in await cloud.store.load_instances_by_uuid([*kept, gone])] == sorted(kept)
    assert (await cloud.store.get_instance(kept[2])).uuid == kept[2]
    assert await cloud.store.load_instances("nobody") == []


@pytest.mark.timeout(300)
async def test_more_instances_than_a_page_come_in_few_requests(cloud: Cloud) -> None:
    uuids = [uuid_of(cloud.host, number) for number in range(450)]
    cloud.nova.make(
        *({"uuid": uuid, "host": cloud.host, "vm_state": "active", "block_devices": [VOLUME]} for uuid in uuids)
    )
    before = cloud.rpc.sent

    found = await cloud.store.load_instances(cloud.host)

    assert [one.uuid for one in found] == sorted(uuids)
    assert all(one.block_devices[0]["volume_id"] == VOLUME["volume_id"] for one in found)
    # The UUIDs, three pages of instances with one of block devices each, and their flavors, of which there is one.
    assert cloud.rpc.sent - before == 8


CHANGES: dict[str, tuple[Changes, dict[str, Any]]] = {
    "vm_state": ({"vm_state": VmState.STOPPED}, {"vm_state": "stopped"}),
    "task_state": ({"task_state": TaskState.REBOOTING}, {"task_state": "rebooting"}),
    "no task_state": ({"task_state": None}, {"task_state": None}),
    "power_state": ({"power_state": PowerState.SHUTDOWN}, {"power_state": 4}),
    "terminated_at": ({"terminated_at": "2026-11-26T09:00:00Z"}, {"terminated_at": "2026-11-26T09:00:00+00:00"}),
    "system_metadata": ({"system_metadata": {"only": "this"}}, {"system_metadata": {"only": "this"}}),
    "no system_metadata": ({"system_metadata": {}}, {"system_metadata": {}}),
    "nothing": ({}, {}),
}


@pytest.mark.parametrize(("changes", "written"), CHANGES.values(), ids=CHANGES)
async def test_a_save_writes_what_it_names_and_nothing_else(
    cloud: Cloud, changes: Changes, written: Mapping[str, Any]
) -> None:
    uuid = cloud.add_instance(
        1, task_state="powering-on", system_metadata={"a": "b"}, metadata={"c": "d"}, network_info=[VIF]
    )
    before = cloud.nova.read([uuid])[uuid]

    await cloud.store.save(uuid, changes, expected=expected(VmState.ACTIVE, task_states=(TaskState.POWERING_ON,)))

    assert cloud.nova.read([uuid])[uuid] == {**before, **written}


CONFLICTS = {
    "another vm_state": (expected(VmState.STOPPED), False),
    "another task_state": (expected(VmState.ACTIVE, task_states=(TaskState.SPAWNING,)), False),
    "nothing is expected": (expected(), False),
    "one of several": (expected(VmState.STOPPED, VmState.ACTIVE, task_states=(TaskState.PAUSING, None)), True),
    "none where there is none": (ACTIVE, True),
}


@pytest.mark.parametrize(("states", "made"), CONFLICTS.values(), ids=CONFLICTS)
@pytest.mark.parametrize("changes", [{"power_state": PowerState.PAUSED}, {}], ids=["something", "nothing"])
async def test_a_save_is_made_only_in_an_expected_state(
    cloud: Cloud, changes: Changes, states: Expected, *, made: bool
) -> None:
    uuid = cloud.add_instance(1)
    if made:
        await cloud.store.save(uuid, changes, expected=states)
        return

    with pytest.raises(
        StateConflict, match=f"save instance {uuid}: it has vm_state active and task_state none, expect"
    ):
        await cloud.store.save(uuid, changes, expected=states)

    assert (await cloud.store.get_instance(uuid)).power_state is PowerState.RUNNING


async def test_states_that_are_not_known_can_be_expected(cloud: Cloud) -> None:
    strange, busy = UnknownState("hibernated"), UnknownState("dreaming")
    uuid = cloud.add_instance(1, vm_state="hibernated", task_state="dreaming", power_state=9)
    [found] = await cloud.store.load_instances(cloud.host)
    assert (found.vm_state, found.task_state, found.power_state) == (strange, busy, UnknownState(9))

    await cloud.store.save(uuid, {"vm_state": VmState.ERROR}, expected=expected(strange, task_states=(busy,)))

    assert cloud.nova.read([uuid])[uuid]["vm_state"] == "error"


async def test_of_saves_that_expect_the_same_state_one_is_made(cloud: Cloud) -> None:
    uuids = [cloud.add_instance(number) for number in range(5)]
    won: list[str] = []
    lost: list[str] = []

    async def take(uuid: str) -> None:
        try:
            await cloud.store.save(uuid, {"task_state": TaskState.REBOOTING}, expected=ACTIVE)
            won.append(uuid)
        except StateConflict:
            lost.append(uuid)

    async with anyio.create_task_group() as tasks:
        for uuid in uuids * 4:
            tasks.start_soon(take, uuid)

    assert sorted(won) == sorted(uuids)
    assert len(lost) == 15


async def test_what_is_gone_is_neither_saved_nor_destroyed_nor_started(cloud: Cloud) -> None:
    uuid = cloud.add_instance(1)
    await cloud.store.destroy(uuid)
    assert cloud.nova.read([uuid])[uuid]["deleted"]

    for gone in (uuid, uuid_of(cloud.host, 2)):
        with pytest.raises(RecordNotFound, match=f"cannot read instance {gone}"):
            await cloud.store.get_instance(gone)
        for changes in ({"vm_state": VmState.ERROR}, {}):
            with pytest.raises(RecordNotFound, match=f"cannot save instance {gone}"):
                await cloud.store.save(gone, changes, expected=ACTIVE)  # type: ignore[arg-type]  # one of them
        with pytest.raises(RecordNotFound, match=f"cannot destroy instance {gone}"):
            await cloud.store.destroy(gone)
        with pytest.raises(RecordNotFound, match=f"cannot claim instance {gone}"):
            await cloud.claim(gone)
        with pytest.raises(RecordNotFound, match=f"cannot check instance {gone}"):
            await cloud.store.end_start(gone, cloud.claimant, reverting=False)


async def test_migrations_of_the_host_in_the_statuses_come_oldest_first(cloud: Cloud) -> None:
    for number in (1, 2, 3):
        cloud.add_instance(number)
    first = cloud.add_evacuation(3)
    second = cloud.add_evacuation(1, status="accepted", migration_type="live-migration", dest_compute=None)
    cloud.add_evacuation(2, status="error")

    found = await cloud.store.load_migrations(cloud.host, {"accepted", "done"})

    assert [one.uuid for one in found] == [first["uuid"], second["uuid"]]
    assert (found[0].instance_uuid, found[0].migration_type, found[0].status) == (
        first["instance_uuid"],
        "evacuation",
        "done",
    )
    assert (found[0].source_compute, found[0].dest_compute, found[1].dest_compute) == (cloud.host, "compute-2", None)
    assert await cloud.store.load_migrations(cloud.host, ()) == []


async def test_when_a_migration_was_last_written_is_reported_in_utc(cloud: Cloud) -> None:
    cloud.add_instance(1)
    one = cloud.add_evacuation(1)
    before = time.time()
    await cloud.store.save_migration(one["uuid"], status="accepted")

    [found] = await cloud.store.load_migrations(cloud.host, ["accepted"])

    # A database keeps whole seconds.
    assert found.updated_at is not None
    assert before - 2 <= found.updated_at <= time.time() + 2


async def test_all_migrations_of_an_instance_from_or_to_a_host_come(cloud: Cloud) -> None:
    other, _ = cloud.nova.a_host()
    for number in (1, 2, 3):
        cloud.add_instance(number, host=other)
    came = cloud.add_evacuation(1, source_compute=other, dest_compute=cloud.host, status="completed")
    went = cloud.add_evacuation(2, migration_type="resize", status="finished")
    uuids = [uuid_of(cloud.host, number) for number in (1, 2, 3)]

    for wanted in (uuids, [*uuids, *(uuid_of(cloud.host, number) for number in range(100, 140))]):
        found = await cloud.store.load_migrations_of(cloud.host, wanted)
        assert [one.uuid for one in found] == [came["uuid"], went["uuid"]]
    assert await cloud.store.load_migrations_of(cloud.host, uuids[2:]) == []


async def test_a_deleted_row_is_read_when_it_is_asked_for(cloud: Cloud) -> None:
    """Evacuated, and then deleted by its user (Nova bug 1687479)."""
    gone, there = cloud.add_instance(1, host="compute-2", network_info=[VIF]), cloud.add_instance(2)
    await cloud.store.destroy(gone)

    [found] = await cloud.store.load_deleted([gone, there, uuid_of(cloud.host, 99)])

    assert (found.uuid, found.host) == (gone, "compute-2")
    assert await cloud.store.load_instances_by_uuid([gone]) == []


async def test_a_row_that_is_left_over_forbids_nothing_until_it_is_written(cloud: Cloud) -> None:
    uuid = cloud.add_instance(1)
    row = cloud.add_evacuation(1, migration_type="live-migration", status="preparing")
    known = [(row["uuid"], "preparing")]

    await cloud.store.begin_start(uuid, cloud.claimant, expected=ACTIVE, reverting=False, left_over=known)
    await cloud.store.end_start(uuid, cloud.claimant, reverting=False, left_over=known)
    await cloud.store.save_migration(row["uuid"], status="running")

    with pytest.raises(StateConflict, match=r"live-migration .* is running"):
        await cloud.store.end_start(uuid, cloud.claimant, reverting=False, left_over=known)


async def test_the_status_of_a_migration_is_saved(cloud: Cloud) -> None:
    cloud.add_instance(1)
    one = cloud.add_evacuation(1)

    await cloud.store.save_migration(one["uuid"], status="completed")

    assert cloud.nova.ask("migration_status", uuid=one["uuid"]) == "completed"
    missing = uuid_of(cloud.host, 99)
    with pytest.raises(RecordNotFound, match=f"migration {missing}"):
        await cloud.store.save_migration(missing, status="completed")


@pytest.mark.parametrize("kind", ["evacuation", "live-migration", "migration", "resize"])
async def test_a_migration_under_way_forbids_a_start(cloud: Cloud, kind: str) -> None:
    for number, status in enumerate([*AWAY_STATUSES, "done", "error"]):
        uuid = cloud.add_instance(number)
        cloud.add_evacuation(number, migration_type=kind, status=status)
        for reverting in (False, True):
            if status in AWAY_STATUSES and not (reverting and kind in ("migration", "resize")):
                with pytest.raises(StateConflict, match=f"{kind} .* is {status}"):
                    await cloud.claim(uuid, reverting=reverting)
            else:
                await cloud.claim(uuid, reverting=reverting)
                await cloud.store.end_start(uuid, cloud.claimant, reverting=reverting)


async def test_an_instance_that_changed_or_moved_is_not_started_and_one_that_moved_meanwhile_is_reported(
    cloud: Cloud,
) -> None:
    other, _ = cloud.nova.a_host()
    changed, moved, moves = (
        cloud.add_instance(1, task_state="deleting"),
        cloud.add_instance(2, host=other),
        cloud.add_instance(3),
    )
    with pytest.raises(StateConflict, match="task_state deleting"):
        await cloud.claim(changed)
    with pytest.raises(StateConflict, match=f"is on host {other} now"):
        await cloud.claim(moved)

    await cloud.claim(moves)
    cloud.nova.ask("save_instance", uuid=moves, changes={"host": other})

    with pytest.raises(StateConflict, match=f"is on host {other} now"):
        await cloud.store.end_start(moves, cloud.claimant, reverting=False)


async def test_many_that_start_at_once_are_checked_in_few_requests(cloud: Cloud) -> None:
    uuids = [cloud.add_instance(number) for number in range(40)]
    cloud.add_evacuation(0, status="running", migration_type="live-migration")
    before, refused = cloud.rpc.sent, []

    async def start(uuid: str) -> None:
        try:
            await cloud.claim(uuid)
        except StateConflict:
            refused.append(uuid)

    async with anyio.create_task_group() as tasks:
        for uuid in uuids:
            tasks.start_soon(start, uuid)

    assert refused == [uuids[0]]
    assert cloud.rpc.sent - before <= 6


@dataclass
class Held:
    """Calls for real, as soon as it is let go."""

    caller: Caller
    let_go: anyio.Event = field(default_factory=anyio.Event)
    where: str = "a slow broker"

    async def call(self, method: str, arguments: Mapping[str, Any], *, repeatable: bool) -> Any:
        await self.let_go.wait()
        return await self.caller.call(method, arguments, repeatable=repeatable)


async def test_a_cancelled_caller_takes_nobody_else_with_it(cloud: Cloud) -> None:
    uuids = [cloud.add_instance(number) for number in range(6)]
    held = Held(cloud.rpc)
    store = NovaConductorStore(held)
    found: list[str] = []

    async def read(uuid: str, scope: anyio.CancelScope) -> None:
        with scope:
            found.append((await store.get_instance(uuid)).uuid)

    scopes = [anyio.CancelScope() for _ in uuids]
    async with anyio.create_task_group() as tasks:
        for uuid, scope in zip(uuids, scopes, strict=True):
            tasks.start_soon(read, uuid, scope)
        await anyio.wait_all_tasks_blocked()
        # The first leads the round that is under way.
        scopes[0].cancel()
        scopes[3].cancel()
        held.let_go.set()

    assert sorted(found) == sorted(set(uuids) - {uuids[0], uuids[3]})


async def test_the_lease_is_that_the_node_is_this_hosts_in_nova(cloud: Cloud) -> None:
    await cloud.store.take_lease(cloud.claimant, for_s=1)
    await cloud.store.drop_lease(cloud.claimant)
    await cloud.store.take_lease(Claimant("new-host", uuid_of(cloud.host, 1)), for_s=1)

    with pytest.raises(LeaseHeld, match=f"compute node {cloud.node} is of host {cloud.host}, and this one is called x"):
        await cloud.store.take_lease(Claimant("x", cloud.node), for_s=1)

    cloud.add_instance(1)
    stranger = uuid_of(cloud.host, 2)
    with pytest.raises(LeaseHeld, match=f"instances on host {cloud.host}, and no compute node {stranger}"):
        await cloud.store.take_lease(Claimant(cloud.host, stranger), for_s=1)


async def test_a_value_that_nova_refuses_is_an_error_of_its_own_save(cloud: Cloud) -> None:
    uuid = cloud.add_instance(1)
    with pytest.raises(StoreError, match=f"cannot save instance {uuid}: nova-conductor refuses"):
        await cloud.store.save(uuid, {"terminated_at": "some day"}, expected=ACTIVE)
    await cloud.store.save(uuid, {"vm_state": VmState.ERROR}, expected=ACTIVE)


@dataclass
class LosesAnswers:
    """Calls for real, and loses the answers of some actions, before or after they were carried out."""

    caller: Caller
    before: int = 0
    after: int = 0
    where: str = "a lossy broker"

    async def call(self, method: str, arguments: Mapping[str, Any], *, repeatable: bool) -> Any:
        if method == "object_action" and self.before:
            self.before -= 1
            raise Unanswered("lost on the way there")
        result = await self.caller.call(method, arguments, repeatable=repeatable)
        if method == "object_action" and self.after:
            self.after -= 1
            raise Unanswered("lost on the way back")
        return result


@pytest.mark.parametrize("lost", [{"before": 1}, {"after": 1}, {"before": 2}, {"before": 1, "after": 1}], ids=str)
async def test_a_save_whose_answer_was_lost_is_made_once(cloud: Cloud, lost: Mapping[str, Any]) -> None:
    uuid = cloud.add_instance(1, system_metadata={"a": "b"})
    store = NovaConductorStore(LosesAnswers(cloud.rpc, **lost))

    await store.save(uuid, {"task_state": TaskState.REBOOTING, "system_metadata": {"c": "d"}}, expected=ACTIVE)

    found = cloud.nova.read([uuid])[uuid]
    assert (found["task_state"], found["system_metadata"]) == ("rebooting", {"c": "d"})


@pytest.mark.parametrize("lost", [{"before": 1}, {"after": 1}], ids=str)
async def test_a_destruction_whose_answer_was_lost_is_made(cloud: Cloud, lost: Mapping[str, Any]) -> None:
    uuid = cloud.add_instance(1)
    await NovaConductorStore(LosesAnswers(cloud.rpc, **lost)).destroy(uuid)
    assert cloud.nova.read([uuid])[uuid]["deleted"]


@dataclass
class Delays:
    """Calls for real; the first action is carried out only when the next one comes, and its answer is lost."""

    caller: Caller
    held: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    has_held: bool = False
    where: str = "a slow broker"

    async def call(self, method: str, arguments: Mapping[str, Any], *, repeatable: bool) -> Any:
        if method == "object_action":
            if not self.has_held:
                self.has_held = True
                self.held.append((method, arguments))
                raise Unanswered("still on its way")
            for late_method, late in self.held:
                await self.caller.call(late_method, late, repeatable=False)
            self.held.clear()
        return await self.caller.call(method, arguments, repeatable=repeatable)


async def test_a_save_that_overtakes_itself_is_ours(cloud: Cloud) -> None:
    saved, destroyed = cloud.add_instance(1), cloud.add_instance(2)
    store = NovaConductorStore(Delays(cloud.rpc))
    await store.save(
        saved, {"task_state": TaskState.REBOOTING, "terminated_at": "2026-11-26T09:00:00.5+00:00"}, expected=ACTIVE
    )
    assert cloud.nova.read([saved])[saved]["task_state"] == "rebooting"

    await NovaConductorStore(Delays(cloud.rpc)).destroy(destroyed)
    assert cloud.nova.read([destroyed])[destroyed]["deleted"]


async def test_a_save_that_was_lost_and_overtaken_is_a_conflict(cloud: Cloud) -> None:
    uuid = cloud.add_instance(1, task_state="deleting")
    store = NovaConductorStore(LosesAnswers(cloud.rpc, before=1))
    with pytest.raises(StateConflict, match="task_state deleting"):
        await store.save(uuid, {"task_state": TaskState.REBOOTING}, expected=ACTIVE)


async def test_a_save_whose_answers_are_all_lost_reports_that_nova_is_away(cloud: Cloud) -> None:
    uuid = cloud.add_instance(1)
    store = NovaConductorStore(LosesAnswers(cloud.rpc, before=9))
    with pytest.raises(StoreUnavailable, match=f"cannot save instance {uuid}: nova-conductor does not answer"):
        await store.save(uuid, {"task_state": TaskState.REBOOTING}, expected=ACTIVE)
    with pytest.raises(StoreUnavailable, match=f"cannot destroy instance {uuid}: nova-conductor does not answer"):
        await store.destroy(uuid)
    assert cloud.nova.read([uuid])[uuid]["task_state"] is None


async def test_a_closed_store_reports_it(cloud: Cloud) -> None:
    uuid = cloud.add_instance(1)
    await cloud.store.close()
    with pytest.raises(StoreError, match="it is closed"):
        await cloud.store.get_instance(uuid)
