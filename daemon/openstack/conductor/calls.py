"""Calls of methods of Nova's objects, one request each, with errors of the store.

nova-conductor runs a method of an object that it is sent (``object_action``) or of a class
(``object_class_action_versions``), and writes what comes back in the versions that it is asked for.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import anyio
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from bringup.daemon.errors import RecordNotFound, StoreError, StoreUnavailable
from bringup.daemon.logs import get_logger
from bringup.daemon.openstack.conductor.decoding import EXPECTED_ATTRS, VERSIONS
from bringup.daemon.openstack.rpc.errors import RemoteError, RpcUnavailable, Unanswered, Unreadable
from bringup.daemon.openstack.rpc.objects import field, name_of, number_of, primitive, read, read_each
from bringup.drivers.identifiers import canonical_uuid

log = get_logger()


T = TypeVar("T")

GONE = frozenset({"InstanceNotFound", "MigrationNotFound", "ComputeHostNotFound"})
CONFLICTS = frozenset(
    {
        "InstanceUpdateConflict",
        "UnexpectedDeletingTaskStateError",
        "UnexpectedTaskStateError",
        "UnexpectedVMStateError",
        "UnknownInstanceUpdateConflict",
    }
)
DESTROYED = frozenset({"ObjectActionError"})
"""Nova did not destroy: another client has (in MySQL's older view of the row its host seems changed), or it moved."""
DATABASE_AWAY = frozenset(
    {"CantStartEngineError", "DBConnectionError", "DBDeadlock", "DBError", "DBNonExistentDatabase", "OperationalError"}
)
"""The conductor's database is unavailable, or two of its transactions collided."""
BUDGET_S = 180.0
"""Time limit of one operation with all its retries: three calls of Nova's default response timeout."""


def _is_database_away(error: BaseException) -> bool:
    return isinstance(error, RemoteError) and error.remote_class in DATABASE_AWAY


RETRYING = AsyncRetrying(
    retry=retry_if_exception(_is_database_away),
    wait=wait_random_exponential(multiplier=0.4, min=0.1, max=4),
    stop=stop_after_attempt(5),
    reraise=True,
)
"""Retries of a request that failed because the conductor's database is unavailable."""


class Caller(Protocol):
    """RPC client: :class:`bringup.daemon.openstack.rpc.client.Rpc`, or a peer of a test."""

    @property
    def where(self) -> str:
        """The broker, for messages."""

    async def call(self, method: str, arguments: Mapping[str, Any], *, repeatable: bool) -> Any:
        """Make a call and return its result; raises :class:`bringup.daemon.openstack.rpc.errors.RpcError`."""


class SaveConflict(Exception):
    """Nova did not save or destroy: the record is in no expected state."""

    def __init__(self, message: str, *, is_sure: bool) -> None:
        """Store Nova's message; not ``is_sure``: an earlier attempt of the same save may have changed the state."""
        super().__init__(message)
        self.is_sure = is_sure


class Conductor:
    """Client of nova-conductor.

    Every method raises StoreUnavailable where it, the broker or its database is unavailable, and StoreError where its
    answer cannot be used; RecordNotFound where what it was asked for is not there.
    """

    def __init__(self, caller: Caller, *, budget_s: float = BUDGET_S) -> None:
        """Store the RPC client, and the time limit of an operation (seconds)."""
        self._caller = caller
        self._budget_s = budget_s

    @contextmanager
    def budget(self, doing: str) -> Iterator[None]:
        """Bound the block with all its retries; a nested budget is bounded by what is left of the outer one.

        :raises StoreUnavailable: the block took longer.
        """
        with anyio.move_on_after(self._budget_s) as scope:
            yield
        if scope.cancelled_caught:
            raise StoreUnavailable(f"cannot {doing}: nova-conductor does not answer in {self._budget_s:g} s")

    async def instance_uuids(self, host: str) -> list[str]:
        """``InstanceList.get_uuids_by_host``: those of a host, without deleted rows."""
        return await self._read(f"list the instances of host {host}", _uuids, "InstanceList", "get_uuids_by_host", host)

    async def instances_of(self, host: str) -> list[Any]:
        """``InstanceList.get_by_host``: an Instance each."""
        return await self._read(
            f"read the instances of host {host}",
            _instances,
            "InstanceList",
            "get_by_host",
            host,
            expected_attrs=list(EXPECTED_ATTRS),
        )

    async def instances(
        self,
        uuids: Collection[str],
        *,
        hidden: bool,
        deleted: bool = False,
        attributes: Sequence[str] = EXPECTED_ATTRS,
    ) -> list[Any]:
        """``InstanceList.get_by_filters``: those with these UUIDs, with these attributes.

        Deleted rows are ignored or, with ``deleted``, all there is: Nova reads them with ``read_deleted``.
        ``hidden`` ones, of a resize between cells, are never given together with others.
        """
        return await self._read(
            f"read {len(uuids)} instances",
            _instances,
            "InstanceList",
            "get_by_filters",
            filters={"uuid": list(uuids), "deleted": deleted, "soft_deleted": not deleted, "hidden": hidden},
            expected_attrs=list(attributes),
        )

    async def block_devices(self, uuids: Collection[str]) -> list[Mapping[str, Any]]:
        """``BlockDeviceMappingList.get_by_instance_uuids``: the fields of each, of all these instances."""
        return await self._read(
            f"read the block devices of {len(uuids)} instances",
            lambda found: read_each(found, "BlockDeviceMappingList", "BlockDeviceMapping", VERSIONS),
            "BlockDeviceMappingList",
            "get_by_instance_uuids",
            list(uuids),
        )

    async def migrations(self, source_compute: str, statuses: Collection[str]) -> list[Mapping[str, Any]]:
        """``MigrationList.get_by_filters``: the fields of each."""
        return await self.migrations_by({"source_compute": source_compute, "status": sorted(statuses)}, source_compute)

    async def migrations_by(self, filters: Mapping[str, Any], host: str) -> list[Mapping[str, Any]]:
        """``MigrationList.get_by_filters``: the fields of each."""
        return await self._read(
            f"read the migrations of host {host}",
            lambda found: read_each(found, "MigrationList", "Migration", VERSIONS),
            "MigrationList",
            "get_by_filters",
            dict(filters),
        )

    async def migration_number(self, uuid: str) -> int:
        """``Migration.get_by_uuid``: Nova's ``id`` of it."""
        return await self._read(
            f"read migration {uuid}",
            lambda found: number_of(read(found, "Migration", VERSIONS["Migration"]), "id", "Migration"),
            "Migration",
            "get_by_uuid",
            uuid,
        )

    async def host_of_node(self, node_uuid: str) -> str:
        """``ComputeNode.get_by_uuid``: the host that Nova has a compute node for."""
        return await self._read(
            f"read compute node {node_uuid}",
            lambda found: name_of(read(found, "ComputeNode", VERSIONS["ComputeNode"]), "host", "ComputeNode") or "",
            "ComputeNode",
            "get_by_uuid",
            node_uuid,
        )

    async def save_instance(
        self, uuid: str, columns: Mapping[str, Any], *, vm_states: list[Any], task_states: list[Any]
    ) -> None:
        """``Instance.save`` of these columns alone.

        :raises Conflict: the record is in none of the expected states.
        :raises Unanswered: it is unknown whether it was saved.
        """
        await self._act(
            f"save instance {uuid}",
            primitive("Instance", VERSIONS["Instance"], {"uuid": uuid, **columns}, sorted(columns)),
            "save",
            expected_vm_state=vm_states,
            expected_task_state=task_states,
        )

    async def destroy_instance(self, uuid: str, *, number: int, host: str | None) -> None:
        """``Instance.destroy``.

        :raises Conflict: another client has destroyed or changed it meanwhile.
        :raises Unanswered: it is unknown whether it was destroyed.
        """
        data = {"id": number, "uuid": uuid, "host": host}
        instance = primitive("Instance", VERSIONS["Instance"], data)
        await self._act(f"destroy instance {uuid}", instance, "destroy", conflicts=DESTROYED)

    async def save_migration(self, uuid: str, *, number: int, status: str) -> None:
        """``Migration.save`` of the status alone; may be repeated."""
        data = {"id": number, "uuid": uuid, "status": status}
        await self._act(
            f"save migration {uuid}",
            primitive("Migration", VERSIONS["Migration"], data, ["status"]),
            "save",
            repeatable=True,
        )

    async def _read(
        self, doing: str, decode: Callable[[Any], T], name: str, method: str, *args: Any, **kwargs: Any
    ) -> T:
        arguments = {
            "objname": name,
            "objmethod": method,
            "object_versions": dict(VERSIONS),
            "args": list(args),
            "kwargs": kwargs,
        }
        found = await self._ask(doing, "object_class_action_versions", arguments, repeatable=True)
        try:
            return decode(found)
        except (Unreadable, ValueError) as error:
            raise StoreError(f"cannot {doing}") from error

    async def _act(
        self,
        doing: str,
        instance: Mapping[str, Any],
        method: str,
        *,
        repeatable: bool = False,
        conflicts: Collection[str] = CONFLICTS,
        **kwargs: Any,
    ) -> None:
        arguments = {"objinst": instance, "objmethod": method, "args": [], "kwargs": kwargs}
        await self._ask(doing, "object_action", arguments, repeatable=repeatable, conflicts=conflicts)

    async def _ask(
        self,
        doing: str,
        method: str,
        arguments: Mapping[str, Any],
        *,
        repeatable: bool,
        conflicts: Collection[str] = CONFLICTS,
    ) -> Any:
        tries = 0

        async def once() -> Any:
            nonlocal tries
            tries += 1
            return await self._caller.call(method, arguments, repeatable=repeatable)

        try:
            with self.budget(doing):
                return await RETRYING.wraps(once)()
        except RemoteError as error:
            if error.remote_class in conflicts:
                raise SaveConflict(str(error), is_sure=tries == 1) from error
            if error.remote_class in GONE:
                raise RecordNotFound(f"cannot {doing}: there is no such record") from error
            if not _is_database_away(error):
                raise StoreError(f"cannot {doing}: nova-conductor refuses") from error
            raise StoreUnavailable(f"cannot {doing}: the database of nova-conductor is unavailable") from error
        except Unanswered:
            raise
        except RpcUnavailable as error:
            raise StoreUnavailable(f"cannot {doing} through RabbitMQ at {self._caller.where}") from error
        except Unreadable as error:
            raise StoreError(f"cannot {doing}") from error


def _uuids(found: Any) -> list[str]:
    if not isinstance(found, list):
        raise Unreadable("the answer is no list of UUIDs")
    uuids: list[str] = []
    for each in found:
        try:
            uuids.append(canonical_uuid(each))
        except ValueError as error:
            log.error("store.row_ignored", error=str(error))  # noqa: TRY400 - a sentence, no traceback
    if found and not uuids:
        raise Unreadable(f"the answer is a list of {len(found)}, and none of them is a UUID")
    return uuids


def _instances(found: Any) -> list[Any]:
    """Return the objects of a list, not yet parsed."""
    objects = field(read(found, "InstanceList", VERSIONS["InstanceList"]), "objects", "InstanceList")
    if not isinstance(objects, list):
        raise Unreadable("the InstanceList in the answer has no objects")
    return objects
