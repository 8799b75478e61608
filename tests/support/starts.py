"""The part of a start that talks to Keystone and Placement: gate, inventory, allocations."""

from dataclasses import dataclass, field

from bringup.daemon.decisions.instances import Instance
from bringup.daemon.decisions.run_events import PhaseBegan, RunEvent
from bringup.daemon.openstack.resource_provider import Allocations, KnownInstances
from bringup.daemon.service.placement_gate import opened_placement, pass_placement
from bringup.daemon.settings import Settings
from bringup.daemon.storage.store.base import ImportingStore
from bringup.drivers.simulated import Scenario, SimulatedCapacity, SimulatedDriver
from support.records import HOST, instance, migration, records

CAPACITY = SimulatedCapacity(vcpus=8, memory_mb=16384, local_gb=100)
DEADLINE_S = 60.0


class Phases:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.phases: list[tuple[str, str]] = []

    def observe(self, event: RunEvent) -> None:
        assert isinstance(event, PhaseBegan)
        self.phases.append((event.phase, event.detail))


async def store_evacuated(store: ImportingStore, uuid: str) -> None:
    """Store a record of an instance that was evacuated from this host."""
    evacuated = instance(1, uuid=uuid, host="compute-2")
    await store.import_records(records(evacuated, migrations=(migration(1, instance_uuid=uuid),)))


@dataclass
class Start:
    """What of a start talks to Placement, in its order."""

    settings: Settings
    store: ImportingStore
    node_uuid: str | None = None
    own: tuple[Instance, ...] = ()
    reached: list[str] = field(default_factory=list)
    """What came to its end."""

    async def run(self) -> Allocations:
        """Do it.

        :raises BringupError: the host may not start.
        """
        async with opened_placement(self.settings) as client:
            host = await pass_placement(self.settings, client, Phases().observe, node_uuid=self.node_uuid)
            self.reached.append("gate")
            driver = SimulatedDriver(Scenario(capacity=CAPACITY))
            await driver.init_host(HOST)
            await host.update(driver)
            self.reached.append("inventory")
            known = KnownInstances(own=frozenset(one.uuid for one in self.own))
            found = await host.check_allocations(HOST, known, self.store, deadline_s=DEADLINE_S)
            self.reached.append("allocations")
            return found
