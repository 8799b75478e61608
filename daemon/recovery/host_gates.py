"""What the guests of a host rely on together, found before the first of them is touched: a switch, a mount, a filter.

A fault of the host is not a fault of each guest.  What is not there is waited for, each with the same budget; then the
start ends with 69 and says what to do, no record is changed, and systemd tries it again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import anyio
from tenacity import AsyncRetrying, RetryCallState, retry_if_result, wait_random_exponential

from bringup.daemon.decisions.from_record import FROM_RECORD
from bringup.daemon.decisions.rules import Facts, decide
from bringup.daemon.decisions.run_events import PhaseBegan
from bringup.daemon.errors import Unavailable
from bringup.daemon.logs import get_logger
from bringup.daemon.recovery.context import Host
from bringup.daemon.recovery.load_records import HostRecords
from bringup.drivers.base import Driver, Guest
from bringup.drivers.needs import MetBy, Need, NeedState

log = get_logger()

RETRYING: Final = AsyncRetrying(
    retry=retry_if_result(bool), wait=wait_random_exponential(multiplier=0.5, min=0.25, max=5)
)
"""While anything is not met."""
SETTLED: Final = "no instance was touched"


def concerned(records: HostRecords, settled: frozenset[str]) -> list[Guest]:
    """Return the guests that something is done to or read of: what only the others need is not waited for."""
    own = [facts for facts in records.own if facts.instance.uuid not in settled and not _is_left_alone(facts)]
    evacuated = [facts for facts in records.evacuated if facts.instance.uuid not in settled]
    return [facts.instance for facts in (*own, *evacuated)]


def _is_left_alone(facts: Facts) -> bool:
    """Check whether the record alone says that nothing is to be done: deleted softly, in error."""
    plan = decide(FROM_RECORD, facts)
    return plan.ends and not plan.steps


async def needs_of_the_host(driver: Driver, guests: Sequence[Guest], *, deadline_s: float) -> list[Need]:
    """Read what guests need together, met or not.

    :raises Unavailable: it could not be found out.
    """
    try:
        with anyio.fail_after(deadline_s):
            return list(await driver.host_needs(guests))
    except Exception as error:
        raise Unavailable(f"cannot find out what the guests of this host rely on; {SETTLED}") from error


@dataclass(slots=True)
class _Waiting:
    """Since when each need is waited for."""

    wait_s: float
    since: dict[tuple[str, str], float] = field(default_factory=dict)

    def over(self, unmet: Sequence[Need]) -> list[Need]:
        """Return those whose budget is used up, or that only an operator can meet."""
        now = anyio.current_time()
        keys = {_key(need) for need in unmet}
        # One that came and went has its whole budget again.
        self.since = {key: began for key, began in self.since.items() if key in keys}
        for key in keys:
            self.since.setdefault(key, now)
        return [need for need in unmet if need.met_by is MetBy.PERSON or now - self.since[_key(need)] >= self.wait_s]


def _key(need: Need) -> tuple[str, str]:
    return need.kind.value, need.name


async def pass_host_gates(host: Host, guests: Sequence[Guest]) -> None:
    """Return once all that guests need together is there.

    :raises Unavailable: something is not, and was waited for long enough.
    """
    if not guests:
        return
    waiting = _Waiting(host.limits.host_wait)
    unmet: list[Need] = []

    async def look() -> list[Need]:
        needs = await needs_of_the_host(host.driver, guests, deadline_s=host.limits.host_deadline)
        unmet[:] = [need for need in needs if need.state is not NeedState.MET]
        if over := waiting.over(unmet):
            raise Unavailable(f"{sentence_of(over)}; {SETTLED}")
        return unmet

    def announce(state: RetryCallState) -> None:
        in_s, lacking = state.upcoming_sleep, sentence_of(unmet)
        log.warning("host.waiting", needs=[need.name for need in unmet], error=lacking, again_in_s=in_s)
        host.observer(PhaseBegan("host", f"waits for {lacking}; looks again in {in_s:.1f} s"))

    await RETRYING.copy(before_sleep=announce).wraps(look)()


def sentence_of(unmet: Sequence[Need]) -> str:
    """Describe what is missing, each with what is to be done."""
    return "; ".join(f"{need.name}: {need.why}" if need.why else f"{need.name} is not there" for need in unmet)
