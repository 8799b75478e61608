"""Guests that no record of the run names, and the deadline that firewall rules and report share."""

import time
from collections.abc import MutableMapping, Sequence
from dataclasses import replace
from typing import Any

import anyio
import pytest
from structlog.testing import capture_logs

from bringup.daemon.decisions.instances import Migration
from bringup.daemon.decisions.outcomes import Kind
from bringup.daemon.decisions.policies import UNGUARDED
from bringup.daemon.decisions.states import PowerState, TaskState
from bringup.daemon.errors import SettingsError, StateConflict, Unavailable
from bringup.daemon.recovery.evacuated_guests import power_off_foreign
from bringup.daemon.recovery.plan_checks import SHOWN
from bringup.daemon.recovery.working_copy import WorkingCopy
from bringup.drivers.simulated import Fault
from support.drivers import uuid_of
from support.hosts import ELSEWHERE, HOST, ArrangedHost, arranged, evacuation, guest, instance, limits, outcome_of

pytestmark = pytest.mark.anyio

POWERS_OFF = replace(UNGUARDED, foreign_running="power_off")


def strangers(logs: Sequence[MutableMapping[str, Any]]) -> list[tuple[int, list[str]]]:
    """Return count and first of each warning."""
    return [
        (line["count"], line["first"])
        for line in logs
        if (line["event"], line["log_level"]) == ("host.guests_without_record", "warning")
    ]


async def strangers_of(host: ArrangedHost) -> list[tuple[int, list[str]]]:
    with capture_logs() as logs:
        await host.run()
    return strangers(logs)


async def test_guests_that_nobody_asked_for_are_named_in_one_warning_and_left_alone() -> None:
    numbers = range(2, 2 + SHOWN + 3)
    guests = [guest(number) for number in (1, *reversed(numbers))]
    async with arranged([instance(1)], guests=guests) as host:
        first = [uuid_of(number) for number in numbers][:SHOWN]
        assert await strangers_of(host) == [(len(numbers), first)]
        assert {host.power(number) for number in numbers} == {PowerState.RUNNING}


@pytest.mark.parametrize("power", [PowerState.RUNNING, PowerState.PAUSED, PowerState.SHUTDOWN])
@pytest.mark.parametrize("setting", [False, True], ids=["leave", "power_off"])
async def test_a_guest_whose_record_names_another_host_is_named_with_it(power: PowerState, *, setting: bool) -> None:
    """Nova does nothing to it: where it runs, only an operator knows whether it runs twice."""
    record = instance(1, host="node-9.example.com", power_state=power)
    async with arranged([record, instance(2)], guards=POWERS_OFF if setting else UNGUARDED, resume_guests=True) as host:
        with capture_logs() as logs:
            result = await host.run()

        assert strangers(logs) == []
        [named] = [line for line in logs if line["event"] == "host.foreign_guests"]
        assert (named["count"], named["hosts"], named["first"]) == (1, ["node-9.example.com"], [uuid_of(1)])
        outcome = outcome_of(result, 1)
        assert outcome.kind is Kind.SKIPPED
        [warning] = outcome.warnings
        assert warning.error == "ForeignGuest"
        assert "names node-9.example.com, not compute-1" in warning.message
        ran = power is not PowerState.SHUTDOWN
        off = [call.name for call in host.trace.touched() if call.uuid == uuid_of(1)]
        assert off == (["driver.power_off"] if setting and ran else [])
        assert host.power(1) is (PowerState.SHUTDOWN if setting else power)
        assert await host.record(1) == record


async def test_a_guest_that_somebody_works_on_is_not_powered_off_for_its_name() -> None:
    """It may be on its way here."""
    coming = instance(1, host=ELSEWHERE, task_state=TaskState.MIGRATING)
    async with arranged([coming, instance(2)], guards=POWERS_OFF) as host:
        await host.run()
        assert host.power(1) is PowerState.RUNNING


async def test_a_record_that_comes_home_before_the_plug_is_pulled_keeps_its_guest() -> None:
    async with arranged([instance(1)]) as host:
        record = WorkingCopy(instance(1, host=ELSEWHERE), host.store)
        with pytest.raises(StateConflict, match=f"named {ELSEWHERE} and no task, and names {HOST} and no task now"):
            await power_off_foreign(record, host.driver, host.store)
        assert host.power(1) is PowerState.RUNNING


@pytest.mark.parametrize(
    ("elsewhere", "own", "refused"),
    [(1, 1, False), (2, 2, False), (2, 1, True), (6, 2, True), (1, 9, False), (5, 4, True)],
)
async def test_a_host_most_of_whose_guests_are_another_hosts_is_refused(
    elsewhere: int, own: int, *, refused: bool
) -> None:
    """One machine with two names in Nova: nearly all of its guests stayed down, and all was green."""
    records = [instance(number, host="node-7") for number in range(1, elsewhere + 1)]
    records += [instance(number) for number in range(elsewhere + 1, elsewhere + own + 1)]
    async with arranged(records) as host:
        if not refused:
            result = await host.run()
            assert len(result.outcomes) == elsewhere + own
            return
        with pytest.raises(
            SettingsError,
            match=rf"'compute-1', but the records of {elsewhere} of the {elsewhere + own} .* name node-7,",
        ) as raised:
            await host.run()
        assert raised.value.exit_code == 78
        assert host.trace.touched() == []


async def test_guests_of_the_other_name_that_an_operator_has_accepted_are_no_reason_to_refuse() -> None:
    records = [instance(1, host="node-7"), instance(2, host="node-7"), instance(3)]
    accepted = frozenset({uuid_of(1), uuid_of(2)})
    async with arranged(records, accepted_guests=accepted, guards=POWERS_OFF) as host:
        result = await host.run()
        assert [outcome.uuid for outcome in result.outcomes] == [uuid_of(3)]
        assert host.power(1) is PowerState.RUNNING


MOVED = [
    ("resize", "finished", HOST, ELSEWHERE),
    ("migration", "confirming", HOST, ELSEWHERE),
    ("live-migration", "completed", HOST, ELSEWHERE),
    ("live-migration", "preparing", ELSEWHERE, HOST),
    ("evacuation", "completed", HOST, ELSEWHERE),
    ("evacuation", "failed", HOST, ELSEWHERE),
]


@pytest.mark.parametrize(("kind", "status", "source", "destination"), MOVED)
async def test_a_guest_that_a_migration_has_left_here_is_named_as_such_and_left_alone(
    kind: str, status: str, source: str, destination: str
) -> None:
    """A resize that waits for its confirmation keeps its guest on both hosts."""
    row = Migration(
        uuid=uuid_of(77),
        instance_uuid=uuid_of(1),
        migration_type=kind,
        status=status,
        source_compute=source,
        dest_compute=destination,
    )
    records = [instance(1, host=ELSEWHERE), instance(2)]
    async with arranged(records, migrations=[row], guards=POWERS_OFF) as host:
        with capture_logs() as logs:
            result = await host.run()

        assert [outcome.uuid for outcome in result.outcomes] == [uuid_of(2)]
        assert host.power(1) is PowerState.RUNNING
        named = [line for line in logs if line["event"].startswith("host.")]
        assert [(line["event"], line["hosts"]) for line in named] == [("host.guests_moved_away", [ELSEWHERE])]


async def test_a_host_whose_guests_are_all_another_hosts_is_refused() -> None:
    """So a wrong host name shows, before anything is touched (Nova bug 1419785)."""
    async with arranged([instance(1, host="renamed"), instance(2, host="former")]) as host:
        with pytest.raises(
            SettingsError, match=r"host\.name: 'compute-1', .* name former, renamed: .*renamed"
        ) as raised:
            await host.run()

        assert raised.value.exit_code == 78
        assert host.trace.touched() == []
        assert host.reports == []


async def test_a_host_whose_guests_nobody_knows_is_refused() -> None:
    """So a wrong database shows; Nova refuses it too."""
    async with arranged(guests=[guest(1), guest(2)]) as host:
        with pytest.raises(SettingsError, match=r"store\.url: .* has 2 guests and the store has no record of any"):
            await host.run()

        assert host.trace.touched() == []


async def test_guests_that_an_operator_has_accepted_are_no_unknown_guests() -> None:
    async with arranged(guests=[guest(1)], accepted_guests=frozenset({uuid_of(1)})) as host:
        assert await strangers_of(host) == []


async def test_one_more_guest_than_was_accepted_is_refused_again() -> None:
    async with arranged(guests=[guest(1), guest(2)], accepted_guests=frozenset({uuid_of(1)})) as host:
        with pytest.raises(SettingsError, match="has 1 guests"):
            await host.run()


async def test_a_host_without_guests_and_without_records_is_a_new_one() -> None:
    async with arranged() as host:
        assert (await host.run()).outcomes == ()


@pytest.mark.parametrize("names", [False, True], ids=["uuids", "names"])
@pytest.mark.parametrize("without_guest", [False, True], ids=["all-here", "one-without-guest"])
async def test_where_all_are_known_nothing_is_reported(*, names: bool, without_guest: bool) -> None:
    records = [instance(1), instance(2, name="renamed" if not names else "instance-00000002")]
    async with arranged([*records, *([instance(3)] if without_guest else [])], guests=[guest(1), guest(2)]) as host:
        if names:
            host.driver.inject(Fault(verb="list_instance_uuids", error="NotImplementedError"))
        assert await strangers_of(host) == []


async def test_a_driver_that_tells_names_has_unknown_guests_by_name() -> None:
    async with arranged([instance(1), instance(2, name="")], guests=[guest(1), guest(7)]) as host:
        host.driver.inject(Fault(verb="list_instance_uuids", error="NotImplementedError"))
        assert await strangers_of(host) == [(1, ["instance-00000007"])]


@pytest.mark.parametrize("status", ["accepted", "pre-migrating", "done"])
@pytest.mark.parametrize("host_now", [instance(1).host, ELSEWHERE], ids=["home", "elsewhere"])
async def test_an_evacuated_guest_is_no_unknown_guest_wherever_its_record_is(status: str, host_now: str) -> None:
    async with arranged([instance(1, host=host_now)], migrations=[evacuation(1, status)]) as host:
        assert await strangers_of(host) == []


async def test_firewall_rules_and_report_that_both_hang_end_within_one_deadline() -> None:
    deadline_s = 3.0
    last_word = limits(shutdown_report_deadline=deadline_s)
    async with arranged([instance(1)], defer_iptables_apply=True, limits=last_word) as host:
        host.driver.inject(Fault(verb="filter_defer_apply_off", hang=True))
        host.trace.hang("report")
        left_s: list[float] = []
        host.trace.before = lambda _number: left_s.append(anyio.current_effective_deadline() - anyio.current_time())
        began = time.monotonic()
        with anyio.fail_after(60), pytest.raises(Unavailable, match="firewall"):
            await host.run()
        took_s = time.monotonic() - began

    assert took_s >= deadline_s
    # The report is the last call, and has what the rules have left of the deadline.
    assert host.trace.names()[-1] == "report"
    assert left_s[-1] <= deadline_s / 2


@pytest.mark.parametrize("once_too_many", [False, True], ids=["in-time", "late"])
async def test_firewall_rules_have_half_of_the_deadline_and_leave_the_rest_to_the_report(
    *, once_too_many: bool
) -> None:
    last_word = limits(shutdown_report_deadline=1)
    takes_s = 0.7 if once_too_many else 0.1
    slow = {"filter_defer_apply_off": takes_s}
    async with arranged([instance(1)], defer_iptables_apply=True, limits=last_word, latency=slow) as host:
        with anyio.fail_after(60):
            if once_too_many:
                with pytest.raises(Unavailable, match=r"no answer in 0\.5 s"):
                    await host.run()
            else:
                await host.run()

        [report] = host.reports
        assert outcome_of(report, 1).kind is Kind.INITIALIZED
