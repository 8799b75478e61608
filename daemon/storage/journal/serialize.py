"""Outcomes and actions as JSON, and back."""

import dataclasses
import enum
import json
from typing import Any

from bringup.daemon.decisions.actions import Action
from bringup.daemon.decisions.describe import need_json
from bringup.daemon.decisions.outcomes import Did, Kind, Outcome, Problem
from bringup.daemon.storage.journal.base import Left
from bringup.drivers.needs import MetBy, Need, NeedKind, NeedState

DID = {did.value for did in Did}


def detail_of(action: Action) -> str | None:
    """Give the fields of an action; None where it has none."""
    fields = dataclasses.fields(action)
    if not fields:
        return None
    return json.dumps({field.name: getattr(action, field.name) for field in fields}, default=_plain)


def _plain(value: object) -> object:
    # States that are not known are values with a value too.
    return getattr(value, "value", str(value)) if not isinstance(value, enum.Enum) else value.value


def dump_outcome(outcome: Outcome) -> str:
    """Write an outcome without its record."""
    return json.dumps(
        {
            "kind": outcome.kind.value,
            "name": outcome.name,
            "project_id": outcome.project_id,
            "did": outcome.did.value,
            "because": outcome.because,
            "took_s": round(outcome.took_s, 6),
            "problem": _problem(outcome.problem),
            "warnings": [_problem(each) for each in outcome.warnings],
            "slowest": outcome.slowest,
            "deleted": outcome.deleted,
            "runs": outcome.runs,
            "needs": [need_json(need) for need in outcome.needs],
        },
        separators=(",", ":"),
    )


def _problem(problem: Problem | None) -> list[str] | None:
    return None if problem is None else [problem.action, problem.error, problem.message]


def load_outcome(uuid: str, text: str) -> Outcome:
    """Read an outcome.  Raises ValueError, KeyError or TypeError where it is none."""
    document: dict[str, Any] = json.loads(text)
    problem, slowest = document["problem"], document["slowest"]
    return Outcome(
        uuid=uuid,
        kind=Kind(document["kind"]),
        because=tuple(document["because"]),
        took_s=document["took_s"],
        problem=None if problem is None else Problem(*problem),
        warnings=tuple(Problem(*each) for each in document["warnings"]),
        slowest=None if slowest is None else (slowest[0], slowest[1]),
        deleted=document["deleted"],
        # An earlier version did not write these, a later one may know more of them.
        name=document.get("name", ""),
        project_id=document.get("project_id"),
        did=Did(document["did"]) if document.get("did") in DID else Did.UNKNOWN,
        runs=document.get("runs", False),
        needs=tuple(_need(each) for each in document.get("needs", ())),
    )


def _need(text: dict[str, str]) -> Need:
    return Need(
        kind=NeedKind(text["kind"]),
        name=text["name"],
        state=NeedState(text["state"]),
        met_by=MetBy(text["met_by"]),
        why=text["why"],
    )


def dump_left(outcome: Outcome) -> str | None:
    """Write how the record of an outcome was left."""
    if outcome.instance is None or outcome.deleted:
        return None
    return write_left(Left.of(outcome.instance))


def write_left(left: Left) -> str:
    """Write how a record is or was."""
    return json.dumps(dataclasses.asdict(left), separators=(",", ":"))


def load_left(text: str | None) -> Left | None:
    """Read how a record was left."""
    return None if text is None else Left(**json.loads(text))
