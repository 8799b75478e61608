"""Records in an OpenStack cloud: a :class:`bringup.daemon.storage.store.base.Store` over nova-conductor.

* **Reads** are batched: the instances that many tasks reread come in one request, their block devices in another.
  A host's instances come in pages, since one message contains a whole reply.
* **Saves** are Nova's compare-and-set.  Where an answer is lost, the record is read: it has the new values, or
  it is as expected and the save is repeated, or another client changed it.
* **The lease** is Nova's own: the compute node with our UUID is this host's.  A record names one host, so no other host
  can claim it; a claim rereads the record and the migrations away from it.
"""

from collections.abc import Awaitable, Callable, Collection
from typing import Any

import anyio
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from bringup.daemon import closing
from bringup.daemon.decisions.instances import Changes, Expected, Instance, Migration
from bringup.daemon.errors import LeaseHeld, RecordNotFound, StateConflict, StoreError, StoreUnavailable
from bringup.daemon.openstack.conductor.calls import BUDGET_S, Caller, Conductor, SaveConflict
from bringup.daemon.openstack.conductor.decoding import RecordState
from bringup.daemon.openstack.conductor.migrations import oldest_first
from bringup.daemon.openstack.conductor.reader import PAGE, Reader
from bringup.daemon.openstack.rpc.errors import Unanswered
from bringup.daemon.storage.store.base import Claimant
from bringup.daemon.storage.store.conflicts import conflict, moved
from bringup.daemon.storage.store.rows import changed_columns
from bringup.drivers.batching import Gathering
from bringup.drivers.identifiers import NAME_TEMPLATE

ASKED_ONE_BY_ONE = 32
"""Up to this number of instances the migrations are requested one by one."""
PAUSE_S = 0.025
"""Between two reads of states: the end of one start and the beginning of another share a read."""
SENDING = AsyncRetrying(
    retry=retry_if_exception_type(Unanswered),
    wait=wait_random_exponential(multiplier=0.2, min=0.05, max=3),
    stop=stop_after_attempt(3),
    reraise=True,
)
"""Repeats of an action whose replies are lost."""
CLOSE_S = closing.CONDUCTOR_S


class NovaConductorStore:
    """Nova's records, through nova-conductor."""

    def __init__(self, caller: Caller, *, name_template: str = NAME_TEMPLATE, budget_s: float = BUDGET_S) -> None:
        """Store the RPC client, Nova's ``instance_name_template``, and the time limit of an operation (seconds)."""
        self._conductor = Conductor(caller, budget_s=budget_s)
        self._reader = Reader(self._conductor, name_template)
        self._fresh: Gathering[str, Instance] = Gathering(
            self._reader.round, failure=StoreError, repeatable=True, most=PAGE
        )
        self._states: Gathering[tuple[str, str], tuple[RecordState, list[Migration]]] = Gathering(
            self._reader.state_round, failure=StoreError, repeatable=True, most=PAGE, pause_s=PAUSE_S
        )

    async def close(self) -> None:
        """Reject further reads; the connection belongs to the caller."""
        with anyio.move_on_after(CLOSE_S, shield=True):
            await self._fresh.close()
            await self._states.close()

    async def load_instances(self, host: str) -> list[Instance]:
        """Return the instances of a host, without deleted rows, sorted by UUID."""
        return await self._reader.of_host(host)

    async def list_uuids(self, host: str) -> list[str]:
        """Return the UUIDs of the instances of a host, without deleted rows, sorted."""
        return sorted(await self._conductor.instance_uuids(host))

    async def load_instances_by_uuid(self, uuids: Collection[str]) -> list[Instance]:
        """Return the instances with these UUIDs on any host, without deleted rows."""
        return await self._reader.by_uuid({uuid.lower() for uuid in uuids})

    async def load_deleted(self, uuids: Collection[str]) -> list[Instance]:
        """Return the instances with these UUIDs whose row is deleted, where Nova still has it."""
        return await self._reader.deleted({uuid.lower() for uuid in uuids})

    async def load_migrations_of(self, host: str, uuids: Collection[str]) -> list[Migration]:
        """Return the migrations of these instances from or to a host, of any status, oldest first."""
        wanted = sorted({uuid.lower() for uuid in uuids})
        # One instance has few migrations, a host may have years of them.
        asked: list[dict[str, Any]] = [{"host": host, "instance_uuid": uuid} for uuid in wanted]
        if len(wanted) > ASKED_ONE_BY_ONE:
            asked = [{"host": host}]
        found = [each for filters in asked for each in await self._conductor.migrations_by(filters, host)]
        return [each for each in oldest_first(found) if each.instance_uuid in wanted]

    async def get_instance(self, uuid: str) -> Instance:
        """Return one instance as it is at some point after this call.

        :raises RecordNotFound: there is none, or it was deleted.
        """
        return await self._fresh.submit(uuid.lower())

    async def load_migrations(self, source_compute: str, statuses: Collection[str]) -> list[Migration]:
        """Return the migrations from this host with one of these statuses, oldest first.

        One that cannot be read has :data:`UNREADABLE` for its type.
        """
        return oldest_first(await self._conductor.migrations(source_compute, statuses))

    async def save(self, uuid: str, changes: Changes, *, expected: Expected) -> None:
        """Write ``changes``, if the record still has one of the expected states of each kind; durable on return.

        :raises StateConflict: it has none of them; nothing was written.
        :raises RecordNotFound: there is none, or it was deleted.
        """
        uuid = uuid.lower()
        columns: dict[str, Any] = dict(changed_columns(changes))
        system_metadata = changes.get("system_metadata")
        if system_metadata is not None:
            columns["system_metadata"] = {**dict.fromkeys(self._reader.valueless.get(uuid, ())), **system_metadata}

        async def save(*, is_repeat: bool) -> None:
            try:
                await self._conductor.save_instance(
                    uuid,
                    columns,
                    vm_states=[state.value for state in expected.vm_states],
                    task_states=[None if state is None else state.value for state in expected.task_states],
                )
            except SaveConflict as error:
                # An earlier one without a reply may have been carried out meanwhile.
                await self._lost_race(uuid, changes, expected, error, is_sure=error.is_sure and not is_repeat)

        async def was_saved() -> bool:
            record = await self._read(uuid, "save")
            if not _has(record, changes):
                self._expect(uuid, record, expected)
                return False
            return True

        with self._conductor.budget(f"save instance {uuid}"):
            if not columns or not expected.vm_states or not expected.task_states:
                # Nova compares nothing where no column is written.
                self._expect(uuid, await self._read(uuid, "save"), expected)
            else:
                await self._send(f"save instance {uuid}", save, was_saved)

    async def _send(
        self, doing: str, act: Callable[..., Awaitable[None]], was_done: Callable[[], Awaitable[bool]]
    ) -> None:
        """Send an action that must not happen twice: after a lost reply it is repeated only if it did not happen.

        :raises StoreUnavailable: there is no reply.
        """
        is_repeat = False

        async def once() -> None:
            nonlocal is_repeat
            try:
                await act(is_repeat=is_repeat)
            except Unanswered:
                is_repeat = True
                if not await was_done():
                    raise

        try:
            await SENDING.wraps(once)()
        except Unanswered as error:
            raise StoreUnavailable(f"cannot {doing}: nova-conductor does not answer") from error

    async def _lost_race(
        self, uuid: str, changes: Changes, expected: Expected, refusal: SaveConflict, *, is_sure: bool
    ) -> None:
        """Raise ``StateConflict`` with the current states, unless an earlier attempt of ours wrote them."""
        record = await self._read(uuid, "save")
        if not is_sure and _has(record, changes):
            return
        refused = conflict("save", uuid, record.vm_state, record.task_state, expected)
        raise refused or StateConflict(f"cannot save instance {uuid}: its state was another one") from refusal

    def _expect(self, uuid: str, record: Instance, expected: Expected) -> None:
        refused = conflict("save", uuid, record.vm_state, record.task_state, expected)
        if refused is not None:
            raise refused

    async def _read(self, uuid: str, doing: str) -> Instance:
        try:
            return await self.get_instance(uuid)
        except RecordNotFound as error:
            raise RecordNotFound(f"cannot {doing} instance {uuid}: there is no such record") from error

    async def destroy(self, uuid: str) -> None:
        """Mark the row as deleted.

        :raises RecordNotFound: there is none, or it was deleted already.
        :raises StateConflict: another client has moved it to a host meanwhile.
        """
        with self._conductor.budget(f"destroy instance {uuid}"):
            record = await self._read(uuid.lower(), "destroy")

            async def destroy(*, is_repeat: bool) -> None:
                try:
                    number = self._reader.numbers[record.uuid]
                    await self._conductor.destroy_instance(record.uuid, number=number, host=record.host)
                except SaveConflict as error:
                    await self._read(record.uuid, "destroy")
                    raise StateConflict(f"cannot destroy instance {uuid}: its host was another one") from error
                except RecordNotFound:
                    # An earlier one without a reply has been carried out meanwhile.
                    if not is_repeat:
                        raise

            async def was_destroyed() -> bool:
                try:
                    await self.get_instance(record.uuid)
                except RecordNotFound:
                    return True
                return False

            await self._send(f"destroy instance {uuid}", destroy, was_destroyed)

    async def save_migration(self, uuid: str, *, status: str) -> None:
        """Write the status of a migration.

        :raises RecordNotFound: there is none.
        """
        number = await self._conductor.migration_number(uuid.lower())
        await self._conductor.save_migration(uuid.lower(), number=number, status=status)

    async def begin_start(
        self,
        uuid: str,
        claimant: Claimant,
        *,
        expected: Expected,
        reverting: bool,
        left_over: Collection[tuple[str, str]] = (),
    ) -> None:
        """Check, right before a guest is started, that its instance is on this host and stays here.

        :raises StateConflict: it must not be started here.
        :raises RecordNotFound: the record does not exist any more.
        """
        record, moves = await self._read_state(uuid.lower(), claimant, "claim", left_over)
        refused = conflict("start", uuid, record.vm_state, record.task_state, expected) or moved(
            uuid, record.host, claimant.host, moves, reverting=reverting
        )
        if refused is not None:
            raise refused

    async def end_start(
        self, uuid: str, claimant: Claimant, *, reverting: bool, left_over: Collection[tuple[str, str]] = ()
    ) -> None:
        """Check again, right after the guest was started.

        :raises StateConflict: meanwhile the record has moved to another host, or a migration away has started.
        :raises RecordNotFound: the record does not exist any more.
        """
        record, moves = await self._read_state(uuid.lower(), claimant, "check", left_over)
        refused = moved(uuid, record.host, claimant.host, moves, reverting=reverting)
        if refused is not None:
            raise refused

    async def take_lease(self, claimant: Claimant, *, for_s: float) -> None:  # noqa: ARG002 - Nova's holds while it is so
        """Check that Nova has this machine's node as a compute node of this host.

        A host that Nova does not know yet may be new: it has no records either.

        :raises LeaseHeld: the node is another host's, or the host is another node's.
        """
        try:
            host = await self._conductor.host_of_node(claimant.holder)
        except RecordNotFound as error:
            if await self._conductor.instance_uuids(claimant.host):
                raise LeaseHeld(
                    f"Nova has instances on host {claimant.host}, and no compute node {claimant.holder}: another "
                    "machine may have this host's name; set host.node_uuid to what is in nova-compute's compute_id "
                    "file, or host.name right"
                ) from error
            return
        if host != claimant.host:
            raise LeaseHeld(
                f"Nova's compute node {claimant.holder} is of host {host}, and this one is called {claimant.host}; "
                "set host.name or host.node_uuid right"
            )

    async def drop_lease(self, claimant: Claimant) -> None:
        """Do nothing: Nova keeps the compute node."""

    async def _read_state(
        self, uuid: str, claimant: Claimant, doing: str, left_over: Collection[tuple[str, str]]
    ) -> tuple[RecordState, list[Migration]]:
        """Read the state of a record and its migrations, without stale rows."""
        try:
            record, moves = await self._states.submit((uuid, claimant.host))
            return record, [move for move in moves if (move.uuid, move.status) not in left_over]
        except RecordNotFound as error:
            raise RecordNotFound(f"cannot {doing} instance {uuid}: there is no such record") from error


def _has(record: Instance, changes: Changes) -> bool:
    """Check whether a record has the written values; except times, which Nova formats itself."""
    return all(getattr(record, key) == value for key, value in changes.items() if key != "terminated_at")
