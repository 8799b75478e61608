"""How a need is made and bounded.  Pure."""

from dataclasses import dataclass
from typing import Final

from bringup.drivers.needs import MetBy, Need, NeedKind, NeedState

LONGEST: Final = 300


@dataclass(frozen=True, slots=True)
class Verdict:
    """A need, and the disk that libvirt could be asked for where this process does not see it."""

    need: Need
    disk: str = ""
    optional: bool = False
    """Nothing is amiss where it is absent."""


def need(kind: NeedKind, name: str, *, absent: str = "", unverified: str = "", met_by: MetBy = MetBy.HOST) -> Need:
    """Make a need: ``absent`` or ``unverified`` says why it is not met; neither, that it is."""
    why, state = absent or unverified, NeedState.UNVERIFIED
    if absent:
        state = NeedState.ABSENT
    elif not unverified:
        state, met_by = NeedState.MET, MetBy.HOST
    return Need(kind=kind, name=_shown(name), state=state, met_by=met_by, why=_shown(why))


def _shown(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)[:LONGEST]
