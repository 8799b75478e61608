"""The simulated host as a test, a demo or a benchmark holds it; the verbs stand in the class that adds them.

What a verb does stands in :mod:`bringup.drivers.simulated.hypervisor`; here stands how long it takes and whether it
fails.  The change happens whole, at the end of the latency: a call that is cancelled before has changed nothing.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Self, TypeVar

import anyio
import anyio.lowlevel

from bringup.drivers.base import DriverError, EventListener, LifecycleEvent
from bringup.drivers.simulated.calls import Call, Calls
from bringup.drivers.simulated.faults import Faults
from bringup.drivers.simulated.hypervisor import Hypervisor
from bringup.drivers.simulated.latency import Latency, draw_s
from bringup.drivers.simulated.scenario import Fault, Scenario, SimulatedGuest, SimulatedNeed
from bringup.drivers.simulated.scenario_file import read_scenario
from bringup.drivers.simulated.state_file import StateFile
from bringup.drivers.simulated.verbs import LOOKS, NO_DEFAULT_LATENCY, LatencyKey, Verb

_T = TypeVar("_T")


class Controls:
    """A simulated host without its verbs.

    ``hypervisor`` is what the host has now.  With ``record`` each call is kept in ``calls``.  With ``state_path``
    guests, counts and spent faults are saved there after each change, and what is there comes before the scenario's.
    """

    def __init__(self, scenario: Scenario, *, record: bool = False, state_path: Path | None = None) -> None:
        """Make a host from ``scenario``.

        :raises ScenarioError: the file at ``state_path`` cannot be used.
        """
        self.scenario: Final = scenario
        self.hypervisor: Final = Hypervisor(scenario)
        self._calls: Final = Calls(record=record)
        self._faults: Final = Faults(scenario.faults)
        self._latencies = {guest.uuid: guest.latency for guest in scenario.guests if guest.latency}
        self._busy: dict[str, Verb] = {}
        self._host: str | None = None
        self._ready_at: float | None = None
        self._state = None if state_path is None else StateFile(state_path)
        if self._state is not None:
            self._state.load(self.hypervisor, self._calls, self._faults)

    @classmethod
    def from_file(cls, path: Path, *, record: bool = False, state_path: Path | None = None) -> Self:
        """Make a host from a scenario file.

        :raises ScenarioError: the file, or the one at ``state_path``, cannot be used.
        """
        return cls(read_scenario(path), record=record, state_path=state_path)

    @property
    def guests(self) -> Mapping[str, SimulatedGuest]:
        """The guests that the host has now, by UUID."""
        return MappingProxyType(self.hypervisor.guests)

    @property
    def calls(self) -> Sequence[Call]:
        """The calls of this driver so far, where they are recorded."""
        return self._calls.recorded

    def scenario_now(self) -> Scenario:
        """Tell the host as it is now as a scenario."""
        return dataclasses.replace(self.scenario, guests=tuple(self.hypervisor.guests.values()))

    def count(self, verb: Verb, uuid: str | None = None) -> int:
        """Tell how often a verb was entered, for one guest or (None) for all; other processes too with a state file."""
        return self._calls.count(verb, uuid)

    def done(self, verb: Verb, uuid: str = "") -> int:
        """Tell how often a verb had its effect on a guest, over all processes that shared the state file.

        :raises ValueError: there is no state file.
        """
        if self._state is None:
            raise ValueError("cannot tell what was done: this simulated host has no state_path")
        return self._state.done(verb, uuid)

    async def entered(self, verb: Verb, uuid: str | None = None, *, times: int = 1) -> None:
        """Wait until a verb has been entered ``times`` times; calls of the past count."""
        await self._calls.entered(verb, uuid, times=times)

    def inject(self, fault: Fault) -> None:
        """Let ``fault`` happen from now on."""
        self._faults.arm(fault)

    def lift(self, fault: Fault) -> None:
        """Let ``fault`` happen no more; calls that hang in it go on."""
        self._faults.lift(fault)

    def latency_of(self, uuid: str, verb: Verb, nth: int = 1) -> float:
        """Tell how many seconds the ``nth`` call (from 1) of ``verb`` for a guest ("" for the host) takes."""
        latency = self._latency(uuid, verb)
        # Most are 0 or fixed: no text is made for them.
        if isinstance(latency, (float, int)):
            return latency
        return draw_s(latency, seed=self.scenario.seed, key=f"{uuid}/{verb}/{nth}")

    def emit(self, event: LifecycleEvent) -> None:
        """Tell the listeners of ``event``; the guest stays as it is."""
        self.hypervisor.emit(event)

    def guest_stops_itself(self, uuid: str) -> None:
        """Shut a guest down from within, with its lifecycle event."""
        self.hypervisor.stops_itself(uuid)
        if self._state is not None:
            self._state.save_guest(uuid, self.hypervisor)

    def meet(self, uuid: str, name: str) -> None:
        """Let something that a guest needs be there from now on."""
        self.hypervisor.met.add((uuid, name))

    def lacks(self, uuid: str, *needs: SimulatedNeed) -> None:
        """Let a guest need these things from now on, and no others."""
        self.hypervisor.guests[uuid] = dataclasses.replace(self.hypervisor.guest(uuid), needs=needs)
        if self._state is not None:
            self._state.save_guest(uuid, self.hypervisor)

    def ready_for_s(self) -> float:
        """Tell how long ago the hypervisor was made ready."""
        return 0.0 if self._ready_at is None else time.monotonic() - self._ready_at

    def host_loses_power(self) -> None:
        """Go down with all guests, as when the plug of the host is pulled."""
        self.hypervisor.lose_power()
        if self._state is not None:
            for uuid in self.hypervisor.guests:
                self._state.save_guest(uuid, self.hypervisor)

    def register_event_listener(self, listener: EventListener) -> None:
        """Call ``listener``, in the event loop, for each lifecycle event from now on."""
        self.hypervisor.listen(listener)

    def _open(self, host: str) -> None:
        self._host = host
        self._ready_at = time.monotonic() if self._ready_at is None else self._ready_at

    def _close(self) -> None:
        self._host = None

    async def _perform(self, verb: Verb, uuid: str, effect: Callable[[], _T], **arguments: Any) -> _T:
        if self._host is None and verb not in ("init_host", "close"):
            raise DriverError(f"cannot {verb} {uuid}".rstrip() + ": init_host of the simulated host must come first")
        excludes = bool(uuid) and verb not in LOOKS
        if excludes:
            if uuid in self._busy:
                raise DriverError(f"cannot {verb} {uuid}: it is busy with {self._busy[uuid]}")
            self._busy[uuid] = verb
        try:
            return await self._take_time_and_do(verb, uuid, effect, arguments)
        finally:
            if excludes:
                del self._busy[uuid]

    async def _take_time_and_do(
        self, verb: Verb, uuid: str, effect: Callable[[], _T], arguments: Mapping[str, Any]
    ) -> _T:
        nth = self._calls.enter(verb, uuid, arguments)
        fault = self._faults.strike(verb, uuid)
        if self._state is not None:
            self._state.save("entered", verb, uuid, hypervisor=self.hypervisor, faults=self._faults)
        latency_s = self.latency_of(uuid, verb, nth)
        if latency_s:
            await anyio.sleep(latency_s)
        else:
            await anyio.lowlevel.checkpoint()
        if fault is not None and fault.fault.effect == "before":
            await fault.happen(f"{verb} {uuid}".rstrip())
        result = effect()
        if self._state is not None:
            self._state.save("done", verb, uuid, hypervisor=self.hypervisor, faults=self._faults)
        if fault is not None and fault.fault.effect == "after":
            await fault.happen(f"{verb} {uuid}".rstrip())
        return result

    def _latency(self, uuid: str, verb: Verb) -> Latency:
        keys: tuple[LatencyKey, ...] = (verb,) if verb in NO_DEFAULT_LATENCY else (verb, "default")
        own = self._latencies.get(uuid)
        for latencies in (self.scenario.latency,) if own is None else (own, self.scenario.latency):
            for key in keys:
                if key in latencies:
                    return latencies[key]
        return 0.0
