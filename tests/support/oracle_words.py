"""Nova's words for calls: which of them are ours to make, and whether ours are the same."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

Row = dict[str, Any]

OUT_OF_SCOPE: Mapping[str, str] = {
    "notify": "the failing call is a notification",
    "quotas.": "the failing call is to the quotas",
    "action_event.": "the failing call writes the action log",
    "fault.": "the failing call writes the fault log",
    "rt.": "the failing call is to the resource tracker",
    "consoleauth.": "the failing call is to consoleauth",
    "sched.": "the failing call is to the scheduler client",
    "events.": "the failing call is to the external events",
    "lazy.": "the failing call reads what our record holds",
    "bdm.": "the failing call reads what our record holds",
    "shares.": "the failing call is about shares",
    "migration.": "the failing call reads what our facts hold",
    "net.": "the failing call is to the network API",
    "info_cache.": "the failing call is part of our deleting the row",
}
"""Calls that Nova makes and we do not, by how their words begin, and why a fault in one is not replayed."""
NO_CALL = (">", "<", "log.")
# In 34 every driver that is left has its rules in the network backend; ours follow 15.
NOT_IN_34 = ("drv.ensure_filtering_rules_for_instance", "drv.post_interrupted_snapshot_cleanup")


@functools.cache
def why_out_of_scope(token: str) -> str | None:
    """Return why a call of Nova's is none of ours, None where it is."""
    return next((why for start, why in OUT_OF_SCOPE.items() if token.startswith(start)), None)


def is_call(token: str) -> bool:
    """Check whether a word is a call, and not a log line or the extent of an action."""
    return not token.startswith(NO_CALL)


def ours(tokens: Sequence[str]) -> list[str]:
    """Keep the calls that are ours to make."""
    kept: list[str] = []
    for token in tokens:
        if not is_call(token) or why_out_of_scope(token) is not None:
            continue
        # A delete whose shutdown fails sets ERROR in Nova twice; once is enough.
        if token == "save{vm=error}" and kept[-1:] == [token]:
            continue
        kept.append(token)
    return kept


def with_powers(token: str, powers: Mapping[str, int]) -> str:
    """Put in the power states that the driver gave (``$drv``, or ``$drv1`` and ``$drv2``)."""
    for name in sorted(powers, reverse=True):
        token = token.replace(f"power={name}", f"power={powers[name]}")
    return token


def same_calls(expected: Sequence[str], calls: Sequence[tuple[str, ...]]) -> bool:
    """Check whether each call may be called by the word that is expected."""
    return len(expected) == len(calls) and all(word in words for word, words in zip(expected, calls, strict=True))


def fault_of(row: Row, trace: Sequence[str]) -> tuple[str, int, list[str]]:
    """Return the failing call of a fault row, its number among our calls, and our calls until it, it included."""
    seen = -1
    for place, token in enumerate(trace):
        if not is_call(token):
            continue
        seen += 1
        if seen == row["call_index"]:
            if not token.startswith(row["call"]):
                raise ValueError(f"{row}: call {seen} of {trace} is {token}")
            until = ours(trace[: place + 1])
            return token, len(until) - 1, until
    raise ValueError(f"{row}: {trace} has no call {row['call_index']}")
