"""The report to the scheduler, built from outcomes.  Pure: no I/O, no clock, no randomness, no logger.

``report.schema.json`` and ``docs/report.md`` describe it.
"""

import uuid
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal, TypedDict, TypeGuard

from bringup.daemon.decisions.advice import advice_of, for_one
from bringup.daemon.decisions.describe import need_json
from bringup.daemon.decisions.outcomes import Outcome, Problem, RunResult
from bringup.daemon.decisions.verdicts import GuestVerdict, counts_of
from bringup.drivers.identifiers import canonical_uuid

FORMAT: Final = "bringup.report/1"


class ReportedProblem(TypedDict):
    """An error: the action, the class, the whole chain of messages."""

    action: str
    error: str
    message: str


class ReportedAction(TypedDict):
    """The action that took longest, and its seconds."""

    action: str
    took_s: float


class ReportedInstance(TypedDict):
    """One instance: its states as Nova writes them, and its outcome."""

    uuid: str
    host: str | None
    vm_state: str | None
    task_state: str | None
    power_state: int | str | None
    outcome: str
    did: str
    verdict: dict[str, str] | None
    because: list[str]
    problem: ReportedProblem | None
    needs: list[dict[str, str]]
    warnings: list[ReportedProblem]
    advice: str | None
    took_s: float
    slowest: ReportedAction | None


class Report(TypedDict):
    """The report of one run."""

    format: Literal["bringup.report/1"]
    report_id: str
    run_id: str
    boot_id: str
    host: str
    created_at: str
    complete: bool
    error: str | None
    took_s: float
    counts: dict[str, int]
    did: dict[str, int]
    ready: dict[str, Any] | None
    verdicts: dict[str, int]
    instances: list[ReportedInstance]
    elsewhere: list[ReportedInstance]
    deleted: list[str]
    unfinished: list[str]


def _part(result: RunResult, created: str) -> str:
    """Return the part of the ``report_id`` that differs between reports of one run: only a settled one is repeated."""
    return created if result.unfinished else f"revision-{result.revision}"


def build_report(result: RunResult, *, created_at: datetime) -> Report:
    """Build the report of a run.

    A run that was settled has one ``report_id``, however often its report is built: a daemon that was killed before
    it could write that it had reported reports again.  One that was stopped has another ``report_id`` each time.

    :raises ValueError: ``created_at`` has no time zone.
    """
    if created_at.tzinfo is None:
        raise ValueError(f"cannot build a report: created_at is {created_at.isoformat()}, without a time zone")
    created = created_at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    left, verdicts = [outcome for outcome in result.outcomes if not outcome.deleted], result.verdicts
    return {
        "format": FORMAT,
        "report_id": str(
            uuid.uuid5(uuid.NAMESPACE_URL, f"bringup:{result.host}/{result.run_id}/{_part(result, created)}")
        ),
        "run_id": result.run_id,
        "boot_id": result.boot_id,
        "host": result.host,
        "created_at": created,
        "complete": result.error is None and not result.unfinished,
        "error": result.error,
        "took_s": round(result.took_s, 3),
        "counts": result.counts(),
        "did": result.count_done(),
        "ready": None if result.ready is None else dict(result.ready),
        "verdicts": counts_of(result.verdicts.values()),
        "instances": [_instance(each, verdicts) for each in left if not _is_elsewhere(each, result.host)],
        "elsewhere": [_instance(each, verdicts) for each in left if _is_elsewhere(each, result.host)],
        "deleted": [outcome.uuid for outcome in result.outcomes if outcome.deleted],
        "unfinished": list(result.unfinished),
    }


def is_report(value: Any) -> TypeGuard[Report]:
    """Check whether a value has the shape of a report; unknown keys are accepted."""
    if not isinstance(value, Mapping) or value.get("format") != FORMAT:
        return False
    texts = (value.get(key) for key in ("report_id", "run_id", "boot_id", "host", "created_at"))
    instances = (value.get("instances"), value.get("elsewhere"))
    uuids = (value.get("deleted"), value.get("unfinished"))
    return (
        all(isinstance(text, str) and text for text in texts)
        and _is_uuid(value["report_id"])
        and isinstance(value.get("complete"), bool)
        and all(isinstance(some, list) and all(_is_instance(one) for one in some) for some in instances)
        and all(isinstance(some, list) and all(isinstance(one, str) for one in some) for some in uuids)
    )


def uuids_in(report: Report) -> set[str]:
    """Return the UUIDs of the instances in a report, without unfinished ones."""
    return {*_uuids(report["instances"]), *_uuids(report["elsewhere"]), *report["deleted"]}


def is_superseded(report: Report, *, named_later: Collection[str], complete_later: bool) -> bool:
    """Check whether later reports have all that this one has.

    Later reports must name each instance that is gone from the host: the scheduler removes what a report
    removes, not what is no longer mentioned.  The instances of the host need no mention once a later one is complete.
    """
    gone = {*_uuids(report["elsewhere"]), *report["deleted"]}
    return (gone if complete_later else uuids_in(report)) <= set(named_later)


def _uuids(instances: Collection[ReportedInstance]) -> set[str]:
    return {instance["uuid"] for instance in instances}


def _is_uuid(text: str) -> bool:
    """Check whether a text is a UUID: it becomes a header of a request."""
    try:
        canonical_uuid(text)
    except ValueError:
        return False
    return True


def _is_instance(value: Any) -> bool:
    return isinstance(value, Mapping) and isinstance(value.get("uuid"), str) and isinstance(value.get("outcome"), str)


def _is_elsewhere(outcome: Outcome, host: str) -> bool:
    return outcome.instance is not None and outcome.instance.host != host


def _instance(outcome: Outcome, verdicts: Mapping[str, GuestVerdict]) -> ReportedInstance:
    verdict = verdicts.get(outcome.uuid)
    record, problem, slowest = outcome.instance, outcome.problem, outcome.slowest
    return {
        "uuid": outcome.uuid,
        "host": None if record is None else record.host,
        "vm_state": None if record is None else str(record.vm_state.value),
        "task_state": None if record is None or record.task_state is None else str(record.task_state.value),
        "power_state": None if record is None or record.power_state is None else record.power_state.value,
        "outcome": outcome.kind.value,
        "did": outcome.did.value,
        "verdict": None if verdict is None else {"word": verdict.word, "why": verdict.why},
        "because": list(outcome.because),
        "problem": None if problem is None else _problem(problem),
        "needs": [need_json(need) for need in outcome.needs],
        "warnings": [_problem(warning) for warning in outcome.warnings],
        "advice": for_one(advice_of(outcome), outcome.uuid),
        "took_s": round(outcome.took_s, 3),
        "slowest": None if slowest is None else {"action": slowest[0], "took_s": round(slowest[1], 3)},
    }


def _problem(problem: Problem) -> ReportedProblem:
    return {"action": problem.action, "error": problem.error, "message": problem.message}
