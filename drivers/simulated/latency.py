"""Latency of a verb of the simulated host: a number of seconds, or a distribution.

A draw depends on its key alone, never on former draws: concurrency and order do not change it, and a benchmark
can compute the lower bound of a run before the run.
"""

import hashlib
import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

LONGEST_S = 1e6
WIDEST_SIGMA = 10.0
_FORMS = (
    f'must be seconds from 0 to {LONGEST_S:.0f}, or {{"uniform": [low, high]}}, {{"exponential": mean}} or'
    f' {{"lognormal": {{"median": seconds, "sigma": 0 to {WIDEST_SIGMA:.0f}}}}}'
)
_BITS = 52
_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Uniform:
    """Seconds from ``low`` to ``high``, equally likely."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Exponential:
    """Seconds, ``mean`` of them on average."""

    mean: float


@dataclass(frozen=True, slots=True)
class Lognormal:
    """Seconds with a heavy tail: half of them below ``median``, the wider the greater ``sigma``."""

    median: float
    sigma: float


Latency = float | Uniform | Exponential | Lognormal


def draw_s(latency: Latency, *, seed: int, key: str) -> float:
    """Draw the seconds for ``key``: the same for the same seed and key, on every machine."""
    if not isinstance(latency, Uniform | Exponential | Lognormal):
        return latency
    digest = hashlib.blake2b(f"{seed}/{key}".encode(), digest_size=8).digest()
    # 52 bits and a half: never 0 and never 1, where the inverse distributions have no value.
    share: float = ((int.from_bytes(digest) >> (64 - _BITS)) + 0.5) / 2**_BITS
    match latency:
        case Uniform(low, high):
            return low + (high - low) * share
        case Exponential(mean):
            return -mean * math.log(share)
        case Lognormal(median, sigma):
            return median * math.exp(sigma * _NORMAL.inv_cdf(share))


def parse_latency(value: Any) -> Latency:
    """Parse a latency as a scenario writes it.

    :raises ValueError: it is none of the forms.
    """
    if _is_seconds(value):
        return float(value)
    match value:
        case {"uniform": [low, high], **rest} if not rest and _is_seconds(low) and _is_seconds(high) and low <= high:
            return Uniform(float(low), float(high))
        case {"exponential": mean, **rest} if not rest and _is_seconds(mean):
            return Exponential(float(mean))
        case {"lognormal": {"median": median, "sigma": sigma, **more}, **rest} if not rest and not more:
            if _is_seconds(median) and _is_seconds(sigma) and sigma <= WIDEST_SIGMA:
                return Lognormal(float(median), float(sigma))
    raise ValueError(_FORMS)


def write_latency(latency: Latency) -> float | dict[str, object]:
    """Return a latency in the form of a scenario."""
    match latency:
        case Uniform(low, high):
            return {"uniform": [low, high]}
        case Exponential(mean):
            return {"exponential": mean}
        case Lognormal(median, sigma):
            return {"lognormal": {"median": median, "sigma": sigma}}
        case _:
            return latency


def _is_seconds(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= LONGEST_S
