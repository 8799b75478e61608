"""Events of a guest whose record no control plane keeps: the record follows, and nothing is done to the guest."""

import pytest

from bringup.daemon.decisions.actions import Save
from bringup.daemon.decisions.from_event import LIFECYCLE
from bringup.daemon.decisions.instances import FROM_LIBVIRT, ORIGIN
from bringup.daemon.decisions.rules import Facts, decide
from bringup.daemon.decisions.states import PowerState, VmState
from bringup.drivers.base import Transition
from support.hosts import HOST, instance

OFF, RUNS, SLEEPS = PowerState.SHUTDOWN, PowerState.RUNNING, PowerState.SUSPENDED
PLAIN = {"system_metadata": {ORIGIN: FROM_LIBVIRT}}


@pytest.mark.parametrize(
    ("before", "transition", "look", "after"),
    [
        (VmState.STOPPED, Transition.STARTED, RUNS, VmState.ACTIVE),
        (VmState.STOPPED, Transition.RESUMED, RUNS, VmState.ACTIVE),
        (VmState.SUSPENDED, Transition.STARTED, RUNS, VmState.ACTIVE),
        (VmState.ERROR, Transition.STARTED, RUNS, VmState.ACTIVE),
        (VmState.ACTIVE, Transition.STOPPED, OFF, VmState.STOPPED),
        (VmState.ACTIVE, Transition.CRASHED, PowerState.CRASHED, VmState.STOPPED),
        (VmState.PAUSED, Transition.STOPPED, OFF, VmState.STOPPED),
        (VmState.ACTIVE, Transition.SUSPENDED, SLEEPS, VmState.SUSPENDED),
        (VmState.STOPPED, Transition.PAUSED, PowerState.PAUSED, VmState.STOPPED),
        (VmState.ACTIVE, Transition.PAUSED, PowerState.PAUSED, VmState.ACTIVE),
        (VmState.SUSPENDED, Transition.STOPPED, OFF, VmState.SUSPENDED),
        (VmState.ERROR, Transition.STOPPED, OFF, VmState.ERROR),
    ],
    ids=lambda value: getattr(value, "value", None) and str(value.value),
)
def test_the_record_follows_and_the_guest_is_left_alone(
    before: VmState, transition: Transition, look: PowerState, after: VmState
) -> None:
    record = instance(1, vm_state=before, power_state=PowerState.NOSTATE, **PLAIN)

    plan = decide(LIFECYCLE, Facts(instance=record, host=HOST, transition=transition, look=look))

    actions = [step.action for step in plan.steps]
    assert all(isinstance(action, Save) for action in actions)
    written = {key: value for action in actions if isinstance(action, Save) for key, value in action.changes.items()}
    assert written == {"power_state": look} | ({} if after is before else {"vm_state": after})


def test_a_record_that_a_control_plane_keeps_has_its_guest_stopped_again() -> None:
    record = instance(1, vm_state=VmState.STOPPED, power_state=OFF)

    plan = decide(LIFECYCLE, Facts(instance=record, host=HOST, transition=Transition.STARTED, look=RUNS))

    assert plan.because[-1] == "runs_though_stopped"
