"""Guests that no record of the run names, and the deadline that firewall rules and report share."""

import time
from collections.abc import MutableMapping, Sequence
from typing import Any

import anyio
import pytest
from structlog.testing import capture_logs

from bringup.daemon.errors import SettingsError, Unavailable
from bringup.daemon.outcomes import Kind
from bringup.daemon.planned import SHOWN_STRANGERS
from bringup.daemon.states import PowerState
from bringup.drivers.simulated import Fault
from support.drivers import uuid_of
from support.hosts import ELSEWHERE, Arranged, arranged, evacuation, guest, instance, limits, outcome_of

pytestmark = pytest.mark.anyio


def strangers(logs: Sequence[MutableMapping[str, Any]]) -> list[tuple[int, list[str]]]:
    """Give count and first of each warning."""
    return [
        (line["count"], line["first"])
        for line in logs
        if (line["event"], line["log_level"]) == ("host.guests_without_record", "warning")
    ]


async def strangers_of(host: Arranged) -> list[tuple[int, list[str]]]:
    with capture_logs() as logs:
        await host.run()
    return strangers(logs)


async def test_guests_that_nobody_asked_for_are_named_in_one_warning_and_left_alone() -> None:
    numbers = range(2, 2 + SHOWN_STRANGERS + 3)
    guests = [guest(number) for number in (1, *reversed(numbers))]
    async with arranged([instance(1)], guests=guests) as host:
        first = [uuid_of(number) for number in numbers][:SHOWN_STRANGERS]
        assert await strangers_of(host) == [(len(numbers), first)]
        assert {host.power(number) for number in numbers} == {PowerState.RUNNING}


async def test_the_guests_of_another_hosts_records_are_strangers_among_others() -> None:
    async with arranged([instance(1, host="renamed"), instance(2)]) as host:
        assert await strangers_of(host) == [(1, [uuid_of(1)])]


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


async def test_guests_that_an_operator_has_accepted_are_no_strangers() -> None:
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
async def test_where_all_are_known_nothing_is_said(*, names: bool, without_guest: bool) -> None:
    records = [instance(1), instance(2, name="renamed" if not names else "instance-00000002")]
    async with arranged([*records, *([instance(3)] if without_guest else [])], guests=[guest(1), guest(2)]) as host:
        if names:
            host.driver.inject(Fault(verb="list_instance_uuids", error="NotImplementedError"))
        assert await strangers_of(host) == []


async def test_a_driver_that_tells_names_has_strangers_by_name() -> None:
    async with arranged([instance(1), instance(2, name="")], guests=[guest(1), guest(7)]) as host:
        host.driver.inject(Fault(verb="list_instance_uuids", error="NotImplementedError"))
        assert await strangers_of(host) == [(1, ["instance-00000007"])]


@pytest.mark.parametrize("status", ["accepted", "pre-migrating", "done"])
@pytest.mark.parametrize("host_now", [instance(1).host, ELSEWHERE], ids=["home", "elsewhere"])
async def test_an_evacuated_guest_is_no_stranger_wherever_its_record_is(status: str, host_now: str) -> None:
    async with arranged([instance(1, host=host_now)], migrations=[evacuation(1, status)]) as host:
        assert await strangers_of(host) == []


async def test_an_evacuated_guest_without_a_record_is_a_stranger_and_left_alone() -> None:
    """Nobody knows any more whose disks it has; the record of its evacuation alone is not enough to destroy it."""
    async with arranged([instance(2)], guests=[guest(1)], migrations=[evacuation(1)]) as host:
        assert await strangers_of(host) == [(1, [uuid_of(1)])]
        assert host.power(1) is PowerState.RUNNING


@pytest.mark.parametrize("status", ["completed", "failed"])
async def test_a_guest_whose_evacuation_is_of_the_past_is_a_stranger(status: str) -> None:
    records = [instance(1, host=ELSEWHERE), instance(2)]
    async with arranged(records, migrations=[evacuation(1, status)]) as host:
        assert await strangers_of(host) == [(1, [uuid_of(1)])]
        assert host.power(1) is PowerState.RUNNING


async def test_firewall_rules_and_report_that_both_hang_end_within_one_deadline() -> None:
    deadline_s = 1.0
    last_word = limits(last_word_deadline_s=deadline_s)
    async with arranged([instance(1)], defer_iptables_apply=True, limits=last_word) as host:
        host.driver.inject(Fault(verb="filter_defer_apply_off", hang=True))
        host.trace.hang("report")
        began = time.monotonic()
        with anyio.fail_after(20), pytest.raises(Unavailable, match="firewall"):
            await host.run()
        took_s = time.monotonic() - began

    assert deadline_s <= took_s < 1.4 * deadline_s


@pytest.mark.parametrize("once_too_many", [False, True], ids=["in-time", "late"])
async def test_firewall_rules_have_half_of_the_deadline_and_leave_the_rest_to_the_report(
    *, once_too_many: bool
) -> None:
    last_word = limits(last_word_deadline_s=1)
    takes_s = 0.7 if once_too_many else 0.1
    slow = {"filter_defer_apply_off": takes_s}
    async with arranged([instance(1)], defer_iptables_apply=True, limits=last_word, latency=slow) as host:
        with anyio.fail_after(20):
            if once_too_many:
                with pytest.raises(Unavailable, match=r"no answer in 0\.5 s"):
                    await host.run()
            else:
                await host.run()

        [report] = host.reports
        assert outcome_of(report, 1).kind is Kind.INITIALIZED
