import os
import socket
import sqlite3
from pathlib import Path
from typing import Any

import anyio
import pytest

from bringup.daemon.cli.check import BY_SEVERITY
from bringup.daemon.decisions.states import PowerState, VmState
from bringup.daemon.storage import state_directory
from bringup.drivers.simulated import Fault, Scenario, SimulatedCapacity, SimulatedGuest
from bringup.placement.inventories import DesiredInventory, update_inventories
from bringup.placement.microversions import NEEDED
from bringup.placement.providers import create_provider, find_provider
from bringup.placement.traits import NODE_TRAITS, update_traits
from support.command_lines import Ended, Site
from support.placement import HANG, a_client, a_peer, an_answer, fresh_name, nobody, real_placement
from support.records import HOST, instance, uuid_of

ORDER = ["settings", "store", "resume", "driver", "placement", "inventory", "scheduler"]
EMPTY = Scenario()


@pytest.fixture
def site(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Site:
    return Site(tmp_path, capsys)


def statuses(ended: Ended) -> dict[str, str]:
    return {finding["check"]: finding["status"] for finding in ended.documents}


def finding(ended: Ended, check: str) -> dict[str, Any]:
    return next(each for each in ended.documents if each["check"] == check)


def placement_settings(url: str, provider: str = HOST, more: str = "") -> str:
    return f'[placement]\nurl = "{url}"\nresource_provider = "{provider}"\n{more}'


def provider_made() -> tuple[str, str]:
    """Make a resource provider in the real Placement; return its name and UUID."""
    name = fresh_name()

    async def make() -> str:
        async with a_client() as client:
            made = (await create_provider(client, name)).uuid
            speaking = client.at(NEEDED)
            desired = DesiredInventory(totals={"VCPU": 64, "MEMORY_MB": 262144, "DISK_GB": 2000})
            await update_inventories(speaking, made, desired, wait_s=10)
            await update_traits(speaking, made, NODE_TRAITS | set(SimulatedCapacity().traits), wait_s=10)
            return made

    return name, anyio.run(make)


def test_complete_host_passes(site: Site) -> None:
    name, uuid = provider_made()
    scenario = Scenario(guests=(SimulatedGuest(uuid=uuid_of(1)), SimulatedGuest(uuid=uuid_of(2))))
    back = '[resume]\nguests = "on_host_boot"'
    settings = site.settings(placement_settings(real_placement(), name, back), scenario=scenario)
    off = instance(2, vm_state=VmState.STOPPED, power_state=PowerState.SHUTDOWN)
    records = [instance(1), off, instance(3, host="compute-2"), instance(4, host="compute-2")]
    site.run("import", site.records(records), *settings)
    before = sorted(path.name for path in site.store.parent.iterdir())

    ended = site.run("check", "--json", *settings)
    text = site.run("check", *settings)

    assert (ended.code, ended.err) == (0, "")
    assert [each["check"] for each in ended.documents] == ORDER
    assert set(statuses(ended).values()) == {"ok"}
    store = {"path": str(site.store), "instances": 2, "elsewhere": 2}
    driver = {"guests": 2, "guests_without_record": 0, "records_without_guest": 0}
    placement = {"microversion": "1.28", "resource_provider": name, "uuid": uuid, "generation": 2}
    assert finding(ended, "store").items() >= store.items()
    assert finding(ended, "driver").items() >= driver.items()
    assert finding(ended, "placement").items() >= placement.items()
    assert [line.split()[:2] for line in text.lines] == [["ok", check] for check in ORDER]
    assert sorted(path.name for path in site.store.parent.iterdir()) == before


def test_wrong_settings_are_all_listed_and_nothing_else_is_checked(site: Site) -> None:
    ended = site.run("check", "-s", "limits.concurrency=0", "-s", "log.level=loud", "--json")

    assert ended.code == 78
    assert [(each["check"], each["status"], each["exit_code"]) for each in ended.documents] == [
        ("settings", "failed", 78),
        ("settings", "failed", 78),
    ]
    assert "limits.concurrency" in ended.documents[0]["message"]
    assert "log.level" in ended.documents[1]["message"]


def test_origin_of_the_settings_is_shown(site: Site) -> None:
    settings = site.settings(scenario=EMPTY)

    ended = site.run("check", "--json", *settings, "-s", "log.level=debug")

    assert finding(ended, "settings")["message"] == f"host {HOST}; from --set, {settings[1]}"


def test_token_readable_by_others_is_a_warning(site: Site) -> None:
    token = site.directory / "token"
    token.write_text("s3cr3t")
    token.chmod(0o644)
    settings = site.settings(f'[placement]\ntoken_file = "{token}"', scenario=EMPTY)

    ended = site.run("check", "--json", *settings)

    assert [each["status"] for each in ended.documents if each["check"] == "settings"] == ["warning", "ok"]
    assert "chmod 600" in ended.documents[0]["message"]
    assert "s3cr3t" not in ended.out


def test_missing_store_is_a_warning_and_is_not_created(site: Site) -> None:
    ended = site.run("check", "--json", *site.settings(scenario=EMPTY))

    assert statuses(ended)["store"] == "warning"
    assert "bringup import" in finding(ended, "store")["message"]
    assert not site.store.parent.exists()


def test_a_store_with_records_of_other_hosts_only_is_a_warning(site: Site) -> None:
    settings = site.settings(scenario=EMPTY)
    site.run("import", site.records([instance(1, host="compute-2")]), *settings)

    ended = site.run("check", "--json", *settings)

    assert finding(ended, "store").items() >= {"status": "warning", "instances": 0, "elsewhere": 1}.items()


@pytest.mark.parametrize(("elsewhere", "status", "code"), [(1, "warning", 0), (3, "failed", 78)])
def test_guests_whose_records_name_another_host_are_named_with_it(
    site: Site, elsewhere: int, status: str, code: int
) -> None:
    numbers = range(1, elsewhere + 3)
    scenario = Scenario(guests=tuple(SimulatedGuest(uuid=uuid_of(number)) for number in numbers))
    settings = site.settings(scenario=scenario)
    names = [HOST if number <= 2 else "node-9.example.com" for number in numbers]
    site.run(
        "import", site.records([instance(n, host=name) for n, name in zip(numbers, names, strict=True)]), *settings
    )

    ended = site.run("check", "--json", *settings)

    found = finding(ended, "names")
    assert (found["status"], found.get("exit_code", 0)) == (status, code)
    assert "node-9.example.com" in found["message"]
    assert f"{elsewhere} " in found["message"]
    assert finding(ended, "driver")["guests_without_record"] == 0


def test_records_in_error_are_listed_with_a_remedy(site: Site) -> None:
    settings = site.settings(scenario=EMPTY)
    lost = [instance(number, vm_state=VmState.ERROR) for number in range(1, 6)]
    site.run("import", site.records([*lost, instance(7, host="compute-2", vm_state=VmState.ERROR)]), *settings)

    ended = site.run("check", "--json", *settings)

    found = finding(ended, "records")
    assert (found["status"], found["in_error"]) == ("warning", 5)
    assert found["message"].count("vm ") == 3
    assert f"bringup retry {uuid_of(1)}" in found["message"]
    assert "openstack server set --state active" in found["message"]


def test_guests_without_record_are_a_warning(site: Site) -> None:
    guests = (SimulatedGuest(uuid=uuid_of(1)), SimulatedGuest(uuid=uuid_of(2)), SimulatedGuest(uuid=uuid_of(3)))
    settings = site.settings(scenario=Scenario(guests=guests))
    site.run("import", site.records([instance(1)]), *settings)

    ended = site.run("check", "--json", *settings)

    assert finding(ended, "driver").items() >= {"status": "warning", "guests": 3, "guests_without_record": 2}.items()


def test_guests_are_matched_by_name_without_uuids(site: Site) -> None:
    fault = Fault(verb="list_instance_uuids", error="NotImplementedError")
    guests = (SimulatedGuest(uuid=uuid_of(1), name="instance-00000001"),)
    settings = site.settings(scenario=Scenario(guests=guests, faults=(fault,)))
    site.run("import", site.records([instance(1), instance(2, name="")]), *settings)

    ended = site.run("check", "--json", *settings)

    counts = {"status": "ok", "guests": 1, "guests_without_record": 0, "records_without_guest": 1}
    assert finding(ended, "driver").items() >= counts.items()


def test_locked_store_is_temporary(site: Site) -> None:
    name, _ = provider_made()
    text = placement_settings(real_placement(), name, '[store]\nbusy_timeout = "100ms"')
    settings = site.settings(text, scenario=EMPTY)
    site.run("import", site.records([instance(1)]), *settings)
    holder = sqlite3.connect(site.store, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")

    ended = site.run("check", "--json", *settings)

    holder.close()
    assert ended.code == 75
    assert finding(ended, "store").items() >= {"status": "failed", "exit_code": 75}.items()
    assert [each["check"] for each in ended.documents] == ORDER


def test_store_that_is_no_database_is_refused(site: Site) -> None:
    name, _ = provider_made()
    settings = site.settings(placement_settings(real_placement(), name), scenario=EMPTY)
    state_directory.prepare(site.store.parent)
    site.store.write_text("not a database, but long enough to be looked at as one" * 100)

    ended = site.run("check", "--json", *settings)

    assert ended.code == 77
    assert statuses(ended) | {"store": "failed"} == statuses(ended)


def test_a_store_that_cannot_be_opened_is_a_wrong_setting(site: Site) -> None:
    site.store.mkdir(parents=True)

    ended = site.run("check", "--json", *site.settings(scenario=EMPTY))

    assert finding(ended, "store").items() >= {"status": "failed", "exit_code": 78}.items()


def test_a_check_beside_a_running_daemon_is_fine(site: Site) -> None:
    settings = site.settings(scenario=EMPTY)
    site.run("import", site.records([instance(1)]), *settings)

    with state_directory.hold_lock(site.store.parent):
        ended = site.run("check", "--json", *settings)

    assert statuses(ended)["store"] == "ok"


@pytest.mark.parametrize(
    "fault",
    [Fault(verb="init_host", error="DriverError", message="no hypervisor"), Fault(verb="init_host", hang=True)],
    ids=["fails", "hangs"],
)
def test_hypervisor_that_does_not_initialize_is_unavailable(site: Site, fault: Fault) -> None:
    name, _ = provider_made()
    text = placement_settings(real_placement(), name, '[limits]\nhost_deadline = "100ms"')

    ended = site.run("check", "--json", *site.settings(text, scenario=Scenario(faults=(fault,))))

    assert ended.code == 69
    assert finding(ended, "driver").items() >= {"status": "failed", "exit_code": 69}.items()
    assert statuses(ended)["placement"] == "ok"


def test_without_scenario_and_placement_the_settings_are_wrong(site: Site) -> None:
    ended = site.run("check", "--json", *site.settings())

    assert ended.code == 78
    assert "driver.scenario is missing" in finding(ended, "driver")["message"]
    assert "placement.url is missing" in finding(ended, "placement")["message"]
    assert statuses(ended)["scheduler"] == "ok"


def test_missing_resource_provider_is_a_failure_and_is_not_created(site: Site) -> None:
    name = fresh_name()

    ended = site.run("check", "--json", *site.settings(placement_settings(real_placement(), name), scenario=EMPTY))

    assert ended.code == 69
    assert name in finding(ended, "placement")["message"]


def test_missing_resource_provider_that_a_run_creates_is_a_warning(site: Site) -> None:
    name = fresh_name()
    text = placement_settings(real_placement(), name, "create_resource_provider = true")

    async def found() -> object:
        async with a_client() as client:
            return await find_provider(client, name)

    ended = site.run("check", "--json", *site.settings(text, scenario=EMPTY))

    assert ended.code == 0
    assert statuses(ended)["placement"] == "warning"
    assert anyio.run(found) is None


def test_unreachable_placement_is_called_once(site: Site) -> None:
    with nobody() as url:
        ended = site.run("check", "--json", *site.settings(placement_settings(url), scenario=EMPTY))

    assert ended.code == 69
    assert "connection refused" in finding(ended, "placement")["message"]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (an_answer(401, {"message": "no", "code": "401 Unauthorized", "title": "Unauthorized"}), "check the token"),
        (an_answer(503, b"<html>busy</html>", Retry_After="3600"), "answered 503"),
        (an_answer(200, b"<html>hello</html>"), "check that placement.url names Placement"),
        (HANG, "no answer in time"),
    ],
    ids=["401", "503", "html", "hangs"],
)
def test_unexpected_answer_of_placement_is_not_retried(site: Site, answer: bytes, said: str) -> None:
    more = 'token = "s3cr3t"\nread_timeout = "200ms"'

    with a_peer(answer) as peer:
        ended = site.run("check", "--json", *site.settings(placement_settings(peer.url, more=more), scenario=EMPTY))

    assert ended.code == 69
    assert said in finding(ended, "placement")["message"]
    assert len(peer.requests) == 1
    assert "s3cr3t" not in ended.out + ended.err


def scheduler(url: str) -> str:
    return f'[scheduler]\ntransport = "http"\nurl = "{url}/reports"'


def test_scheduler_that_accepts_connections_is_sent_nothing(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        ended = site.run("check", "--json", *site.settings(scheduler(url), scenario=EMPTY))
        connection, _ = listening.accept()
        with connection:
            sent = connection.recv(1)

    assert sent == b""
    assert finding(ended, "scheduler").items() >= {"status": "ok", "waiting": 0}.items()


def test_unreachable_scheduler_is_a_warning(site: Site) -> None:
    name, _ = provider_made()
    with nobody() as url:
        text = placement_settings(real_placement(), name, scheduler(url))
        ended = site.run("check", "--json", *site.settings(text, scenario=EMPTY))

    assert ended.code == 0
    assert statuses(ended)["scheduler"] == "warning"
    assert "kept and sent later" in finding(ended, "scheduler")["message"]


def test_queued_reports_are_counted(site: Site) -> None:
    outbox = site.directory / "state" / "outbox"
    (outbox / "rejected").mkdir(parents=True)
    for path in (outbox / "1.json", outbox / "2.json", outbox / ".3.tmp", outbox / "rejected" / "4.json"):
        path.touch()

    ended = site.run("check", "--json", *site.settings(scenario=EMPTY))

    assert finding(ended, "scheduler").items() >= {"status": "warning", "waiting": 2}.items()
    assert "2 reports queued" in finding(ended, "scheduler")["message"]


def test_unreadable_outbox_is_a_warning(site: Site) -> None:
    (site.directory / "state").mkdir()
    (site.directory / "state" / "outbox").write_text("a file")

    ended = site.run("check", "--json", *site.settings(scenario=EMPTY))

    assert statuses(ended)["scheduler"] == "warning"
    assert "cannot list the reports" in finding(ended, "scheduler")["message"]


def test_disabled_reporting_is_shown(site: Site) -> None:
    text = scheduler("http://127.0.0.1:9") + "\ntrack_instance_changes = false"

    ended = site.run("check", "--json", *site.settings(text, scenario=EMPTY))

    assert finding(ended, "scheduler")["message"].startswith(
        "reporting disabled (scheduler.track_instance_changes = false)"
    )


def test_severity_puts_what_an_operator_must_correct_first() -> None:
    assert BY_SEVERITY == (os.EX_CONFIG, os.EX_NOPERM, os.EX_UNAVAILABLE, os.EX_TEMPFAIL)


def test_exit_code_is_that_of_the_most_severe_failure(site: Site) -> None:
    with nobody() as url:
        settings = site.settings(placement_settings(url, more='[store]\nbusy_timeout = "100ms"'), scenario=EMPTY)
        site.run("import", site.records([instance(1)]), *settings)
        holder = sqlite3.connect(site.store, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        ended = site.run("check", "--json", *settings)
        holder.close()

    failed = [each["exit_code"] for each in ended.documents if each["status"] == "failed"]
    assert sorted(failed) == [69, 75]
    assert ended.code == 69


def test_device_spec_with_a_missing_interface_is_a_warning(site: Site) -> None:
    specs = '[pci]\ndevice_spec = [{ devname = "nosuch0" }, { devname = "lo" }, { vendor_id = "8086" }]\n'
    ended = site.run(
        "check", "--json", *site.settings(placement_settings("http://127.0.0.1:1") + specs, scenario=EMPTY)
    )

    found = finding(ended, "pci")
    assert found["status"] == "warning"
    assert found["missing"] == ["nosuch0", "lo"]
    assert 'devname "nosuch0" is no network interface of a PCI device on this host' in found["message"]


def test_device_specs_without_interface_have_no_finding(site: Site) -> None:
    specs = '[pci]\ndevice_spec = [{ vendor_id = "8086" }]\n'
    ended = site.run(
        "check", "--json", *site.settings(placement_settings("http://127.0.0.1:1") + specs, scenario=EMPTY)
    )

    assert "pci" not in statuses(ended)


@pytest.mark.parametrize(
    ("guests", "status", "said"),
    [
        (None, "warning", 'guests that ran stay off after a boot: resume.guests = "never"'),
        ("never", "warning", "on_host_boot"),
        ("on_host_boot", "ok", "once after each boot"),
        ("on_every_start", "ok", "at every start"),
    ],
)
def test_resume_setting_is_shown_and_never_is_a_warning(site: Site, guests: str | None, status: str, said: str) -> None:
    more = () if guests is None else ("--set", f"resume.guests={guests}")

    ended = site.run("check", "--json", *site.settings(scenario=EMPTY), *more)

    assert finding(ended, "resume")["status"] == status
    assert said in finding(ended, "resume")["message"]


def test_new_host_has_one_short_inventory_line(site: Site) -> None:
    name = fresh_name()

    async def make() -> None:
        async with a_client() as client:
            await create_provider(client, name)

    anyio.run(make)
    settings = site.settings(placement_settings(real_placement(), name), scenario=EMPTY)

    words, ended = site.run("check", *settings), site.run("check", "--json", *settings)

    [line] = [line for line in words.lines if line.split()[1] == "inventory"]
    assert len(line) < 160
    assert "inventory.update = true" in line
    assert len(finding(ended, "inventory")["differences"]) > 3
