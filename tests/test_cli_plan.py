import itertools
import json
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, get_args

import anyio
import pytest

from bringup.daemon.decisions.outcomes import RunResult
from bringup.daemon.decisions.resume_policy import Resuming
from bringup.daemon.decisions.states import PowerState, TaskState, UnknownState, VmState
from bringup.daemon.recovery.context import Host
from bringup.daemon.recovery.init_host import init_host
from bringup.daemon.service import assembly
from bringup.daemon.settings import Settings, load
from bringup.drivers.simulated import ErrorName, Fault, Scenario, SimulatedGuest
from bringup.drivers.simulated.verbs import Verb
from support.command_lines import Site
from support.hosts import CLAIMANT, executor_of, host_of, start_of
from support.records import HOST, instance, migration, uuid_of

REPOSITORY = Path(__file__).resolve().parents[1]
SAMPLES = sorted(
    path
    for folder in (REPOSITORY / "tests" / "data" / "api-samples", REPOSITORY.parent / "shared" / "api-samples")
    for path in folder.glob("*.json")
)
A_CELL_IS_DOWN = "servers-details-v2.69.json"
ASKED = ("init_host", "list_instance_uuids", "get_info", "close")


@pytest.fixture
def site(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Site:
    return Site(tmp_path, capsys)


def guest(number: int, power_state: PowerState = PowerState.RUNNING, **fields: Any) -> SimulatedGuest:
    return SimulatedGuest(uuid=uuid_of(number), name=f"instance-{number:08x}", power_state=power_state, **fields)


def plain(lines: list[str]) -> list[str]:
    """Return lines without their columns."""
    return [" ".join(line.split()) for line in lines]


def because(documents: list[dict[str, Any]]) -> dict[str, list[str]]:
    return {document["uuid"]: document["because"] for document in documents}


def test_plan_of_a_store_has_actions_and_rules(site: Site) -> None:
    settings = site.settings(scenario=Scenario(guests=(guest(1), guest(2, PowerState.SHUTDOWN))))
    records = [
        instance(1),
        instance(2, task_state=TaskState.REBOOT_STARTED),
        instance(3, task_state=TaskState.DELETING),
    ]
    site.run("import", site.records(records), *settings)

    ended = site.run("plan", *settings)

    assert (ended.code, ended.err) == (0, "")
    lines = plain(ended.lines)
    legend = lines.index("rules:")
    rules = lines[legend + 1 : legend + 5]
    assert [line.split()[0] for line in rules] == ["deletion_interrupted", "runs", "soft_reboot_went_down", "vifs"]
    assert [*lines[:legend], *lines[legend + 6 :]] == [
        "name uuid vm/task/power guest did because what",
        (
            f"vm 2 {uuid_of(2)} active/reboot_started/running shutdown rebooted soft_reboot_went_down "
            "save task_state=reboot_pending_hard, reboot HARD"
        ),
        f"! vm 3 {uuid_of(3)} active/deleting/running ? deleted deletion_interrupted delete",
        (
            f"vm 1 {uuid_of(1)} active/none/running running left running vifs > runs "
            "plug_vifs, ensure_filtering_rules_for_instance"
        ),
        "",
        f"{HOST}: 3 instances",
        "planned: 1 rebooted, 1 deleted, 1 left running",
        "! 1 deletion_interrupted delete",
        "1 soft_reboot_went_down save task_state=reboot_pending_hard, reboot HARD",
        "1 vifs > runs plug_vifs, ensure_filtering_rules_for_instance",
        "! 1 would lose the guest or the row",
    ]


def test_plan_as_json_has_a_line_for_each_instance(site: Site) -> None:
    settings = site.settings(scenario=Scenario(guests=(guest(1),)))
    site.run("import", site.records([instance(1)]), *settings)

    assert site.run("plan", "--json", *settings).documents == [
        {
            "uuid": uuid_of(1),
            "name": "instance-00000001",
            "display_name": "vm 1",
            "host": HOST,
            "vm_state": "active",
            "task_state": None,
            "power_state": "running",
            "look": "running",
            "because": ["vifs", "runs"],
            "why": [
                "Its NICs are made ready on the host, whether it runs or not.",
                "It runs: its firewall rules are put in place.",
            ],
            "steps": [
                {"rule": "vifs", "action": "plug_vifs", "arguments": {}},
                {"rule": "runs", "action": "ensure_filtering_rules_for_instance", "arguments": {}},
            ],
            "kind": "initialized",
            "did": "left_running",
            "destroys": False,
            "waits_for_look": None,
            "problem": None,
            "needs": [],
            "tried_again": False,
            "priority": 0,
            "after": [],
            "ready": None,
            "order_ignored": [],
        }
    ]


def test_a_plan_is_in_the_order_of_a_run_and_says_what_orders_nothing(site: Site) -> None:
    settings = [*site.settings(scenario=Scenario()), "--set", 'pace.rules=[{ name = "vm 3", priority = 5 }]']
    records = [
        instance(1, metadata={"bringup:after": "vm 2,vm 9"}),
        instance(2, metadata={"bringup:priority": "soon"}),
        instance(3, flavor={"name": "m1", "extra_specs": {"bringup:ready": "agent"}}),
    ]
    site.run("import", site.records(records), *settings)

    documents = site.run("plan", "--json", *settings).documents
    lines = plain(site.run("plan", *settings).lines)

    assert [document["uuid"] for document in documents] == [uuid_of(3), uuid_of(2), uuid_of(1)]
    assert [(document["priority"], document["after"], document["ready"]) for document in documents] == [
        (5, [], "agent"),
        (0, [], None),
        (0, [uuid_of(2)], None),
    ]
    (unknown,), (wrong,) = documents[2]["order_ignored"], documents[1]["order_ignored"]
    assert unknown == 'bringup:after "vm 9" is ignored: no guest of this host has that name or UUID'
    assert wrong.startswith('bringup:priority in its metadata is "soon" and is ignored: give ')
    assert {"priority: 5", f"after: vm 2 ({uuid_of(2)})", f"order: {unknown}", f"order: {wrong}"} <= set(lines)


async def _run(settings: Settings) -> RunResult:
    """Bring the host back as ``bringup run`` does, Placement and report left out."""

    driver = assembly.make_driver(settings)
    async with assembly.opened_store(settings) as store:
        await store.take_lease(CLAIMANT, for_s=3600)

        async def open_host() -> Host:
            await anyio.lowlevel.checkpoint()
            return host_of(
                executor_of(driver, store),
                name=settings.host.name,
                limits=settings.limits,
                resuming=Resuming(settings.resume),
            )

        return (await init_host(start_of(open_host))).result


@pytest.mark.no_cover
@pytest.mark.parametrize("resume", ["never", "on_every_start"])
def test_a_run_does_what_plan_has_shown(site: Site, resume: str) -> None:
    states = list(enumerate(itertools.product(VmState, (None, *TaskState, UnknownState("dreaming"))), start=1))
    power = itertools.cycle(PowerState)
    seen = itertools.cycle((PowerState.RUNNING, PowerState.SHUTDOWN, PowerState.PAUSED, PowerState.SUSPENDED))
    records = [
        instance(number, vm_state=vm, task_state=task, power_state=next(power), host=HOST if number % 20 else "other")
        for number, (vm, task) in states
    ]
    evacuations = [
        migration(number, status=status)
        for (number, _), status in zip(
            states[::10], itertools.cycle(("accepted", "pre-migrating", "done")), strict=False
        )
    ]
    guests = tuple(guest(number, next(seen)) for number, _ in states if number % 30)
    settings = site.settings(f'[resume]\nguests = "{resume}"', scenario=Scenario(guests=guests))
    site.run("import", site.records(records, evacuations), *settings)

    planned = site.run("plan", "--json", *settings).documents
    result = anyio.run(_run, load(Path(settings[1]), environment={}, overrides=()))

    assert len(planned) > 400
    assert because(planned) == {outcome.uuid: list(outcome.because) for outcome in result.outcomes}
    kinds = {document["uuid"]: document["kind"] for document in planned}
    for outcome in result.outcomes:
        # What fails on the way is not foreseen.
        if outcome.problem is None or outcome.problem.action == "decide":
            assert kinds[outcome.uuid] == outcome.kind.value, outcome


def test_plan_changes_nothing(site: Site) -> None:
    faults = tuple(Fault(verb=verb, error="DriverError") for verb in get_args(Verb) if verb not in ASKED)
    guests = tuple(guest(number) for number in range(1, 5))
    records = [
        instance(1),
        instance(2, task_state=TaskState.DELETING),
        instance(3, vm_state=VmState.DELETED),
        instance(4, host="compute-2"),
    ]
    settings = site.settings(scenario=Scenario(guests=guests, faults=faults))
    site.run("import", site.records(records, [migration(4)]), *settings)
    before = _content(site.store)

    ended = site.run("plan", "--json", *settings)

    assert ended.code == 0
    assert because(ended.documents) == {
        uuid_of(1): ["vifs", "runs"],
        uuid_of(2): ["deletion_interrupted"],
        uuid_of(3): ["half_deleted"],
        uuid_of(4): ["evacuated"],
    }
    assert [document["destroys"] for document in ended.documents] == [
        document["uuid"] != uuid_of(1) for document in ended.documents
    ]
    assert all(document["problem"] is None for document in ended.documents)
    assert _content(site.store) == before
    assert sorted(path.name for path in site.store.parent.iterdir()) == ["instances.sqlite", "lock"]


def _content(path: Path) -> list[str]:
    connection = sqlite3.connect(path)
    content = list(connection.iterdump())
    connection.close()
    return content


def test_unreadable_guest_does_not_prevent_the_plan_of_others(site: Site) -> None:
    fault = Fault(verb="get_info", uuid=uuid_of(1), error="DriverError", message="it is stuck")
    settings = site.settings(scenario=Scenario(guests=(guest(1), guest(2)), faults=(fault,)))
    site.run("import", site.records([instance(1), instance(2)]), *settings)

    first, second = site.run("plan", "--json", *settings).documents
    text = site.run("plan", *settings).out

    assert "it is stuck" in first["problem"]
    assert (first["because"], first["waits_for_look"]) == (["vifs"], "second")
    assert second["because"] == ["vifs", "runs"]
    assert "cannot read the guest: " in text


def test_hanging_guest_query_is_cancelled(site: Site) -> None:
    fault = Fault(verb="get_info", uuid=uuid_of(1), hang=True)
    settings = site.settings(
        '[limits]\ninstance_deadline = "100ms"', scenario=Scenario(guests=(guest(1),), faults=(fault,))
    )
    site.run("import", site.records([instance(1)]), *settings)

    assert site.run("plan", "--json", *settings).documents[0]["problem"] == "no answer in 0.1 s"


@pytest.mark.parametrize("verb", ["init_host", "list_instance_uuids"])
def test_unavailable_hypervisor_error_names_no_look(site: Site, verb: Verb) -> None:
    fault = Fault(verb=verb, error="DriverError", message="no hypervisor")
    settings = site.settings(scenario=Scenario(faults=(fault,)))
    site.run("import", site.records([instance(1)]), *settings)

    looked, unlooked = site.run("plan", *settings), site.run("plan", "--no-look", *settings)

    assert (looked.code, looked.out) == (69, "")
    assert "no hypervisor" in looked.err
    assert unlooked.code == 0


def test_guests_are_planned_by_name_without_uuids(site: Site) -> None:
    no_uuids: ErrorName = "NotImplementedError"
    fault = Fault(verb="list_instance_uuids", error=no_uuids)
    settings = site.settings(scenario=Scenario(guests=(guest(1),), faults=(fault,)))
    site.run("import", site.records([instance(1, host="compute-2")], [migration(1)]), *settings)

    assert because(site.run("plan", "--json", *settings).documents) == {uuid_of(1): ["evacuated"]}


def test_plan_without_hypervisor_lists_every_course(site: Site) -> None:
    settings = site.settings()
    site.run("import", site.records([instance(1), instance(2, host="compute-2")], [migration(2)]), *settings)

    text = site.run("plan", "--no-look", *settings)
    evacuated, healthy = site.run("plan", "--no-look", "--json", *settings).documents

    assert plain(text.lines[1:7]) == [
        f"! vm 2 {uuid_of(2)} active/none/running ? ? ? it depends",
        "! if the hypervisor has its guest: evacuated: destroy_evacuated, save migration status=completed",
        "if the hypervisor has no guest of it: not_ours: nothing (skipped)",
        f"vm 1 {uuid_of(1)} active/none/running ? ? vifs > ? plug_vifs, then it depends",
        "if running at the second look: runs: ensure_filtering_rules_for_instance",
        "if not running at the second look: stays_off: nothing",
    ]
    assert (evacuated["destroys"], evacuated["kind"], healthy["destroys"]) == (True, None, False)
    assert [course["because"] for course in healthy["courses"]] == [["vifs", "runs"], ["vifs", "stays_off"]]


def test_a_plan_needs_a_driver_or_no_look(site: Site) -> None:
    settings = site.settings()
    site.run("import", site.records([instance(1)]), *settings)

    ended = site.run("plan", *settings)

    assert ended.code == 78
    assert "driver.scenario is missing" in ended.err
    assert "--no-look" in ended.err


def test_a_plan_makes_no_store(site: Site) -> None:
    ended = site.run("plan", "--no-look", *site.settings())

    assert ended.code == 78
    assert "bringup import makes it" in ended.err
    assert not site.store.exists()


def test_an_empty_host_has_an_empty_plan(site: Site) -> None:
    settings = site.settings()
    site.run("import", site.records([instance(1, host="compute-2")]), *settings)

    assert site.run("plan", "--no-look", *settings).lines == [f"{HOST}: 0 instances"]
    assert site.run("plan", "--no-look", "--json", *settings).out == ""


def test_a_plan_says_that_starts_are_paused(site: Site) -> None:
    settings = site.settings()
    site.run("import", site.records([instance(1)]), *settings)
    site.run("pause", "--for", "1h", *settings)
    paused = site.run("plan", "--no-look", *settings)
    site.run("resume", *settings)

    assert "bringup: starts are paused until " in paused.err
    assert site.run("plan", "--no-look", *settings).err == ""


def test_plan_of_one_instance(site: Site) -> None:
    file = site.records([instance(number) for number in (10, 11, 12)])

    ended = site.run("plan", "--records", file, "--json", "--uuid", uuid_of(11).upper(), "--uuid", uuid_of(12))

    assert list(because(ended.documents)) == [uuid_of(11), uuid_of(12)]


@pytest.mark.parametrize(
    ("uuid", "said"),
    [
        ("x", "--uuid x: no instance of compute-1 has this name"),
        (uuid_of(9), f"no instance {uuid_of(9)} in the records"),
    ],
)
def test_plan_of_a_missing_instance_is_a_usage_error(site: Site, uuid: str, said: str) -> None:
    ended = site.run("plan", "--records", site.records([instance(1)]), "--uuid", uuid)

    assert (ended.code, ended.out) == (64, "")
    assert said in ended.err


def test_records_that_name_one_host_are_of_that_host(site: Site) -> None:
    file = site.records([instance(1), instance(2, host=None)])

    assert because(site.run("plan", "--records", file, "--json").documents) == {
        uuid_of(1): ["vifs"],
        uuid_of(2): ["not_ours"],
    }


def test_records_of_several_hosts_need_the_name_of_this_one(site: Site) -> None:
    file = site.records([instance(1), instance(2, host="compute-2")])

    refused = site.run("plan", "--records", file)
    named = site.run("plan", "--records", file, "--host", "compute-2", "--json")
    configured = site.run("plan", "--records", file, "--json", *site.settings())

    assert refused.code == 64
    assert f"name {HOST}, compute-2; select one with --host" in refused.err
    assert because(named.documents) == {uuid_of(1): ["not_ours"], uuid_of(2): ["vifs"]}
    assert because(configured.documents) == {uuid_of(1): ["vifs"], uuid_of(2): ["not_ours"]}


def test_a_file_of_records_is_planned_with_a_look_where_a_driver_is_set(site: Site) -> None:
    file = site.records([instance(1)])
    settings = site.settings(scenario=Scenario(guests=(guest(1, PowerState.SHUTDOWN),)))

    looked = site.run("plan", "--records", file, "--json", *settings).documents
    unlooked = site.run("plan", "--records", file, "--json", "--no-look", *settings).documents

    assert (looked[0]["look"], looked[0]["because"]) == ("shutdown", ["vifs", "stays_off"])
    assert (unlooked[0]["look"], unlooked[0]["because"]) == (None, ["vifs"])


def test_records_are_planned_from_standard_input_too(site: Site) -> None:
    content = Path(site.records([instance(1)])).read_bytes()

    ended = site.run_process("plan", "--records", "-", "--json", stdin=content)

    assert (ended.code, ended.err) == (0, "")
    assert because(ended.documents) == {uuid_of(1): ["vifs"]}


def test_unknown_states_are_shown_as_they_are(site: Site) -> None:
    strange = instance(1, vm_state=UnknownState("dreaming"), power_state=UnknownState(9), display_name="a\x1b[2Jb")

    text = site.run("plan", "--records", site.records([strange])).out
    document = site.run("plan", "--records", site.records([strange]), "--json").documents[0]

    assert "dreaming/none/9" in text
    assert r"a\x1b[2Jb" in text
    assert "unknown_state  nothing (failed)" in text
    assert (document["vm_state"], document["power_state"], document["kind"]) == ("dreaming", "9", "failed")


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: f"{path.parts[-3]}-{path.stem}")
def test_answers_of_novas_api_are_planned_as_they_are(site: Site, path: Path) -> None:
    ended = site.run("plan", "--records", str(path), "--json", "--host", "compute")

    if path.name == A_CELL_IS_DOWN:
        assert ended.code == 64
        assert "the cell that it is in is down" in ended.err
        return
    assert ended.code == 0
    servers = json.loads(path.read_text())["servers"]
    assert list(because(ended.documents)) == [server["id"] for server in servers]


@contextmanager
def counted_calls() -> Iterator[list[int]]:
    """Count the calls of functions within the block, also of those in C."""
    count = [0]

    def note(_frame: FrameType, event: str, _argument: object) -> None:
        count[0] += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        yield count
    finally:
        sys.setprofile(None)


@pytest.mark.no_cover
def test_ten_thousand_instances_are_planned_and_many_cost_a_plan_no_more_each_than_few(site: Site) -> None:
    states = itertools.cycle(itertools.product(VmState, (None, *TaskState)))
    records = [
        instance(number, vm_state=vm, task_state=task)
        for number, (vm, task) in zip(range(1, 10_001), states, strict=False)
    ]
    assert f"{HOST}: 10000 instances" in site.run("plan", "--records", site.records(records)).lines

    # To count takes as long as to plan.
    calls_of: dict[int, float] = {}
    for count in (500, 2_000):
        file = site.records(records[:count])
        with counted_calls() as calls:
            ended = site.run("plan", "--records", file)
        assert f"{HOST}: {count} instances" in ended.lines
        calls_of[count] = calls[0] / count

    # How long that takes is a line of `make bench`.
    assert calls_of[2_000] < 1.1 * calls_of[500]


@pytest.mark.parametrize(
    ("resume", "summary"),
    [
        ("on_host_boot", "after a power cut: 2 would be started, 2 stay off"),
        ("on_every_start", "after a power cut: 2 would be started, 2 stay off"),
        (
            "never",
            'after a power cut: 0 would be started, 4 stay off; no guest that ran is started: resume.guests = "never"',
        ),
    ],
)
@pytest.mark.parametrize("look", [(), ("--no-look",)], ids=["looked at", "not looked at"])
def test_plan_after_power_cut_while_guests_run(site: Site, resume: str, summary: str, look: tuple[str, ...]) -> None:
    guests = (guest(1), guest(2), guest(3, PowerState.SHUTDOWN), guest(4, PowerState.PAUSED))
    settings = (*site.settings(scenario=Scenario(guests=guests)), "--set", f"resume.guests={resume}")
    records = [
        instance(1),
        instance(2),
        instance(3, vm_state=VmState.STOPPED, power_state=PowerState.SHUTDOWN),
        instance(4, vm_state=VmState.PAUSED, power_state=PowerState.PAUSED),
    ]
    site.run("import", site.records(records), *settings)
    # This boot's run is over: what it has done says nothing of the next boot's.
    now = site.run("plan", *look, *settings)

    cut = site.run("plan", "--after-power-cut", *look, *settings)

    assert (cut.code, cut.lines[-1]) == (0, summary)
    assert not any("after a power cut" in line for line in now.lines)


def test_a_plan_is_refused_where_a_run_would_be(site: Site) -> None:
    """With the same sentence and the same code, for a renamed host and for one with two names."""
    guests = tuple(guest(number) for number in (1, 2, 3))
    for own in ([], [instance(3)]):
        settings = site.settings(scenario=Scenario(guests=guests))
        elsewhere = [instance(number, host="node-9") for number in (1, 2, 3)]
        site.run("import", site.records(elsewhere), *settings)
        site.run("import", site.records(own), *settings) if own else None

        ended = site.run("plan", "--json", *settings)

        assert (ended.code, ended.out) == (78, "")
        assert "node-9" in ended.err
        assert f"host.name: '{HOST}'" in ended.err
        site.store.unlink()


def test_a_plan_names_the_other_host_of_a_guest_whose_record_is_not_here(site: Site) -> None:
    settings = site.settings(scenario=Scenario(guests=(guest(1), guest(2, PowerState.SHUTDOWN))))
    site.run("import", site.records([instance(1), instance(2, host="node-9")]), *settings)

    [foreign] = [each for each in site.run("plan", "--json", *settings).documents if each["uuid"] == uuid_of(2)]

    assert (foreign["because"], foreign["steps"], foreign["kind"]) == (["foreign"], [], "skipped")
    assert "names node-9, not compute-1" in foreign["told"][0]["message"]


def test_plan_warns_of_a_changed_identity(site: Site) -> None:
    settings = site.settings(scenario=Scenario(guests=(guest(1),)))
    site.run("import", site.records([instance(1)]), *settings)
    site.run("accept", *settings)

    site.run("import", site.records([instance(1, host="compute-9")]), *settings)
    ended = site.run("plan", *settings, "-s", "host.name=compute-9")

    assert ended.code == 0
    assert "warning: a run would be refused: host.name: 'compute-9', but this is the state directory of" in ended.err


@pytest.mark.parametrize("name", ["Compute-1", "compute-1.example.com", "node-9"])
def test_file_with_records_of_other_hosts_only_is_a_warning(site: Site, name: str) -> None:
    settings = site.settings()
    ended = site.run("plan", "--records", site.records([instance(1, host=name)]), "--json", *settings)

    assert ended.code == 0
    assert (
        f"none of the 1 records of {site.directory / 'records.json'} is of this host, {HOST}; they are of {name}"
        in ended.err
    )
    assert (f"try --host {name}" in ended.err) is (name != "node-9")


def test_an_instance_that_was_evacuated_and_deleted_is_planned_to_be_destroyed(site: Site) -> None:
    settings = site.settings(scenario=Scenario(guests=(guest(1), guest(2))))
    imported = site.run("import", site.records([instance(2)], [migration(1)]), *settings)

    assert "1 were evacuated from this host: the next run destroys" in imported.out
    [gone] = [each for each in site.run("plan", "--json", *settings).documents if each["uuid"] == uuid_of(1)]
    assert (gone["because"], gone["destroys"]) == (["evacuated"], True)


def test_plan_names_what_it_waits_for(site: Site) -> None:
    fault = Fault(verb="init_host", hang=True)
    settings = site.settings('[limits]\nhost_deadline = "300ms"', scenario=Scenario(faults=(fault,)))
    site.run("import", site.records([instance(1)]), *settings)

    ended = site.run("plan", *settings)

    assert ended.code == 69
    assert "waiting for the hypervisor, up to " in ended.err
