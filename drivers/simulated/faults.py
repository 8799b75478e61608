"""Armed faults of a scenario, and the calls that they strike."""

from collections import defaultdict
from collections.abc import Iterable

import anyio

from bringup.drivers.simulated.scenario import Fault
from bringup.drivers.simulated.verbs import ERRORS


class ArmedFault:
    """A fault, and how many calls it has passed and struck."""

    def __init__(self, fault: Fault) -> None:
        """Arm ``fault``."""
        self.fault = fault
        self.passed = 0
        self.struck = 0
        self._lifted: anyio.Event | None = None
        self._is_lifted = False

    def strikes(self) -> bool:
        """Count one call, and return whether the fault strikes it."""
        if self._is_lifted or (self.fault.times is not None and self.struck >= self.fault.times):
            return False
        if self.passed < self.fault.after:
            self.passed += 1
            return False
        self.struck += 1
        return True

    async def raise_or_hang(self, call: str) -> None:
        """Raise the error of the fault, or hang until it is lifted."""
        if self.fault.error is not None:
            raise ERRORS[self.fault.error](self.fault.message or f"cannot {call}: the scenario has a fault for it")
        if self._is_lifted:
            return
        self._lifted = self._lifted or anyio.Event()
        await self._lifted.wait()

    def lift(self) -> None:
        """Strike no more calls, and release those that hang."""
        self._is_lifted = True
        if self._lifted is not None:
            self._lifted.set()


class Faults:
    """All armed faults.  Those for one guest come before those for any, older ones before newer."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        """Arm ``faults``."""
        self._by_call: dict[tuple[str, str | None], list[ArmedFault]] = defaultdict(list)
        self.all: list[ArmedFault] = []
        for fault in faults:
            self.arm(fault)

    def arm(self, fault: Fault) -> None:
        """Arm one more fault."""
        armed = ArmedFault(fault)
        self.all.append(armed)
        self._by_call[fault.verb, fault.uuid].append(armed)

    def lift(self, fault: Fault) -> None:
        """Lift each armed fault that equals ``fault``."""
        for armed in self.all:
            if armed.fault == fault:
                armed.lift()

    def strike(self, verb: str, uuid: str) -> ArmedFault | None:
        """Count one call, and return the fault that strikes it; later faults do not count the call."""
        if not self.all:
            return None
        for key in ((verb, uuid), (verb, None)) if uuid else ((verb, None),):
            for armed in self._by_call.get(key, ()):
                if armed.strikes():
                    return armed
        return None
