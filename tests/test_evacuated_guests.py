"""Guests that this hypervisor still has although their instances were evacuated."""

from dataclasses import replace

import pytest

from bringup.daemon.decisions.instances import Instance
from bringup.daemon.decisions.outcomes import Kind
from bringup.daemon.decisions.policies import UNGUARDED
from bringup.daemon.decisions.states import PowerState, TaskState, VmState
from bringup.daemon.errors import RecordNotFound, StoreError
from bringup.daemon.recovery.evacuated_guests import CannotTell, SettingWitness, Witness
from bringup.drivers.base import DriverError, InstanceNotFound, SharedStorageProbe
from bringup.drivers.simulated import Fault
from support.drivers import uuid_of
from support.hosts import ELSEWHERE, arranged, evacuation, guest, instance, limits, outcome_of
from support.tracing import Called

pytestmark = pytest.mark.anyio

AWAY = instance(1, host=ELSEWHERE)


@pytest.mark.parametrize(
    ("setting", "shared_storage", "destroyed"),
    [
        ("local", False, True),
        ("shared", True, False),
        ("unknown", False, False),
        ("local", None, False),
    ],
    ids=["local", "shared", "unknown", "no-files-of-this-host"],
)
async def test_what_was_evacuated_is_destroyed_and_its_disks_only_where_they_are_known_to_be_local(
    *, setting: str, shared_storage: bool | None, destroyed: bool
) -> None:
    async with arranged(
        [AWAY],
        guests=[guest(1, shared_storage=shared_storage)],
        migrations=[evacuation(1)],
        witness=SettingWitness(setting),
    ) as host:
        result = await host.run()

        assert outcome_of(result, 1).kind is Kind.INITIALIZED
        assert host.power(1) is None
        assert host.driver.hypervisor.disks_destroyed == ({uuid_of(1)} if destroyed else set())
        assert host.driver.hypervisor.probes == set()
        assert await host.evacuation_status(1) == "completed"
        assert await host.record(1) == AWAY


@pytest.mark.parametrize(
    ("error", "destroyed"),
    [(DriverError("I/O error"), False), (InstanceNotFound("gone"), False), (NotImplementedError(), True)],
    ids=["failed", "not-found", "cannot-check"],
)
async def test_a_check_that_fails_keeps_the_disks_and_one_that_a_driver_does_not_have_means_local(
    *, error: Exception, destroyed: bool
) -> None:
    async with arranged([AWAY], guests=[guest(1)], migrations=[evacuation(1)], witness=SettingWitness("local")) as host:
        host.trace.fail("driver.check_instance_shared_storage_local", error)
        await host.run()

        assert host.power(1) is None
        assert host.driver.hypervisor.disks_destroyed == ({uuid_of(1)} if destroyed else set())


class Timing:
    """A witness whose host does not answer."""

    async def sees(self, instance: Instance, probe: SharedStorageProbe) -> bool:
        raise TimeoutError(f"no answer about {probe.path} of {instance.uuid}")


async def test_a_witness_that_does_not_answer_keeps_the_disks_and_leaves_no_mark() -> None:
    """Nova asked itself and always timed out (bug 2085975)."""
    silent: Witness = Timing()
    async with arranged([AWAY], guests=[guest(1)], migrations=[evacuation(1)], witness=silent) as host:
        await host.run()

        assert host.driver.hypervisor.disks_kept == {uuid_of(1)}
        assert host.driver.hypervisor.probes == set()


async def test_a_witness_without_a_setting_names_what_to_set() -> None:
    with pytest.raises(CannotTell, match=r"evacuated\.shared_storage is unknown: .* set it to shared or local"):
        await SettingWitness("unknown").sees(AWAY, SharedStorageProbe(AWAY.uuid, "a/mark"))


async def test_the_disks_of_an_instance_that_was_deleted_meanwhile_are_destroyed() -> None:
    async with arranged(
        [AWAY], guests=[guest(1)], migrations=[evacuation(1)], witness=SettingWitness("shared")
    ) as host:
        host.trace.fail("store.get_instance", RecordNotFound("deleted"))
        await host.run()

        assert host.power(1) is None
        assert host.driver.hypervisor.disks_destroyed == {uuid_of(1)}


@pytest.mark.parametrize("row", ["deleted", "archived"])
@pytest.mark.parametrize(("setting", "destroyed"), [("local", True), ("shared", False), ("unknown", False)], ids=str)
@pytest.mark.parametrize("power", [PowerState.RUNNING, PowerState.SHUTDOWN], ids=lambda p: p.name)
async def test_what_was_evacuated_and_then_deleted_by_its_user_is_destroyed_and_shared_disks_never(
    power: PowerState, setting: str, row: str, *, destroyed: bool
) -> None:
    """Nova reads deleted rows for it (bug 1687479): the guest went on running, with an address that is another's."""
    async with arranged(
        [AWAY, instance(2)] if row == "deleted" else [instance(2)],
        guests=[guest(1, power, shared_storage=setting == "shared"), guest(2)],
        migrations=[evacuation(1)],
        witness=SettingWitness(setting),
    ) as host:
        if row == "deleted":
            await host.store.destroy(uuid_of(1))
        result = await host.run()

        outcome = outcome_of(result, 1)
        assert (outcome.kind, outcome.because, outcome.deleted) == (Kind.INITIALIZED, ("evacuated",), True)
        assert host.power(1) is None
        assert host.driver.hypervisor.disks_destroyed == ({uuid_of(1)} if destroyed else set())
        assert await host.evacuation_status(1) == "completed"


@pytest.mark.parametrize("status", ["accepted", "pre-migrating"])
async def test_what_is_being_evacuated_and_was_deleted_is_powered_off_and_kept(status: str) -> None:
    async with arranged([instance(2)], guests=[guest(1), guest(2)], migrations=[evacuation(1, status)]) as host:
        await host.run()

        assert host.power(1) is PowerState.SHUTDOWN
        assert await host.evacuation_status(1) == status


async def test_the_guards_count_what_was_evacuated_and_deleted() -> None:
    guards = replace(UNGUARDED, destroy_freely=1, destroy_at_most=1)
    guests = [guest(number) for number in (1, 2, 3)]
    async with arranged([instance(3)], guests=guests, migrations=[evacuation(1), evacuation(2)], guards=guards) as host:
        result = await host.run()

        assert [outcome_of(result, number).kind for number in (1, 2)] == [Kind.HELD, Kind.HELD]
        assert host.power(1) is PowerState.RUNNING


async def test_a_row_that_was_deleted_here_after_it_came_back_proves_nothing_of_its_old_evacuation() -> None:
    async with arranged([instance(1), instance(2)], migrations=[evacuation(1)]) as host:
        await host.store.destroy(uuid_of(1))
        result = await host.run()

        assert [outcome.uuid for outcome in result.outcomes] == [uuid_of(2)]
        assert host.power(1) is PowerState.RUNNING


async def test_an_instance_that_cannot_be_read_is_not_destroyed() -> None:
    """VDSM took what it could not read for garbage, and killed it (field notes, F11)."""
    async with arranged([AWAY], guests=[guest(1)], migrations=[evacuation(1)], witness=SettingWitness("local")) as host:
        host.trace.fail("store.get_instance", StoreError("the disk"))
        result = await host.run()

        assert outcome_of(result, 1).kind is Kind.FAILED
        assert host.power(1) is PowerState.RUNNING
        assert await host.evacuation_status(1) == "done"


@pytest.mark.parametrize("status", ["accepted", "pre-migrating"])
@pytest.mark.parametrize("owner", [instance(1).host, ELSEWHERE], ids=["own-record", "others-record"])
@pytest.mark.parametrize("power", [PowerState.RUNNING, PowerState.PAUSED, PowerState.SHUTDOWN], ids=lambda p: p.name)
async def test_a_guest_whose_evacuation_is_not_done_is_fenced_and_kept(
    status: str, owner: str, power: PowerState
) -> None:
    """The host came back in the middle of it, and Nova started the guest a second time (bug 1764883)."""
    record = instance(1, host=owner, task_state=TaskState.REBUILDING)
    async with arranged(
        [record], guests=[guest(1, power)], migrations=[evacuation(1, status)], resume_guests=True
    ) as host:
        result = await host.run()

        assert outcome_of(result, 1).kind is Kind.SKIPPED
        assert outcome_of(result, 1).because == ("evacuation_running",)
        assert host.power(1) is PowerState.SHUTDOWN
        assert [call.name for call in host.trace.touched()] == (
            [] if power is PowerState.SHUTDOWN else ["driver.power_off"]
        )
        assert await host.record(1) == record
        assert await host.evacuation_status(1) == status


async def test_fencing_pulls_the_plug_and_asks_nobody() -> None:
    async with arranged([instance(1)], migrations=[evacuation(1, "accepted")]) as host:
        await host.run()

        off = Called("driver.power_off", uuid_of(1), {"timeout_s": 0, "retry_interval_s": 0})
        assert off in host.trace.calls


async def test_a_guest_that_cannot_be_fenced_is_a_failure_and_is_not_started() -> None:
    async with arranged([instance(1)], migrations=[evacuation(1, "accepted")], resume_guests=True) as host:
        host.driver.inject(Fault(verb="power_off", error="InstancePowerOffFailure", message="still there"))
        result = await host.run()

        assert outcome_of(result, 1).kind is Kind.FAILED
        assert host.trace.names(uuid_of(1)) == ["driver.get_info", "driver.power_off"]


async def test_an_instance_whose_evacuation_runs_and_that_is_not_here_is_left_to_the_other_host() -> None:
    async with arranged([instance(1)], guests=[], migrations=[evacuation(1, "accepted")], resume_guests=True) as host:
        result = await host.run()

        assert outcome_of(result, 1).kind is Kind.SKIPPED
        assert outcome_of(result, 1).because == ("evacuated",)
        assert host.trace.names(uuid_of(1)) == []


async def test_what_was_evacuated_and_came_back_is_an_instance_like_any_other() -> None:
    down = [guest(1, PowerState.SHUTDOWN)]
    async with arranged([instance(1)], guests=down, migrations=[evacuation(1)], resume_guests=True) as host:
        result = await host.run()

        assert [outcome.uuid for outcome in result.outcomes] == [uuid_of(1)]
        assert outcome_of(result, 1).because == ("vifs", "ran_before")
        assert host.power(1) is PowerState.RUNNING
        assert await host.evacuation_status(1) == "done"
        assert (host.progress.done, host.progress.total) == (1, 1)


async def test_of_several_evacuations_of_an_instance_the_last_one_counts() -> None:
    both = [evacuation(1, "accepted", at=1), evacuation(1, "done", at=2)]
    async with arranged([AWAY], guests=[guest(1)], migrations=both) as host:
        result = await host.run()

        assert outcome_of(result, 1).because == ("evacuated",)
        assert host.power(1) is None


@pytest.mark.parametrize("verb", ["destroy", "check_instance_shared_storage_cleanup"])
async def test_a_guest_that_cannot_be_destroyed_is_its_own_outcome(verb: str) -> None:
    away = [instance(number, host=ELSEWHERE) for number in (1, 2)]
    evacuations = [evacuation(1), evacuation(2)]
    async with arranged([*away, instance(3)], migrations=evacuations, resume_guests=True) as host:
        host.trace.fail(f"driver.{verb}", DriverError("device is busy"), uuid=uuid_of(1))
        result = await host.run()

        assert [outcome_of(result, n).kind for n in (1, 2, 3)] == [Kind.FAILED, Kind.INITIALIZED, Kind.INITIALIZED]
        assert (await host.evacuation_status(1), await host.evacuation_status(2)) == ("done", "completed")
        assert (host.power(1), host.power(2)) == (PowerState.RUNNING, None)
        assert "driver.resume_state_on_host_boot" not in host.trace.names()


async def test_a_guest_whose_destroy_hangs_is_given_up_and_the_others_continue() -> None:
    away = [instance(1, host=ELSEWHERE), instance(2)]
    async with arranged(away, migrations=[evacuation(1)], limits=limits(instance_deadline=2.0)) as host:
        host.driver.inject(Fault(verb="destroy", hang=True))
        result = await host.run()

        assert [outcome_of(result, n).kind for n in (1, 2)] == [Kind.FAILED, Kind.INITIALIZED]
        assert await host.evacuation_status(1) == "done"


async def test_a_migration_that_cannot_be_completed_is_a_failure_after_the_destroy() -> None:
    async with arranged([AWAY], guests=[guest(1)], migrations=[evacuation(1)]) as host:
        host.trace.fail("store.save_migration", StoreError("the disk is full"))
        result = await host.run()

        problem = outcome_of(result, 1).problem
        assert problem is not None
        assert problem.action == "save_migration"
        assert host.power(1) is None


async def test_what_is_not_on_this_hypervisor_is_not_destroyed() -> None:
    async with arranged([AWAY], guests=[], migrations=[evacuation(1)]) as host:
        result = await host.run()

        assert result.outcomes == ()
        assert host.trace.touched() == []
        assert await host.evacuation_status(1) == "done"


@pytest.mark.parametrize("status", ["completed", "failed", "error"])
async def test_an_evacuation_of_the_past_proves_nothing(status: str) -> None:
    async with arranged([AWAY, instance(2)], migrations=[evacuation(1, status), evacuation(2, status)]) as host:
        result = await host.run()

        assert [outcome.uuid for outcome in result.outcomes] == [uuid_of(2)]
        assert outcome_of(result, 2).because == ("vifs", "runs")
        assert host.power(1) is PowerState.RUNNING


async def test_evacuated_guests_are_gone_before_the_first_instance_is_begun() -> None:
    """What they held (addresses, devices, memory) may be what the others need."""
    away = [instance(number, host=ELSEWHERE) for number in (1, 2)]
    soon = {"destroy": 0.1}
    async with arranged(
        [*away, instance(3), instance(4)], migrations=[evacuation(1), evacuation(2)], latency=soon
    ) as host:
        await host.run()

        names = host.trace.names()
        assert names.index("driver.plug_vifs") > max(
            n for n, name in enumerate(names) if name == "store.save_migration"
        )


async def test_a_soft_deleted_instance_that_was_evacuated_is_destroyed_like_any_other() -> None:
    record = instance(1, host=ELSEWHERE, vm_state=VmState.SOFT_DELETED)
    async with arranged([record], migrations=[evacuation(1)]) as host:
        await host.run()

        assert host.power(1) is None
        assert await host.record(1) == record


@pytest.mark.parametrize("kind", ["migration", "resize", "live-migration"])
@pytest.mark.parametrize("status", ["accepted", "pre-migrating", "done", "running"])
async def test_a_guest_that_was_moved_and_not_evacuated_is_left_alone(kind: str, status: str) -> None:
    """Clean-up at start once took guests in the middle of a resize for evacuated ones (bugs 1319797, 1330503)."""
    moved = replace(evacuation(1, status), migration_type=kind)
    moving = replace(evacuation(2, status), migration_type=kind)
    async with arranged([AWAY, instance(2)], migrations=[moved, moving]) as host:
        result = await host.run()

        assert [outcome.because for outcome in result.outcomes] == [("vifs", "runs")]
        assert (host.power(1), host.power(2)) == (PowerState.RUNNING, PowerState.RUNNING)
        assert host.trace.names(uuid_of(1)) == []


async def test_a_later_migration_does_not_hide_an_evacuation() -> None:
    later = replace(evacuation(1, "accepted", at=2), migration_type="live-migration")
    async with arranged([AWAY], migrations=[evacuation(1), later]) as host:
        result = await host.run()

        assert outcome_of(result, 1).because == ("evacuated",)
        assert host.power(1) is None
