"""Which microversion to speak.  Pure.

The lowest that has what is needed: the less is asked for, the less can change under it.
"""

import re
from dataclasses import dataclass
from typing import Any, Final, Self


@dataclass(frozen=True, slots=True, order=True)
class Microversion:
    """A microversion, such as 1.20; ordered as numbers, so 1.9 is before 1.20."""

    major: int
    minor: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "1.20".

        :raises ValueError: it is not two numbers with a point between them.
        """
        if not re.fullmatch(r"[0-9]{1,6}\.[0-9]{1,6}", text):
            raise ValueError(f"not a microversion: {text[:40]!r}; must be like 1.20")
        major, minor = text.split(".")
        return cls(int(major), int(minor))

    def __str__(self) -> str:
        """Write it as the API does."""
        return f"{self.major}.{self.minor}"


OLDEST: Final = Microversion(1, 0)
NEEDED: Final = Microversion(1, 20)
"""The first where ``POST /resource_providers`` answers with the provider; before it, 201 and its address."""
NEWEST_KNOWN: Final = Microversion(1, 39)
"""The last one that this code was tried with (openstack-placement 16)."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What a server has, both ends included."""

    lowest: Microversion
    highest: Microversion


def read_offers(document: Any) -> tuple[Offer, ...]:
    """Read the version document.

    :raises ValueError: it is not one of Placement.
    """
    match document:
        case {"versions": [*entries]}:
            offers = tuple(offer for entry in entries if (offer := _offer(entry)) is not None)
        case _:
            offers = ()
    if not offers:
        raise ValueError("the version document is not Placement's")
    return offers


def negotiate(document: Any) -> Microversion:
    """Choose what to speak with a server that has this version document.

    :raises ValueError: it is not Placement's, or there is nothing that both sides know.
    """
    offers = read_offers(document)
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
