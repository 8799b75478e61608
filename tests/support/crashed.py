"""A host of a cloud that crashed in the middle of everything."""

from pathlib import Path
from typing import Any

from bringup.drivers.base import PowerState
from bringup.drivers.simulated import SimulatedDriver, SimulatedGuest
from support.nova import Nova
from support.openstack import CloudHost, a_cloud_host

OFF, ON, PAUSED = PowerState.SHUTDOWN, PowerState.RUNNING, PowerState.PAUSED
# What was cut short, the guest that is left of it, and how both must end.
SORTS: dict[str, tuple[dict[str, Any], PowerState | None, dict[str, Any], PowerState | None]] = {
    "hard reboot": (
        {"task_state": "reboot_started_hard"},
        OFF,
        {"vm_state": "active", "task_state": None, "power_state": 1},
        ON,
    ),
    "build": (
        {"vm_state": "building", "task_state": "spawning", "power_state": 0},
        None,
        {"vm_state": "error", "task_state": None, "power_state": 0},
        None,
    ),
    "start": (
        {"vm_state": "stopped", "task_state": "powering-on", "power_state": 4},
        OFF,
        {"vm_state": "active", "task_state": None, "power_state": 1},
        ON,
    ),
    "stop": (
        {"task_state": "powering-off"},
        ON,
        {"vm_state": "stopped", "task_state": None, "power_state": 4},
        OFF,
    ),
    "deletion": ({"task_state": "deleting"}, OFF, {"deleted": True}, None),
    "soft reboot": (
        {"task_state": "reboot_started"},
        OFF,
        {"vm_state": "active", "task_state": None, "power_state": 1},
        ON,
    ),
    "rebuild": (
        {"task_state": "rebuild_spawning"},
        OFF,
        {"vm_state": "error", "task_state": None, "power_state": 1},
        OFF,
    ),
    "snapshot": (
        {"task_state": "image_uploading"},
        ON,
        {"vm_state": "active", "task_state": None, "power_state": 1},
        ON,
    ),
    "unpause": (
        {"vm_state": "paused", "task_state": "unpausing", "power_state": 3},
        PAUSED,
        {"vm_state": "active", "task_state": None, "power_state": 1},
        ON,
    ),
    "half deletion": ({"vm_state": "deleted", "power_state": 4}, None, {"deleted": True}, None),
    "trash": (
        {"vm_state": "soft-delete", "power_state": 4},
        OFF,
        {"vm_state": "soft-delete", "task_state": None, "power_state": 4},
        OFF,
    ),
    "nothing": ({}, ON, {"vm_state": "active", "task_state": None, "power_state": 1}, ON),
}
COPIES = 3
# RabbitMQ, and what is connected to it, may need half a minute to be back.
LIMITS = {"concurrency": 4, "instance_deadline": 120, "host_deadline": 120}


class Crashed:
    """A host that has something of every sort to do."""

    def __init__(self, nova: Nova, directory: Path, **sections: dict[str, Any]) -> None:
        self.nova = nova
        self.host: CloudHost = a_cloud_host(nova, directory, limits=LIMITS, **sections)
        self.expected: dict[str, tuple[dict[str, Any], PowerState | None]] = {}
        made: list[dict[str, Any]] = []
        self.guests: list[SimulatedGuest] = []
        for number, (values, guest, end, guest_end) in enumerate(list(SORTS.values()) * COPIES):
            one = self.host.instance(number, **values)
            made.append(one)
            self.expected[one["uuid"]] = ({"deleted": False, **end}, guest_end)
            if guest is not None:
                self.guests.append(SimulatedGuest(uuid=one["uuid"], name=f"guest-{number}", power_state=guest))
        nova.make(*made)
        self.host.guests(self.guests, latency={"default": 0.02})

    def rows(self) -> dict[str, dict[str, Any]]:
        """Read the records."""
        return self.nova.read(list(self.expected))

    @property
    def driver(self) -> SimulatedDriver:
        """Open the hypervisor as the last run left it."""
        directory = self.host.computer.directory
        return SimulatedDriver.from_file(directory / "scenario.json", state_path=directory / "guests.sqlite")

    def powers(self) -> dict[str, int]:
        """Return the power state of each guest, by UUID."""
        return {uuid: int(guest.power_state.value) for uuid, guest in self.driver.guests.items()}

    def check(self) -> None:
        """Make sure that each instance ended as it must, and was rebooted once at most."""
        driver, found = self.driver, self.rows()
        for uuid, (end, guest_end) in self.expected.items():
            assert {key: found[uuid][key] for key in end} == end, f"{found[uuid]} is not {end}"
            guest = driver.guests.get(uuid)
            assert (None if guest is None else guest.power_state) is guest_end, uuid
            assert driver.done("reboot", uuid) <= 1
