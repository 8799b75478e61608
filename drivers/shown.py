"""A value of others as it may stand in a sentence: one line, bounded, printable whatever it holds.  Pure."""

from typing import Final

LONGEST: Final = 60


def shown(value: object) -> str:
    """Write a value for a message.  What cannot be written, nested too deep or too long a number, gives its type."""
    try:
        text = ascii(value[: LONGEST + 1] if isinstance(value, str) else value)
    except (ValueError, RecursionError):
        return f"of type {type(value).__name__}"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
