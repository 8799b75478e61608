"""Random verbs on the simulated host end where a small model of a hypervisor ends."""

from collections.abc import Sequence
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bringup.drivers.base import DriverError, PowerState, RebootType, Transition
from bringup.drivers.simulated import SimulatedDriver
from support.drivers import driver_guest, uuid_of
from support.simulated import guest, host

NOSTATE, RUNNING, PAUSED = PowerState.NOSTATE, PowerState.RUNNING, PowerState.PAUSED
SHUTDOWN, CRASHED, SUSPENDED = PowerState.SHUTDOWN, PowerState.CRASHED, PowerState.SUSPENDED
STARTING = {Transition.STARTED, Transition.RESUMED, Transition.PAUSED}
ROOM = 2

Step = tuple[str, dict[str, Any], int]
STEPS = st.tuples(
    st.sampled_from(
        [
            ("reboot", {"reboot_type": RebootType.HARD}),
            ("reboot", {"reboot_type": RebootType.SOFT}),
            ("power_on", {}),
            ("power_off", {"timeout_s": 0, "retry_interval_s": 0}),
            ("unpause", {}),
            ("resume_state_on_host_boot", {}),
            ("finish_revert_migration", {"power_on": True}),
            ("finish_revert_migration", {"power_on": False}),
            ("destroy", {"destroy_disks": True}),
        ]
    ),
    st.integers(1, 4),
).map(lambda drawn: (*drawn[0], drawn[1]))


def wanted(verb: str, arguments: dict[str, Any], state: PowerState) -> PowerState | None:
    """Return the state after a verb, without reading the tables; None: it refuses."""
    if verb == "resume_state_on_host_boot":
        return RUNNING if state in (SHUTDOWN, CRASHED) else state
    if verb == "unpause":
        return RUNNING if state is PAUSED else None
    if arguments.get("reboot_type") is RebootType.SOFT and state is not RUNNING:
        return None
    return SHUTDOWN if verb == "power_off" or arguments.get("power_on") is False else RUNNING


def apply(model: dict[str, PowerState], verb: str, arguments: dict[str, Any], uuid: str) -> bool:
    """Do a verb to the model, and tell whether it was done."""
    if verb == "destroy":
        model.pop(uuid, None)
        return True
    after = wanted(verb, arguments, model[uuid]) if uuid in model else None
    if after is None:
        return False
    others = sum(state in (RUNNING, PAUSED) for other, state in model.items() if other != uuid)
    if after in (RUNNING, PAUSED) and model[uuid] not in (RUNNING, PAUSED) and others >= ROOM:
        return False
    model[uuid] = after
    return True


async def does(driver: SimulatedDriver, step: Step) -> bool:
    verb, arguments, number = step
    try:
        await getattr(driver, verb)(driver_guest(number), **arguments)
    except DriverError:
        return False
    return True


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@given(states=st.lists(st.sampled_from(PowerState), max_size=3), steps=st.lists(STEPS, max_size=12))
def test_verbs_end_where_the_model_ends(backend: str, states: Sequence[PowerState], steps: Sequence[Step]) -> None:
    active = [state for state in states if state in (RUNNING, PAUSED)]
    guests = [guest(number, state) for number, state in enumerate(states, start=1)]
    # A host may be asked to start with no more than it has room for.
    guests = guests if len(active) <= ROOM else guests[:ROOM]
    model = {one.uuid: one.power_state for one in guests}
    seen: dict[str, bool] = {}

    async def play() -> None:
        driver = host(*guests, room=ROOM)
        driver.register_event_listener(lambda event: seen.update({event.uuid: event.transition in STARTING}))
        await driver.init_host("compute-1")
        for step in steps:
            assert await does(driver, step) == apply(model, step[0], step[1], uuid_of(step[2])), step
            assert {uuid: one.power_state for uuid, one in driver.guests.items()} == model
            assert driver.hypervisor.active == sum(state in (RUNNING, PAUSED) for state in model.values())

    anyio.run(play, backend=backend)

    # Whoever listens knows which guests are active.
    assert seen == {uuid: model.get(uuid) in (RUNNING, PAUSED) for uuid in seen}
