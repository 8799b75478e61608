"""Claims and leases, over every store: who may start a guest."""

import itertools
from collections.abc import AsyncIterator

import anyio
import pytest

from bringup.daemon.decisions.instances import Expected
from bringup.daemon.decisions.migrating import AWAY_STATUSES
from bringup.daemon.decisions.states import TaskState, VmState
from bringup.daemon.errors import LeaseHeld, RecordNotFound, StateConflict
from bringup.daemon.storage.store.base import Claimant, ImportingStore
from support.records import HOST, instance, migration, records, uuid_of
from support.stores import STORES, Open

pytestmark = pytest.mark.anyio

MINE = Claimant(HOST, "node-1")
TWIN = Claimant(HOST, "node-2")
OTHER = Claimant("compute-2", "node-3")
ACTIVE = Expected((VmState.ACTIVE,), (None,))


@pytest.fixture(params=list(STORES.values()), ids=list(STORES))
def open_store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Open:
    directory = tmp_path_factory.mktemp("store")
    return lambda: request.param(directory)


@pytest.fixture
async def store(open_store: Open) -> AsyncIterator[ImportingStore]:
    opened = await open_store()
    await opened.take_lease(MINE, for_s=60)
    await opened.take_lease(OTHER, for_s=60)
    yield opened
    await opened.close()


async def claim(store: ImportingStore, claimant: Claimant = MINE, number: int = 1, *, reverting: bool = False) -> None:
    await store.begin_start(uuid_of(number), claimant, expected=ACTIVE, reverting=reverting)


async def test_a_claim_gives_the_record_as_it_is(store: ImportingStore) -> None:
    await store.import_records(records(instance(1)))
    given = await store.begin_start(uuid_of(1), MINE, expected=ACTIVE, reverting=False)
    assert given == instance(1)


async def test_a_claim_is_of_one_at_a_time_and_free_when_it_is_released(store: ImportingStore) -> None:
    await store.import_records(records(instance(1)))
    await claim(store)
    await store.import_records(records(instance(1, host="compute-2")))

    with pytest.raises(StateConflict, match=f"being started on {HOST}"):
        await claim(store, OTHER)

    with pytest.raises(StateConflict, match="is on host compute-2 now"):
        await store.end_start(uuid_of(1), MINE, reverting=False)
    await claim(store, OTHER)


async def test_who_has_the_claim_may_claim_again(store: ImportingStore) -> None:
    """A daemon that was killed while it started a guest."""
    await store.import_records(records(instance(1)))
    await claim(store)
    await claim(store)
    await store.end_start(uuid_of(1), MINE, reverting=False)


async def test_the_claim_of_a_daemon_whose_lease_has_ended_holds_nobody_up(store: ImportingStore) -> None:
    await store.import_records(records(instance(1)))
    await claim(store)
    await store.drop_lease(MINE)
    await store.import_records(records(instance(1, host="compute-2")))

    await claim(store, OTHER)


@pytest.mark.parametrize("kind", ["evacuation", "live-migration", "migration", "resize"])
@pytest.mark.parametrize("reverting", [False, True])
async def test_a_migration_under_way_forbids_a_start(store: ImportingStore, kind: str, *, reverting: bool) -> None:
    statuses = dict(enumerate((*AWAY_STATUSES, "done", "completed", "error", "reverted"), start=1))
    migrations = tuple(migration(number, migration_type=kind, status=status) for number, status in statuses.items())
    await store.import_records(records(*map(instance, statuses), migrations=migrations))

    for number, status in statuses.items():
        forbids = status in AWAY_STATUSES and not (reverting and kind in ("migration", "resize"))
        if forbids:
            with pytest.raises(StateConflict, match=f"{kind} .* is {status}"):
                await claim(store, number=number, reverting=reverting)
        else:
            await claim(store, number=number, reverting=reverting)
            await store.end_start(uuid_of(number), MINE, reverting=reverting)


@pytest.mark.parametrize("kind", ["evacuation", "live-migration", "migration", "resize"])
async def test_a_row_that_is_left_over_forbids_nothing_until_it_is_written(store: ImportingStore, kind: str) -> None:
    row = migration(1, migration_type=kind, status="preparing")
    await store.import_records(records(instance(1), migrations=(row,)))
    left_over = [(row.uuid, row.status)]

    await store.begin_start(uuid_of(1), MINE, expected=ACTIVE, reverting=False, left_over=left_over)
    await store.end_start(uuid_of(1), MINE, reverting=False, left_over=left_over)
    await store.save_migration(row.uuid, status="accepted")

    with pytest.raises(StateConflict, match=f"{kind} .* is accepted"):
        await store.begin_start(uuid_of(1), MINE, expected=ACTIVE, reverting=False, left_over=left_over)


async def test_a_resize_on_this_host_leads_nowhere(store: ImportingStore) -> None:
    row = migration(1, migration_type="resize", status="migrating", dest_compute=HOST)
    await store.import_records(records(instance(1), migrations=(row,)))
    await claim(store)


async def test_a_migration_that_comes_here_forbids_nothing(store: ImportingStore) -> None:
    coming = migration(1, status="accepted", source_compute="compute-2", dest_compute=HOST)
    await store.import_records(records(instance(1), migrations=(coming,)))
    await claim(store)


async def test_a_migration_that_begins_meanwhile_is_reported_at_the_end(store: ImportingStore) -> None:
    await store.import_records(records(instance(1)))
    await claim(store)
    await store.import_records(records(instance(1), migrations=(migration(1, status="accepted"),)))
    with pytest.raises(StateConflict, match="evacuation"):
        await store.end_start(uuid_of(1), MINE, reverting=False)


@pytest.mark.parametrize(
    "changed", [{"vm_state": VmState.ERROR}, {"task_state": TaskState.DELETING}, {"host": "compute-2"}, {"host": None}]
)
async def test_a_record_that_changed_is_not_claimed(store: ImportingStore, changed: dict[str, object]) -> None:
    await store.import_records(records(instance(1, **changed)))
    with pytest.raises(StateConflict):
        await claim(store)
    # Nothing was claimed: the other host may.
    await store.import_records(records(instance(1, host="compute-2")))
    await claim(store, OTHER)


async def test_what_is_gone_is_not_claimed(store: ImportingStore) -> None:
    await store.import_records(records(instance(1)))
    await store.destroy(uuid_of(1))
    for number in (1, 2):
        with pytest.raises(RecordNotFound):
            await claim(store, number=number)
        with pytest.raises(RecordNotFound):
            await store.end_start(uuid_of(number), MINE, reverting=False)


async def test_one_that_may_not_claim_does_not_hold_up_those_beside_it(store: ImportingStore) -> None:
    await store.import_records(records(*(instance(n, host=HOST if n % 2 else "compute-2") for n in range(1, 41))))
    claimed: list[int] = []

    async def try_to(number: int) -> None:
        try:
            await claim(store, number=number)
        except StateConflict:
            return
        claimed.append(number)

    async with anyio.create_task_group() as group:
        for number in range(1, 41):
            group.start_soon(try_to, number)
    assert sorted(claimed) == list(range(1, 41, 2))


async def test_a_lease_is_one_daemons_until_it_is_dropped(store: ImportingStore) -> None:
    with pytest.raises(LeaseHeld, match=r"host compute-1 .*node-1.* ends in \d+ s"):
        await store.take_lease(TWIN, for_s=60)
    await store.drop_lease(TWIN)
    await store.take_lease(MINE, for_s=60)
    await store.drop_lease(MINE)
    await store.take_lease(TWIN, for_s=60)
    with pytest.raises(LeaseHeld):
        await store.take_lease(MINE, for_s=60)


async def test_a_lease_that_was_not_renewed_in_time_is_anybodys(store: ImportingStore) -> None:
    await store.take_lease(MINE, for_s=0.01)
    with anyio.fail_after(60):
        while True:
            try:
                await store.take_lease(TWIN, for_s=60)
            except LeaseHeld:
                await anyio.lowlevel.checkpoint()
            else:
                break


async def test_a_lease_that_ran_out_and_that_nobody_took_is_still_ones_own(store: ImportingStore) -> None:
    """As after a clock that jumped forward, which at a boot is when the time is set."""
    await store.import_records(records(instance(1)))
    await store.take_lease(MINE, for_s=-1)
    await claim(store)
    await store.end_start(uuid_of(1), MINE, reverting=False)

    await store.take_lease(TWIN, for_s=60)
    with pytest.raises(LeaseHeld, match=f"the lease of {HOST} is not this daemon's"):
        await claim(store)


async def test_without_the_lease_nothing_is_claimed(store: ImportingStore) -> None:
    await store.import_records(records(instance(1)))
    with pytest.raises(LeaseHeld, match=f"the lease of {HOST} is not this daemon's"):
        await claim(store, TWIN)
    await store.drop_lease(MINE)
    with pytest.raises(LeaseHeld):
        await claim(store)


async def test_no_schedule_of_two_hosts_and_a_move_lets_both_hold_the_claim(store: ImportingStore) -> None:
    """Every interleaving of: A claims and releases; B claims and releases; the instance moves from A to B."""
    steps = {"A": ("begin", "end"), "B": ("begin", "end"), "move": ("move",)}
    order = [who for who, names in steps.items() for _ in names]
    for number, schedule in enumerate(sorted(set(itertools.permutations(order))), start=1):
        await store.import_records(records(instance(number)))
        holding: set[str] = set()
        at = dict.fromkeys(steps, 0)
        for who in schedule:
            step = steps[who][at[who]]
            at[who] += 1
            claimant = MINE if who == "A" else OTHER
            if step == "move":
                await store.import_records(records(instance(number, host="compute-2")))
            elif step == "begin":
                try:
                    await claim(store, claimant, number)
                    holding.add(who)
                except StateConflict:
                    continue
            elif who in holding:
                holding.discard(who)
                try:
                    await store.end_start(uuid_of(number), claimant, reverting=False)
                except StateConflict:
                    # It must stop its guest again: only A can be, and the instance has moved.
                    assert who == "A"
                    assert "move" in schedule[: sum(at.values())]
            assert len(holding) <= 1, schedule
