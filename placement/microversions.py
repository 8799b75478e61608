"""Choice of the microversion.  Pure.

The lowest that has what is needed is used: the least changes with it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self


@dataclass(frozen=True, slots=True, order=True)
class Microversion:
    """A microversion, such as 1.20; ordered as numbers, so 1.9 is before 1.20."""

    major: int
    minor: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse "1.20".

        :raises ValueError: it is not two numbers with a point between them.
        """
        if not re.fullmatch(r"[0-9]{1,6}\.[0-9]{1,6}", text):
            raise ValueError(f"not a microversion: {text[:40]!r}; must be like 1.20")
        major, minor = text.split(".")
        return cls(int(major), int(minor))

    def __str__(self) -> str:
        """Return the text of the API."""
        return f"{self.major}.{self.minor}"


OLDEST: Final = Microversion(1, 0)
NEEDED: Final = Microversion(1, 28)
"""The first where an allocation has a consumer generation (Rocky, 2018); used unless a server is older."""
TRAITS: Final = Microversion(1, 6)
"""The first with traits."""
NEWEST_KNOWN: Final = Microversion(1, 39)
"""The last one that was tested (openstack-placement 16)."""


@dataclass(frozen=True, slots=True)
class Offer:
    """Range of microversions of a server, both ends included."""

    lowest: Microversion
    highest: Microversion


def read_refusal(document: Any) -> tuple[Offer, ...]:
    """Parse the ranges that the server offers in a 406; empty where it offers none."""
    match document:
        case {"errors": [*entries]}:
            return tuple(offer for entry in entries if (offer := _offer(entry)) is not None)
        case _:
            return ()


def microversion_of(headers: Mapping[str, str]) -> Microversion | None:
    """Return the microversion of a response; None: it has no header, and is in the oldest."""
    service, _, version = headers.get("openstack-api-version", "").partition(" ")
    try:
        return Microversion.parse(version.strip()) if service == "placement" else None
    except ValueError:
        return None


def negotiate(offers: Sequence[Offer]) -> Microversion:
    """Return the microversion for a server with these ranges.

    :raises ValueError: there is none in common.
    """
    fitting = [offer for offer in offers if offer.lowest <= NEWEST_KNOWN and offer.highest >= OLDEST]
    if not fitting:
        theirs = ", ".join(f"{offer.lowest} to {offer.highest}" for offer in offers)
        raise ValueError(
            f"no microversion in common: it has {theirs}, this bringup knows {OLDEST} to {NEWEST_KNOWN}; "
            "a newer bringup is needed"
        )
    best = max(fitting, key=lambda offer: offer.highest)
    return max(best.lowest, min(NEEDED, best.highest))


def _offer(entry: Any) -> Offer | None:
    match entry:
        case {"min_version": str() as lowest, "max_version": str() as highest}:
            try:
                offer = Offer(Microversion.parse(lowest), Microversion.parse(highest))
            except ValueError:
                return None
            return offer if offer.lowest <= offer.highest else None
        case _:
            return None
