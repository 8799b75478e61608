"""The real nova-compute, started after bringup: everything that it would have done is done."""

from pathlib import Path
from typing import Any

import pytest

from bringup.drivers.base import PowerState
from bringup.drivers.simulated import SimulatedGuest
from support import rabbitmq
from support.crashed import OFF, ON, SORTS, Crashed
from support.nova import Nova, Started, the_nova
from support.openstack import uuid_of

pytestmark = pytest.mark.timeout(300)
RESUMED = "resume_guests_state_on_host_boot = true"
# More that was cut short, as in SORTS: each ends active, its guest running.
MOVES = {
    "resize that had not begun": ("resize_prep", ON),
    "resize": ("resize_migrating", OFF),
    "live migration": ("migrating", ON),
    "pause": ("pausing", ON),
}


@pytest.fixture
def nova() -> Nova:
    return the_nova()


def crashed_host(nova: Nova, directory: Path) -> Crashed:
    """Prepare a host with work of every sort, guests to start again, and one that was evacuated."""
    crashed = Crashed(
        nova,
        directory,
        service={"after_init": "stop"},
        resume={"guests": "on_every_start"},
        evacuated={"shared_storage": "local"},
    )
    host = crashed.host
    other, _ = nova.a_host()
    moved = {name: host.instance(1100 + at, task_state=MOVES[name][0]) for at, name in enumerate(MOVES)}
    asleep, evacuated = host.instance(1000), host.instance(1001, host=other)
    nova.make(
        asleep,
        evacuated,
        *moved.values(),
        migrations=[
            {
                "uuid": uuid_of(host.name, 2001),
                "instance_uuid": evacuated["uuid"],
                "migration_type": "evacuation",
                "status": "done",
                "source_compute": host.name,
                "dest_compute": other,
            },
            {
                "uuid": uuid_of(host.name, 2002),
                "instance_uuid": moved["live migration"]["uuid"],
                "migration_type": "live-migration",
                "status": "running",
                "source_compute": host.name,
                "dest_compute": other,
            },
        ],
    )
    guests = [*crashed.guests]
    guests.append(SimulatedGuest(uuid=asleep["uuid"], name="asleep", power_state=PowerState.SHUTDOWN))
    guests.append(SimulatedGuest(uuid=evacuated["uuid"], name="evacuated"))
    for name, instance in moved.items():
        guests.append(SimulatedGuest(uuid=instance["uuid"], name=name, power_state=MOVES[name][1]))
        crashed.expected[instance["uuid"]] = SORTS["nothing"][2:]
    host.guests(guests)
    crashed.expected[asleep["uuid"]] = SORTS["nothing"][2:]
    crashed.expected[evacuated["uuid"]] = ({"host": other, "vm_state": "active"}, None)
    return crashed


def start_compute(crashed: Crashed, powers: dict[str, int]) -> Started:
    host = crashed.host
    started = crashed.nova.start_compute(host.name, host.node, powers, default=RESUMED)
    assert started.error is None, started.error
    return started


def host_files(crashed: Crashed) -> list[Path]:
    return [file for file in crashed.host.computer.state.rglob("*") if file.is_file()]


def migration_status(crashed: Crashed, number: int) -> Any:
    return crashed.nova.ask("migration_status", uuid=uuid_of(crashed.host.name, number))


def test_after_bringup_nova_compute_looks_plugs_and_has_nothing_left_to_do(nova: Nova, tmp_path: Path) -> None:
    crashed = crashed_host(nova, tmp_path)

    with crashed.host.computer.stay() as command:
        ended = command.end()

    assert ended.code == 0, ended.out[-5000:] + ended.err
    crashed.check()
    written = [file.read_bytes() for file in host_files(crashed)]
    assert all(rabbitmq.PASSWORD.encode() not in text for text in (*written, ended.out.encode(), ended.err.encode()))
    assert (migration_status(crashed, 2001), migration_status(crashed, 2002)) == ("completed", "error")
    before, powers = nova.dump(), crashed.powers()

    started = start_compute(crashed, powers)

    assert (started.writes, started.acts) == ([], [])
    assert started.guests == powers
    # Not of the instances alone: of all that the cell's database holds.
    assert nova.dump() == before
    # It looked: nothing of this is because it saw no instance.
    assert {verb for verb, _ in started.verbs} == {"get_info", "plug_vifs"}


def test_without_bringup_the_same_host_keeps_nova_compute_busy(nova: Nova, tmp_path: Path) -> None:
    crashed = crashed_host(nova, tmp_path)

    started = start_compute(crashed, crashed.powers())

    assert {"Instance.save", "Instance.destroy", "Migration.save"} <= set(started.writes)
    acts = {
        "reboot",
        "power_on",
        "power_off",
        "unpause",
        "destroy",
        "resume_state_on_host_boot",
        "live_migration_abort",
    }
    assert acts <= set(started.acts)
