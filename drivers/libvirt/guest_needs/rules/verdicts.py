"""Verdicts: needs as the checks of a guest create them, with bounded texts.  Pure."""

from dataclasses import dataclass
from typing import Final

from bringup.drivers.needs import MetBy, Need, NeedKind, NeedState

LONGEST: Final = 300


@dataclass(frozen=True, slots=True)
class Verdict:
    """A need, and the disk to query libvirt for if this process cannot see it."""

    need: Need
    disk: str = ""
    optional: bool = False
    """The guest starts without it."""


@dataclass(frozen=True, slots=True)
class LibvirtObject:
    """Origin of a need that is met when libvirt starts one of its own objects."""

    kind: str
    """``network`` or ``pool``."""
    name: str


def need(
    kind: NeedKind,
    name: str,
    *,
    absent: str = "",
    unverified: str = "",
    met_by: MetBy = MetBy.HOST,
    origin: object = None,
) -> Need:
    """Return a need; ``absent`` or ``unverified`` is why it is not met; without either it is met."""
    why, state = absent or unverified, NeedState.UNVERIFIED
    if absent:
        state = NeedState.ABSENT
    elif not unverified:
        state, met_by = NeedState.MET, MetBy.HOST
    return Need(kind=kind, name=_shown(name), state=state, met_by=met_by, why=_shown(why), origin=origin)


def _shown(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)[:LONGEST]
