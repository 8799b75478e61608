"""Guests that boot keep their slots until they are ready; nothing of their instances depends on it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from structlog.testing import capture_logs

from bringup.daemon.decisions.outcomes import Did
from bringup.daemon.decisions.pace_keys import PaceKeys, PaceRule
from bringup.daemon.decisions.policies import PacePolicy
from bringup.daemon.decisions.run_events import InstanceBoots
from bringup.daemon.decisions.states import PowerState, TaskState
from bringup.daemon.service.assembly import make_boots
from bringup.daemon.settings import load
from bringup.daemon.storage.journal import NO_JOURNAL
from bringup.drivers.base import BootCounters, BootSigns, GuestSign
from bringup.drivers.capacity import Capacity
from bringup.drivers.simulated import Fault, Scenario, SimulatedDriver, Verb
from support.drivers import uuid_of
from support.hosts import ArrangedHost, arranged, guest, instance, limits
from support.seen_events import Seen

pytestmark = pytest.mark.anyio

START: Verb = "resume_state_on_host_boot"
AGENT = BootSigns(BootCounters(run_s=1.0), agent=False)
"""A guest whose agent has not connected."""
BUSY = BootSigns(BootCounters())


@asynccontextmanager
async def booting(
    count: int,
    *,
    signs: BootSigns | None = AGENT,
    hold_s: float = 300.0,
    metadata: dict[int, dict[str, str]] | None = None,
    **given: Any,
) -> AsyncIterator[tuple[ArrangedHost, Seen]]:
    """Arrange guests that are off, and that show ``signs`` of their boot; collect what observers see."""
    seen = Seen()
    instances = [
        instance(number, display_name=str(number), metadata=(metadata or {}).get(number, {}))
        for number in range(1, count + 1)
    ]
    guests = [guest(number, PowerState.SHUTDOWN) for number in range(1, count + 1)]
    given.setdefault("limits", limits(concurrency=2))
    given.setdefault("pace", PacePolicy(hold=hold_s))
    async with arranged(
        instances, guests=guests, resume_guests=True, follows=True, observer=seen.observe, **given
    ) as host:
        for number in range(1, count + 1):
            if signs is not None:
                host.driver.shows(uuid_of(number), signs)
        yield host, seen


async def test_a_guest_keeps_its_slot_until_its_agent_connects() -> None:
    async with booting(3) as (host, seen), anyio.create_task_group() as group:
        group.start_soon(host.run)
        await seen.until(ended=2)
        meanwhile = host.driver.count(START)
        host.driver.sends(GuestSign(uuid_of(1), "agent_connected"))
        await seen.until(ended=3)

        assert meanwhile == 2
        assert seen.ready == {uuid_of(1): "agent"}


async def test_the_outcome_is_out_and_the_run_is_reported_before_its_guests_are_ready() -> None:
    async with booting(2) as (host, seen):
        with anyio.fail_after(30):
            result = await host.run()

        assert {outcome.did for outcome in result.outcomes} == {Did.STARTED}
        assert [report.ready for report in host.reports] == [
            {"started": 2, "ready": 0, "not_ready": 0, "first_s": None, "half_s": None, "all_s": None, "slowest": []}
        ]
        assert {event.uuid for event in seen.events if isinstance(event, InstanceBoots)} == {uuid_of(1), uuid_of(2)}
        assert seen.ready == {}
        assert host.host.capacity.slots.borrowed_tokens == 2


async def test_a_guest_that_never_says_anything_holds_its_slot_for_so_long_and_fails_nothing() -> None:
    async with booting(3, hold_s=0.1) as (host, seen):
        with anyio.fail_after(30), capture_logs() as logs:
            result = await host.run()
            await seen.until(ready=3)

        assert {outcome.did for outcome in result.outcomes} == {Did.STARTED}
        assert set(seen.ready.values()) == {None}
        assert {line["instance"] for line in logs if line["event"] == "instance.not_ready"} == {
            uuid_of(number) for number in (1, 2, 3)
        }
        assert host.host.capacity.slots.borrowed_tokens == 0


async def test_a_guest_whose_agent_is_missing_leaves_its_slot_once_it_is_quiet_and_is_not_called_ready() -> None:
    async with booting(3) as (host, seen):
        async with anyio.create_task_group() as group:
            group.start_soon(host.run)
            await seen.until(ended=3)
            group.cancel_scope.cancel()

        assert seen.ready == {}


async def test_guests_that_run_already_are_not_waited_for() -> None:
    instances = [instance(number) for number in range(1, 9)]
    async with arranged(instances, resume_guests=True, follows=True, limits=limits(concurrency=2)) as host:
        host.driver.shows(uuid_of(1), AGENT)
        with anyio.fail_after(30):
            result = await host.run()

        assert {outcome.did for outcome in result.outcomes} == {Did.LEFT_RUNNING}
        assert host.host.capacity.slots.borrowed_tokens == 0
        assert host.driver.count("boot_signs") == 0


def test_without_a_hold_no_boot_is_followed(tmp_path: Path) -> None:
    """A slot is free as soon as its guest is started, so the limit could not follow what boots do to each other."""
    config = tmp_path / "bringup.toml"
    config.write_text('driver.name = "libvirt"\npace.hold = 0')
    settings = load(config, environment={}, overrides=())

    assert (
        make_boots(settings, SimulatedDriver(Scenario()), Capacity(4), observer=lambda _event: None, journal=NO_JOURNAL)
        is None
    )


async def test_a_hypervisor_that_counts_nothing_has_all_its_slots_and_holds_none() -> None:
    async with booting(6, signs=None, limits=limits(concurrency=4)) as (host, seen):
        with anyio.fail_after(30), capture_logs() as logs:
            await host.run()
            while host.host.capacity.slots.borrowed_tokens:
                await anyio.wait_all_tasks_blocked()

        assert [line["event"] for line in logs if line["event"].startswith("pace.")] == ["pace.not_measured"]
        assert (set(seen.ready.values()), host.host.capacity.limit) == ({None}, 4)
        assert [line for line in logs if line["event"] == "instance.not_ready"] == []


@pytest.mark.parametrize("fault", [Fault(verb="boot_signs", hang=True), Fault(verb="boot_signs", error="RuntimeError")])
async def test_a_look_that_hangs_or_fails_keeps_no_agent_from_being_heard(fault: Fault) -> None:
    async with booting(3) as (host, seen):
        host.driver.inject(fault)
        async with anyio.create_task_group() as group:
            group.start_soon(host.run)
            await seen.until(ended=2)
            host.driver.sends(GuestSign(uuid_of(1), "agent_connected"))
            host.driver.sends(GuestSign(uuid_of(2), "agent_connected"))
            await seen.until(ended=3)

        assert seen.ready == {uuid_of(1): "agent", uuid_of(2): "agent"}


async def test_guests_that_cannot_be_read_for_long_keep_nobody_waiting() -> None:
    async with booting(6, pace=first(3), limits=limits(concurrency=4), blind_s=0.5) as (host, seen):
        host.driver.inject(Fault(verb="boot_signs", error="RuntimeError"))
        with anyio.fail_after(30), capture_logs() as logs:
            await host.run()
            while host.host.capacity.slots.borrowed_tokens:
                await anyio.wait_all_tasks_blocked()

        assert "pace.not_measured" in {line["event"] for line in logs}
        assert (len(seen.ended), set(seen.ready.values()), host.host.capacity.limit) == (6, {None}, 4)


async def test_once_guests_can_be_read_again_the_next_that_is_started_is_followed() -> None:
    async with (
        booting(2, limits=limits(concurrency=1), blind_s=0.1) as (host, seen),
        anyio.create_task_group() as group,
    ):
        fault = Fault(verb="boot_signs", error="RuntimeError")
        host.driver.inject(fault)
        host.driver.inject(hang := Fault(verb=START, uuid=uuid_of(2), hang=True))
        group.start_soon(host.run)
        await seen.until(ready=1)
        host.driver.lift(fault)
        host.driver.lift(hang)
        await seen.until(ended=2)
        host.driver.sends(GuestSign(uuid_of(2), "agent_connected"))
        await seen.until(ready=2)

        assert seen.ready == {uuid_of(1): None, uuid_of(2): "agent"}


async def test_a_guest_is_ready_for_those_that_wait_for_it_when_its_agent_connects() -> None:
    after = {1: {"bringup:after": "2"}}
    async with booting(3, metadata=after) as (host, seen), anyio.create_task_group() as group:
        group.start_soon(host.run)
        await seen.until(ended=2)
        meanwhile = seen.ended
        host.driver.sends(GuestSign(uuid_of(2), "agent_connected"))
        await seen.until(ended=3)

        assert meanwhile == [uuid_of(2), uuid_of(3)]


async def test_one_that_does_not_get_ready_is_waited_for_beyond_its_slot_and_not_for_ever() -> None:
    after = {1: {"bringup:after": "2"}}
    pace = PacePolicy(hold=0.02, after_at_most=0.2)
    async with booting(2, metadata=after, pace=pace) as (host, seen):
        with anyio.fail_after(30), capture_logs() as logs:
            await host.run()

        assert seen.ended == [uuid_of(2), uuid_of(1)]
        (line,) = [line for line in logs if line["event"] == "order.dependency_not_ready"]
        assert (line["dependency"], line["why"]) == (uuid_of(2), "it was not ready within 0.2 s")


async def test_those_that_may_wait_for_less_than_a_guest_keeps_its_slot_wait_for_less() -> None:
    after = {1: {"bringup:after": "2"}}
    async with booting(2, metadata=after, pace=PacePolicy(hold=300.0, after_at_most=0.1)) as (host, seen):
        with anyio.fail_after(30), capture_logs() as logs:
            await host.run()

        assert seen.ended == [uuid_of(2), uuid_of(1)]
        (line,) = [line for line in logs if line["event"] == "order.dependency_not_ready"]
        assert (line["dependency"], line["why"]) == (uuid_of(2), "it was not ready within 0.1 s")
        assert host.host.capacity.slots.borrowed_tokens == 2


@pytest.mark.parametrize(
    ("key", "waits"), [({"bringup:ready": "started"}, False), ({}, True)], ids=["started", "agent"]
)
async def test_a_user_may_have_own_guests_wait_for_a_start_alone(key: dict[str, str], *, waits: bool) -> None:
    metadata = {1: {"bringup:after": "2"}, 2: key}
    async with booting(2, metadata=metadata) as (host, seen), anyio.create_task_group() as group:
        group.start_soon(host.run)
        await seen.until(ended=1 if waits else 2)

        assert len(seen.ended) == (1 if waits else 2)
        group.cancel_scope.cancel()


async def test_a_guest_that_does_not_run_any_more_frees_its_slot() -> None:
    async with booting(1, signs=AGENT) as (host, seen):
        await host.run()
        host.driver.guest_stops_itself(uuid_of(1))
        await seen.until(ready=1)

        assert seen.ready == {uuid_of(1): None}


async def test_as_many_are_started_as_the_host_bears_and_the_limit_is_in_the_log() -> None:
    """The first two boot as quickly as alone: the limit doubles."""
    async with booting(8, limits=limits(concurrency=6)) as (host, seen):
        for number in range(1, 9):
            host.driver.shows(uuid_of(number), BootSigns(BootCounters(run_s=1.0), agent=False))
        with capture_logs() as logs:
            async with anyio.create_task_group() as group:
                group.start_soon(host.run)
                await seen.until(ended=4)
                group.cancel_scope.cancel()

        line = next(line for line in logs if line["event"] == "pace.changed")
        assert (line["was"], line["limit"], line["is_used"]) == (2, 4, True)


async def test_starts_that_hang_leave_their_slots_to_others() -> None:
    """Two may be started at first, and both hang: the others are not kept waiting for these."""
    async with booting(4, limits=limits(concurrency=4)) as (host, seen):
        hangs = [Fault(verb=START, uuid=uuid_of(number), hang=True) for number in (1, 2)]
        for hang in hangs:
            host.driver.inject(hang)
        async with anyio.create_task_group() as group:
            group.start_soon(host.run)
            await seen.until(ended=2)
            others = list(seen.ended)
            group.cancel_scope.cancel()

        assert others == [uuid_of(3), uuid_of(4)]


async def test_guests_that_are_shut_down_leave_their_slots_to_others() -> None:
    """They take as long as they like, and slow no boot down."""
    instances = [instance(number, task_state=TaskState.POWERING_OFF) for number in range(1, 5)]
    async with arranged(instances, follows=True, limits=limits(concurrency=8)) as host:
        hang = Fault(verb="power_off", hang=True)
        host.driver.inject(hang)
        async with anyio.create_task_group() as group:
            group.start_soon(host.run)
            with anyio.fail_after(30):
                await host.driver.entered("power_off", times=4)
            host.driver.lift(hang)

        assert {outcome.did for outcome in host.reports[0].outcomes} == {Did.STOPPED}


def first(number: int, *, hold_s: float = 300.0) -> PacePolicy:
    """Return a policy under which one guest has a higher priority."""
    return PacePolicy(hold=hold_s, rules=(PaceRule(name=str(number), keys=PaceKeys(priority=5)),))


async def test_while_a_guest_of_a_higher_priority_boots_no_other_is_started_where_nothing_is_known_to_spare() -> None:
    async with booting(4, pace=first(3), limits=limits(concurrency=4)) as (host, seen):
        host.driver.inject(Fault(verb="boot_signs", hang=True))
        async with anyio.create_task_group() as group:
            group.start_soon(host.run)
            await seen.until(ended=1)
            meanwhile = host.driver.count(START)
            host.driver.sends(GuestSign(uuid_of(3), "agent_connected"))
            await seen.until(ended=3)
            group.cancel_scope.cancel()

        assert meanwhile == 1
        assert seen.ended[0] == uuid_of(3)


async def test_beside_a_guest_of_a_higher_priority_others_are_started_where_nothing_is_slowed_down() -> None:
    """It never shows that it is ready, and the host is idle: the others do not wait for it."""
    async with booting(4, pace=first(3), limits=limits(concurrency=4)) as (host, seen):
        async with anyio.create_task_group() as group:
            group.start_soon(host.run)
            await seen.until(ended=3)
            group.cancel_scope.cancel()

        assert (seen.ended[0], seen.ready) == (uuid_of(3), {})


async def test_a_start_of_a_higher_priority_that_hangs_keeps_nobody_waiting() -> None:
    async with booting(3, pace=first(3), limits=limits(concurrency=4)) as (host, seen):
        host.driver.inject(Fault(verb=START, uuid=uuid_of(3), hang=True))
        async with anyio.create_task_group() as group:
            group.start_soon(host.run)
            await seen.until(ended=2)
            group.cancel_scope.cancel()

        assert set(seen.ended) == {uuid_of(1), uuid_of(2)}


async def test_with_a_fixed_pace_the_priority_is_an_order_and_nothing_else() -> None:
    async with booting(3, pace=first(3), limits=limits(concurrency=4, pace="fixed")) as (host, seen):
        host.driver.inject(Fault(verb="boot_signs", hang=True))
        await host.run()

        assert seen.began == [uuid_of(number) for number in (3, 1, 2)]


async def test_a_pace_that_is_changed_holds_at_once() -> None:
    async with booting(6, limits=limits(concurrency=6)) as (host, seen):
        host.driver.inject(Fault(verb="boot_signs", hang=True))
        async with anyio.create_task_group() as group:
            group.start_soon(host.run)
            await seen.until(ended=2)
            adaptive = len(seen.began)
            host.host.capacity.resize(5, is_adaptive=False)
            await seen.until(ended=5)
            fixed = len(seen.ended)
            host.host.capacity.resize(5, is_adaptive=True)
            limit = host.host.capacity.limit
            group.cancel_scope.cancel()

        assert adaptive < fixed == 5
        assert limit == 2


async def test_with_a_fixed_pace_the_limit_is_shown_and_not_used() -> None:
    async with booting(4, limits=limits(concurrency=4, pace="fixed")) as (host, seen):
        await host.run()

        assert (len(seen.ended), host.host.capacity.limit) == (4, 4)


async def test_a_start_that_ends_after_boots_are_followed_is_as_if_nobody_followed_it() -> None:
    """Tasks that are cancelled end in any order: a start may be over after its guest could be followed."""
    async with booting(2) as (host, seen):
        boots = host.host.boots
        assert boots is not None
        async with anyio.create_task_group() as group:
            await group.start(boots.run)
            group.cancel_scope.cancel()
        with anyio.fail_after(30):
            result = await host.run()

        assert {outcome.did for outcome in result.outcomes} == {Did.STARTED}
        assert not any(isinstance(event, InstanceBoots) for event in seen.events)
        assert host.host.capacity.slots.borrowed_tokens == 0
