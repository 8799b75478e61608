"""What a run tells the real nova-scheduler changes where it puts the next instance."""

import signal
from pathlib import Path
from typing import Any

import httpx
import pytest

from bringup.drivers.simulated import SimulatedGuest
from support.nova import Nova, a_nova_that_schedules, a_nova_to_break
from support.openstack import CloudHost, a_cloud_host, uuid_of
from support.placement import real_placement
from support.polling import PATIENCE_S

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def nova() -> Nova:
    return a_nova_that_schedules()


def a_schedulable_host(nova: Nova, directory: Path, **sections: Any) -> CloudHost:
    """Register a host in Placement as nova-scheduler requires it."""
    host = a_cloud_host(nova, directory, scheduler={"transport": "nova"}, **sections)
    headers = {"X-Auth-Token": "admin", "OpenStack-API-Version": "placement 1.36"}
    provider = f"/resource_providers/{host.node}"
    inventories = {"VCPU": {"total": 64}, "MEMORY_MB": {"total": 65536}, "DISK_GB": {"total": 1000}}
    with httpx.Client(base_url=real_placement(), headers=headers, timeout=PATIENCE_S) as placement:
        made = placement.post("/resource_providers", json={"uuid": host.node, "name": host.name})
        filled = placement.put(
            f"{provider}/inventories", json={"resource_provider_generation": 0, "inventories": inventories}
        )
        owned = placement.put(f"{provider}/traits", json={"resource_provider_generation": 1, "traits": ["OWNER_NOVA"]})
    assert [answer.status_code for answer in (made, filled, owned)] == [200, 200, 200]
    return host


def having(host: CloudHost, *instances: dict[str, Any], late_guest: str | None = None) -> None:
    """Prepare instances and their guests, and a guest whose instance comes later."""
    host.nova.make(*instances)
    uuids = [one["uuid"] for one in instances] + ([late_guest] if late_guest else [])
    host.guests([SimulatedGuest(uuid=uuid, name=uuid) for uuid in uuids])


def is_chosen(host: CloudHost, *members: str) -> bool:
    """Check whether one more of an anti-affinity group with these instances may come to this host."""
    chosen: list[str] = host.nova.ask("select_destinations", group=list(members), only=host.name)
    return chosen == [host.name]


def test_a_report_changes_what_the_scheduler_decides(nova: Nova, tmp_path: Path) -> None:
    host = a_schedulable_host(nova, tmp_path)
    late = host.instance(1)
    having(host, host.instance(2), host.instance(3), late_guest=late["uuid"])
    assert host.computer.run().code == 0
    nova.scheduler.until(f"Successfully synced instances from host '{host.name}'")
    # Of a host that it knows it does not look into the database.
    nova.make(late)
    assert is_chosen(host, late["uuid"])

    ended = host.computer.run()

    assert ended.code == 0, ended.out[-3000:] + ended.err
    assert len(ended.named("report.acknowledged")) == 1
    assert host.computer.waiting == []
    # It had counted in what it chose the host for, so it looks into the database once more.
    nova.scheduler.until_count(f"host '{host.name}'", 2)
    assert not is_chosen(host, late["uuid"])
    assert is_chosen(host, uuid_of(host.name, 7))


def test_of_a_host_that_it_does_not_know_even_one_instance_is_taken_in(nova: Nova, tmp_path: Path) -> None:
    host = a_schedulable_host(nova, tmp_path)
    having(host, host.instance(1))

    assert host.computer.run().code == 0

    # It throws a list of one away and reads the host from the database, which our saves have put right.
    nova.scheduler.until(f"Successfully synced instances from host '{host.name}'")
    assert not is_chosen(host, uuid_of(host.name, 1))


def test_an_instance_whose_deletion_was_finished_is_in_nobodys_way(nova: Nova, tmp_path: Path) -> None:
    host = a_schedulable_host(nova, tmp_path)
    having(host, host.instance(1, task_state="deleting"), host.instance(2), host.instance(3))
    assert not is_chosen(host, uuid_of(host.name, 1))

    assert host.computer.run().code == 0

    nova.scheduler.until(f"Successfully synced instances from host '{host.name}'")
    assert is_chosen(host, uuid_of(host.name, 1))
    assert not is_chosen(host, uuid_of(host.name, 2))


def test_while_the_daemon_stays_the_scheduler_is_kept_in_step(nova: Nova, tmp_path: Path) -> None:
    host = a_schedulable_host(nova, tmp_path)
    host.computer.having(scheduler={"sync_interval": 0.2})
    having(host, *(host.instance(number) for number in (1, 2)))

    with host.computer.stay() as command:
        command.until("service.ready")
        # The report's own, and two more.
        nova.scheduler.until_count(f"Successfully synced instances from host '{host.name}'", 3)
        ended = command.end(signal.SIGTERM)

    assert ended.code == 0
    assert ended.named("scheduler.sync_failed") == []


def test_without_a_scheduler_the_report_waits_and_the_next_start_sends_it(tmp_path: Path) -> None:
    nova = a_nova_to_break()
    host = a_schedulable_host(nova, tmp_path)
    having(host, *(host.instance(number) for number in (1, 2)))

    ended = host.computer.run()

    assert ended.code == 75, ended.out[-3000:] + ended.err
    assert len(host.computer.waiting) == 1
    [problem] = {event["problem"] for event in ended.named("report.not_acknowledged")}
    assert "no exchange scheduler_fanout" in problem

    nova.scheduler.start()
    ended = host.computer.run()

    assert ended.code == 0, ended.out[-3000:] + ended.err
    assert host.computer.waiting == []
    nova.scheduler.until(f"Successfully synced instances from host '{host.name}'")
    nova.scheduler.stop()
