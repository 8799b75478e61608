import json
import re
from datetime import UTC, datetime, timedelta, timezone
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bringup.daemon.decisions.describe_readiness import slowest_of, times_json
from bringup.daemon.decisions.instances import Instance
from bringup.daemon.decisions.outcomes import Did, Kind, Outcome, Problem, RunResult
from bringup.daemon.decisions.readiness import Readiness, time_to_ready
from bringup.daemon.decisions.states import PowerState, TaskState, UnknownState, VmState
from bringup.daemon.decisions.verdicts import GuestVerdict
from bringup.daemon.storage.outbox.report import build_report, is_report, is_superseded, uuids_in
from support.scheduler import HOST, NOON, a_report, a_result, an_outcome, uuid_of

DOCUMENT = Path(__file__).parent.parent / "docs" / "report.md"
PROBLEM = Problem("plug_vifs", "VirtualInterfacePlugError", "cannot plug: no such bridge")


@pytest.fixture(scope="module")
def schema() -> jsonschema.Draft202012Validator:
    text = resources.files("bringup.daemon.storage.outbox").joinpath("report.schema.json").read_text()
    return jsonschema.Draft202012Validator(json.loads(text), format_checker=jsonschema.FormatChecker())


def test_an_instance_is_reported_as_it_was_left() -> None:
    record = Instance(
        uuid=uuid_of(1),
        host=HOST,
        vm_state=VmState.SOFT_DELETED,
        task_state=TaskState.POWERING_OFF,
        power_state=PowerState.SHUTDOWN,
    )
    outcome = Outcome(
        uuid=uuid_of(1),
        kind=Kind.FAILED,
        did=Did.SET_TO_ERROR,
        because=("one", "two"),
        took_s=1.23456,
        problem=PROBLEM,
        warnings=(PROBLEM,),
        slowest=("plug_vifs", 1.0009),
        instance=record,
    )
    shown = {"action": "plug_vifs", "error": "VirtualInterfacePlugError", "message": "cannot plug: no such bridge"}
    assert a_report(outcome)["instances"] == [
        {
            "uuid": uuid_of(1),
            "host": HOST,
            "vm_state": "soft-delete",
            "task_state": "powering-off",
            "power_state": 4,
            "outcome": "failed",
            "did": "set_to_error",
            "verdict": None,
            "because": ["one", "two"],
            "problem": shown,
            "needs": [],
            "warnings": [shown],
            "advice": "repair the network of this host (bridge, Open vSwitch, its port), then: "
            f"bringup retry {uuid_of(1)}",
            "took_s": 1.235,
            "slowest": {"action": "plug_vifs", "took_s": 1.001},
        }
    ]


def test_verdicts_are_counted_and_beside_the_outcomes() -> None:
    verdicts = {uuid_of(1): GuestVerdict("reachable"), uuid_of(2): GuestVerdict("broken", "it has crashed")}
    outcomes = (an_outcome(1), an_outcome(2), an_outcome(3))
    result = RunResult(
        run_id=uuid_of(9), boot_id="b", host=HOST, outcomes=outcomes, unfinished=(), took_s=1.0, verdicts=verdicts
    )
    report = build_report(result, created_at=NOON)

    assert report["verdicts"] == {"reachable": 1, "silent": 0, "broken": 1}
    assert [each["verdict"] for each in report["instances"]] == [
        {"word": "reachable", "why": ""},
        {"word": "broken", "why": "it has crashed"},
        None,
    ]


def test_when_guests_were_ready_is_reported_with_what_cost_the_slowest_the_time(
    schema: jsonschema.Draft202012Validator,
) -> None:
    found = {
        uuid_of(1): Readiness(by="agent", at_s=12.0, queued_s=1.0, start_s=1.0, boot_s=10.0, read_s=8.0),
        uuid_of(2): Readiness(by=None, at_s=61.0, queued_s=0.5, start_s=0.5, boot_s=60.0),
    }
    times = times_json(time_to_ready(found.values(), started=3), slowest_of(found, {uuid_of(1): "db"}))
    result = RunResult(
        run_id=uuid_of(9), boot_id="b", host=HOST, outcomes=(an_outcome(1),), unfinished=(), took_s=1.0, ready=times
    )
    report = build_report(result, created_at=NOON)

    schema.validate(report)
    assert report["ready"] is not None
    assert [report["ready"][key] for key in ("started", "ready", "not_ready", "first_s", "half_s")] == [
        3,
        1,
        1,
        12,
        None,
    ]
    slowest = [(each["uuid"], each["name"], each["by"], each["cost"]) for each in report["ready"]["slowest"]]
    assert slowest == [(uuid_of(2), "", None, "boot"), (uuid_of(1), "db", "agent", "disk")]


def test_unknown_states_are_reported_as_they_were_written() -> None:
    record = Instance(
        uuid=uuid_of(1),
        host=HOST,
        vm_state=UnknownState("dreaming"),
        task_state=UnknownState("waking"),
        power_state=UnknownState(42),
    )
    outcome = Outcome(uuid=uuid_of(1), kind=Kind.HELD, because=(), took_s=0, instance=record)
    (reported,) = a_report(outcome)["instances"]
    assert (reported["vm_state"], reported["task_state"], reported["power_state"]) == ("dreaming", "waking", 42)


def test_an_instance_deleted_in_the_run_is_not_announced_again() -> None:
    report = a_report(an_outcome(1), an_outcome(2, deleted=True))
    assert ([one["uuid"] for one in report["instances"]], report["deleted"]) == ([uuid_of(1)], [uuid_of(2)])


@pytest.mark.parametrize("host", ["compute-2", None], ids=["another host", "no host"])
def test_an_instance_of_another_host_is_not_announced_for_this_host(host: str | None) -> None:
    report = a_report(an_outcome(1), an_outcome(2, host=host))
    assert [one["uuid"] for one in report["instances"]] == [uuid_of(1)]
    assert [(one["uuid"], one["host"]) for one in report["elsewhere"]] == [(uuid_of(2), host)]


def test_an_instance_whose_record_was_never_read_is_reported_without_states() -> None:
    (reported,) = a_report(Outcome(uuid=uuid_of(1), kind=Kind.FAILED, because=(), took_s=0))["instances"]
    assert (reported["host"], reported["vm_state"], reported["power_state"]) == (None, None, None)


@pytest.mark.parametrize(
    ("result", "complete"),
    [
        (a_result(an_outcome()), True),
        (a_result(), True),
        (a_result(an_outcome(), unfinished=(uuid_of(2),)), False),
        (a_result(an_outcome(), error="stopped by SIGTERM"), False),
    ],
    ids=["all done", "no instances", "unfinished", "stopped"],
)
def test_a_report_is_complete_if_the_run_reached_every_instance(result: RunResult, *, complete: bool) -> None:
    report = build_report(result, created_at=NOON)
    assert (report["complete"], report["error"], report["unfinished"]) == (
        complete,
        result.error,
        list(result.unfinished),
    )


def test_every_outcome_is_counted_deleted_instances_too() -> None:
    counts = a_report(an_outcome(1), an_outcome(2, deleted=True))["counts"]
    assert counts == {"initialized": 2, "skipped": 0, "failed": 0, "superseded": 0, "held": 0, "deferred": 0}


def test_a_report_built_twice_has_the_same_id_and_another_run_has_another() -> None:
    assert a_report(an_outcome()) == a_report(an_outcome())
    assert a_report(minute=1)["report_id"] != a_report(minute=2)["report_id"]


def test_a_settled_run_has_one_report_id_whenever_it_is_built() -> None:
    """A daemon that is killed before it has written that it reported builds it again."""
    later = NOON + timedelta(minutes=1)
    first, again = (build_report(a_result(an_outcome()), created_at=at) for at in (NOON, later))
    assert first["report_id"] == again["report_id"]
    assert build_report(a_result(an_outcome(), revision=1), created_at=later)["report_id"] != first["report_id"]


def test_a_stopped_run_has_another_report_id_each_time() -> None:
    """The next one may say more of the same run."""
    ids = {
        build_report(a_result(unfinished=(uuid_of(1),)), created_at=NOON + timedelta(minutes=minute))["report_id"]
        for minute in (0, 1)
    }
    assert len(ids) == 2


def test_the_time_is_in_utc() -> None:
    created_at = datetime(2026, 11, 23, 14, tzinfo=timezone(timedelta(hours=2)))
    assert build_report(a_result(), created_at=created_at)["created_at"] == "2026-11-23T12:00:00.000000Z"


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="without a time zone"):
        build_report(a_result(), created_at=datetime(2026, 11, 23))  # noqa: DTZ001 - what is refused


problems = st.builds(Problem, st.text(), st.text(), st.text())
records = st.builds(
    Instance,
    uuid=st.uuids().map(str),
    host=st.sampled_from([HOST, "compute-2", None]),
    vm_state=st.sampled_from(VmState) | st.builds(UnknownState, st.text()),
    task_state=st.none() | st.sampled_from(TaskState) | st.builds(UnknownState, st.text()),
    power_state=st.none() | st.sampled_from(PowerState) | st.builds(UnknownState, st.integers()),
)
seconds = st.floats(min_value=0, max_value=1e6)
outcomes = st.builds(
    Outcome,
    uuid=st.uuids().map(str),
    kind=st.sampled_from(Kind),
    because=st.lists(st.text()).map(tuple),
    took_s=seconds,
    problem=st.none() | problems,
    warnings=st.lists(problems, max_size=2).map(tuple),
    slowest=st.none() | st.tuples(st.text(), seconds),
    instance=st.none() | records,
    deleted=st.booleans(),
)
results = st.builds(
    RunResult,
    run_id=st.uuids().map(str),
    boot_id=st.uuids().map(str),
    host=st.just(HOST),
    outcomes=st.lists(outcomes, max_size=5).map(tuple),
    unfinished=st.lists(st.uuids().map(str), max_size=3).map(tuple),
    took_s=seconds,
    error=st.none() | st.text(),
)


@given(result=results)
def test_the_report_of_any_run_is_valid_and_survives_json(
    schema: jsonschema.Draft202012Validator, result: RunResult
) -> None:
    report = build_report(result, created_at=datetime(2026, 11, 23, tzinfo=UTC))
    sent = json.loads(json.dumps(report))
    schema.validate(sent)
    assert sent == report
    assert is_report(sent)
    assert uuids_in(report) == {outcome.uuid for outcome in result.outcomes}


def test_the_example_in_the_documentation_is_a_report(schema: jsonschema.Draft202012Validator) -> None:
    block = re.search(r"```json\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    example = json.loads(block[1])
    schema.validate(example)
    assert is_report(example)
    assert set(example) == set(a_report())
    assert set(example["instances"][0]) == set(a_report(an_outcome())["instances"][0])


def test_the_schema_describes_each_key(schema: jsonschema.Draft202012Validator) -> None:
    described: dict[str, Any] = schema.schema["properties"]  # type: ignore[index]  # a schema may be True
    assert set(described) == set(a_report())
    assert schema.schema["$defs"]["did"]["enum"] == [did.value for did in Did]  # type: ignore[index]  # as above


def test_a_report_counts_what_was_done() -> None:
    report = a_report(an_outcome(1, did=Did.STARTED), an_outcome(2, did=Did.DESTROYED), an_outcome(3, did=Did.STARTED))
    assert report["did"] == {"started": 2, "destroyed": 1}


def test_keys_of_a_later_version_are_accepted() -> None:
    assert is_report({**a_report(an_outcome()), "mood": "good"})


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        {**a_report(), "format": "bringup.report/2"},
        {**a_report(), "report_id": ""},
        {**a_report(), "host": None},
        {**a_report(), "complete": "yes"},
        {**a_report(), "instances": {}},
        {**a_report(), "instances": [{"uuid": 1, "outcome": "failed"}]},
        {**a_report(), "elsewhere": [None]},
        {**a_report(), "deleted": [1]},
    ],
    ids=str,
)
def test_a_document_of_another_shape_is_no_report(value: Any) -> None:
    assert not is_report(value)


@pytest.mark.parametrize(
    ("earlier", "named_later", "complete_later", "superseded"),
    [
        (a_report(an_outcome(1)), {uuid_of(1)}, False, True),
        (a_report(an_outcome(1)), {uuid_of(2)}, False, False),
        (a_report(an_outcome(1)), set(), True, True),
        (a_report(an_outcome(1, deleted=True)), set(), True, False),
        (a_report(an_outcome(1, deleted=True)), {uuid_of(1)}, False, True),
        (a_report(an_outcome(1, host="compute-2")), set(), True, False),
        (a_report(), set(), False, True),
    ],
    ids=[
        "named later",
        "another is named later",
        "a later one is complete",
        "nobody else tells of the deletion",
        "the deletion is reported again",
        "nobody else tells that it left",
        "it names nothing",
    ],
)
def test_a_report_is_superseded_if_later_ones_contain_all_of_it(
    earlier: Any, named_later: set[str], *, complete_later: bool, superseded: bool
) -> None:
    assert is_superseded(earlier, named_later=named_later, complete_later=complete_later) is superseded
