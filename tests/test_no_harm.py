"""Hosts of chance: whatever their records, their guests and their faults are, no harm is done."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bringup.daemon.decisions.instances import Instance
from bringup.daemon.decisions.states import PowerState, TaskState, VmState
from bringup.daemon.errors import SettingsError
from bringup.drivers.simulated import ErrorName, Fault, Verb
from support.drivers import uuid_of
from support.hosts import ELSEWHERE, HOST, arranged, evacuation, guest, instance, limits

pytestmark = pytest.mark.anyio

VERBS: tuple[Verb, ...] = (
    "get_info",
    "plug_vifs",
    "ensure_filtering_rules_for_instance",
    "power_on",
    "power_off",
    "reboot",
    "unpause",
    "resume_state_on_host_boot",
    "destroy",
    "finish_revert_migration",
    "post_interrupted_snapshot_cleanup",
    "check_instance_shared_storage_local",
    "check_instance_shared_storage_cleanup",
)
ERRORS: tuple[ErrorName | None, ...] = (
    "DriverError",
    "InstancePowerOffFailure",
    "VirtualInterfacePlugError",
    "NotImplementedError",
    "RuntimeError",
    None,
)
NUMBERS = range(1, 7)


def one_of(number: int) -> st.SearchStrategy[Instance]:
    return st.builds(
        lambda host, vm_state, task_state, power_state: instance(
            number, host=host, vm_state=vm_state, task_state=task_state, power_state=power_state
        ),
        st.sampled_from([HOST, HOST, HOST, ELSEWHERE]),
        st.sampled_from(VmState),
        st.sampled_from([None, *TaskState]),
        st.sampled_from([None, *PowerState]),
    )


INSTANCES = st.tuples(*(one_of(number) for number in NUMBERS))
POWERS = st.tuples(*(st.sampled_from([None, *PowerState]) for _ in NUMBERS))
STATUSES = st.tuples(*(st.sampled_from([None, None, "accepted", "pre-migrating", "done", "failed"]) for _ in NUMBERS))
FAULTS = st.lists(
    st.builds(
        lambda verb, number, error, after: Fault(
            verb=verb, uuid=uuid_of(number), error=error, hang=error is None, after=after
        ),
        st.sampled_from(VERBS),
        st.sampled_from(NUMBERS),
        st.sampled_from(ERRORS),
        st.sampled_from([0, 0, 1]),
    ),
    max_size=6,
)


@pytest.mark.no_cover
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(instances=INSTANCES, powers=POWERS, statuses=STATUSES, faults=FAULTS)
async def test_whatever_the_host_is_like_and_whatever_fails_no_harm_is_done(
    instances: tuple[Instance, ...],
    powers: tuple[PowerState | None, ...],
    statuses: tuple[str | None, ...],
    faults: list[Fault],
) -> None:
    guests = [guest(n, power) for n, power in zip(NUMBERS, powers, strict=True) if power is not None]
    migrations = [evacuation(n, status) for n, status in zip(NUMBERS, statuses, strict=True) if status is not None]
    async with arranged(
        instances, guests=guests, migrations=migrations, resume_guests=True, limits=limits(instance_deadline=0.2)
    ) as host:
        for fault in faults:
            host.driver.inject(fault)
        foreign = {
            n
            for n in NUMBERS
            if powers[n - 1] is not None and instances[n - 1].host != HOST and statuses[n - 1] is None
        }
        try:
            result = await host.run()
        except SettingsError:
            assert 2 * len(foreign) > len(guests)
            assert host.trace.touched() == []
            assert host.reports == []
            return

        assert host.reports == [result]
        evacuated = {n for n in NUMBERS if statuses[n - 1] in {"accepted", "pre-migrating", "done"}}
        here = {n for n in NUMBERS if powers[n - 1] is not None}
        own = {n for n in NUMBERS if instances[n - 1].host == HOST}
        assert sorted(outcome.uuid for outcome in result.outcomes) == [
            uuid_of(n) for n in sorted(own | foreign | evacuated & here)
        ]
        for number in NUMBERS:
            record, status = instances[number - 1], statuses[number - 1]
            left = await host.record(number)
            is_evacuated = status == "done" and record.host != HOST
            is_being_evacuated = status in {"accepted", "pre-migrating"}
            may_be_deleted = number in own and not is_being_evacuated and record.task_state is TaskState.DELETING
            if number in here and host.power(number) is None:
                assert is_evacuated or may_be_deleted
            if uuid_of(number) in host.driver.hypervisor.disks_destroyed:
                assert may_be_deleted or (is_evacuated and _has_no_storage_check(faults, number))
            if number not in own or is_being_evacuated:
                assert left == record
            if is_being_evacuated:
                # Its record is read once more where its time was up; that changes nothing.
                allowed = {"driver.get_info", "driver.power_off", "store.get_instance"}
                assert {*host.trace.names(uuid_of(number))} <= allowed


def _has_no_storage_check(faults: list[Fault], number: int) -> bool:
    return any(
        (fault.verb, fault.uuid, fault.error)
        == ("check_instance_shared_storage_local", uuid_of(number), "NotImplementedError")
        for fault in faults
    )
