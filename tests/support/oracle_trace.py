"""The calls that one instance costs, written down with Nova's words, and which of them are to fail."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from bringup.daemon.errors import RecordNotFound, StateConflict
from bringup.drivers.base import InstanceNotFound, InstancePowerOffFailure, VirtualInterfacePlugError


class AnythingElse(Exception):
    """The oracle's plain ``Exception``."""


ON_DRIVER: Mapping[str, type[Exception]] = {
    "NotImplementedError": NotImplementedError,
    "VirtualInterfacePlugException": VirtualInterfacePlugError,
    "InstanceNotFound": InstanceNotFound,
    "InstancePowerOffFailure": InstancePowerOffFailure,
    "Exception": AnythingElse,
}
ON_STORE: Mapping[str, type[Exception]] = {
    **ON_DRIVER,
    "InstanceNotFound": RecordNotFound,
    "UnexpectedTaskStateError": StateConflict,
    "UnexpectedDeletingTaskStateError": StateConflict,
}


@dataclass(slots=True)
class Trace:
    """Calls in order, each as the words that it may be called by, and the errors raised on the way.

    A call that is to fail raises before it has any effect.
    """

    faults: Mapping[int, str] = field(default_factory=dict)
    """Nova's exceptions by the number of the call that they are raised in."""
    calls: list[tuple[str, ...]] = field(default_factory=list)
    raised: list[tuple[str, Exception]] = field(default_factory=list)
    """The failing calls and what they raised."""

    def call(self, *words: str, errors: Mapping[str, type[Exception]] = ON_DRIVER) -> None:
        """Write a call down; raise what is to be raised in it."""
        fault = self.faults.get(len(self.calls))
        self.calls.append(words)
        if fault is None:
            return
        error = errors[fault](f"{fault} was injected into {words[0]}")
        self.raised.append((words[0], error))
        raise error
