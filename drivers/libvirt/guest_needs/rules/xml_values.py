"""Numbers and sets as libvirt writes them; what cannot be parsed is None, 0 or empty.  Pure."""

from types import MappingProxyType
from typing import Final

UNITS: Final = MappingProxyType(
    {
        "b": 1,
        "bytes": 1,
        "kb": 1000,
        "k": 1024,
        "kib": 1024,
        "mb": 1000**2,
        "m": 1024**2,
        "mib": 1024**2,
        "gb": 1000**3,
        "g": 1024**3,
        "gib": 1024**3,
        "tb": 1000**4,
        "t": 1024**4,
        "tib": 1024**4,
    }
)
MOST: Final = 4096
"""Larger numbers than any CPU has are ignored."""
DIGITS: Final = 18


def number(text: str | None) -> int | None:
    """Parse a number, decimal or hexadecimal with 0x."""
    text = (text or "").strip().lower()
    if len(text) > DIGITS:
        return None
    try:
        return int(text, 16) if text.startswith("0x") else int(text)
    except ValueError:
        return None


def kib_of(text: str | None, unit: str) -> int:
    """Parse a size; return it in KiB."""
    return (number(text) or 0) * UNITS.get(unit.lower(), 1024) // 1024


def cpus_of(text: str) -> frozenset[int]:
    """Parse a set of CPUs or nodes, such as ``0-3,^2,8``."""
    found: set[int] = set()
    for part in text.split(","):
        part = part.strip()  # noqa: PLW2901 - the same, cleaner
        first, _, last = part.removeprefix("^").partition("-")
        low = number(first)
        high = number(last) if last else low
        if low is None or high is None or not 0 <= low <= high < MOST:
            continue
        span = range(low, high + 1)
        if part.startswith("^"):
            found.difference_update(span)
        else:
            found.update(span)
    return frozenset(found)
