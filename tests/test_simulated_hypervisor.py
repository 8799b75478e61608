"""What the verbs do to the simulated host: events, firewall, VIFs, disks, migrations."""

import pytest

from bringup.drivers.base import (
    DriverError,
    LifecycleEvent,
    PowerState,
    RebootType,
    Transition,
    VirtualInterfacePlugError,
)
from support.drivers import driver_guest, uuid_of
from support.simulated import GUEST, call, guest, host

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("verb", "state", "said"),
    [
        ("power_on", PowerState.SHUTDOWN, [Transition.STARTED]),
        ("power_on", PowerState.RUNNING, []),
        ("power_off", PowerState.RUNNING, [Transition.STOPPED]),
        ("power_off", PowerState.SHUTDOWN, []),
        ("reboot", PowerState.RUNNING, [Transition.STOPPED, Transition.STARTED]),
        ("reboot", PowerState.CRASHED, [Transition.STARTED]),
        ("unpause", PowerState.PAUSED, [Transition.RESUMED]),
        ("destroy", PowerState.PAUSED, [Transition.STOPPED]),
        ("destroy", PowerState.SUSPENDED, []),
        ("resume_state_on_host_boot", PowerState.SHUTDOWN, [Transition.STARTED]),
        ("resume_state_on_host_boot", PowerState.CRASHED, [Transition.STARTED]),
        ("resume_state_on_host_boot", PowerState.SUSPENDED, []),
        ("resume_state_on_host_boot", PowerState.NOSTATE, []),
    ],
)
async def test_each_listener_receives_what_changed(verb: str, state: PowerState, said: list[Transition]) -> None:
    heard: list[LifecycleEvent] = []
    heard_too: list[LifecycleEvent] = []
    driver = host(guest(state=state))
    driver.register_event_listener(heard.append)
    driver.register_event_listener(heard_too.append)
    await driver.init_host("compute-1")

    await call(driver, verb)

    assert heard == heard_too == [LifecycleEvent(GUEST.uuid, transition) for transition in said]


def test_a_guest_can_stop_itself() -> None:
    heard: list[LifecycleEvent] = []
    driver = host(guest())
    driver.register_event_listener(heard.append)

    driver.guest_stops_itself(GUEST.uuid)

    assert heard == [LifecycleEvent(GUEST.uuid, Transition.STOPPED)]
    assert driver.guests[GUEST.uuid].power_state is PowerState.SHUTDOWN


def test_an_event_can_be_reported_that_changes_nothing() -> None:
    heard: list[LifecycleEvent] = []
    driver = host(guest())
    driver.register_event_listener(heard.append)

    driver.emit(LifecycleEvent(GUEST.uuid, Transition.SUSPENDED))

    assert heard == [LifecycleEvent(GUEST.uuid, Transition.SUSPENDED)]
    assert driver.guests[GUEST.uuid] == guest()


async def test_deferred_firewall_rules_are_applied_as_one_transaction() -> None:
    driver = host(guest(), guest(2), guest(3))
    firewall = driver.hypervisor.firewall
    await driver.init_host("compute-1")

    await driver.filter_defer_apply_on()
    await driver.ensure_filtering_rules_for_instance(driver_guest(1))
    await driver.ensure_filtering_rules_for_instance(driver_guest(2))
    assert (firewall.applied, firewall.transactions) == (set(), 0)
    await driver.filter_defer_apply_off()
    assert (firewall.applied, firewall.transactions) == ({uuid_of(1), uuid_of(2)}, 1)
    await driver.ensure_filtering_rules_for_instance(driver_guest(3))
    await driver.filter_defer_apply_off()

    assert (firewall.applied, firewall.transactions) == ({uuid_of(1), uuid_of(2), uuid_of(3)}, 2)


async def test_broken_vifs_are_not_plugged() -> None:
    driver = host(guest(vifs_broken=True), guest(2))
    await driver.init_host("compute-1")

    with pytest.raises(VirtualInterfacePlugError, match=GUEST.uuid):
        await driver.plug_vifs(GUEST)
    await driver.plug_vifs(driver_guest(2))

    assert driver.hypervisor.plugged == {uuid_of(2)}


@pytest.mark.parametrize(("shared", "left", "seen"), [(True, 1, True), (False, 1, False), (None, 0, False)])
async def test_a_mark_is_seen_elsewhere_only_on_shared_storage(
    shared: bool | None,  # noqa: FBT001 - a column of the table
    left: int,
    seen: bool,  # noqa: FBT001 - same
) -> None:
    driver = host(guest(shared_storage=shared))
    await driver.init_host("compute-1")

    probe = await driver.check_instance_shared_storage_local(GUEST)
    marks = len(driver.hypervisor.probes)
    on_shared_storage = driver.guests[GUEST.uuid].shared_storage is True
    seen_elsewhere = probe in driver.hypervisor.probes and on_shared_storage
    if probe is not None:
        await driver.check_instance_shared_storage_cleanup(probe)

    assert (marks, seen_elsewhere, driver.hypervisor.probes) == (left, seen, set())


async def test_it_tells_which_disks_were_kept_and_which_destroyed() -> None:
    driver = host(guest(), guest(2))
    await driver.init_host("compute-1")

    await driver.destroy(driver_guest(1), destroy_disks=True)
    await driver.destroy(driver_guest(1), destroy_disks=False)
    await driver.destroy(driver_guest(2), destroy_disks=False)

    assert (driver.hypervisor.disks_destroyed, driver.hypervisor.disks_kept) == ({uuid_of(1)}, {uuid_of(2)})


async def test_a_live_migration_can_be_aborted_once() -> None:
    driver = host(guest(migrating=True))
    await driver.init_host("compute-1")

    await driver.live_migration_abort(GUEST)
    with pytest.raises(DriverError, match="is not migrating"):
        await driver.live_migration_abort(GUEST)

    assert driver.guests[GUEST.uuid].migrating is False


async def test_what_a_snapshot_left_is_removed() -> None:
    driver = host(guest(snapshot_in_progress=True))
    await driver.init_host("compute-1")

    await driver.post_interrupted_snapshot_cleanup(GUEST)

    assert driver.scenario_now().guests == (guest(snapshot_in_progress=False),)


async def test_a_guest_that_does_not_run_cannot_be_asked_to_reboot() -> None:
    driver = host(guest(state=PowerState.SHUTDOWN))
    await driver.init_host("compute-1")

    with pytest.raises(DriverError, match=r"cannot reboot \(SOFT\) .*: it is shutdown, must be running"):
        await driver.reboot(GUEST, RebootType.SOFT)
