"""Guests that were started are watched after their boot; a verdict is beside the outcome and changes nothing."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
from structlog.testing import capture_logs

from bringup.daemon.decisions.outcomes import Did
from bringup.daemon.decisions.states import PowerState, VmState
from bringup.daemon.decisions.verdicts import GuestVerdict
from bringup.daemon.recovery.init_host import init_host
from bringup.daemon.recovery.settle_again import is_verifying, report_verdicts
from bringup.drivers.base import BootCounters, BootSigns, GuestSign, VitalSigns
from bringup.drivers.simulated import Fault
from support.drivers import uuid_of
from support.hosts import ArrangedHost, arranged, guest, instance, limits
from support.seen_events import Seen

pytestmark = pytest.mark.anyio

AGENT = BootSigns(BootCounters(run_s=1.0), agent=False)


def vital(*, sent: int = 7) -> VitalSigns:
    return VitalSigns("running", BootSigns(BootCounters(run_s=1.0, sent=sent), agent=True), nics=1)


@asynccontextmanager
async def watched(count: int, *, within_s: float = 0.2) -> AsyncIterator[tuple[ArrangedHost, Seen]]:
    """Arrange guests that are off, whose agents have not connected, and that send packets."""
    seen = Seen()
    numbers = range(1, count + 1)
    async with arranged(
        [instance(number) for number in numbers],
        guests=[guest(number, PowerState.SHUTDOWN) for number in numbers],
        resume_guests=True,
        follows=True,
        verify_s=within_s,
        observer=seen.observe,
        limits=limits(concurrency=8, pace="fixed"),
    ) as host:
        for number in numbers:
            host.driver.shows(uuid_of(number), AGENT)
            host.driver.shows(uuid_of(number), vital())
        yield host, seen


def boots(host: ArrangedHost, *numbers: int) -> None:
    """Send what makes guests ready."""
    for number in numbers:
        host.driver.sends(GuestSign(uuid_of(number), "agent_connected"))


async def test_a_guest_is_judged_some_time_after_its_boot_and_its_record_is_as_it_was() -> None:
    async with watched(2) as (host, seen):
        await host.run()
        record = await host.record(2)
        host.driver.shows(uuid_of(2), vital(sent=0))
        with capture_logs() as logs:
            boots(host, 1, 2)
            await seen.until(verdicts=2)

        assert seen.verdicts == {uuid_of(1): "reachable", uuid_of(2): "silent: it has sent no packet"}
        assert [line["event"] for line in logs if "verdict" in line] == ["instance.verified"] * 2
        assert await host.record(2) == record
        assert record is not None
        assert record.vm_state is VmState.ACTIVE
        assert host.power(2) is PowerState.RUNNING


async def test_one_that_is_broken_is_told_at_once_although_it_still_boots() -> None:
    async with watched(1, within_s=300) as (host, seen):
        result = await host.run()
        host.driver.shows(uuid_of(1), VitalSigns("io_error", None, 1, ("vda: no space left",)))
        with capture_logs() as logs:
            host.driver.sends(GuestSign(uuid_of(1), "io_error", "no space left", "virtio-disk0"))
            await seen.until(verdicts=1)

        assert seen.verdicts == {uuid_of(1): "broken: disk vda: no space left"}
        (line,) = [line for line in logs if line["event"] == "instance.broken"]
        assert (line["instance"], line["why"], line["log_level"]) == (uuid_of(1), "disk vda: no space left", "warning")
        assert [outcome.did for outcome in result.outcomes] == [Did.STARTED]


async def test_a_look_that_fails_is_repeated_before_a_guest_is_judged() -> None:
    async with watched(1) as (host, seen):
        await host.run()
        fault = Fault(verb="vital_signs", error="RuntimeError")
        host.driver.inject(fault)
        boots(host, 1)
        with anyio.fail_after(30):
            await host.driver.entered("vital_signs", times=5)
        before = dict(seen.verdicts)
        host.driver.lift(fault)
        await seen.until(verdicts=1)

        assert (before, seen.verdicts) == ({}, {uuid_of(1): "reachable"})


async def test_a_guest_that_somebody_has_stopped_is_not_judged() -> None:
    async with watched(2) as (host, seen):
        await host.run()
        host.driver.shows(uuid_of(1), VitalSigns("stopped"))
        boots(host, 1, 2)
        await seen.until(verdicts=1)
        verification = host.host.verification

        assert verification is not None
        with anyio.fail_after(30):
            while not verification.is_over:
                await anyio.wait_all_tasks_blocked()
        assert seen.verdicts.keys() == {uuid_of(2)}


async def test_guests_that_ran_already_are_not_watched() -> None:
    async with arranged([instance(1)], resume_guests=True, follows=True, verify_s=0.1) as host:
        await host.run()

        assert host.host.verification is not None
        assert host.host.verification.is_over
        assert host.driver.count("vital_signs") == 0


async def test_verdicts_are_reported_once_all_of_them_are_known() -> None:
    async with watched(2) as (host, seen):
        brought = await init_host(host.start)
        assert is_verifying(brought)
        assert await report_verdicts(brought) is brought
        boots(host, 1, 2)
        await seen.until(verdicts=2)
        brought = await report_verdicts(brought)

        assert not is_verifying(brought)
        assert await report_verdicts(brought) is brought
        assert [(report.revision, dict(report.verdicts)) for report in host.reports] == [
            (0, {}),
            (1, {uuid_of(number): GuestVerdict("reachable") for number in (1, 2)}),
        ]
        assert host.reports[0].outcomes == host.reports[1].outcomes
