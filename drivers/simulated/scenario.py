"""A scenario: a simulated host as values.

The annotations define what a scenario file may contain; :mod:`bringup.drivers.simulated.scenario_file` reads them.
Almost nothing is checked when a scenario is created in Python: the type checker does that.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, PlainSerializer, Strict

from bringup.drivers.base import PowerState
from bringup.drivers.identifiers import canonical_uuid
from bringup.drivers.needs import MetBy, NeedKind, NeedState
from bringup.drivers.simulated.latency import LONGEST_S, Latency, parse_latency, write_latency
from bringup.drivers.simulated.verbs import ErrorName, LatencyKey, Verb


def _parse_uuid(value: str) -> str:
    try:
        return canonical_uuid(value)
    except ValueError:
        raise ValueError("must be a UUID, 8-4-4-4-12 hexadecimal digits with dashes") from None


def _parse_power_state(value: object) -> PowerState:
    for state in PowerState:
        if value == state.name.lower():
            return state
    raise ValueError("must be one of " + ", ".join(state.name.lower() for state in PowerState))


def _write_power_state(state: PowerState) -> str:
    return state.name.lower()


_NOTHING_ELSE = ConfigDict(extra="forbid")
_Flag = Annotated[bool, Strict()]
_Count = Annotated[int, Strict(), Field(ge=0)]
_Uuid = Annotated[str, AfterValidator(_parse_uuid)]
_PowerState = Annotated[
    PowerState, BeforeValidator(_parse_power_state), PlainSerializer(_write_power_state, return_type=str)
]
_Latency = Annotated[Latency, BeforeValidator(parse_latency), PlainSerializer(write_latency)]
_Latencies = Mapping[LatencyKey, _Latency]
_NO_LATENCIES: Mapping[LatencyKey, Latency] = {}


def _no_latencies() -> Mapping[LatencyKey, Latency]:
    # One for all: there may be 10,000 guests.
    return _NO_LATENCIES


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedNeed:
    """A need of a guest; it is met ``met_after`` seconds after ``init_host``."""

    __pydantic_config__ = _NOTHING_ELSE

    kind: NeedKind = NeedKind.DISK
    name: Annotated[str, Field(min_length=1, max_length=1024)]
    state: NeedState = NeedState.ABSENT
    met_by: MetBy = MetBy.HOST
    why: str = ""
    met_after: Annotated[float, Field(ge=0, le=LONGEST_S)] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedGuest:
    """A guest of the simulated hypervisor.

    ``shared_storage`` is None if its disks are not files of this host.  ``latency`` overrides that of the scenario.
    """

    __pydantic_config__ = _NOTHING_ELSE

    uuid: _Uuid
    name: str = ""
    power_state: _PowerState = PowerState.RUNNING
    shared_storage: _Flag | None = False
    vifs_broken: _Flag = False
    migrating: _Flag = False
    snapshot_in_progress: _Flag = False
    needs: tuple[SimulatedNeed, ...] = ()
    latency: _Latencies = field(default_factory=_no_latencies)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Failure of ``verb`` for ``uuid`` (None: for any guest): an ``error``, or an endless ``hang``.

    The first ``after`` calls pass, then ``times`` calls are struck (None: all of them).  ``effect`` is whether the verb
    fails before it has done anything or after it has done all.
    """

    __pydantic_config__ = _NOTHING_ELSE

    verb: Verb
    uuid: _Uuid | None = None
    error: ErrorName | None = None
    message: str = ""
    hang: _Flag = False
    times: Annotated[int, Strict(), Field(ge=1)] | None = None
    after: _Count = 0
    effect: Literal["before", "after"] = "before"

    def __post_init__(self) -> None:
        """Refuse a fault that has no effect or two."""
        if self.hang is (self.error is not None):
            raise ValueError('must have either "error" or "hang": true')


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedCapacity:
    """Capacity of the host, and the resources that it reports to Placement's client.

    At most ``running`` guests run, paused ones included; None is no limit.  Nothing else is ever exhausted.
    """

    __pydantic_config__ = _NOTHING_ELSE

    running: _Count | None = None
    vcpus: _Count = 64
    memory_mb: _Count = 262144
    local_gb: _Count = 2000
    traits: tuple[str, ...] = ("COMPUTE_NET_ATTACH_INTERFACE", "COMPUTE_VOLUME_ATTACH")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A simulated host: guests, latency of verbs (seconds, by verb or ``default``), faults."""

    __pydantic_config__ = _NOTHING_ELSE

    seed: Annotated[int, Strict()] = 0
    capacity: SimulatedCapacity = field(default_factory=SimulatedCapacity)
    latency: _Latencies = field(default_factory=_no_latencies)
    guests: tuple[SimulatedGuest, ...] = ()
    faults: tuple[Fault, ...] = ()
