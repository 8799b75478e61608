"""Events of a run, in the order in which they happen: sent by ``recovery``, received by whatever watches the run."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from bringup.daemon.decisions.outcomes import Outcome
from bringup.daemon.decisions.pace import Sighting
from bringup.daemon.decisions.readiness import Readiness
from bringup.daemon.decisions.rules import Step
from bringup.daemon.decisions.verdicts import GuestVerdict


@dataclass(frozen=True, slots=True)
class PhaseBegan:
    """A phase of the start began, or the current one waits for something else than before."""

    phase: str
    """placement, driver, records, host, evacuated, instances, allocations, report, or needs."""
    detail: str = ""
    """What the phase waits for; empty where it does not wait."""


@dataclass(frozen=True, slots=True)
class RunBegan:
    """A run began, or was continued in its next attempt."""

    run_id: str
    attempt: int


@dataclass(frozen=True, slots=True)
class WorkFound:
    """The records are loaded: so many instances are to be settled."""

    total: int


@dataclass(frozen=True, slots=True)
class InstanceBegan:
    """An instance got its slot."""

    uuid: str
    name: str = ""
    """As an operator knows it (:attr:`.Instance.shown_name`)."""
    project: str | None = None


@dataclass(frozen=True, slots=True)
class ActionBegan:
    """A step of an instance is about to be executed."""

    uuid: str
    step: Step


@dataclass(frozen=True, slots=True)
class ActionEnded:
    """A step of an instance was executed, or failed with an error."""

    uuid: str
    step: Step
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class InstanceEnded:
    """An instance was settled; one that a guard held may be settled again later."""

    outcome: Outcome


@dataclass(frozen=True, slots=True)
class InstanceBoots:
    """A guest was started and boots; its instance is settled, and keeps its slot for a while."""

    uuid: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class InstanceReady:
    """A guest that was started is ready, or was waited for as long as it may be."""

    uuid: str
    readiness: Readiness


@dataclass(frozen=True, slots=True)
class InstanceVerified:
    """A guest that was started has been watched after its boot."""

    uuid: str
    verdict: GuestVerdict


@dataclass(frozen=True, slots=True)
class PaceSeen:
    """The counters of the guests that boot were read."""

    sighting: Sighting


@dataclass(frozen=True, slots=True)
class RunEnded:
    """Every instance was settled, or the run was stopped."""


RunEvent: TypeAlias = (
    PhaseBegan
    | RunBegan
    | WorkFound
    | InstanceBegan
    | ActionBegan
    | ActionEnded
    | InstanceEnded
    | InstanceBoots
    | InstanceReady
    | InstanceVerified
    | PaceSeen
    | RunEnded
)
Observer: TypeAlias = Callable[[RunEvent], None]
