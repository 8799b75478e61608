"""The bound of an operation through nova-conductor, on a clock that jumps."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import anyio
import pytest
import trio
from trio.testing import MockClock

from bringup.daemon.decisions.instances import Expected
from bringup.daemon.decisions.states import TaskState, VmState
from bringup.daemon.errors import StoreUnavailable
from bringup.daemon.openstack.conductor import NovaConductorStore
from bringup.daemon.openstack.conductor.calls import BUDGET_S
from bringup.daemon.openstack.rpc.errors import RemoteError, Unanswered
from bringup.daemon.openstack.rpc.objects import primitive
from bringup.daemon.settings.model import MessagingSettings, Settings
from support.nova_objects import instance_object
from support.records import uuid_of

UUID = uuid_of(1)
CALL_S = MessagingSettings().deadline


class Slow:
    """Caller that takes as long as a call may; each answer is the worst that is retried."""

    where = "a slow broker"

    def __init__(self) -> None:
        self.deadlines: list[float] = []
        self._calls: dict[tuple[str, str], int] = {}

    async def call(self, method: str, arguments: Mapping[str, Any], *, repeatable: bool) -> Any:
        del repeatable
        self.deadlines.append(anyio.current_effective_deadline())
        await anyio.sleep(CALL_S)
        kind = (method, str(arguments.get("kwargs", {}).get("filters")))
        self._calls[kind] = self._calls.get(kind, 0) + 1
        if self._calls[kind] % 5:
            raise RemoteError("DBConnectionError", "away")
        if method == "object_action":
            raise Unanswered("lost on the way back")
        rows = [instance_object(UUID)] if arguments["objname"] == "InstanceList" else []
        return primitive(arguments["objname"], "1.0", {"objects": rows})


class Silent(Slow):
    """Never answers, and does not keep its own deadline either."""

    async def call(self, method: str, arguments: Mapping[str, Any], *, repeatable: bool) -> Any:
        del method, arguments, repeatable
        self.deadlines.append(anyio.current_effective_deadline())
        await anyio.sleep_forever()


async def save(store: NovaConductorStore) -> None:
    await store.save(UUID, {"task_state": TaskState.REBOOTING}, expected=Expected((VmState.ACTIVE,), (None,)))


async def destroy(store: NovaConductorStore) -> None:
    await store.destroy(UUID)


async def list_uuids(store: NovaConductorStore) -> None:
    await store.list_uuids("compute-1")


@pytest.mark.parametrize("peer", [Slow, Silent])
@pytest.mark.parametrize("operate", [save, destroy, list_uuids])
def test_an_operation_ends_within_its_budget_whatever_nova_does(
    peer: Callable[[], Slow], operate: Callable[[NovaConductorStore], Awaitable[None]]
) -> None:
    caller = peer()
    took: list[float] = []

    async def main() -> None:
        began = trio.current_time()
        with pytest.raises(StoreUnavailable, match=f"^cannot .*: nova-conductor does not answer in {BUDGET_S:g} s"):
            await operate(NovaConductorStore(caller))
        took.append(trio.current_time() - began)
        # Each call was handed what is left of the budget, not a budget of its own.
        assert {deadline - began for deadline in caller.deadlines} == {BUDGET_S}

    trio.run(main, clock=MockClock(autojump_threshold=0))
    assert took == [BUDGET_S]


def test_the_budget_is_three_calls_and_ends_before_the_instance_does() -> None:
    assert MessagingSettings().budget == BUDGET_S == 3 * CALL_S
    assert Settings().limits.instance_deadline > BUDGET_S
