from collections import Counter
from pathlib import Path

import pytest

from bringup.daemon.cli.demo_site.crashed_host import HOST, crashed_host
from bringup.daemon.decisions.outcomes import Kind
from bringup.daemon.recovery.evacuated_guests import SettingWitness
from bringup.daemon.storage.record_files import dump_records, read_records
from bringup.drivers.simulated import dump_scenario
from bringup.drivers.simulated.scenario_file import read_scenario
from support.demonstrated import SHOWN
from support.hosts import arranged, limits


def test_it_is_the_same_every_time() -> None:
    assert crashed_host() == crashed_host()


def test_it_has_at_least_sixty_instances_and_no_uuid_twice() -> None:
    records, scenario = crashed_host()

    assert len([one for one in records.instances if one.host == HOST]) >= 60
    assert Counter(one.uuid for one in records.instances).most_common(1)[0][1] == 1
    assert {guest.uuid for guest in scenario.guests} < {one.uuid for one in records.instances}


def test_its_files_can_be_read_back(tmp_path: Path) -> None:
    records, scenario = crashed_host()
    (tmp_path / "records.json").write_text(dump_records(records))
    (tmp_path / "scenario.json").write_text(dump_scenario(scenario))

    assert read_records(tmp_path / "records.json", host=None) == records
    assert read_scenario(tmp_path / "scenario.json") == scenario


@pytest.mark.anyio
async def test_every_rule_has_its_instance_and_each_fault_its_victim() -> None:
    records, scenario = crashed_host()
    async with arranged(
        records.instances,
        guests=scenario.guests,
        migrations=records.migrations,
        # For the one that hangs.
        limits=limits(concurrency=8, instance_deadline=1),
        resume_guests=True,
        defer_iptables_apply=True,
        witness=SettingWitness("local"),
    ) as host:
        for fault in scenario.faults:
            host.driver.inject(fault)

        result = await host.run()

    because = {rule for outcome in result.outcomes for rule in outcome.because}
    assert because == SHOWN
    assert {outcome.uuid for outcome in result.outcomes} == {one.uuid for one in records.instances}
    failed = {outcome.uuid for outcome in result.outcomes if outcome.kind is Kind.FAILED}
    assert {fault.uuid for fault in scenario.faults} < failed
    assert (result.error, result.unfinished) == (None, ())


@pytest.mark.anyio
async def test_a_second_start_changes_no_guest_again() -> None:
    records, scenario = crashed_host()
    async with arranged(
        records.instances,
        guests=scenario.guests,
        migrations=records.migrations,
        resume_guests=True,
        witness=SettingWitness("local"),
    ) as host:
        await host.run()
        host.trace.calls.clear()

        await host.run()

        changing = {
            "reboot",
            "power_on",
            "power_off",
            "destroy",
            "resume_state_on_host_boot",
            "finish_revert_migration",
        }
        assert not {f"driver.{verb}" for verb in changing} & set(host.trace.names())
