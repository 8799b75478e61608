"""The claim: what stands between a decision and a guest that runs on two hosts.

Right before a verb that can start a guest the instance is claimed: in one transaction its record is read afresh, its
owner and its migrations are checked, and the claim is written.  Two hosts never hold a claim on one instance at once.
What the guest needs is checked once more by the driver, as near to the start as can be; here only before a revert,
which moves files first.  Right after the verb the claim is released and the record is read once more; where it moved
while the guest was being started, it is powered off.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio

from bringup.daemon import closing
from bringup.daemon.decisions.instances import Expected
from bringup.daemon.errors import NotOursToStart, RecordNotFound, StateConflict, StoreError
from bringup.daemon.logs import get_logger
from bringup.daemon.recovery.guest_needs import require_needs
from bringup.daemon.recovery.guest_power import power_off_now
from bringup.daemon.recovery.pause import Pause
from bringup.daemon.recovery.working_copy import WorkingCopy
from bringup.daemon.storage.store.base import Claimant, Store
from bringup.drivers.base import Driver

log = get_logger()

RELEASE_CLAIM_S = closing.RELEASE_CLAIM_S
"""How long the release of a claim may take, with the power-off of a guest that must not run."""


def _surely() -> None:
    """Hold a lease that nobody can lose."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartClaim:
    """Right to start guests: only while an instance is surely this host's."""

    store: Store
    driver: Driver
    claimant: Claimant
    pause: Pause = field(default_factory=Pause)
    check_lease: Callable[[], None] = _surely
    """Raises :class:`bringup.daemon.errors.LeaseHeld` when another daemon may work for this host."""

    @asynccontextmanager
    async def holding(
        self, record: WorkingCopy, *, reverting: bool = False, unpausing: bool = False
    ) -> AsyncIterator[None]:
        """Hold the claim on an instance for as long as the block lasts.

        ``reverting``: the block rolls a cold migration or resize back.  ``unpausing``: it resumes a guest
        that is paused, which needs nothing.

        :raises NotOursToStart: it must not be started: the block was not entered, or was and its guest is off again.
        :raises StoreError: that could not be found out; the block was not entered.
        :raises NeedNotMet: something that the guest needs is not there; the block was not entered.
        """
        await self._claim(record, reverting=reverting)
        moved: StateConflict | None = None
        try:
            if reverting or unpausing or self.pause.is_active:
                await require_needs(record.instance, self.driver, self.pause, unpausing=unpausing)
            yield
        finally:
            with anyio.move_on_after(RELEASE_CLAIM_S, shield=True) as scope:
                moved = await self._release(record, reverting=reverting)
            if scope.cancelled_caught:
                log.error("claim.not_released", error=f"no answer in {RELEASE_CLAIM_S:g} s")
        if moved is not None:
            raise NotOursToStart(f"stopped {record.instance.uuid} again, which moved while it was started") from moved

    async def _claim(self, record: WorkingCopy, *, reverting: bool) -> None:
        stored = record.stored
        try:
            self.check_lease()
            await self.store.begin_start(
                stored.uuid,
                self.claimant,
                expected=Expected((stored.vm_state,), (stored.task_state,)),
                reverting=reverting,
                left_over=record.left_over,
            )
        except StateConflict as error:
            raise NotOursToStart(f"did not start {stored.uuid}") from error

    async def _release(self, record: WorkingCopy, *, reverting: bool) -> StateConflict | None:
        """Release the claim; power off the guest and return why, where it must not run."""
        try:
            await self.store.end_start(
                record.instance.uuid, self.claimant, reverting=reverting, left_over=record.left_over
            )
        except RecordNotFound:
            log.debug("instance.not_found")
        except StateConflict as error:
            log.error("instance.moved_while_started", error=str(error))  # noqa: TRY400 - a sentence, no traceback
            await power_off_now(record, self.driver)
            return error
        except StoreError as error:
            # The claim ends with the lease; the next save of the record finds out whether it moved.
            log.warning("claim.not_released", error=str(error))
        return None
