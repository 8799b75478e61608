"""The order of a run, what ends it before an instance is touched, and what does not end it."""

import anyio
import pytest

from bringup.daemon.decisions.outcomes import Kind
from bringup.daemon.decisions.states import PowerState, TaskState, VmState
from bringup.daemon.errors import BringupError, SettingsError, StoreError, Temporary, Unavailable
from bringup.drivers.base import DriverError
from bringup.drivers.simulated import Fault
from support.drivers import uuid_of
from support.hosts import ELSEWHERE, arranged, evacuation, guest, instance, limits, outcome_of

pytestmark = pytest.mark.anyio


async def test_a_run_has_one_order() -> None:
    async with arranged(
        [instance(1), instance(2, host=ELSEWHERE)],
        guests=[guest(1), guest(2)],
        migrations=[evacuation(2)],
        on_event=lambda _event: None,
        defer_iptables_apply=True,
    ) as host:
        result = await host.run()

        assert [name for name, _ in host.progress.phases] == [
            *("starting", "placement", "driver", "records", "evacuated", "instances", "report", "done")
        ]
        assert host.trace.names() == [
            "placement",
            "open_host",
            "driver.init_host",
            "driver.register_event_listener",
            "driver.list_instance_uuids",
            "store.load_instances",
            "store.load_migrations",
            "store.load_instances_by_uuid",
            "driver.host_needs",
            "driver.filter_defer_apply_on",
            "store.get_instance",
            "driver.check_instance_shared_storage_local",
            "driver.check_instance_shared_storage_cleanup",
            "driver.destroy",
            "store.save_migration",
            "driver.get_info",
            "driver.plug_vifs",
            "driver.get_info",
            "driver.ensure_filtering_rules_for_instance",
            "driver.filter_defer_apply_off",
            "report",
        ]
        assert host.reports == [result]


async def test_what_is_not_configured_is_not_asked_for() -> None:
    async with arranged([instance(1)]) as host:
        await host.run()

        assert not {"driver.register_event_listener", "driver.filter_defer_apply_on"} & set(host.trace.names())
        assert "driver.filter_defer_apply_off" not in host.trace.names()


async def test_a_host_without_instances_reports_that_it_has_none() -> None:
    async with arranged() as host:
        result = await host.run()

    assert (result.outcomes, result.unfinished, result.error) == ((), (), None)
    assert host.reports == [result]


REFUSALS = [
    ("placement", Unavailable("no Placement"), Unavailable, 69),
    ("open_host", SettingsError(["store.path: wrong"]), SettingsError, 78),
    ("driver.init_host", DriverError("no hypervisor"), Unavailable, 69),
    ("driver.init_host", RuntimeError("a bug in a driver"), Unavailable, 69),
    ("driver.register_event_listener", NotImplementedError(), Unavailable, 69),
    ("driver.list_instance_uuids", DriverError("gone"), Unavailable, 69),
    ("store.load_instances", StoreError("disk"), Temporary, 75),
    ("store.load_migrations", StoreError("disk"), Temporary, 75),
    ("store.load_instances_by_uuid", StoreError("disk"), Temporary, 75),
    ("driver.host_needs", DriverError("no answer"), Unavailable, 69),
    ("driver.filter_defer_apply_on", DriverError("no firewall"), Unavailable, 69),
]


@pytest.mark.parametrize(
    ("name", "error", "kind", "exit_code"), REFUSALS, ids=[f"{name}-{type(e).__name__}" for name, e, *_ in REFUSALS]
)
async def test_nothing_is_touched_or_reported_where_the_host_cannot_begin(
    name: str, error: Exception, kind: type[BringupError], exit_code: int
) -> None:
    async with arranged(
        [instance(1, task_state=TaskState.POWERING_OFF), instance(2, host=ELSEWHERE)],
        migrations=[evacuation(2)],
        on_event=lambda _event: None,
        defer_iptables_apply=True,
    ) as host:
        host.trace.fail(name, error)
        with pytest.raises(kind) as raised:
            await host.run()

        assert raised.value.exit_code == exit_code
        assert raised.value is error or raised.value.__cause__ is error
        assert host.trace.names()[-1] == name
        assert host.trace.touched() == []
        assert host.reports == []
        assert await host.record(1) == instance(1, task_state=TaskState.POWERING_OFF)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("driver.init_host", Unavailable),
        ("driver.list_instance_uuids", Unavailable),
        ("store.load_instances", Temporary),
        ("store.load_migrations", Temporary),
        ("driver.host_needs", Unavailable),
        ("driver.filter_defer_apply_on", Unavailable),
    ],
)
async def test_nothing_is_touched_where_the_host_hangs_before_it_begins(name: str, kind: type[BringupError]) -> None:
    async with arranged([instance(1)], defer_iptables_apply=True, limits=limits(host_deadline=0.2)) as host:
        host.trace.hang(name)
        with anyio.fail_after(30), pytest.raises(kind, match="no instance was touched"):
            await host.run()

        assert host.trace.names()[-1] == name
        assert host.trace.touched() == []
        assert host.reports == []


async def test_a_driver_that_has_no_uuids_is_asked_for_names() -> None:
    async with arranged(
        [instance(1, host=ELSEWHERE), instance(2, host=ELSEWHERE)], guests=[guest(1)],
        migrations=[evacuation(1), evacuation(2)],
    ) as host:  # fmt: skip
        host.trace.fail("driver.list_instance_uuids", NotImplementedError())
        result = await host.run()

        assert [outcome.uuid for outcome in result.outcomes] == [uuid_of(1)]
        assert host.power(1) is None


@pytest.mark.parametrize(
    "error",
    [
        DriverError("busy"),
        RuntimeError("a bug in a driver"),
        OSError(28, "No space left on device"),
        TimeoutError("its own timeout"),
        NotImplementedError("no looks"),
        StopAsyncIteration("a generator's"),
        AssertionError("a wrong belief"),
        RecursionError("too deep"),
        MemoryError("too much"),
        ExceptionGroup("several", [ValueError("one"), KeyError("two")]),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_whatever_one_instance_raises_the_others_are_settled(error: Exception) -> None:
    async with arranged([instance(number) for number in range(1, 6)]) as host:
        host.trace.fail("driver.get_info", error, uuid=uuid_of(3))
        result = await host.run()

        failed = outcome_of(result, 3)
        assert failed.kind is Kind.FAILED
        assert failed.problem is not None
        assert (failed.problem.action, failed.problem.error) == ("get_info", type(error).__name__)
        assert result.count(Kind.INITIALIZED) == 4
        assert host.reports == [result]


async def test_a_record_that_cannot_be_saved_is_the_outcome_of_its_instance() -> None:
    async with arranged([instance(number, task_state=TaskState.RESIZE_PREP) for number in (1, 2, 3)]) as host:
        host.trace.fail("store.save", StoreError("the disk is full"), uuid=uuid_of(2))
        result = await host.run()

        assert [outcome_of(result, n).kind for n in (1, 2, 3)] == [Kind.INITIALIZED, Kind.FAILED, Kind.INITIALIZED]
        left = await host.record(2)
        assert left == outcome_of(result, 2).instance == instance(2, task_state=TaskState.RESIZE_PREP)


async def test_the_report_is_made_from_what_was_left_not_from_what_was_loaded() -> None:
    """Nova announces the list that it loaded before, deleted instances included."""
    async with arranged(
        [
            instance(1, task_state=TaskState.DELETING),
            instance(2, task_state=TaskState.POWERING_OFF),
            instance(3, vm_state=VmState.DELETED),
        ]
    ) as host:
        result = await host.run()

        assert {outcome.uuid: outcome.deleted for outcome in result.outcomes} == {
            uuid_of(1): True,
            uuid_of(2): False,
            uuid_of(3): True,
        }
        assert outcome_of(result, 1).instance is None
        stopped = instance(2, vm_state=VmState.STOPPED, power_state=PowerState.SHUTDOWN)
        assert outcome_of(result, 2).instance == await host.record(2) == stopped


@pytest.mark.parametrize(
    ("facts", "before"),
    [
        ({"vm_state": VmState.PAUSED, "power_state": PowerState.PAUSED}, PowerState.SHUTDOWN),
        ({"vm_state": VmState.SUSPENDED, "power_state": PowerState.SUSPENDED}, PowerState.SHUTDOWN),
        ({"vm_state": VmState.STOPPED, "power_state": PowerState.SHUTDOWN}, PowerState.SHUTDOWN),
        ({"vm_state": VmState.ERROR}, PowerState.SHUTDOWN),
        ({"power_state": PowerState.NOSTATE}, PowerState.SHUTDOWN),
        ({"power_state": None}, PowerState.SHUTDOWN),
        ({"power_state": PowerState.RUNNING}, PowerState.RUNNING),
    ],
    ids=["paused", "suspended", "stopped", "in-error", "nostate", "unknown", "runs-already"],
)
async def test_only_what_ran_before_and_is_down_is_brought_back(facts: dict[str, object], before: PowerState) -> None:
    async with arranged([instance(1, **facts)], guests=[guest(1, before)], resume_guests=True) as host:
        await host.run()

        assert "driver.resume_state_on_host_boot" not in host.trace.names()
        assert host.power(1) is before


@pytest.mark.parametrize("resume_guests", [True, False], ids=["resume", "leave"])
async def test_what_ran_before_is_brought_back_where_that_is_wanted(*, resume_guests: bool) -> None:
    down = [guest(1, PowerState.SHUTDOWN)]
    async with arranged([instance(1)], guests=down, resume_guests=resume_guests) as host:
        await host.run()

        assert host.power(1) is (PowerState.RUNNING if resume_guests else PowerState.SHUTDOWN)


async def test_a_guest_of_no_record_or_of_another_hosts_is_left_alone() -> None:
    """A wrong host name once made Nova delete every guest (bug 1419785)."""
    async with arranged([instance(1, host="renamed"), instance(3)], guests=[guest(1), guest(2)]) as host:
        result = await host.run()

        assert [(outcome.uuid, outcome.because[-1]) for outcome in result.outcomes] == [
            (uuid_of(1), "foreign"),
            (uuid_of(3), "stays_off"),
        ]
        assert {call.uuid for call in host.trace.touched()} == {uuid_of(3)}
        assert (host.power(1), host.power(2)) == (PowerState.RUNNING, PowerState.RUNNING)


async def test_firewall_rules_are_applied_as_one_transaction_after_every_instance() -> None:
    async with arranged([instance(number) for number in (1, 2, 3)], defer_iptables_apply=True) as host:
        await host.run()

        firewall = host.driver.hypervisor.firewall
        assert (firewall.applied, firewall.transactions) == ({uuid_of(1), uuid_of(2), uuid_of(3)}, 1)
        assert host.trace.names()[-2:] == ["driver.filter_defer_apply_off", "report"]


@pytest.mark.parametrize("hangs", [False, True], ids=["raises", "hangs"])
async def test_rules_that_cannot_be_applied_end_the_start_after_the_report(*, hangs: bool) -> None:
    last_word = limits(shutdown_report_deadline=0.2)
    async with arranged([instance(1)], defer_iptables_apply=True, limits=last_word) as host:
        fault = Fault(verb="filter_defer_apply_off", hang=hangs, error=None if hangs else "DriverError", message="no")
        host.driver.inject(fault)
        said = "cannot apply the collected firewall rules"
        with anyio.fail_after(30), pytest.raises(Unavailable, match=said) as raised:
            await host.run()

        assert raised.value.exit_code == 69
        [report] = host.reports
        assert report.error == str(raised.value)
        assert report.error.endswith("no answer in 0.1 s" if hangs else ": no")
        assert outcome_of(report, 1).kind is Kind.INITIALIZED


@pytest.mark.parametrize(
    "error", [DriverError("no"), ValueError("a bug in the report"), ExceptionGroup("g", [OSError()])]
)
async def test_a_report_that_fails_does_not_end_the_start(error: Exception) -> None:
    async with arranged([instance(1)]) as host:
        host.trace.fail("report", error)
        result = await host.run()

        assert outcome_of(result, 1).kind is Kind.INITIALIZED
        assert host.progress.phase == "done"


async def test_a_report_that_hangs_is_given_up() -> None:
    async with arranged([instance(1)], limits=limits(shutdown_report_deadline=0.2)) as host:
        host.trace.hang("report")
        with anyio.fail_after(30):
            result = await host.run()

        assert outcome_of(result, 1).kind is Kind.INITIALIZED
        assert host.progress.phase == "done"
