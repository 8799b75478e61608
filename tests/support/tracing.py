"""Stands before a driver and a store: writes their calls down, in one order, and lets a call fail or hang.

A call that fails or hangs does so before it has any effect.
"""

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import anyio
import anyio.lowlevel

T = TypeVar("T")

# A look changes nothing; every other verb for a guest is one that touches it.
LOOKS = frozenset({"driver.get_info"})


@dataclass(frozen=True, slots=True)
class Called:
    """One call: ``driver.reboot``, ``store.save``, ``placement``, ``open_host`` or ``report``; "" is no instance."""

    name: str
    uuid: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)


class Trace:
    """The calls of a run in their order, and what is to happen to some of them."""

    def __init__(self) -> None:
        self.calls: list[Called] = []
        self.before: Callable[[int], None] = lambda _number: None
        """Called with the number of a call, from 1, when it begins."""
        self.after: Callable[[int], None] = lambda _number: None
        """Called with the number of a call that has had its effect."""
        self._faults: dict[tuple[str, str | None], Exception | None] = {}

    def fail(self, name: str, error: Exception, *, uuid: str | None = None) -> None:
        """Make calls raise ``error``."""
        self._faults[name, uuid] = error

    def hang(self, name: str, *, uuid: str | None = None) -> None:
        """Make calls never end."""
        self._faults[name, uuid] = None

    def lift(self) -> None:
        """Forget faults and what was called."""
        self.calls.clear()
        self._faults.clear()
        self.before = self.after = lambda _number: None

    def names(self, uuid: str | None = None) -> list[str]:
        """Names of the calls, of all or of those for one instance."""
        return [call.name for call in self.calls if uuid in (None, call.uuid)]

    def touched(self) -> list[Called]:
        """Calls that change a guest, a record or a migration."""
        writes = {"store.save", "store.destroy", "store.save_migration"}
        return [
            call
            for call in self.calls
            if call.name in writes or (call.uuid and call.name.startswith("driver.") and call.name not in LOOKS)
        ]

    def enter(self, called: Called) -> bool:
        """Write a call down; raise where it is to fail, tell whether it is to hang."""
        self.calls.append(called)
        self.before(len(self.calls))
        for key in ((called.name, called.uuid), (called.name, None)):
            if key in self._faults:
                error = self._faults[key]
                if error is not None:
                    raise error
                return True
        return False

    async def around(self, called: Called, call: Callable[[], Awaitable[T]]) -> T:
        """Make a call, in its place."""
        hangs = self.enter(called)
        number = len(self.calls)
        await anyio.lowlevel.checkpoint()
        if hangs:
            await anyio.sleep_forever()
        answer = await call()
        self.after(number)
        return answer


class Traced:
    """Stands before a driver or a store."""

    def __init__(self, inner: object, role: str, trace: Trace) -> None:
        self._inner = inner
        self._role = role
        self._trace = trace

    def __getattr__(self, verb: str) -> Any:
        method = getattr(self._inner, verb)
        name = f"{self._role}.{verb}"

        async def call(*args: Any, **kwargs: Any) -> Any:
            called = Called(name, _uuid(args), {**kwargs, "also": args[1:]} if args[1:] else kwargs)
            return await self._trace.around(called, lambda: method(*args, **kwargs))

        def call_at_once(*args: Any, **kwargs: Any) -> Any:
            self._trace.enter(Called(name))
            return method(*args, **kwargs)

        return call if inspect.iscoroutinefunction(method) else call_at_once


def _uuid(args: Sequence[Any]) -> str:
    if not args:
        return ""
    first = args[0]
    text = first if isinstance(first, str) else getattr(first, "uuid", "")
    return text if text.count("-") == 4 else ""
