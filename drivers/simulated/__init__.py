"""A simulated compute host in this process, from a scenario file: guests, latency, faults, lifecycle events.

A real implementation of :class:`bringup.drivers.base.Driver`, which the demo, the tests and the benchmarks use, without
a hypervisor.  The file is documented in ``docs/scenarios.md``.
"""

from bringup.drivers.simulated.calls import Call
from bringup.drivers.simulated.driver import SimulatedDriver
from bringup.drivers.simulated.latency import Exponential, Latency, Lognormal, Uniform
from bringup.drivers.simulated.scenario import Fault, Scenario, SimulatedCapacity, SimulatedGuest, SimulatedNeed
from bringup.drivers.simulated.scenario_file import ScenarioError, dump_scenario, read_scenario
from bringup.drivers.simulated.verbs import ErrorName, LatencyKey, Verb

__all__ = [
    "Call",
    "ErrorName",
    "Exponential",
    "Fault",
    "Latency",
    "LatencyKey",
    "Lognormal",
    "Scenario",
    "ScenarioError",
    "SimulatedCapacity",
    "SimulatedDriver",
    "SimulatedGuest",
    "SimulatedNeed",
    "Uniform",
    "Verb",
    "dump_scenario",
    "read_scenario",
]
