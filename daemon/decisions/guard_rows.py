"""What waits for an operator's word: rows of two tables."""

from bringup.daemon.decisions.outcomes import Kind
from bringup.daemon.decisions.rules import Facts, Next, Rule, nothing


def _is_held(facts: Facts, rule: str) -> bool:
    return facts.hold is not None and facts.hold.rule == rule


HELD_ROWS: tuple[Rule, ...] = (
    Rule(
        "quarantined",
        lambda f: _is_held(f, "quarantined"),
        nothing,
        Next.END,
        "It was being worked on each time the host died lately: it may be what kills it.",
        Kind.HELD,
    ),
    Rule(
        "destruction_held",
        lambda f: _is_held(f, "destruction_held"),
        nothing,
        Next.END,
        "This run would destroy more guests than the guards allow: it destroys none before somebody has looked.",
        Kind.HELD,
    ),
)
