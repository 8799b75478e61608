"""One daemon for one host name, and one that notices when it is not the one any more."""

from typing import cast

import anyio
import pytest
from structlog.testing import capture_logs

from bringup.daemon.errors import LeaseHeld, StoreError, Temporary
from bringup.daemon.liveness import Vitals
from bringup.daemon.recovery.host_lease import Lease, held_lease
from bringup.daemon.storage.store.base import Claimant, Store

pytestmark = pytest.mark.anyio

MINE = Claimant("compute-1", "node-1")


class Leases:
    """A store of one lease; it can be away."""

    def __init__(self) -> None:
        self.holder: str | None = None
        self.taken = 0
        self.error: Exception | None = None
        self.hangs = False

    async def take_lease(self, claimant: Claimant, *, for_s: float) -> None:
        del for_s
        await anyio.lowlevel.checkpoint()
        self.taken += 1
        if self.hangs:
            await anyio.sleep_forever()
        if self.error is not None:
            raise self.error
        if self.holder not in (None, claimant.holder):
            raise LeaseHeld("another daemon works for host compute-1")
        self.holder = claimant.holder

    async def drop_lease(self, claimant: Claimant) -> None:
        await anyio.lowlevel.checkpoint()
        if self.error is not None:
            raise self.error
        if self.holder == claimant.holder:
            self.holder = None


def store_of(leases: Leases) -> Store:
    return cast("Store", leases)


async def until_taken(leases: Leases, more: int) -> None:
    wanted = leases.taken + more
    with anyio.fail_after(60):
        while leases.taken < wanted:
            await anyio.lowlevel.checkpoint()


async def until_lost(lease: Lease) -> None:
    with anyio.fail_after(60):
        while True:
            try:
                lease.check()
            except LeaseHeld:
                return
            await anyio.lowlevel.checkpoint()


async def test_it_is_held_for_the_block_and_renewed() -> None:
    leases = Leases()
    async with held_lease(store_of(leases), MINE, for_s=0.03) as lease, anyio.create_task_group() as group:
        group.start_soon(lease.keep, Vitals())
        lease.check()
        await until_taken(leases, 3)
        lease.check()
        group.cancel_scope.cancel()
    assert leases.holder is None
    with pytest.raises(LeaseHeld):
        lease.check()


async def test_another_daemon_is_a_reason_to_end_before_anything_is_touched() -> None:
    leases = Leases()
    leases.holder = "node-2"
    with pytest.raises(Temporary, match="no instance was touched") as raised:
        async with held_lease(store_of(leases), MINE, for_s=30):
            pass
    assert isinstance(raised.value.__cause__, LeaseHeld)
    assert leases.holder == "node-2"


@pytest.mark.parametrize("how", ["fails", "hangs"])
async def test_a_store_that_is_away_too_long_loses_it_and_it_is_taken_again(how: str) -> None:
    leases = Leases()
    with capture_logs() as logs:
        async with held_lease(store_of(leases), MINE, for_s=0.06) as lease, anyio.create_task_group() as group:
            group.start_soon(lease.keep, Vitals())
            if how == "hangs":
                leases.hangs = True
            else:
                leases.error = StoreError("the database is away")
            await until_lost(lease)
            await until_taken(leases, 2)
            leases.hangs, leases.error = False, None
            with anyio.fail_after(60):
                while not any(line["event"] == "lease.reacquired" for line in logs):
                    await anyio.lowlevel.checkpoint()
            lease.check()
            group.cancel_scope.cancel()
    names = [line["event"] for line in logs]
    assert names.count("lease.lost") == names.count("lease.reacquired") == 1


async def test_a_lease_that_another_has_taken_is_lost_at_once() -> None:
    leases = Leases()
    async with held_lease(store_of(leases), MINE, for_s=60) as lease:
        leases.holder = "node-2"
        with pytest.raises(LeaseHeld):
            await lease.take()
        lease._renewal_failed(LeaseHeld("node-2 has it"))
        with pytest.raises(LeaseHeld, match="was not renewed"):
            lease.check()
    assert leases.holder == "node-2"


async def test_one_that_cannot_be_dropped_ends_by_itself() -> None:
    leases = Leases()
    with capture_logs() as logs:
        async with held_lease(store_of(leases), MINE, for_s=60):
            leases.error = StoreError("the database is away")
    assert [line["event"] for line in logs] == ["lease.not_released"]


async def test_one_that_does_not_lapse_is_held_while_the_store_is_away_and_until_it_says_otherwise() -> None:
    leases = Leases()
    async with (
        held_lease(store_of(leases), MINE, for_s=0.03, lapses=False) as lease,
        anyio.create_task_group() as group,
    ):
        group.start_soon(lease.keep, Vitals())
        leases.error = StoreError("away")
        await until_taken(leases, 5)
        lease.check()

        leases.error, leases.holder = None, "node-2"
        await until_lost(lease)
        group.cancel_scope.cancel()
