"""What a verb makes of a power state, as tables: what is not in the table of a verb, the hypervisor refuses.

Read as a libvirt host behaves under Nova: a hard reboot and a power-on make the guest anew, a soft reboot needs a guest
that listens, and a guest whose state is not known (NOSTATE) is not started by the boot of the host.
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
    """The state that comes of a verb, and what the hypervisor says of it."""

    to: PowerState
    says: tuple[Transition, ...] = ()


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
