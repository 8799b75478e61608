"""Reboot, start, stop, unpause and delete: what the recorded rows do not say of them."""

from contextlib import suppress
from dataclasses import replace
from typing import cast

import anyio
import pytest

from bringup.daemon.decisions.instances import Expected
from bringup.daemon.decisions.outcomes import Kind
from bringup.daemon.decisions.policies import GuestShutdown
from bringup.daemon.decisions.states import PowerState, TaskState, VmState
from bringup.daemon.errors import StateConflict, StoreError, StoreUnavailable, Temporary
from bringup.daemon.recovery.guest_power import read_power_state
from bringup.daemon.recovery.operations import reboot, stop
from bringup.daemon.recovery.working_copy import WorkingCopy
from bringup.daemon.storage.store.base import Store
from bringup.drivers.base import Driver, DriverError, RebootType
from bringup.drivers.simulated import Fault
from support.drivers import uuid_of
from support.hosts import HOST, arranged, evacuation, guest, instance, outcome_of

pytestmark = pytest.mark.anyio

STOPPED = {"vm_state": VmState.STOPPED, "power_state": PowerState.SHUTDOWN}


async def test_an_instance_that_is_started_is_shelved_no_more() -> None:
    metadata = {
        "shelved_at": "2026-01-01T00:00:00Z",
        "shelved_image_id": "3f1b",
        "shelved_host": HOST,
        "image_os_distro": "debian",
    }
    record = instance(1, task_state=TaskState.POWERING_ON, power_state=PowerState.SHUTDOWN, system_metadata=metadata)
    async with arranged([record]) as host:
        result = await host.run()

        assert outcome_of(result, 1).kind is Kind.INITIALIZED
        left = await host.record(1)
        assert left is not None
        assert left.system_metadata == {"image_os_distro": "debian"}
        assert left == outcome_of(result, 1).instance
        assert host.power(1) is PowerState.RUNNING


async def test_an_instance_that_was_not_shelved_keeps_its_system_metadata_unwritten() -> None:
    record = instance(1, task_state=TaskState.POWERING_ON, system_metadata={"image_os_distro": "debian"})
    async with arranged([record]) as host:
        await host.run()

        [save] = [call for call in host.trace.calls if call.name == "store.save"]
        assert "system_metadata" not in str(save.arguments)
        assert await host.record(1) == instance(1, system_metadata={"image_os_distro": "debian"})


@pytest.mark.parametrize(
    ("asked", "timeout_s"),
    [
        (None, 60),
        ("240", 240),
        ("0", 0),
        (" 15 ", 15),
        ("soon", 60),
        ("", 60),
        ("1.5", 60),
        ("9" * 400, 60),
        ("9" * 5000, 60),
    ],
    ids=["unset", "more", "none", "spaces", "a-word", "empty", "a-fraction", "too-large-a-number", "too-many-digits"],
)
async def test_an_image_may_ask_for_its_own_time_to_shut_down(asked: str | None, timeout_s: float) -> None:
    metadata = {} if asked is None else {"image_os_shutdown_timeout": asked}
    async with arranged([instance(1, task_state=TaskState.POWERING_OFF, system_metadata=metadata)]) as host:
        result = await host.run()

        assert outcome_of(result, 1).kind is Kind.INITIALIZED
        [power_off] = [call for call in host.driver.calls if call.verb == "power_off"]
        assert power_off.arguments == {"timeout_s": timeout_s, "retry_interval_s": 10}


async def test_the_settings_say_how_long_a_guest_is_asked_to_shut_down() -> None:
    shutdown = GuestShutdown(shutdown_timeout=5, shutdown_retry_interval=2)
    async with arranged([instance(1, task_state=TaskState.POWERING_OFF)], shutdown=shutdown) as host:
        await host.run()

        [power_off] = [call for call in host.driver.calls if call.verb == "power_off"]
        assert power_off.arguments == {"timeout_s": 5, "retry_interval_s": 2}


@pytest.mark.parametrize(
    ("facts", "left"),
    [
        (
            {"task_state": TaskState.POWERING_OFF},
            {"vm_state": VmState.STOPPED, "power_state": PowerState.SHUTDOWN},
        ),
        (
            {"task_state": TaskState.POWERING_ON, "vm_state": VmState.STOPPED, "power_state": PowerState.SHUTDOWN},
            {"vm_state": VmState.ACTIVE, "power_state": PowerState.RUNNING},
        ),
        (
            {"task_state": TaskState.UNPAUSING, "vm_state": VmState.PAUSED, "power_state": PowerState.PAUSED},
            {"vm_state": VmState.ACTIVE, "power_state": PowerState.RUNNING},
        ),
        (
            {"task_state": TaskState.REBOOT_PENDING},
            {"vm_state": VmState.ACTIVE, "power_state": PowerState.RUNNING},
        ),
        (
            {"task_state": TaskState.REBOOT_STARTED, "power_state": PowerState.SHUTDOWN},
            {"vm_state": VmState.ACTIVE, "power_state": PowerState.RUNNING},
        ),
        (
            {"task_state": TaskState.REBOOTING_HARD, "vm_state": VmState.RESCUED, "power_state": PowerState.SHUTDOWN},
            {"vm_state": VmState.RESCUED, "power_state": PowerState.RUNNING},
        ),
        (
            {"task_state": TaskState.RESIZE_MIGRATING, "system_metadata": {"old_vm_state": "stopped"}},
            {"vm_state": VmState.ACTIVE, "power_state": PowerState.RUNNING},
        ),
    ],
    ids=["stop", "start", "unpause", "soft-reboot", "soft-reboot-went-down", "reboot-in-rescue", "resize"],
)
async def test_record_and_guest_agree_after_an_operation(facts: dict[str, object], left: dict[str, object]) -> None:
    metadata = {key: value for key, value in facts.items() if key == "system_metadata"}
    async with arranged([instance(1, **facts)]) as host:
        result = await host.run()

        assert outcome_of(result, 1).kind is Kind.INITIALIZED
        assert await host.record(1) == instance(1, **left, **metadata) == outcome_of(result, 1).instance
        assert host.power(1) is (PowerState.SHUTDOWN if metadata else left["power_state"])


async def test_a_deletion_is_done_to_its_end() -> None:
    async with arranged([instance(1, task_state=TaskState.DELETING)]) as host:
        result = await host.run()

        assert outcome_of(result, 1).deleted
        assert host.power(1) is None
        assert host.driver.hypervisor.disks_destroyed == {uuid_of(1)}
        assert await host.record(1) is None
        save, destroy = (call for call in host.trace.calls if call.name in {"store.save", "store.destroy"})
        assert (save.name, destroy.name) == ("store.save", "store.destroy")
        assert "2026-01-01T00:00:00+00:00" in str(save.arguments)


async def test_a_deletion_that_fails_sets_error_and_leaves_the_row() -> None:
    async with arranged([instance(1, task_state=TaskState.DELETING)]) as host:
        host.driver.inject(Fault(verb="destroy", error="DriverError", message="device is busy"))
        result = await host.run()

        assert outcome_of(result, 1).kind is Kind.FAILED
        assert await host.record(1) == instance(1, task_state=TaskState.DELETING, vm_state=VmState.ERROR)
        assert host.power(1) is PowerState.RUNNING


async def test_a_guest_that_the_hypervisor_does_not_have_has_no_state() -> None:
    async with arranged([instance(1)], guests=[]) as host:
        await host.driver.init_host(HOST)

        assert await read_power_state(instance(1), host.driver) is PowerState.NOSTATE


async def test_a_reboot_that_failed_with_the_guest_running_is_no_error() -> None:
    async with arranged([instance(1, task_state=TaskState.REBOOT_PENDING_HARD)]) as host:
        host.driver.inject(Fault(verb="reboot", error="DriverError", message="a device is left"))
        result = await host.run()

        assert outcome_of(result, 1).kind is Kind.INITIALIZED
        assert await host.record(1) == instance(1)


async def test_a_reboot_that_failed_with_the_guest_down_is_one() -> None:
    down = {"power_state": PowerState.SHUTDOWN}
    async with arranged([instance(1, task_state=TaskState.REBOOT_PENDING_HARD, **down)]) as host:
        host.driver.inject(Fault(verb="reboot", error="DriverError", message="no disk"))
        result = await host.run()

        problem = outcome_of(result, 1).problem
        assert problem is not None
        assert problem.message == "no disk"
        assert await host.record(1) == instance(1, vm_state=VmState.ERROR, **down)


@pytest.mark.parametrize("operation", ["stop", "start", "unpause"])
async def test_an_operation_that_failed_is_not_pending_any_more(operation: str) -> None:
    states = {"stop": TaskState.POWERING_OFF, "start": TaskState.POWERING_ON, "unpause": TaskState.UNPAUSING}
    verbs = {"stop": "power_off", "start": "power_on", "unpause": "unpause"}
    power = PowerState.PAUSED
    async with arranged([instance(1, task_state=states[operation], power_state=power)]) as host:
        host.trace.fail(f"driver.{verbs[operation]}", DriverError("no"))
        result = await host.run()

        assert outcome_of(result, 1).kind is Kind.FAILED
        assert await host.record(1) == instance(1, power_state=power)


async def test_a_task_state_that_cannot_be_reverted_does_not_hide_what_failed_first() -> None:
    async with arranged([instance(1, task_state=TaskState.POWERING_OFF)]) as host:
        host.trace.fail("driver.power_off", DriverError("still there"))
        host.trace.fail("store.save", StoreError("the disk is full"))
        result = await host.run()

        problem = outcome_of(result, 1).problem
        assert problem is not None
        assert (problem.error, problem.message) == ("DriverError", "still there")


@pytest.mark.parametrize(
    ("task_state", "verb"),
    [
        (TaskState.REBOOT_PENDING_HARD, "reboot"),
        (TaskState.POWERING_ON, "power_on"),
        (TaskState.UNPAUSING, "unpause"),
        (TaskState.POWERING_OFF, "power_off"),
    ],
)
async def test_a_store_that_is_away_for_a_moment_loses_no_operation(task_state: TaskState, verb: str) -> None:
    power = {"unpause": PowerState.PAUSED, "power_off": PowerState.RUNNING}.get(verb, PowerState.SHUTDOWN)
    facts = {"task_state": task_state, "power_state": power}
    async with arranged([instance(1, **facts)]) as host:
        await host.run()
        end = await host.record(1), host.driver.guests[uuid_of(1)].power_state
        calls = host.trace.names()
    assert end == (instance(1, **STOPPED) if verb == "power_off" else instance(1), end[1])
    for moment, name in enumerate(calls, 1):
        if not name.startswith("store."):
            continue
        async with arranged([instance(1, **facts)]) as host:

            def before(number: int, moment: int = moment) -> None:
                if number == moment:
                    raise StoreUnavailable("the disk is full")

            host.trace.before = before
            with suppress(Temporary):
                await host.run()
            host.trace.lift()
            await host.run()
            record = await host.record(1)
            assert record is not None
            # Nova's tables leave the power state of a finished reboot to its periodic look.
            found = replace(record, power_state=end[1]), host.driver.guests[uuid_of(1)].power_state
            assert found == end, (moment, name)


@pytest.mark.parametrize("verb", ["power_off", "reboot"])
async def test_who_takes_an_instance_over_while_its_operation_fails_keeps_it(verb: str) -> None:
    task_state = TaskState.POWERING_OFF if verb == "power_off" else TaskState.REBOOT_STARTED_HARD
    facts = {"task_state": task_state, "power_state": PowerState.SHUTDOWN}
    async with arranged([instance(1, **facts)]) as host:
        driver = cast("Driver", TakenOver(host.driver, host.store, verb))
        await host.driver.init_host(HOST)
        record = WorkingCopy(instance(1, **facts), host.store)
        doing = (
            stop(record, driver, GuestShutdown())
            if verb == "power_off"
            else reboot(record, driver, RebootType.HARD, host.host.executor.start_claim)
        )
        with pytest.raises((DriverError, StateConflict)):
            await doing

        assert await host.record(1) == instance(1, task_state=TaskState.DELETING, power_state=PowerState.SHUTDOWN)


class TakenOver:
    """A hypervisor whose verb fails, while somebody else begins to delete the instance."""

    def __init__(self, driver: Driver, store: Store, verb: str) -> None:
        self._driver, self._store, self._verb = driver, store, verb

    def __getattr__(self, verb: str) -> object:
        return self._fail if verb == self._verb else getattr(self._driver, verb)

    async def _fail(self, *_args: object, **_kwargs: object) -> None:
        now = await self._store.get_instance(uuid_of(1))
        expected = Expected((now.vm_state,), (now.task_state,))
        await self._store.save(uuid_of(1), {"task_state": TaskState.DELETING}, expected=expected)
        raise DriverError("lost")


async def test_a_live_migration_that_did_not_complete_is_aborted_and_written_off() -> None:
    leaving = replace(evacuation(1, "running"), migration_type="live-migration")
    moving = [guest(1, migrating=True)]
    async with arranged([instance(1, task_state=TaskState.MIGRATING)], guests=moving, migrations=[leaving]) as host:
        result = await host.run()

        assert outcome_of(result, 1).kind is Kind.INITIALIZED
        assert host.driver.guests[uuid_of(1)].migrating is False
        assert await host.record(1) == instance(1)
        assert [one.uuid for one in await host.store.load_migrations(HOST, ["error"])] == [leaving.uuid]


@pytest.mark.parametrize(
    ("power", "fails", "kind"),
    [
        (PowerState.RUNNING, False, Kind.INITIALIZED),
        (PowerState.SHUTDOWN, False, Kind.INITIALIZED),
        (PowerState.RUNNING, True, Kind.INITIALIZED),
        (PowerState.SHUTDOWN, True, Kind.FAILED),
    ],
    ids=["runs", "was-down", "fails-and-runs", "fails-and-is-down"],
)
async def test_an_instance_that_is_deleted_during_its_reboot_stays_deleted(
    *, power: PowerState, fails: bool, kind: Kind
) -> None:
    facts = {"task_state": TaskState.REBOOT_PENDING_HARD, "power_state": power}
    async with arranged([instance(1, **facts)], latency={"reboot": 0.2}) as host:
        if fails:
            host.driver.inject(Fault(verb="reboot", error="DriverError"))
        async with anyio.create_task_group() as group:
            group.start_soon(host.run)
            await host.driver.entered("reboot")
            await host.store.destroy(uuid_of(1))

        assert await host.record(1) is None
        assert outcome_of(host.reports[0], 1).kind is kind


async def test_operations_can_be_repeated() -> None:
    """A run that died after the guest was changed and before the record was: the next one does it again."""
    records = [
        instance(1, task_state=TaskState.POWERING_OFF),
        instance(2, task_state=TaskState.POWERING_ON),
        instance(3, task_state=TaskState.UNPAUSING, vm_state=VmState.PAUSED),
        instance(4, task_state=TaskState.DELETING),
    ]
    changed = [guest(1, PowerState.SHUTDOWN), guest(2), guest(3)]
    async with arranged(records, guests=changed) as host:
        result = await host.run()

        assert {outcome.kind for outcome in result.outcomes} == {Kind.INITIALIZED}
        assert [host.power(n) for n in (1, 2, 3, 4)] == [
            PowerState.SHUTDOWN,
            PowerState.RUNNING,
            PowerState.RUNNING,
            None,
        ]
