"""Guests that were started are watched for a while after their boot: whether they are reachable.

A verdict is beside the outcome: it is shown, logged, kept and reported, and nothing is done about it.
"""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field

import anyio
from anyio.abc import TaskStatus

from bringup.daemon.decisions.policies import VerifyPolicy
from bringup.daemon.decisions.run_events import InstanceBoots, InstanceReady, InstanceVerified, Observer, RunEvent
from bringup.daemon.decisions.verdicts import GuestVerdict, VitalEvidence, judge
from bringup.daemon.errors import JournalError
from bringup.daemon.logs import get_logger
from bringup.daemon.storage.journal import Journal
from bringup.drivers.base import Driver, GuestSign

log = get_logger()

EVERY_S = 5.0
"""How often the guests are read, at most."""
EVERY_AT_LEAST_S = 30.0
"""And at least."""
SHARE = 0.05
"""Between these: of the time no more than this is spent on it."""
AT_ONCE = 50
"""How many are read in one call: the others do not wait for those whose QEMU hangs."""
LOOK_S = 10.0
"""How long that may take."""
GIVE_UP_S = 60.0
"""A guest that cannot be read for so long when it is to be judged is not judged."""
BOOT_S = 600.0
"""A guest is not expected to boot for longer, if nobody knows whether it is ready."""


@dataclass(slots=True)
class _Watched:
    name: str
    over_at: float
    """When it was watched for long enough."""
    may_boot_until: float
    """Until then it may still boot, if it is at work."""
    found: VitalEvidence = field(default_factory=VitalEvidence)
    is_ready: bool = False
    is_alarmed: bool = False
    """An event was heard of it that may be its verdict already."""


class Verification:
    """Guests that are watched, and their verdicts."""

    def __init__(
        self, driver: Driver, policy: VerifyPolicy, *, observer: Observer, journal: Journal, every_s: float = EVERY_S
    ) -> None:
        """Store what they are watched with."""
        self._driver = driver
        self._policy = policy
        self._observer = observer
        self._journal = journal
        self._every_s = every_s
        self._watched: dict[str, _Watched] = {}
        self._woken = anyio.Event()
        self._next_at = 0.0
        """When all that have booted are read again."""
        self.verdicts: dict[str, GuestVerdict] = {}
        """By UUID."""

    @property
    def is_over(self) -> bool:
        """Every guest that was started has its verdict, or is not judged."""
        return not self._watched

    def observe(self, event: RunEvent) -> None:
        """Watch guests that boot; once they have booted, for so long."""
        now = anyio.current_time()
        match event:
            case InstanceBoots(uuid, name):
                self._watched[uuid] = _Watched(name, now + BOOT_S, now + BOOT_S)
                self.verdicts.pop(uuid, None)
                self._woken.set()
            case InstanceReady(uuid, readiness) if watched := self._watched.get(uuid):
                watched.is_ready, watched.over_at = True, now + self._policy.within
                if readiness.by is not None:
                    watched.may_boot_until = now
                self._woken.set()

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Watch them until cancelled."""
        self._driver.register_sign_listener(self._heard)
        task_status.started()
        while True:
            await self._wait()
            await self._judge(await self._look())
            self._give_up()

    def _heard(self, sign: GuestSign) -> None:
        watched = self._watched.get(sign.uuid)
        if watched is None:
            return
        watched.found.hear(sign)
        if sign.kind == "rebooted":
            # It boots once more; in a loop it is judged soon.
            now = anyio.current_time()
            watched.may_boot_until = now + BOOT_S
            watched.over_at = max(watched.over_at, now + self._policy.within)
        if sign.kind != "agent_connected":
            watched.is_alarmed = True
            self._woken.set()

    async def _wait(self) -> None:
        """Wait until guests are to be read."""
        while not self._watched:
            await self._until_woken()
        # An event is worth a look, a storm of them not one each.
        await anyio.sleep(self._every_s / 10)
        boots = [each.over_at for each in self._watched.values() if not each.is_ready]
        is_any_ready = len(boots) < len(self._watched)
        at = self._next_at if is_any_ready else max(self._next_at, min(boots, default=0.0))
        with anyio.move_on_after(at - anyio.current_time()):
            await self._until_woken()

    async def _until_woken(self) -> None:
        await self._woken.wait()
        self._woken = anyio.Event()

    async def _look(self) -> list[str]:
        """Read guests: those of which an event was heard, and from time to time all; return which were read."""
        began = anyio.current_time()
        is_time = began >= self._next_at
        due = {
            uuid: each
            for uuid, each in self._watched.items()
            if each.is_alarmed or (is_time and (each.is_ready or each.over_at <= began))
        }
        uuids = [*due]
        read: list[str] = []
        for at in range(0, len(uuids), AT_ONCE):
            batch = uuids[at : at + AT_ONCE]
            try:
                with anyio.fail_after(LOOK_S):
                    seen = await self._driver.vital_signs(batch)
            except Exception as error:  # noqa: BLE001 - whatever a driver raises: they are read again
                log.debug("verification.not_seen", error=repr(error))
                continue
            now = anyio.current_time()
            # It may have been started once more meanwhile.
            for uuid in (uuid for uuid in batch if self._watched.get(uuid) is due[uuid]):
                due[uuid].is_alarmed = False
                due[uuid].found.see(seen.get(uuid), now)
                read.append(uuid)
        if is_time:
            now = anyio.current_time()
            took_s = now - began if len(read) == len(uuids) else 0.0
            self._next_at = now + max(self._every_s, min(EVERY_AT_LEAST_S, took_s / SHARE))
        return read

    def _give_up(self) -> None:
        """Forget guests that should have been judged long ago."""
        given_up = anyio.current_time() - GIVE_UP_S
        late = [uuid for uuid, each in self._watched.items() if each.over_at < given_up]
        for uuid in late:
            del self._watched[uuid]
        if late:
            log.warning("verification.given_up", instances=sorted(late))

    async def _judge(self, uuids: Iterable[str]) -> None:
        now = anyio.current_time()
        for uuid in uuids:
            watched = self._watched.get(uuid)
            if watched is None:
                continue
            is_over = now >= watched.over_at
            is_judged, verdict = judge(watched.found, is_over=is_over, may_boot=now < watched.may_boot_until)
            if is_judged:
                del self._watched[uuid]
                if verdict is not None:
                    await self._note(uuid, watched.name, verdict)
            elif is_over:
                watched.over_at = now + self._policy.within

    async def _note(self, uuid: str, name: str, verdict: GuestVerdict) -> None:
        self.verdicts[uuid] = verdict
        if verdict.word == "broken":
            log.warning("instance.broken", instance=uuid, name=name, why=verdict.why)
        else:
            log.info("instance.verified", instance=uuid, name=name, verdict=verdict.word, why=verdict.why)
        self._observer(InstanceVerified(uuid, verdict))
        with suppress(JournalError):
            await self._journal.verified(uuid, verdict)
