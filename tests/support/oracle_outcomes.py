"""What the outcome of an instance must be where a call failed, read off what Nova did next."""

import itertools
from collections.abc import Sequence

from bringup.daemon.decisions.outcomes import Kind
from bringup.daemon.errors import StateConflict
from support.oracle_replay import Replay
from support.oracle_words import why_out_of_scope


def outcome_differences(replay: Replay, after: Sequence[str], escapes: str | None) -> list[str]:
    """Compare; ``after`` is what Nova did after the first failing call, log lines included.

    An exception that leaves Nova's ``_init_instance`` is that instance's outcome here.  One that Nova handles and ends
    with is too; one that it goes on from is a warning at most.
    """
    outcome = replay.outcome
    kind = _expected_kind(replay, after, escapes)
    if outcome.kind is not kind:
        return [f"outcome: expected {kind}, had {outcome.kind} with {outcome.problem}"]
    if kind is Kind.INITIALIZED:
        if outcome.problem is not None:
            return [f"outcome: expected no problem, had {outcome.problem}"]
        if _is_said(after) and not outcome.warnings and "warning" not in replay.logged:
            return ["outcome: Nova logs the failure, we say nothing of it"]
        return []
    cause = type(_cause(replay, escapes)).__name__
    if outcome.problem is None or outcome.problem.error != cause:
        return [f"outcome: expected the problem to be {cause}, had {outcome.problem}"]
    return []


def _cause(replay: Replay, escapes: str | None) -> Exception:
    """Return the error that ended it; a record that is gone cannot be set to ERROR, which is no error of its own."""
    call, error = replay.raised[-1]
    if escapes is None and call == "save{vm=error}":
        _, error = replay.raised[-2]
    return error


def _expected_kind(replay: Replay, after: Sequence[str], escapes: str | None) -> Kind:
    lost = isinstance(replay.raised[-1][1], StateConflict)
    if escapes is not None:
        return Kind.SUPERSEDED if lost else Kind.FAILED
    if any(token.startswith("save{vm=error") for token in after):
        return Kind.FAILED
    if [token for token in after if why_out_of_scope(token) is None][-1:] == ["log.exception"]:
        return Kind.SUPERSEDED if lost else Kind.FAILED
    return Kind.INITIALIZED


def _is_said(after: Sequence[str]) -> bool:
    """Check whether Nova logs the failure, beside what it logs on such a path anyway."""
    if "log.exception" in after or after[:1] == ["log.warning"]:
        return True
    return ("log.warning", "fault.create") in itertools.pairwise(after)
