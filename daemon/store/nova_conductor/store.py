"""Records in an OpenStack cloud: a :class:`bringup.daemon.store.base.Store` over nova-conductor.

* **Reads** are gathered: the instances that many tasks want afresh come in one request, their block devices in another.
  A host's instances come in pages, since one message holds a whole answer.
* **Saves** are Nova's compare-and-set.  Where an answer is lost, the record is read: it has what was to be written, or
  it is as it was expected and the save is sent again, or somebody else changed it.
* **The lease** is Nova's own: the compute node with our UUID is this host's.  A record names one host, so no other host
  can claim it; a claim is the fresh look at the record and at the migrations away from it.
"""

import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import anyio

from bringup.daemon import closing
from bringup.daemon.errors import LeaseHeld, RecordNotFound, StateConflict, StoreError, StoreUnavailable
from bringup.daemon.instances import UNREADABLE, Changes, Expected, Instance, Migration, UnreadableInstance
from bringup.daemon.logs import get_logger
from bringup.daemon.rpc.errors import Unanswered, Unreadable
from bringup.daemon.rpc.objects import DATA, field
from bringup.daemon.store.base import AWAY_STATUSES, Claimant
from bringup.daemon.store.expecting import conflict
from bringup.daemon.store.gathering import Gathering
from bringup.daemon.store.imports import chunks
from bringup.daemon.store.moves import moved
from bringup.daemon.store.nova_conductor.conductor import Caller, Conductor, Conflict
from bringup.daemon.store.nova_conductor.decoding import (
    EXPECTED_ATTRS,
    Look,
    Row,
    devices_by_instance,
    each_of_its_own,
    instance_row,
    look,
    migration,
    names_an_instance,
    unreadable,
)
from bringup.daemon.store.rows import changed_columns
from bringup.daemon.text import printable
from bringup.drivers.identifiers import canonical_uuid

log = get_logger()

PAGE = 200
"""Instances in one request: some 450 KB of answer, a third of a second of a conductor."""
ASKED_ONE_BY_ONE = 32
"""Of so many instances the migrations are asked for one by one."""
SENDS = 3
"""How often a save is sent whose answers are lost."""
NAME_TEMPLATE = "instance-%08x"
"""Nova's default for ``instance_name_template``."""


CLOSE_S = closing.CONDUCTOR_S


class NovaConductorStore:
    """Nova's records, through nova-conductor."""

    def __init__(self, caller: Caller, *, name_template: str = NAME_TEMPLATE) -> None:
        """Take what makes the calls, and Nova's ``instance_name_template``."""
        self._conductor = Conductor(caller)
        self._name_template = name_template
        self._numbers: dict[str, int] = {}
        self._valueless: dict[str, tuple[str, ...]] = {}
        self._fresh: Gathering[str, Instance] = Gathering(self._read_round, only_reads=True, most=PAGE)
        self._looks: Gathering[tuple[str, str], tuple[Look, list[Migration]]] = Gathering(
            self._look_round, only_reads=True, most=PAGE
        )

    async def close(self) -> None:
        """Take no more questions; the connection is the caller's."""
        with anyio.move_on_after(CLOSE_S, shield=True):
            await self._fresh.close()
            await self._looks.close()

    async def load_instances(self, host: str) -> list[Instance]:
        """Instances whose ``host`` is this one, deleted rows left out, in the order of their UUIDs."""
        uuids = await self._conductor.instance_uuids(host)
        if len(uuids) > PAGE:
            found = await self._in_pages(uuids)
        else:
            found = await self._decoded(await self._conductor.instances_of(host) if uuids else [], uuids)
        # Of one that cannot be read it may not be known whose it is; it was asked for as this host's.
        return [own for own in (_of_host(each, host) for each in found) if own.host == host]

    async def list_uuids(self, host: str) -> list[str]:
        """UUIDs of the instances whose ``host`` is this one, deleted rows left out, in order."""
        return sorted(await self._conductor.instance_uuids(host))

    async def load_instances_by_uuid(self, uuids: Collection[str]) -> list[Instance]:
        """Instances with these UUIDs, on whatever host, deleted rows left out."""
        wanted = {uuid.lower() for uuid in uuids}
        return _asked_for(await self._in_pages(wanted), wanted)

    async def load_deleted(self, uuids: Collection[str]) -> list[Instance]:
        """Instances with these UUIDs whose row is deleted, as far as Nova still has it."""
        wanted = sorted({uuid.lower() for uuid in uuids})
        found: list[Instance] = []
        for page in chunks(wanted, PAGE):
            listed = await self._conductor.instances(page, hidden=False, deleted=True)
            found += await self._decoded(listed, page)
        return _asked_for(found, wanted)

    async def load_migrations_of(self, host: str, uuids: Collection[str]) -> list[Migration]:
        """Migrations of these instances from or to a host, whatever has come of them, oldest first."""
        wanted = sorted({uuid.lower() for uuid in uuids})
        # One instance has few migrations, a host may have years of them.
        asked: list[dict[str, Any]] = [{"host": host, "instance_uuid": uuid} for uuid in wanted]
        if len(wanted) > ASKED_ONE_BY_ONE:
            asked = [{"host": host}]
        found = [each for filters in asked for each in await self._conductor.migrations_by(filters, host)]
        return [each for each in _in_order(found) if each.instance_uuid in wanted]

    async def get_instance(self, uuid: str) -> Instance:
        """Read one instance as it is at some point after this call.

        :raises RecordNotFound: there is none, or it was deleted.
        """
        return await self._fresh.ask(uuid.lower())

    async def load_migrations(self, source_compute: str, statuses: Collection[str]) -> list[Migration]:
        """Migrations that leave or left this host and have one of these statuses, oldest first.

        One that cannot be read has :data:`UNREADABLE` for its type.
        """
        return _in_order(await self._conductor.migrations(source_compute, statuses))

    async def save(self, uuid: str, changes: Changes, *, expected: Expected) -> None:
        """Write ``changes``, if the record still has one of the expected states of each kind; durable on return.

        :raises StateConflict: it has not; nothing was written.
        :raises RecordNotFound: there is none, or it was deleted.
        """
        uuid = uuid.lower()
        columns: dict[str, Any] = dict(changed_columns(changes))
        system_metadata = changes.get("system_metadata")
        if system_metadata is not None:
            columns["system_metadata"] = {**dict.fromkeys(self._valueless.get(uuid, ())), **system_metadata}
        if not columns or not expected.vm_states or not expected.task_states:
            # Nova compares nothing where nothing is to be written.
            self._expect(uuid, await self._found(uuid, "save"), expected)
            return
        unanswered: Unanswered | None = None
        for _ in range(SENDS):
            try:
                await self._conductor.save_instance(
                    uuid,
                    columns,
                    vm_states=[state.value for state in expected.vm_states],
                    task_states=[None if state is None else state.value for state in expected.task_states],
                )
            except Conflict as error:
                # One that was sent before, and not answered, may have been made meanwhile.
                is_sure = error.is_sure and unanswered is None
                await self._lost_race(uuid, changes, expected, error, is_sure=is_sure)
                return
            except Unanswered as error:
                unanswered = error
                if await self._was_saved(uuid, changes, expected):
                    return
            else:
                return
        raise StoreUnavailable(f"cannot save instance {uuid}: nova-conductor does not answer") from unanswered

    async def _was_saved(self, uuid: str, changes: Changes, expected: Expected) -> bool:
        """Tell whether a save whose answer was lost was made; not: the record is still as it was expected."""
        record = await self._found(uuid, "save")
        if _has(record, changes):
            return True
        self._expect(uuid, record, expected)
        return False

    async def _lost_race(
        self, uuid: str, changes: Changes, expected: Expected, refusal: Conflict, *, is_sure: bool
    ) -> None:
        """Say what the record is now; not where an earlier try of ours has made it so."""
        record = await self._found(uuid, "save")
        if not is_sure and _has(record, changes):
            return
        refused = conflict("save", uuid, record.vm_state, record.task_state, expected)
        raise refused or StateConflict(f"cannot save instance {uuid}: its state was another one") from refusal

    def _expect(self, uuid: str, record: Instance, expected: Expected) -> None:
        refused = conflict("save", uuid, record.vm_state, record.task_state, expected)
        if refused is not None:
            raise refused

    async def _found(self, uuid: str, doing: str) -> Instance:
        try:
            return await self.get_instance(uuid)
        except RecordNotFound as error:
            raise RecordNotFound(f"cannot {doing} instance {uuid}: there is no such record") from error

    async def destroy(self, uuid: str) -> None:
        """Mark the row as deleted.

        :raises RecordNotFound: there is none, or it was deleted already.
        :raises StateConflict: somebody else has put it on a host meanwhile.
        """
        record = await self._found(uuid.lower(), "destroy")
        unanswered: Unanswered | None = None
        for _ in range(SENDS):
            try:
                await self._conductor.destroy_instance(record.uuid, number=self._numbers[record.uuid], host=record.host)
            except Conflict as error:
                await self._found(record.uuid, "destroy")
                raise StateConflict(f"cannot destroy instance {uuid}: its host was another one") from error
            except RecordNotFound:
                # One that was sent before, and not answered, has been made meanwhile.
                if unanswered is None:
                    raise
                return
            except Unanswered as error:
                unanswered = error
                try:
                    await self.get_instance(record.uuid)
                except RecordNotFound:
                    return
            else:
                return
        raise StoreUnavailable(f"cannot destroy instance {uuid}: nova-conductor does not answer") from unanswered

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
        """Look afresh, right before a guest is started, whether its instance is this host's and stays here.

        :raises StateConflict: it must not be started here.
        :raises RecordNotFound: it is gone.
        """
        record, moves = await self._looked(uuid.lower(), claimant, "claim", left_over)
        refused = conflict("start", uuid, record.vm_state, record.task_state, expected) or moved(
            uuid, record.host, claimant.host, moves, reverting=reverting
        )
        if refused is not None:
            raise refused

    async def end_start(
        self, uuid: str, claimant: Claimant, *, reverting: bool, left_over: Collection[tuple[str, str]] = ()
    ) -> None:
        """Look again, right after it was started.

        :raises StateConflict: meanwhile the record has moved to another host, or a migration away was begun.
        :raises RecordNotFound: it is gone.
        """
        record, moves = await self._looked(uuid.lower(), claimant, "look again at", left_over)
        refused = moved(uuid, record.host, claimant.host, moves, reverting=reverting)
        if refused is not None:
            raise refused

    async def take_lease(self, claimant: Claimant, *, for_s: float) -> None:  # noqa: ARG002 - Nova's holds while it is so
        """Make sure that Nova has this machine's node as a compute node of this host.

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
        """Nova keeps the compute node."""

    async def _looked(
        self, uuid: str, claimant: Claimant, doing: str, left_over: Collection[tuple[str, str]]
    ) -> tuple[Look, list[Migration]]:
        """Look at a record and at what moves it, without the rows that are left over."""
        try:
            record, moves = await self._looks.ask((uuid, claimant.host))
            return record, [move for move in moves if (move.uuid, move.status) not in left_over]
        except RecordNotFound as error:
            raise RecordNotFound(f"cannot {doing} instance {uuid}: there is no such record") from error

    async def _read_round(self, uuids: Sequence[str]) -> list[Instance | StoreError]:
        page = await self._page(sorted(set(uuids)))
        found = {each.uuid: each for each in page}
        strange = [each for each in page if isinstance(each, UnreadableInstance) and each.uuid not in uuids]

        def answer(uuid: str) -> Instance | StoreError:
            instance = found.get(uuid)
            if isinstance(instance, UnreadableInstance):
                return StoreError(f"cannot read instance {uuid}: {instance.why}")
            if instance is None and strange:
                # Any of them may be it.
                return StoreError(f"cannot read instance {uuid}: {strange[0].why}")
            return instance or RecordNotFound(f"cannot read instance {uuid}: there is no such record")

        return [answer(uuid) for uuid in uuids]

    async def _look_round(self, asked: Sequence[tuple[str, str]]) -> list[tuple[Look, list[Migration]] | StoreError]:
        """Look at the records, and then at the migrations: one that was begun in between is seen."""
        uuids = sorted({uuid for uuid, _ in asked})
        looks: dict[str, Look] = {}
        wrong: Unreadable | None = None
        for each in await self._listed(uuids, attributes=()):
            try:
                found = look(each)
            except Unreadable as error:
                wrong = error
            else:
                looks[found.uuid] = found
        moves = {host: await self._moves(host, AWAY_STATUSES) for host in {host for _, host in asked}}

        def answer(uuid: str, host: str) -> tuple[Look, list[Migration]] | StoreError:
            if uuid not in looks:
                return (
                    RecordNotFound(f"cannot look at instance {uuid}: there is no such record")
                    if wrong is None
                    else StoreError(f"cannot look at instance {uuid}: {wrong}")
                )
            mine = moves[host].get(uuid, [])
            return mine if isinstance(mine, StoreError) else (looks[uuid], mine)

        return [answer(uuid, host) for uuid, host in asked]

    async def _moves(self, host: str, statuses: Collection[str]) -> dict[str, list[Migration] | StoreError]:
        """Migrations that leave a host, by the UUID of their instance, oldest first; an error where one is wrong."""
        found = each_of_its_own(await self._conductor.migrations(host, statuses), "Migration")
        return {uuid: _migrations(uuid, rows) for uuid, rows in found.items()}

    async def _in_pages(self, uuids: Collection[str]) -> list[Instance]:
        """Several at once: a cloud has several conductors."""
        pages: list[list[Instance] | StoreError] = [[] for _ in range(0, len(uuids), PAGE)]

        async def load(number: int, page: Sequence[str]) -> None:
            try:
                pages[number] = await self._page(page)
            except StoreError as error:
                pages[number] = error

        async with anyio.create_task_group() as group:
            for number, page in enumerate(chunks(sorted(uuids), PAGE)):
                group.start_soon(load, number, page)
        found: list[Instance] = []
        for loaded in pages:
            if isinstance(loaded, StoreError):
                raise loaded
            found += loaded
        return found

    async def _page(self, uuids: Sequence[str]) -> list[Instance]:
        return await self._decoded(await self._listed(uuids, attributes=EXPECTED_ATTRS), uuids)

    async def _listed(self, uuids: Sequence[str], *, attributes: Sequence[str]) -> list[Any]:
        found = await self._conductor.instances(uuids, hidden=False, attributes=attributes)
        if len(found) < len(uuids):
            found += await self._conductor.instances(uuids, hidden=True, attributes=attributes)
        return found

    async def _decoded(self, found: Sequence[Any], uuids: Sequence[str]) -> list[Instance]:
        """Read rows, each by itself: one that cannot be read is an :class:`UnreadableInstance`."""
        devices = await self._devices(uuids) if found else {}
        instances: dict[str, Instance] = {}
        if found and not any(map(names_an_instance, found)):
            raise StoreError(f"cannot read {len(found)} instances: what nova-conductor gives names none")
        for each in found:
            try:
                row = instance_row(each, name_template=self._name_template, devices=devices_of(each, devices))
            except Unreadable as error:
                stub = unreadable(each, error)
                log.error("store.row_unreadable", instance=stub.uuid, error=stub.why)  # noqa: TRY400 - a sentence
                instances[stub.uuid] = stub
            else:
                # Two rows of one instance: which of them is its own is not known.
                if (other := instances.get(row.instance.uuid)) is not None and other != row.instance:
                    stub = unreadable(each, Unreadable("there are two rows of it in the answer"))
                    instances[stub.uuid] = stub
                    continue
                self._know(row)
                instances[row.instance.uuid] = row.instance
        return sorted(instances.values(), key=lambda each: each.uuid)

    async def _devices(self, uuids: Sequence[str]) -> dict[str, list[Mapping[str, Any]]]:
        return each_of_its_own(await self._conductor.block_devices(uuids), "BlockDeviceMapping")

    def _know(self, row: Row) -> None:
        self._numbers[row.instance.uuid] = row.number
        if row.valueless:
            self._valueless[row.instance.uuid] = row.valueless
        else:
            self._valueless.pop(row.instance.uuid, None)


def _has(record: Instance, changes: Changes) -> bool:
    """Tell whether a record has what was to be written; times aside, which Nova writes in its own way."""
    return all(getattr(record, key) == value for key, value in changes.items() if key != "terminated_at")


def _of_host(instance: Instance, host: str) -> Instance:
    is_unknown = isinstance(instance, UnreadableInstance) and instance.host is None
    return replace(instance, host=host) if is_unknown else instance


def _asked_for(found: Sequence[Instance], wanted: Collection[str]) -> list[Instance]:
    """Give those that were asked for; where a row has no UUID that can be read, it may be any that is missing."""
    known = [each for each in found if each.uuid in wanted]
    strange = [each for each in found if isinstance(each, UnreadableInstance) and each.uuid not in wanted]
    missing = sorted(set(wanted) - {each.uuid for each in known}) if strange else []
    return known + [replace(strange[0], uuid=uuid, host=None) for uuid in missing]


def devices_of(row: Any, devices: Mapping[str, Sequence[Mapping[str, Any]]]) -> Sequence[Mapping[str, Any]]:
    """Give the block devices of a row, in order; none where its UUID is none.

    :raises Unreadable: one of them is wrong.
    """
    try:
        uuid = canonical_uuid(row[DATA]["uuid"])
    except (ValueError, TypeError, LookupError):
        return ()
    return devices_by_instance(devices.get(uuid, ())).get(uuid, ())


def _migrations(uuid: str, rows: Sequence[Mapping[str, Any]]) -> list[Migration] | StoreError:
    found = _in_order(rows)
    if any(each.migration_type == UNREADABLE for each in found):
        return StoreError(f"cannot read a migration of instance {uuid}: nothing is started on a guess")
    return found


def _in_order(rows: Sequence[Mapping[str, Any]]) -> list[Migration]:
    """Read migrations, oldest first; one that names no instance says nothing of any, and is left out."""
    found = []
    for uuid, own in each_of_its_own(rows, "Migration").items():
        for row in own:
            try:
                found.append((_number(row), migration(row)))
            except Unreadable as error:
                log.error("store.row_unreadable", instance=uuid, error=printable(str(error)))  # noqa: TRY400 - a sentence
                wrong = Migration(
                    uuid=uuid, instance_uuid=uuid, migration_type=UNREADABLE, status="", source_compute=""
                )
                found.append((sys.maxsize, wrong))
    return [each for _, each in sorted(found, key=lambda pair: pair[0])]


def _number(data: Mapping[str, Any]) -> int:
    number = field(data, "id", "Migration")
    if not isinstance(number, int):
        raise Unreadable("a Migration in the answer has an id that is no number")
    return number
