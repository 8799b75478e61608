"""A compute host of a real OpenStack: its records are Nova's, and bringup is told of both by settings."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bringup.drivers.simulated import Fault, Scenario, SimulatedGuest, dump_scenario
from support.computer import Computer, a_computer
from support.nova import Nova


@dataclass
class CloudHost:
    """One host of a cloud."""

    nova: Nova
    name: str
    node: str
    computer: Computer

    @property
    def transport_url(self) -> Path:
        return self.computer.directory / "transport_url"

    def guests(
        self, guests: Sequence[SimulatedGuest], *faults: Fault, latency: Mapping[Any, float] | None = None
    ) -> "CloudHost":
        """Prepare a hypervisor with these guests, which keeps them from start to start."""
        scenario = Scenario(guests=tuple(guests), faults=faults, latency=latency or {})
        (self.computer.directory / "scenario.json").write_text(dump_scenario(scenario))
        self.computer.having(driver={"scenario_state": str(self.computer.directory / "guests.sqlite")})
        return self

    def instance(self, number: int, **values: Any) -> dict[str, Any]:
        """Describe an instance of this host: active and running, unless said otherwise."""
        return {
            "uuid": uuid_of(self.name, number),
            "host": self.name,
            "vm_state": "active",
            "task_state": None,
            "power_state": 1,
            "display_name": f"vm {number}",
            **values,
        }


def uuid_of(host: str, number: int) -> str:
    """Return the UUID that a number stands for on a host."""
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{number}.{host}"))


def a_cloud_host(nova: Nova, directory: Path, **sections: Mapping[str, Any]) -> CloudHost:
    """Make a host in the cloud and its settings here; ``sections`` are more of them."""
    name, node = nova.a_host()
    computer = a_computer(directory)
    host = CloudHost(nova, name, node, computer)
    host.transport_url.write_text(nova.broker.url)
    host.transport_url.chmod(0o600)
    # Of Placement's provider nothing is known but what this host makes: its UUID is not the node's.
    computer.having(
        host={"name": name, "node_uuid": node, "state_directory": str(directory / "state")},
        placement={"resource_provider": name, "create_resource_provider": True},
        store={"url": "nova-conductor:"},
        messaging={"transport_url_file": str(host.transport_url), "deadline": 60},
    )
    for section, values in sections.items():
        computer.having(**{section: values})
    return host
