import json
from pathlib import Path
from typing import Any

import pytest

from support.command_lines import Ended, Site
from support.oracle import rows, why_missing
from support.oracle_cells import cells_of
from support.oracle_paths import decided_by_34

OF_THE_DRIVER = frozenset(
    {
        "plug_vifs",
        "resume_state_on_host_boot",
        "ensure_filtering_rules_for_instance",
        "finish_revert_migration",
        "post_interrupted_snapshot_cleanup",
    }
)


@pytest.fixture
def site(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Site:
    return Site(tmp_path, capsys)


def ask(site: Site, *states: Any, style: tuple[str, ...] = ("--json",)) -> Ended:
    lines = [state if isinstance(state, bytes) else json.dumps(state).encode() for state in states]
    return site.run_process("explain", *style, stdin=b"\n".join(lines))


def test_a_state_on_the_command_line_is_explained_as_json(site: Site) -> None:
    ended = site.run(
        "explain", "--vm-state", "active", "--task-state", "reboot_started", "--look", "shutdown", "--json"
    )

    assert ended.code == 0
    assert ended.documents == [
        {
            "because": ["soft_reboot_went_down"],
            "why": ["A soft reboot had shut the guest down and not started it again: only a hard one can."],
            "steps": [
                {
                    "rule": "soft_reboot_went_down",
                    "action": "save",
                    "arguments": {"changes": {"task_state": "reboot_pending_hard"}, "expected_task_states": None},
                },
                {"rule": "soft_reboot_went_down", "action": "reboot", "arguments": {"reboot_type": "HARD"}},
            ],
            "ends": True,
            "kind": "initialized",
            "did": "rebooted",
            "waits_for_look": None,
        }
    ]


def test_a_state_is_explained_in_words(site: Site) -> None:
    ended = site.run("explain", "--vm-state", "active", "--power-state", "running")

    assert ended.lines == [
        "active/none/running",
        "  if running at the second look: initialized, left running",
        "    vifs: plug_vifs",
        "      Its NICs are made ready on the host, whether it runs or not.",
        "    runs: ensure_filtering_rules_for_instance",
        "      It runs: its firewall rules are put in place.",
        "  if not running at the second look: initialized, stays off or left paused",
        "    vifs: plug_vifs",
        "      Its NICs are made ready on the host, whether it runs or not.",
        "    stays_off: nothing",
        "      It does not run and is not required to: it stays as it is.",
    ]


def test_undecided_state_has_all_its_courses(site: Site) -> None:
    answer = site.run("explain", "--vm-state", "active", "--task-state", "unpausing", "--json").documents[0]

    assert (answer["because"], answer["ends"], answer["kind"], answer["waits_for_look"]) == ([], False, None, "first")
    assert {tuple(course["because"]): course["if"] for course in answer["courses"]} == {
        ("transition_finished", "vifs", "runs"): "running at the first look, running at the second look",
        ("transition_finished", "vifs", "stays_off"): "running at the first look, not running at the second look",
        ("vifs", "runs"): "neither running nor paused at the first look, running at the second look",
        ("vifs", "stays_off"): "neither running nor paused at the first look, not running at the second look",
        ("unpause_interrupted",): "paused at the first look",
    }


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--power-state", "1", "--look", "4", "--second-look", "4", "--resume"], ["vifs", "ran_before"]),
        (["--power-state", "RUNNING", "--look", "gone", "--second-look", "gone"], ["vifs", "stays_off"]),
        (["--host-is-other"], ["not_ours"]),
        (["--evacuation", "accepted"], []),
        (["--evacuation", "accepted", "--look", "gone"], ["evacuated"]),
        (["--evacuation", "accepted", "--look", "running"], ["evacuation_running"]),
        (["--host-is-other", "--evacuation", "done", "--look", "running"], ["evacuated"]),
        (["--task-state", "none", "--look", "1", "--second-look", "1"], ["vifs", "runs"]),
        (
            ["--task-state", "migrating", "--live-migration", "--look", "1", "--second-look", "1"],
            ["vifs", "live_migration_interrupted", "runs"],
        ),
        (
            ["--task-state", "resize_migrating", "--old-vm-state", "stopped", "--look", "1", "--second-look", "4"],
            ["vifs", "resize_interrupted", "stays_off"],
        ),
        (["--task-state", "dreaming"], ["unknown_state"]),
    ],
    ids=lambda value: " ".join(value) if value and value[0].startswith("--") else None,
)
def test_every_option_counts(site: Site, arguments: list[str], expected: list[str]) -> None:
    answer = site.run("explain", "--vm-state", "active", *arguments, "--json").documents[0]

    assert answer["because"] == expected


def test_an_interrupted_live_migration_is_stopped_where_it_was_running(site: Site) -> None:
    state = ("explain", "--vm-state", "active", "--task-state", "migrating", "--look", "1", "--second-look", "1")

    actions = [
        [step["action"] for step in site.run(*state, *more, "--json").documents[0]["steps"]]
        for more in ((), ("--live-migration",))
    ]

    assert actions == [
        ["plug_vifs", "save", "ensure_filtering_rules_for_instance"],
        ["plug_vifs", "live_migration_abort", "save_migration", "save", "ensure_filtering_rules_for_instance"],
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--vm-state", "active", "--look", "9"], "look is 9"),
        (["--vm-state", "active", "--look", "asleep"], "look is 'asleep': give null"),
        (["--vm-state", "active", "--power-state", "gone"], "power_state is 'gone'"),
        (["--vm-state", "active", "--evacuation", "failed"], "give one of accepted, pre-migrating, done"),
        (["--task-state", "deleting"], "use --vm-state beside --task-state"),
        (["--vm-state", ""], "vm_state is ''"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_wrong_option_is_named(site: Site, arguments: list[str], said: str) -> None:
    ended = site.run("explain", *arguments)

    assert (ended.code, ended.out) == (64, "")
    assert said in ended.err


def test_each_line_has_an_answer_in_order(site: Site) -> None:
    ended = ask(
        site,
        {"vm_state": "active", "task_state": "powering-off", "id": "a"},
        b'{"vm_state": "acti',
        b"",
        {"vm_state": "deleted", "id": 7},
    )

    assert ended.code == 64
    assert [(answer.get("id"), answer.get("line"), answer.get("because")) for answer in ended.documents] == [
        ("a", None, ["power_off_interrupted"]),
        (None, 2, None),
        (7, None, ["half_deleted"]),
    ]
    assert ended.err == ""


def test_valid_lines_exit_with_0(site: Site) -> None:
    assert ask(site, {"vm_state": "error"}).code == 0


def test_wrong_line_is_an_error_in_text_output(site: Site) -> None:
    ended = ask(site, {"vm_state": "error"}, {"vm_state": 1}, style=())

    assert ended.lines == [
        "error/none/none",
        "  skipped, left alone",
        "    in_error: nothing",
        "      It is in ERROR, and neither a resize nor a deletion of it was cut short: an operator has to decide.",
        "line 2: vm_state is 1: give text",
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"[]", "a state is a JSON object with at least vm_state"),
        (b"\xff", "not UTF-8"),
        (b"[" * 100_000, "nested too deep"),
        (b'{"vm_state": "active", "power_state": ' + b"1" * 5000 + b"}", "a number is too long"),
        (b'{"vm_state": "active", "power_state": NaN}', "power_state is nan: give null, a number, or one of"),
        (b'{"vm_state": "active", "power_state": true}', "power_state is True"),
        (b'{"task_state": null}', "vm_state is missing"),
        (b'{"vm_state": "*"}', "vm_state has several values: give one"),
        (b'{"vm_state": "active", "db_power": [1, 3]}', "db_power has several values: give one"),
        (b'{"vm_state": "active", "power": 1}', "power: unknown field; the fields are vm_state, task_state,"),
        (b'{"vm_state": "active", "look": 1, "drv_power1": 1}', "look is given twice: drv_power1 is another name"),
        (b'{"vm_state": "active", "look": 2}', "look is 2: give gone, or one of nostate (0), running (1)"),
        (b'{"vm_state": "active", "host": "compute-1"}', "host is 'compute-1': give"),
        (b'{"vm_state": "active", "resume": 1}', "resume is 1: give true or false"),
        (b'{"vm_state": "active", "system_metadata": {"a": 1}}', "system_metadata must be an object of texts"),
        (b'{"vm_state": "active", "task_state": ["x"]}', "task_state has several values"),
    ],
    ids=lambda value: value[:60] if isinstance(value, str) else None,
)
def test_error_of_a_wrong_line_names_valid_values(site: Site, line: bytes, said: str) -> None:
    ended = ask(site, line)

    assert ended.code == 64
    assert ended.documents[0]["line"] == 1
    assert said in ended.documents[0]["error"]


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ({"host": "compute-1", "own_host": "compute-1"}, ["vifs", "runs"]),
        ({"host": "compute-2", "own_host": "compute-1"}, ["not_ours"]),
        ({"own_host": "compute-1"}, ["vifs", "runs"]),
        ({"host": "own"}, ["vifs", "runs"]),
        ({"host": "other"}, ["not_ours"]),
        ({"host": "other", "own_host": "compute-1"}, ["not_ours"]),
    ],
    ids=json.dumps,
)
def test_the_host_is_own_or_other_or_a_name_beside_ours(site: Site, state: dict[str, Any], expected: list[str]) -> None:
    answer = ask(site, {"vm_state": "active", "look": "running", "second_look": "running", **state}).documents[0]

    assert answer["because"] == expected


@pytest.mark.parametrize("where", [{"old_vm_state": "stopped"}, {"system_metadata": {"old_vm_state": "stopped"}}])
def test_old_vm_state_is_read_from_metadata_or_its_own_field(site: Site, where: dict[str, Any]) -> None:
    answer = ask(site, {"vm_state": "active", "task_state": "resize_migrating", **where}).documents[0]

    assert answer["steps"][1] == {
        "rule": "resize_interrupted",
        "action": "finish_revert_migration",
        "arguments": {"power_on": False},
    }


def _driver_calls(trace: list[str]) -> list[str]:
    calls = [token.removeprefix("drv.").partition("(")[0] for token in trace if token.startswith("drv.")]
    return [call for call in calls if call in OF_THE_DRIVER]


@pytest.mark.skipif(bool(why_missing("shallow_cases")), reason=str(why_missing("shallow_cases")))
def test_rows_of_novas_decisions_can_be_pasted(site: Site) -> None:
    traces = {row["id"]: row["trace"] for row in rows("shallow_outcomes")}
    cells = [
        {**cell, "outcome": row["outcome"]}
        for row in rows("shallow_cases")
        if row["host"] == "own" and not decided_by_34(row)
        for cell in cells_of(row, "shallow")
    ]

    ended = ask(site, *cells)

    assert ended.code == 0
    assert len(cells) > 1000
    for cell, answer in zip(cells, ended.documents, strict=True):
        called = [step["action"] for step in answer["steps"] if step["action"] in OF_THE_DRIVER]
        assert called == _driver_calls(traces[cell["outcome"]]), cell


@pytest.mark.skipif(bool(why_missing("deep_cases")), reason=str(why_missing("deep_cases")))
def test_rows_with_one_power_state_follow_what_is_done(site: Site) -> None:
    traces = {row["id"]: row["trace"] for row in rows("deep_outcomes")}
    cells = [
        {**cell, "outcome": row["outcome"]}
        for row in rows("deep_cases")
        if row["task_state"] == "resize_migrating" and row["host"] == "own"
        for cell in cells_of(row, "deep")
    ]

    answers = ask(site, *cells).documents

    assert len(cells) > 10
    for cell, answer in zip(cells, answers, strict=True):
        called = [step["action"] for step in answer["steps"] if step["action"] in OF_THE_DRIVER]
        assert called == _driver_calls(traces[cell["outcome"]]), cell
