"""Guests that were started are watched for a while after their boot: whether they are reachable.

A verdict is beside the outcome: it is shown, logged, kept and reported, and nothing is done about it.
"""

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
"""How often the guests are read."""
LOOK_S = 10.0
"""How long one read of them may take."""
GIVE_UP_S = 60.0
"""A guest that cannot be read for so long when it is to be judged is not judged."""
BOOT_S = 600.0
"""A guest is not expected to boot for longer, if nobody knows whether it is ready."""


@dataclass(slots=True)
class _Watched:
    over_at: float
    """When it was watched for long enough."""
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
        self.verdicts: dict[str, GuestVerdict] = {}
        """By UUID."""

    @property
    def is_over(self) -> bool:
        """Every guest that was started has its verdict, or is not judged."""
        return not self._watched

    def observe(self, event: RunEvent) -> None:
        """Watch guests that boot; once they have booted, for so long."""
        match event:
            case InstanceBoots(uuid):
                self._watched[uuid] = _Watched(anyio.current_time() + BOOT_S)
                self.verdicts.pop(uuid, None)
                self._woken.set()
            case InstanceReady(uuid) if uuid in self._watched:
                watched = self._watched[uuid]
                watched.is_ready, watched.over_at = True, anyio.current_time() + self._policy.within
                self._woken.set()

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Watch them until cancelled."""
        self._driver.register_sign_listener(self._heard)
        task_status.started()
        while True:
            await self._wait()
            try:
                await self._look()
            except Exception as error:  # noqa: BLE001 - whatever a driver raises: they are read again
                log.debug("verification.not_seen", error=repr(error))
                self._give_up()
            else:
                await self._judge()

    def _heard(self, sign: GuestSign) -> None:
        watched = self._watched.get(sign.uuid)
        if watched is not None:
            watched.found.hear(sign)
            if sign.kind != "agent_connected":
                watched.is_alarmed = True
                self._woken.set()

    @property
    def _due(self) -> list[str]:
        now = anyio.current_time()
        return [uuid for uuid, each in self._watched.items() if each.is_ready or each.is_alarmed or each.over_at <= now]

    async def _wait(self) -> None:
        """Wait until guests are to be read."""
        while not self._watched:
            await self._until_woken()
        in_s = min(each.over_at for each in self._watched.values()) - anyio.current_time()
        if self._due:
            in_s = min(in_s, self._every_s)
        # An event is worth a look, a storm of them not one each.
        await anyio.sleep(self._every_s / 10)
        with anyio.move_on_after(in_s):
            await self._until_woken()

    async def _until_woken(self) -> None:
        await self._woken.wait()
        self._woken = anyio.Event()

    async def _look(self) -> None:
        uuids = self._due
        if not uuids:
            return
        with anyio.fail_after(LOOK_S):
            seen = await self._driver.vital_signs(uuids)
        for uuid in uuids:
            if watched := self._watched.get(uuid):
                watched.is_alarmed = False
                watched.found.see(seen.get(uuid), anyio.current_time())

    def _give_up(self) -> None:
        """Forget guests that should have been judged long ago."""
        given_up = anyio.current_time() - GIVE_UP_S
        late = [uuid for uuid, each in self._watched.items() if each.over_at < given_up]
        for uuid in late:
            del self._watched[uuid]

    async def _judge(self) -> None:
        now = anyio.current_time()
        for uuid, watched in [*self._watched.items()]:
            is_judged, verdict = judge(watched.found, is_over=now >= watched.over_at)
            # It may have been started once more meanwhile.
            if is_judged and self._watched.get(uuid) is watched:
                del self._watched[uuid]
                if verdict is not None:
                    await self._note(uuid, verdict)

    async def _note(self, uuid: str, verdict: GuestVerdict) -> None:
        self.verdicts[uuid] = verdict
        if verdict.word == "broken":
            log.warning("instance.broken", instance=uuid, why=verdict.why)
        else:
            log.info("instance.verified", instance=uuid, verdict=verdict.word, why=verdict.why)
        self._observer(InstanceVerified(uuid, verdict))
        with suppress(JournalError):
            await self._journal.verified(uuid, verdict)
