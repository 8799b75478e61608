"""A store of one record that writes down what it is asked to do."""

from collections.abc import Collection
from dataclasses import dataclass, replace

from bringup.daemon.decisions.instances import Changes, Expected, Instance, Migration
from bringup.daemon.decisions.states import PowerState, TaskState, UnknownState, VmState
from bringup.daemon.errors import RecordNotFound, StateConflict
from bringup.daemon.storage.store.base import Claimant
from support.oracle_trace import ON_STORE, Trace


@dataclass(slots=True)
class TracingStore:
    """A store of one record; a save is a compare-and-set."""

    trace: Trace
    record: Instance
    deleted: bool = False

    async def save(self, uuid: str, changes: Changes, *, expected: Expected) -> None:
        self.trace.call(*words_of_save(changes, expected, self.record), errors=ON_STORE)
        record = await self.get_instance(uuid)
        if record.vm_state not in expected.vm_states or record.task_state not in expected.task_states:
            raise StateConflict(f"{uuid} is {record.vm_state}, {record.task_state}, not {expected}")
        self.record = replace(record, **changes)

    async def destroy(self, uuid: str) -> None:
        self.trace.call("inst.destroy", errors=ON_STORE)
        await self.get_instance(uuid)
        self.deleted = True

    async def save_migration(self, uuid: str, *, status: str) -> None:
        del uuid
        self.trace.call(f"mgr.set_migration_status({status})", errors=ON_STORE)

    async def get_instance(self, uuid: str) -> Instance:
        if self.deleted or uuid != self.record.uuid:
            raise RecordNotFound(uuid)
        return self.record

    async def load_instances(self, host: str) -> list[Instance]:
        return [self.record] if self.record.host == host and not self.deleted else []

    async def list_uuids(self, host: str) -> list[str]:
        return [each.uuid for each in await self.load_instances(host)]

    async def load_instances_by_uuid(self, uuids: Collection[str]) -> list[Instance]:
        return [self.record] if self.record.uuid in uuids and not self.deleted else []

    async def load_deleted(self, uuids: Collection[str]) -> list[Instance]:
        del uuids
        return []

    async def load_migrations_of(self, host: str, uuids: Collection[str]) -> list[Migration]:
        del host, uuids
        return []

    async def load_migrations(self, source_compute: str, statuses: Collection[str]) -> list[Migration]:
        del source_compute, statuses
        return []

    async def begin_start(
        self,
        uuid: str,
        claimant: Claimant,
        *,
        expected: Expected,
        reverting: bool,
        left_over: Collection[tuple[str, str]] = (),
    ) -> Instance:
        # Nova looks at nothing here; what is looked at is in tests/contract/test_claims.py.
        del claimant, expected, reverting, left_over
        return await self.get_instance(uuid)

    async def end_start(
        self, uuid: str, claimant: Claimant, *, reverting: bool, left_over: Collection[tuple[str, str]] = ()
    ) -> None:
        del uuid, claimant, reverting, left_over

    async def take_lease(self, claimant: Claimant, *, for_s: float) -> None:
        del claimant, for_s

    async def drop_lease(self, claimant: Claimant) -> None:
        del claimant

    async def close(self) -> None:
        return


def words_of_save(changes: Changes, expected: Expected, record: Instance) -> tuple[str, ...]:
    """Return a save as ``save{..}?[..]``, and also as ``save{..}`` where it expects just the state that the record has.

    Nova writes such a save without asking; here every save is a compare-and-set.
    """
    columns = []
    if "vm_state" in changes:
        columns.append(f"vm={_word(changes['vm_state'])}")
    if "task_state" in changes:
        columns.append(f"task={_word(changes['task_state'])}")
    if "power_state" in changes:
        columns.append(f"power={_word(changes['power_state'])}")
    columns += [key for key in ("terminated_at", "system_metadata") if key in changes]
    plain = f"save{{{','.join(columns)}}}"
    asking = f"{plain}?[{','.join(_word(state) for state in expected.task_states)}]"
    if expected.vm_states != (record.vm_state,):
        return (f"{asking}?vm[{','.join(_word(state) for state in expected.vm_states)}]",)
    return (plain, asking) if expected.task_states == (record.task_state,) else (asking,)


def _word(state: VmState | TaskState | PowerState | UnknownState | None) -> str:
    return "null" if state is None else str(state.value)
