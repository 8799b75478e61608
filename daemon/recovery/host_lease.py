"""The lease of a host: one daemon for one host name, whatever machines they run on.

The lease is kept in the store.  Whether it still surely holds is known by this machine's monotonic clock, counted
from before the last renewal was asked for: a store that is away, or a process that was stopped, loses it in time.
"""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import inf
from typing import NoReturn

import anyio

from bringup.daemon import closing
from bringup.daemon.errors import LeaseHeld, StoreError, Temporary, chain_of
from bringup.daemon.liveness import Vitals
from bringup.daemon.logs import get_logger
from bringup.daemon.storage.store.base import Claimant, Store

log = get_logger()

DROP_S = closing.LEASE_S


class Lease:
    """What is known of a lease."""

    def __init__(self, store: Store, claimant: Claimant, *, for_s: float, lapses: bool = True) -> None:
        """Acquire nothing yet; the lease is acquired ``for_s`` seconds at a time.

        One that does not lapse is only checked so often: it holds until the store says that it does not.
        """
        self._store = store
        self._claimant = claimant
        self._for_s = for_s
        self._lapses = lapses
        self._until = 0.0
        self._is_lost = False

    def check(self) -> None:
        """Make sure that nobody else may work for this host.

        :raises LeaseHeld: somebody may.
        """
        if time.monotonic() >= self._until:
            raise LeaseHeld(
                f"the lease of host {self._claimant.host} was not renewed in time: another daemon may work for it"
            )

    async def take(self) -> None:
        """Acquire or renew it.

        :raises StoreError: that did not work.
        """
        asked = time.monotonic()
        await self._store.take_lease(self._claimant, for_s=self._for_s)
        self._until = asked + self._for_s if self._lapses else inf

    async def keep(self, vitals: Vitals) -> NoReturn:
        """Renew it until cancelled."""
        while True:
            vitals.expect("the renewal of the lease", within_s=self._for_s)
            await anyio.sleep(self._for_s / 3)
            try:
                with anyio.fail_after(self._for_s / 3):
                    await self.take()
            except (StoreError, TimeoutError) as error:
                self._renewal_failed(error)
            else:
                if self._is_lost:
                    self._is_lost = False
                    log.info("lease.reacquired", host=self._claimant.host)

    def _renewal_failed(self, error: Exception) -> None:
        log.warning("lease.not_renewed", host=self._claimant.host, error=chain_of(error))
        if isinstance(error, LeaseHeld):
            self._until = 0.0
        if time.monotonic() >= self._until and not self._is_lost:
            self._is_lost = True
            log.error("lease.lost", host=self._claimant.host, means="nothing is started or destroyed here now")

    async def drop(self) -> None:
        """Release it; one that cannot be released lapses."""
        self._until = 0.0
        with anyio.move_on_after(DROP_S, shield=True):
            try:
                await self._store.drop_lease(self._claimant)
            except StoreError as error:
                log.warning("lease.not_released", host=self._claimant.host, error=chain_of(error))


@asynccontextmanager
async def held_lease(store: Store, claimant: Claimant, *, for_s: float, lapses: bool = True) -> AsyncIterator[Lease]:
    """Acquire the lease of a host, and release it at the end of the block; :meth:`Lease.keep` must run meanwhile.

    :raises Temporary: another daemon holds it, or the store could not be written.
    """
    lease = Lease(store, claimant, for_s=for_s, lapses=lapses)
    try:
        await lease.take()
    except StoreError as error:
        raise Temporary(f"cannot work for host {claimant.host}; no instance was touched") from error
    try:
        yield lease
    finally:
        await lease.drop()
