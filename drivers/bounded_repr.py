"""Representation of a foreign value for a message: one line, bounded, printable whatever it holds.  Pure.

Not for addresses, which may contain a password: ``placement/unencrypted.without_secrets`` removes that.  ``placement``
and ``drivers`` import nothing of each other, so each has its own function.
"""

from typing import Final

LONGEST: Final = 60


def bounded_repr(value: object) -> str:
    """Return a value as ASCII, at most :data:`LONGEST` characters and "..."; its type if it cannot be written.

    A value cannot be written if it is nested too deeply, or is a number with too many digits.
    """
    try:
        text = ascii(value[: LONGEST + 1] if isinstance(value, str) else value)
    except (ValueError, RecursionError):
        return f"of type {type(value).__name__}"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
