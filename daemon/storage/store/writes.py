"""Writes of one group, in one transaction: one that is refused does not stop the others."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from bringup.daemon.decisions.instances import Expected, Instance, UnreadableInstance
from bringup.daemon.decisions.states import TaskState, UnknownState, VmState, task_state, vm_state
from bringup.daemon.errors import RecordNotFound, StateConflict, StoreError
from bringup.daemon.storage.store import reads, schema
from bringup.daemon.storage.store.base import Claimant
from bringup.daemon.storage.store.claims import Claims
from bringup.daemon.storage.store.conflicts import conflict
from bringup.daemon.storage.store.rows import metadata_rows


@dataclass(frozen=True, slots=True)
class SaveInstance:
    """Write columns of an instance, and its system metadata if that is given, if it is in an expected state."""

    uuid: str
    columns: Mapping[str, str | int | None]
    system_metadata: Mapping[str, str] | None
    expected: Expected


@dataclass(frozen=True, slots=True)
class DestroyInstance:
    """Mark an instance as deleted."""

    uuid: str


@dataclass(frozen=True, slots=True)
class MigrationWrite:
    """Write the status of a migration."""

    uuid: str
    status: str


@dataclass(frozen=True, slots=True)
class BeginStart:
    """Claim an instance; the answer is its record."""

    uuid: str
    claimant: Claimant
    expected: Expected
    reverting: bool
    left_over: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True, slots=True)
class EndStart:
    """Release a claim; the answer is the conflict that forbids its guest to stay."""

    uuid: str
    claimant: Claimant
    reverting: bool
    left_over: frozenset[tuple[str, str]] = frozenset()


Write = SaveInstance | DestroyInstance | MigrationWrite | BeginStart | EndStart

_INSTANCE = schema.instances.c
_SYSTEM_METADATA = schema.instance_system_metadata
_STATES = ("vm_state", "task_state", "power_state", "terminated_at", "deleted")

_DOING = {SaveInstance: "save", DestroyInstance: "destroy", BeginStart: "claim", EndStart: "check again"}

# Locked in one order if the database locks rows; no effect in a database with one writer.
_LOCK_INSTANCES = (
    select(_INSTANCE.uuid, *(_INSTANCE[name] for name in (*_STATES, "host")))
    .where(_INSTANCE.uuid.in_(bindparam("uuids", expanding=True)), _INSTANCE.deleted == 0)
    .order_by(_INSTANCE.uuid)
    .with_for_update()
)
_LOCK_MIGRATIONS = (
    select(schema.migrations.c.uuid)
    .where(schema.migrations.c.uuid.in_(bindparam("uuids", expanding=True)))
    .order_by(schema.migrations.c.uuid)
    .with_for_update()
)
_UPDATE_INSTANCE = (
    update(schema.instances)
    .where(_INSTANCE.uuid == bindparam("b_uuid"))
    .values({name: bindparam(f"b_{name}") for name in _STATES})
)
_UPDATE_MIGRATION = (
    update(schema.migrations)
    .where(schema.migrations.c.uuid == bindparam("b_uuid"))
    .values(status=bindparam("b_status"))
)
_DELETE_SYSTEM_METADATA = delete(_SYSTEM_METADATA).where(_SYSTEM_METADATA.c.instance_uuid == bindparam("b_uuid"))
_INSERT_SYSTEM_METADATA = insert(_SYSTEM_METADATA)


def write(connection: Connection, writes: Sequence[Write], now: float) -> list[StoreError | Instance | None]:
    """Carry out the writes in their order; the answer to each is the error, None, or the record that a claim returns.

    ``now`` is the time of the database.
    """
    group = _Group(connection, writes, now)
    answers: list[StoreError | Instance | None] = [group.carry_out(one) for one in writes]
    group.flush()
    claimed = {
        one.uuid for one, answer in zip(writes, answers, strict=True) if isinstance(one, BeginStart) and answer is None
    }
    if not claimed:
        return answers
    records = {each.uuid: each for each in reads.load_instances(connection, reads.BY_UUID, {"uuids": sorted(claimed)})}
    return [
        readable(records.get(one.uuid)) if isinstance(one, BeginStart) and answer is None else answer
        for one, answer in zip(writes, answers, strict=True)
    ]


def readable(instance: Instance | None) -> Instance | StoreError | None:
    """Return a record, or the error that its row cannot be read."""
    if isinstance(instance, UnreadableInstance):
        return StoreError(f"cannot read instance {instance.uuid}: {instance.why}")
    return instance


class _Group:
    """The rows that a group touches, as its writes so far leave them; written once, at the end."""

    def __init__(self, connection: Connection, writes: Sequence[Write], now: float) -> None:
        self._connection = connection
        instances = {one.uuid for one in writes if not isinstance(one, MigrationWrite)}
        migrations = {one.uuid for one in writes if isinstance(one, MigrationWrite)}
        self._instances = {
            uuid: dict(zip((*_STATES, "host"), states, strict=True))
            for uuid, *states in self._locked(_LOCK_INSTANCES, instances)
        }
        self._migrations = {uuid for (uuid,) in self._locked(_LOCK_MIGRATIONS, migrations)}
        starts = {one.uuid for one in writes if isinstance(one, BeginStart | EndStart)}
        self._claims = Claims.read(connection, starts, now)
        self._changed: set[str] = set()
        self._statuses: dict[str, str] = {}
        self._system_metadata: dict[str, Mapping[str, str]] = {}

    def _locked(self, query: Any, uuids: set[str]) -> Iterable[Any]:
        return self._connection.execute(query, {"uuids": list(uuids)}) if uuids else ()

    def carry_out(self, one: Write) -> StoreError | None:
        match one:
            case MigrationWrite(uuid, status):
                if uuid not in self._migrations:
                    return RecordNotFound(f"cannot save migration {uuid}: there is no such record")
                self._statuses[uuid] = status
                return None
            case _:
                row = self._instances.get(one.uuid)
                if isinstance(one, EndStart):
                    self._claims.end(one.uuid, one.claimant)
                if row is None or row["deleted"]:
                    return RecordNotFound(f"cannot {_DOING[type(one)]} instance {one.uuid}: there is no such record")
                return self._on_row(one, row)

    def _on_row(
        self, one: SaveInstance | DestroyInstance | BeginStart | EndStart, row: dict[str, Any]
    ) -> StoreError | None:
        match one:
            case BeginStart():
                return conflict("start", one.uuid, *_states(row), one.expected) or self._claims.begin(
                    one.uuid, row["host"], one.claimant, reverting=one.reverting, left_over=one.left_over
                )
            case EndStart():
                return self._claims.moved(
                    one.uuid, row["host"], one.claimant, reverting=one.reverting, left_over=one.left_over
                )
            case SaveInstance() | DestroyInstance():
                return self._change(one, row)

    def _change(self, one: SaveInstance | DestroyInstance, row: dict[str, Any]) -> StateConflict | None:
        if isinstance(one, DestroyInstance):
            row["deleted"] = 1
        else:
            refused = conflict("save", one.uuid, *_states(row), one.expected)
            if refused is not None:
                return refused
            row.update(one.columns)
            if one.system_metadata is not None:
                self._system_metadata[one.uuid] = one.system_metadata
        self._changed.add(one.uuid)
        return None

    def flush(self) -> None:
        self._claims.flush(self._connection)
        execute = self._connection.execute
        if self._changed:
            rows = self._instances
            execute(
                _UPDATE_INSTANCE,
                [
                    {"b_uuid": uuid, **{f"b_{name}": rows[uuid][name] for name in _STATES}}
                    for uuid in sorted(self._changed)
                ],
            )
        if self._statuses:
            execute(_UPDATE_MIGRATION, [{"b_uuid": u, "b_status": status} for u, status in self._statuses.items()])
        if self._system_metadata:
            execute(_DELETE_SYSTEM_METADATA, [{"b_uuid": uuid} for uuid in self._system_metadata])
            metadata = [row for uuid, pairs in self._system_metadata.items() for row in metadata_rows(uuid, pairs)]
            if metadata:
                execute(_INSERT_SYSTEM_METADATA, metadata)


def _states(row: Mapping[str, Any]) -> tuple[VmState | UnknownState, TaskState | UnknownState | None]:
    return vm_state(row["vm_state"]), task_state(row["task_state"])
