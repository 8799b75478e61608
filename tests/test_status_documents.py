"""What ``/status`` answers is what its schema says, at every moment of a run."""

import json
from importlib import resources
from typing import Any

import jsonschema
import pytest

from bringup.daemon.decisions.outcomes import Did, Kind
from bringup.daemon.decisions.pace import Sighting
from bringup.daemon.decisions.readiness import Readiness, ReadyBy
from bringup.daemon.decisions.run_events import (
    InstanceBegan,
    InstanceBoots,
    InstanceReady,
    InstanceVerified,
    PaceSeen,
    PhaseBegan,
    RunEnded,
)
from bringup.daemon.decisions.verdicts import GuestVerdict
from bringup.daemon.status.boots_progress import MOST_POINTS
from bringup.daemon.status.endpoint.mirror import Mirror, beginning, state
from bringup.daemon.status.endpoint.source import State
from bringup.daemon.status.listener import documents, metrics
from bringup.daemon.storage.outbox.base import Pending
from support.drivers import uuid_of
from support.status import ManualRun

SCHEMA = json.loads(resources.files("bringup.daemon.status.listener").joinpath("status.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA, format_checker=jsonschema.FormatChecker())
pytestmark = pytest.mark.anyio


def answer(manual: ManualRun, pending: Pending | None = None) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(documents.status(manual.source, pending or Pending())))
    VALIDATOR.validate(found)
    return found


async def test_status_before_anything_is_known() -> None:
    found = answer(ManualRun())

    assert (found["state"], found["phase"], found["percent"]) == ("initializing", "starting", 0)
    assert (found["run"], found["running"], found["failures"]) == (None, [], [])
    assert found["reason"] == "initializing 0 %: starting"


async def test_status_of_a_start_that_waits_has_the_reason() -> None:
    manual = ManualRun()
    manual.observe(PhaseBegan("placement", "no answer yet, 3 tries"))

    assert answer(manual)["reason"] == "initializing 0 %: placement: no answer yet, 3 tries"


async def test_status_during_a_run_has_running_and_failed_instances() -> None:
    manual = ManualRun()
    manual.begin(4)
    manual.instance(1)
    manual.instance(2, Kind.FAILED)
    manual.observe(InstanceBegan(uuid_of(3), "web", "tests"))
    found = answer(manual, Pending(2, 61.5))

    assert (found["state"], found["percent"], found["ready"]) == ("initializing", 50, False)
    assert {key: found["run"][key] for key in ("run_id", "attempt", "total", "done", "waiting", "ended_at")} == {
        "run_id": uuid_of(9),
        "attempt": 1,
        "total": 4,
        "done": 2,
        "waiting": 1,
        "ended_at": None,
    }
    [running] = found["running"]
    assert (running["uuid"], running["name"], running["project"]) == (uuid_of(3), "web", "tests")
    assert running["summary"] == "running for 0 ms, decide for 0 ms"
    assert found["state_text"] == "initializing 50 %"
    assert found["headline"].startswith("2/4 done, 1 started, 1 left alone, 1 failed, ")
    assert {tile["label"]: tile["value"] for tile in found["tiles"]} == {
        "settled": "2",
        "started": "1",
        "left alone": "1",
        "failed": "1",
        "held": "0",
        "deferred": "0",
        "superseded": "0",
        "running": "1",
        "waiting": "1",
        "per second": "2.0",
        "time left": "1.0 s",
    }
    assert {did: count for did, count in found["did"].items() if count} == {"started": 1, "left_alone": 1}
    assert {tile["label"]: tile["mood"] for tile in found["tiles"] if tile["mood"]} == {"failed": "bad"}
    [failure] = found["failures"]
    assert (failure["name"], failure["project"]) == ("web-2", "tests")
    assert (failure["uuid"], failure["error"], failure["message"]) == (
        uuid_of(2),
        "VirtualInterfacePlugError",
        "cannot plug",
    )
    assert found["reports"] == {"waiting": 2, "oldest_s": 61.5}
    assert found["run"]["began_at"] == "2026-01-01T00:00:01.000Z"


async def test_a_record_that_a_rule_set_to_error_is_listed_as_a_failure_with_advice() -> None:
    manual = ManualRun()
    manual.begin(2)
    manual.instance(1)
    manual.instance(2, did=Did.SET_TO_ERROR)
    found = answer(manual)

    [failure] = found["failures"]
    assert (failure["uuid"], failure["outcome"], failure["did"]) == (uuid_of(2), "initialized", "set_to_error")
    assert failure["attention"] == "set to error"
    assert failure["advice"].endswith(f"openstack server show {uuid_of(2)}")
    assert found["warnings"] == []


async def test_a_deferred_instance_is_listed_with_since_when_and_for_how_long_until_it_is_back() -> None:
    manual = ManualRun()
    manual.begin(2)
    manual.instance(1, Kind.DEFERRED, took_s=1)
    manual.clock.now_s += 90
    # It lacks something else by now, and has waited all the time.
    manual.instance(1, Kind.DEFERRED, took_s=1)
    manual.instance(2, Kind.FAILED, took_s=1)
    deferred, failed = answer(manual)["failures"]
    manual.instance(1)

    assert (deferred["deferred_since"], deferred["deferred_s"]) == ("2026-01-01T00:00:02Z", 92)
    assert (failed["deferred_since"], failed["deferred_s"]) == (None, None)
    assert [each["uuid"] for each in answer(manual)["failures"]] == [uuid_of(2)]


async def test_status_once_the_host_is_back_is_ready_without_a_reason() -> None:
    manual = ManualRun()
    manual.begin(1)
    manual.instance(1)
    manual.observe(RunEnded())
    # The report is sent, the rules are applied: the daemon says when it stays.
    assert (answer(manual)["ready"], answer(manual)["percent"]) == (False, 99)
    manual.end()

    found = answer(manual)
    assert (found["state"], found["ready"], found["reason"], found["percent"]) == ("ready", True, None, 100)
    assert found["run"]["ended_at"] == "2026-01-01T00:00:01.500Z"


async def test_status_of_a_stopping_and_of_a_failed_daemon_is_not_ready() -> None:
    stopping, failed = ManualRun(), ManualRun()
    stopping.begin(0)
    stopping.end()
    stopping.source.stopping = True
    failed.progress.start_failed("cannot start without Placement")

    assert (answer(stopping)["state"], answer(stopping)["ready"]) == ("stopping", False)
    assert answer(failed)["reason"] == "failed: cannot start without Placement"


async def test_of_many_failures_the_first_are_listed_and_the_rest_counted() -> None:
    manual = ManualRun()
    manual.begin(documents.MOST_FAILURES + 7)
    for number in range(documents.MOST_FAILURES + 7):
        manual.instance(number, Kind.FAILED)

    found = answer(manual)
    assert (len(found["failures"]), found["omitted"]) == (documents.MOST_FAILURES, 7)


async def test_a_run_in_which_nothing_ends_is_stuck_until_it_is_over() -> None:
    manual = ManualRun()
    manual.begin(1)
    manual.observe(InstanceBegan(uuid_of(1)))
    assert manual.source.stuck_for_s(manual.progress.snapshot()) is None
    manual.progress.advanced_at -= 701
    stuck_s = manual.source.stuck_for_s(manual.progress.snapshot())
    manual.source.staying.set()

    assert stuck_s is not None
    assert stuck_s > 700
    assert manual.source.state() is State.READY
    assert manual.source.stuck_for_s(manual.progress.snapshot()) is None


def ready(at_s: float, by: ReadyBy | None = "agent") -> Readiness:
    return Readiness(by=by, at_s=at_s, queued_s=1.0, start_s=1.0, boot_s=at_s - 2.0, cpu_wait_s=at_s)


async def test_guests_that_boot_and_when_they_were_ready_are_told() -> None:
    manual = ManualRun()
    manual.begin(4)
    for number in (1, 2, 3):
        manual.instance(number)
        manual.observe(InstanceBoots(uuid_of(number)))
    before = answer(manual)["pace"]
    manual.observe(PaceSeen(Sighting(1.25, booting=3, limit=2)))
    manual.observe(InstanceReady(uuid_of(1), ready(10.0)))
    manual.observe(PaceSeen(Sighting(3.5, booting=2, limit=1, brakes=True)))
    manual.observe(InstanceReady(uuid_of(2), ready(60.0, None)))
    found = answer(manual)

    assert (before["booting"], before["limit"], before["ready"]["ready"]) == (3, None, 0)
    pace = found["pace"]
    assert (pace["booting"], pace["limit"], pace["stretch"], pace["memory_is_short"]) == (1, 1, 3.5, True)
    assert pace["text"] == (
        "1 booting, limit 1, 3.5 times slower than alone, memory is short, 1 of 3 ready, the first after 10 s, "
        "1 not known to be ready"
    )
    assert pace["by"] == {"agent": 1, "packet": 0, "quiet": 0, "nothing": 1}
    assert [point[1:] for point in pace["points"]] == [[2, 3, 1.25], [1, 2, 3.5]]
    assert [(each["at_s"], each["cost"]) for each in pace["ready"]["slowest"]] == [(60.0, "cpu"), (10.0, "cpu")]
    assert "1 booting" in found["headline"]
    tiles = {tile["label"]: (tile["value"], tile["note"]) for tile in found["tiles"]}
    assert (tiles["booting"], tiles["ready"]) == (("1", ""), ("1", "of 3"))


async def test_guests_that_are_not_reachable_are_listed_the_broken_ones_first() -> None:
    manual = ManualRun()
    manual.begin(3)
    verdicts = (
        GuestVerdict("silent", "it has sent no packet"),
        GuestVerdict("reachable"),
        GuestVerdict("broken", "disk vda: I/O error"),
    )
    for number, verdict in enumerate(verdicts, start=1):
        manual.instance(number)
        manual.observe(InstanceBoots(uuid_of(number)))
        manual.observe(InstanceReady(uuid_of(number), ready(10.0)))
        manual.observe(InstanceVerified(uuid_of(number), verdict))
    found = answer(manual)["pace"]
    listed = found["verdicts"].pop("guests")
    manual.observe(InstanceBoots(uuid_of(3)))

    assert found["verdicts"] == {"reachable": 1, "silent": 1, "broken": 1}
    assert found["text"].endswith(", 1 reachable, 1 silent, 1 broken")
    assert [(each["uuid"], each["text"]) for each in listed] == [
        (uuid_of(3), "broken: disk vda: I/O error"),
        (uuid_of(1), "silent: it has sent no packet"),
    ]
    assert answer(manual)["pace"]["verdicts"]["broken"] == 0
    assert 'bringup_verified_instances{verdict="silent"} 1.0' in metrics.text_of(manual.source, Pending()).decode()


async def test_the_process_that_answers_tells_the_same_of_guests_that_boot() -> None:
    manual = ManualRun()
    manual.begin(1)
    manual.instance(1)
    manual.observe(InstanceBoots(uuid_of(1)))
    manual.observe(InstanceReady(uuid_of(1), ready(10.0)))
    manual.observe(InstanceVerified(uuid_of(1), GuestVerdict("reachable")))
    mirror = Mirror()
    for text in (*beginning(manual.source, (), ()), state(manual.source, Pending())):
        mirror.apply(text.encode())
    assert mirror.source is not None

    assert documents.status(mirror.source, Pending())["pace"] == answer(manual)["pace"]
    assert b'bringup_boot_duration_seconds_count{by="agent"} 1.0' in metrics.text_of(mirror.source, Pending())


async def test_the_metrics_of_the_pace() -> None:
    manual = ManualRun()
    manual.begin(2)
    for number in (1, 2):
        manual.instance(number)
        manual.observe(InstanceBoots(uuid_of(number)))
    manual.observe(PaceSeen(Sighting(1.25, booting=2, limit=3)))
    manual.observe(InstanceReady(uuid_of(1), ready(10.0)))
    lines = metrics.text_of(manual.source, Pending()).decode().splitlines()

    assert {
        "bringup_pace_limit 3.0",
        "bringup_pace_stretch_ratio 1.25",
        "bringup_booting_instances 1.0",
        'bringup_time_to_ready_seconds{of="first"} 10.0',
        'bringup_time_to_ready_seconds{of="half"} 10.0',
        'bringup_ready_instances{by="agent"} 1.0',
    } <= set(lines)
    assert not [line for line in lines if 'of="all"' in line]


async def test_the_picture_of_the_limit_has_so_many_points_and_no_more() -> None:
    manual = ManualRun()
    manual.begin(1)
    manual.instance(1)
    manual.observe(InstanceBoots(uuid_of(1)))
    for number in range(10 * MOST_POINTS):
        manual.observe(PaceSeen(Sighting(1.0, booting=1, limit=number)))
        manual.observe(PaceSeen(Sighting(1.0, booting=1, limit=number)))
    points = answer(manual)["pace"]["points"]

    assert MOST_POINTS // 2 <= len(points) <= MOST_POINTS
    assert points[-1][1] == 10 * MOST_POINTS - 1


async def test_the_schema_is_valid_and_refuses_wrong_answers() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    found = answer(ManualRun())
    wrongs: list[dict[str, Any]] = [
        {"state": "asleep"},
        {"percent": 101},
        {"format": "bringup.status/2"},
        {"counts": {}},
    ]
    assert not [wrong for wrong in wrongs if VALIDATOR.is_valid(found | wrong)]
