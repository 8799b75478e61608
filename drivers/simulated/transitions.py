"""Effect of each verb on the power state, as tables; the hypervisor refuses a state that has no row.

As a libvirt host behaves under Nova: a hard reboot and a power-on create the guest again, a soft reboot requires a
guest that responds, and a guest whose state is unknown (NOSTATE) is not started at boot.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from bringup.drivers.base import PowerState, Transition

_NOSTATE, _RUNNING, _PAUSED, _SHUTDOWN, _CRASHED, _SUSPENDED = PowerState
# They hold memory of the host.
ACTIVE: Final = frozenset({_RUNNING, _PAUSED})


@dataclass(frozen=True, slots=True)
class Move:
    """The state after a verb, and the events of the hypervisor."""

    to: PowerState
    events: tuple[Transition, ...] = ()


Moves = Mapping[PowerState, Move]

_START = Move(_RUNNING, (Transition.STARTED,))
_RESTART = Move(_RUNNING, (Transition.STOPPED, Transition.STARTED))
_STOP = Move(_SHUTDOWN, (Transition.STOPPED,))
_FORGET = Move(_SHUTDOWN)
_STAY = {state: Move(state) for state in PowerState}

SOFT_REBOOT: Final[Moves] = MappingProxyType({_RUNNING: _RESTART})
HARD_REBOOT: Final[Moves] = MappingProxyType(
    {state: _RESTART if state in ACTIVE else _START for state in PowerState},
)
POWER_ON: Final[Moves] = MappingProxyType({**HARD_REBOOT, _RUNNING: _STAY[_RUNNING]})
POWER_OFF: Final[Moves] = MappingProxyType({state: _STOP if state in ACTIVE else _FORGET for state in PowerState})
UNPAUSE: Final[Moves] = MappingProxyType({_PAUSED: Move(_RUNNING, (Transition.RESUMED,))})
RESUME_ON_BOOT: Final[Moves] = MappingProxyType({**_STAY, _SHUTDOWN: _START, _CRASHED: _START})
