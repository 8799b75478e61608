"""A region that powers on, simulated: hosts log in at Keystone's workers and pass the gate.

What a host of ours decides is decided by the product's own functions: whether to log in, how long to wait, how long to
be patient.  The costs were measured on a real Keystone and a real Placement (docs/performance.md).
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from tenacity import AsyncRetrying, RetryCallState

from bringup.placement.backoff import wait_s
from bringup.placement.client import MOST_PATIENCE
from bringup.placement.errors import KeystoneWait, Unreachable
from bringup.placement.kept_login import LoginState
from bringup.placement.keystone import LOGIN_S as LOGIN_PATIENCE_S
from bringup.placement.keystone import may_log_in
from bringup.placement.retry_after import jittered
from support.discrete_events import (
    AWAY,
    DONE,
    LATE,
    SPARE_SHARE,
    Answer,
    Attempt,
    Events,
    Process,
    Request,
    Server,
    Sleep,
)
from support.region import RESTART_S, WAIT_S

LOGIN_S = 0.214
"""Of one worker: a password in 12 rounds of bcrypt."""
PROBE_S = 0.0014
LOOKUP_S = 0.0037
"""Placement asks Keystone about a token that it has not seen."""
GET_S = 0.0045
CONNECT_S, READ_S = 5.0, 10.0
"""``placement.connect_timeout`` and ``placement.read_timeout``."""
BOOTED_S, BOOTED_SD_S = 60.0, 15.0
"""Hosts boot within some 30 s of each other."""
WAITED_S = 80.0
"""Of an outage, so much is simulated: by then no wait grows any more."""
FORMER_WAIT_S, FORMER_LARGEST_S = 60.0, 5.0
"""Of a gate without pacing: then it exits with 69, and is started again."""


PROXY_S = 5.0
"""Length of the queue above which a proxy refuses."""
POLICY = AsyncRetrying()


@dataclass
class Region:
    """Hosts, and what is between them and the end of the gate."""

    hosts: int
    workers: int
    outage_s: float = 0.0
    refuses_above_s: float | None = None
    events: Events = field(default_factory=Events)
    passed_at_s: list[float] = field(default_factory=list)
    logins: int = 0
    probes: int = 0
    exits: int = 0

    def __post_init__(self) -> None:
        """Start the servers."""
        away_s = min(self.outage_s, WAITED_S)
        self.keystone = Server(self.events, self.workers, away_until_s=away_s, refuses_above_s=self.refuses_above_s)
        self.placement = Server(self.events, self.workers)

    @property
    def is_ended(self) -> bool:
        """Whether all hosts have passed."""
        return len(self.passed_at_s) == self.hosts


def ours(region: Region) -> Process:
    """Pass the gate as the product does."""
    state, began_s, attempts, patience = LoginState(), region.events.now_s, 0, 1.0
    has_token = False
    while region.events.now_s - began_s < WAIT_S:
        attempts, tried_s = attempts + 1, region.events.now_s
        error: Unreachable | None = None
        if not has_token:
            error = yield from _log_in(region)
            has_token = error is None
        if error is None:
            error = yield from _query_placement(region, READ_S * patience)
            if error is None:
                region.passed_at_s.append(region.events.now_s)
                return
            if error.is_late:
                patience = min(2 * patience, MOST_PATIENCE)
        else:
            now_s = region.events.now_s
            state = state.after_failure(is_queued=error.is_late, now=now_s)
            queued_s = None if state.queued_since is None else now_s - state.queued_since
            error.of_keystone = KeystoneWait(failures=state.failures, queued_s=queued_s, took_s=now_s - tried_s)
        yield Sleep(_wait_s(attempts, error))
    region.exits += 1


def _log_in(region: Region) -> Attempt[Unreachable | None]:
    """Probe Keystone and log in, as ``KeystoneAuth.log_in`` does."""
    region.probes += 1
    began_s = region.events.now_s
    answer = yield Request(region.keystone, PROBE_S, CONNECT_S + READ_S)
    if answer.reply == "done" and not may_log_in(region.events.now_s - began_s, draw=random.random()):  # noqa: S311
        answer = LATE
    if answer.reply == "done":
        answer = yield from _request_token(region, LOGIN_PATIENCE_S)
    return _error_of(answer)


def _request_token(region: Region, patience_s: float) -> Attempt[Answer]:
    """Log in; counted are logins that reach Keystone."""
    answer = yield Request(region.keystone, LOGIN_S, patience_s)
    region.logins += answer in (DONE, LATE)
    return answer


def _query_placement(region: Region, patience_s: float) -> Attempt[Unreachable | None]:
    """Find the resource provider: Placement asks Keystone about the token, behind the same queue."""
    answer = yield Request(region.keystone, LOOKUP_S, patience_s)
    if answer.reply == "done":
        answer = yield Request(region.placement, GET_S, patience_s)
    return _error_of(answer)


def _error_of(answer: Answer) -> Unreachable | None:
    if answer.reply == "done":
        return None
    error = Unreachable("log in", answer.reply)
    error.is_late, error.retry_after_s = answer.reply == "late", answer.retry_after_s
    return error


def _wait_s(attempts: int, error: Unreachable) -> float:
    state = RetryCallState(POLICY, None, (), {})
    state.attempt_number = attempts
    state.set_exception((Unreachable, error, None))
    return wait_s(state)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpaced:
    """A gate that logs in at once, gives up after ten seconds, tries again, and exits after a minute."""

    spread: float = 0.0
    """A start is delayed by up to so many times what all logins take: somebody knows how many hosts there are."""
    is_throttled: bool = False
    """The client throttle of Google's SRE book, K = 2: an attempt after n failures is made with probability 1/(n+1)."""

    def __call__(self, region: Region) -> Process:
        """Pass the gate."""
        yield Sleep(random.uniform(0, self.spread * region.hosts * LOGIN_S / region.workers / SPARE_SHARE))  # noqa: S311
        while True:
            began_s, failures, has_token = region.events.now_s, 0, False
            while (left_s := FORMER_WAIT_S - (region.events.now_s - began_s)) > 0:
                answer = AWAY
                if not self.is_throttled or random.random() < 1 / (failures + 1):  # noqa: S311
                    answer = DONE
                    if not has_token:
                        answer = yield from _request_token(region, min(left_s, READ_S))
                        has_token = answer is DONE
                    if has_token and (yield from _query_placement(region, min(left_s, READ_S))) is None:
                        region.passed_at_s.append(region.events.now_s)
                        return
                failures += 1
                ceiling_s = min(FORMER_LARGEST_S, 0.25 * 2 ** min(failures - 1, 10))
                yield Sleep(max(random.uniform(0.5, 1) * ceiling_s, jittered(answer.retry_after_s, at_most_s=30)))  # noqa: S311
            region.exits += 1
            yield Sleep(RESTART_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How hosts behave, and what is in front of Keystone."""

    name: str
    gate: Callable[[Region], Process]
    refuses_above_s: float | None = None


WAYS = (
    Way(name="no pacing", gate=Unpaced()),
    Way(name="start jitter", gate=Unpaced(spread=1.2)),
    Way(name="SRE throttle", gate=Unpaced(is_throttled=True)),
    Way(name="proxy", gate=Unpaced(), refuses_above_s=PROXY_S),
    Way(name="ours", gate=ours),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What a simulation shows; times from when Keystone is there and the first host is."""

    ideal_s: float
    """When all have passed where no work is wasted, and no worker waits while a host does."""
    passed: int
    half_s: float | None
    all_s: float | None
    """None: not all have passed when it was given up."""
    longest_queue_s: float
    """The longest wait of anybody else's request."""
    longest_refusal_s: float
    """The same while Keystone is away, at a proxy with one core that refuses."""
    logins_per_host: float
    probes_per_host: float
    exits: int
    wasted: float
    """Share of Keystone's work that nobody waited for."""
    passed_after_s: tuple[float, ...] = field(repr=False)

    @property
    def times_ideal(self) -> float | None:
        """How much longer than ideal all took."""
        return None if self.all_s is None else self.all_s / self.ideal_s


def simulate(
    way: Way, hosts: int, workers: int, *, outage_s: float = 0.0, limit_s: float = 600.0, seed: int = 1
) -> Figures:
    """Power a region on; give it up ``limit_s`` after the time that it takes where nothing is wasted."""
    random.seed(seed)
    region = Region(hosts=hosts, workers=workers, outage_s=outage_s, refuses_above_s=way.refuses_above_s)
    away_s = region.keystone.away_until_s
    booted_at = sorted(
        random.uniform(0, away_s / 2) if away_s else max(0.0, random.gauss(BOOTED_S, BOOTED_SD_S))  # noqa: S311
        for _ in range(hosts)
    )
    for at_s in booted_at:
        region.events.begin(way.gate(region), at_s)
    first_s, free_s = away_s or booted_at[0], away_s
    for at_s in booted_at:
        free_s = max(free_s, at_s) + LOGIN_S / workers / SPARE_SHARE
    region.events.run(free_s + limit_s, ended=lambda: region.is_ended)
    passed, keystone = region.passed_at_s, region.keystone
    return Figures(
        ideal_s=free_s - first_s,
        passed=len(passed),
        half_s=passed[hosts // 2] - first_s if len(passed) > hosts // 2 else None,
        all_s=passed[-1] - first_s if region.is_ended else None,
        longest_queue_s=keystone.longest_queue_s,
        longest_refusal_s=keystone.longest_refusal_s,
        logins_per_host=region.logins / hosts,
        probes_per_host=region.probes / hosts,
        exits=region.exits,
        wasted=keystone.wasted_s / keystone.worked_s if keystone.worked_s else 0.0,
        passed_after_s=tuple(at_s - first_s for at_s in passed),
    )
