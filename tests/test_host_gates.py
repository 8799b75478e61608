"""What guests need together is found before the first is touched: waited for, said, and then the start ends with 69."""

from dataclasses import replace

import anyio
import pytest

from bringup.daemon.decisions.outcomes import Kind
from bringup.daemon.decisions.states import PowerState, TaskState, VmState
from bringup.daemon.errors import Unavailable
from bringup.drivers.needs import MetBy, Need, NeedKind, NeedState
from support.drivers import uuid_of
from support.hosts import ELSEWHERE, arranged, evacuation, guest, instance, limits, outcome_of

pytestmark = pytest.mark.anyio

SWITCH = Need(kind=NeedKind.NETWORK, name="Open vSwitch", state=NeedState.ABSENT, why="it does not run; start it")
FOLDER = Need(kind=NeedKind.MOUNT, name="/instances", state=NeedState.UNVERIFIED, why="it is empty")
NFT = Need(
    kind=NeedKind.NETWORK,
    name="nftables",
    state=NeedState.ABSENT,
    met_by=MetBy.PERSON,
    why="nft is missing; install it",
)
OFF = [guest(1, PowerState.SHUTDOWN)]


def met(need: Need) -> Need:
    return replace(need, state=NeedState.MET, why="")


async def test_what_guests_need_together_is_waited_for_before_one_is_touched() -> None:
    async with arranged([instance(1)], guests=OFF, limits=limits(host_wait=60)) as host:
        host.driver.hypervisor.host_needs = [met(FOLDER), SWITCH]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(host.run)
            await host.driver.entered("host_needs", times=2)
            assert host.trace.touched() == []
            assert host.progress.snapshot().phase == "host"
            assert "waits for Open vSwitch: it does not run; start it" in host.progress.snapshot().detail
            host.driver.hypervisor.host_needs = [met(FOLDER), met(SWITCH)]

        assert outcome_of(host.reports[0], 1).kind is Kind.INITIALIZED


@pytest.mark.parametrize(
    ("needs", "names"), [([SWITCH], ["Open vSwitch"]), ([SWITCH, FOLDER], ["Open vSwitch", "/inst"])]
)
async def test_what_does_not_come_ends_the_start_with_a_sentence_and_changes_nothing(
    needs: list[Need], names: list[str]
) -> None:
    records = [instance(1), instance(2, task_state=TaskState.DELETING), instance(3, host=ELSEWHERE)]
    guests = [guest(1), guest(2), guest(3)]
    async with arranged(records, guests=guests, migrations=[evacuation(3)], limits=limits(host_wait=0)) as host:
        host.driver.hypervisor.host_needs = needs
        before = host.driver.scenario_now()
        for _ in range(2):
            with pytest.raises(Unavailable) as raised:
                await host.run()

        assert raised.value.exit_code == 69
        assert all(name in str(raised.value) for name in names)
        assert str(raised.value).endswith("no instance was touched")
        assert host.trace.touched() == []
        assert host.reports == []
        assert host.driver.scenario_now() == before
        assert [await host.record(number) for number in (1, 2, 3)] == records


async def test_what_only_an_operator_can_bring_is_not_waited_for() -> None:
    async with arranged([instance(1)], guests=OFF, limits=limits(host_wait=10_000)) as host:
        host.driver.hypervisor.host_needs = [NFT]
        with anyio.fail_after(30), pytest.raises(Unavailable, match="nft is missing; install it"):
            await host.run()


async def test_a_host_without_guests_needs_nothing() -> None:
    async with arranged(limits=limits(host_wait=0)) as host:
        host.driver.hypervisor.host_needs = [SWITCH]
        await host.run()
        assert host.driver.count("host_needs") == 0


async def test_what_is_left_alone_anyway_needs_nothing() -> None:
    records = [
        instance(1, vm_state=VmState.SOFT_DELETED),
        instance(2, vm_state=VmState.ERROR, power_state=PowerState.NOSTATE),
    ]
    async with arranged(records, guests=[guest(1), guest(2)], limits=limits(host_wait=0)) as host:
        host.driver.hypervisor.host_needs = [SWITCH]
        result = await host.run()
        assert len(result.outcomes) == 2
        assert host.driver.count("host_needs") == 0


async def test_each_need_has_a_budget_of_its_own() -> None:
    async with arranged([instance(1)], guests=OFF, limits=limits(host_wait=1.2)) as host:
        needs = host.driver.hypervisor.host_needs = [SWITCH]

        async def change() -> None:
            await host.driver.entered("host_needs", times=2)
            needs[:] = [FOLDER]

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(change)
            with pytest.raises(Unavailable) as raised:
                await host.run()
        assert "/instances" in str(raised.value)
        assert "Open vSwitch" not in str(raised.value)


async def test_only_guests_that_something_is_done_to_are_asked_for() -> None:
    records = [instance(1), instance(2, vm_state=VmState.SOFT_DELETED), instance(3, host=ELSEWHERE)]
    async with arranged(records, guests=[guest(1), guest(2), guest(3)], migrations=[evacuation(3)]) as host:
        await host.run()
        asked = next(call for call in host.driver.calls if call.verb == "host_needs").arguments["guests"]
        assert {one.uuid for one in asked} == {uuid_of(1), uuid_of(3)}
