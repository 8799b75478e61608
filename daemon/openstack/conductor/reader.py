"""Reader of records from nova-conductor: several requests at once, and each row by itself.

A row that cannot be read concerns its own instance alone: it becomes an :class:`UnreadableInstance`.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import anyio

from bringup.daemon.decisions.instances import Instance, Migration, UnreadableInstance
from bringup.daemon.decisions.migrating import AWAY_STATUSES
from bringup.daemon.errors import RecordNotFound, StoreError
from bringup.daemon.logs import get_logger
from bringup.daemon.openstack.conductor.calls import Conductor
from bringup.daemon.openstack.conductor.decoding import (
    EXPECTED_ATTRS,
    RecordState,
    Row,
    devices_by_instance,
    flavor_of,
    instance_row,
    names_an_instance,
    record_states_by_instance,
    rows_by_instance,
    unreadable,
    uuid_of,
    without_duplicates,
)
from bringup.daemon.openstack.conductor.migrations import migrations_by_instance
from bringup.daemon.openstack.rpc.errors import Unreadable
from bringup.daemon.storage.store.imports import chunks

log = get_logger()

PAGE = 200
"""Instances in one request: a reply of about 450 KB, a third of a second of a conductor."""


class Reader:
    """Reader of instances; keeps the fields that a later write needs."""

    def __init__(self, conductor: Conductor, name_template: str) -> None:
        """Store the client, and Nova's ``instance_name_template``."""
        self._conductor = conductor
        self._name_template = name_template
        self.numbers: dict[str, int] = {}
        """Nova's ``id`` of each instance that was read, by UUID."""
        self.valueless: dict[str, tuple[str, ...]] = {}
        """The keys of system metadata without a value, by UUID."""
        self._flavors: dict[int, Mapping[str, Any]] = {}
        """Flavors of the instances of the host, by Nova's ``instance_type_id``."""
        self._flavor_numbers: dict[str, int] = {}
        """The number of its flavor, by UUID."""

    async def of_host(self, host: str) -> list[Instance]:
        """Read the instances of a host, without deleted rows, sorted by UUID."""
        uuids = await self._conductor.instance_uuids(host)
        if len(uuids) > PAGE:
            found = await self._read_pages(uuids)
        else:
            found = await self._decode(await self._conductor.instances_of(host) if uuids else [], uuids)
        await self._load_flavors(found)
        # The host of an unreadable row may be unknown; it was requested as one of this host.
        return [self._with_flavor(own) for own in (_of_host(each, host) for each in found) if own.host == host]

    async def _load_flavors(self, found: Sequence[Instance]) -> None:
        """Read the flavors that are not known yet, each from one instance: with all of them a load takes twice as long.

        They order only: a failure is logged, and the instances have none.
        """
        newest = {
            number: each.uuid
            for each in sorted(found, key=lambda each: self.numbers.get(each.uuid, 0))
            if (number := self._flavor_numbers.get(each.uuid)) is not None and number not in self._flavors
        }
        if not newest:
            return
        try:
            rows = await self._conductor.instances(sorted(newest.values()), hidden=False, attributes=("flavor",))
        except StoreError as error:
            log.warning("store.flavors_unknown", error=str(error), means="flavors order no guest")
            return
        flavors = {uuid_of(row): flavor_of(row) for row in rows}
        self._flavors |= {number: flavors[uuid] for number, uuid in newest.items() if uuid in flavors}

    def _with_flavor(self, instance: Instance) -> Instance:
        number = self._flavor_numbers.get(instance.uuid)
        flavor = None if number is None else self._flavors.get(number)
        return replace(instance, flavor=flavor) if flavor else instance

    async def by_uuid(self, uuids: Collection[str]) -> list[Instance]:
        """Read instances on any host, without deleted rows."""
        return _requested(await self._read_pages(uuids), uuids)

    async def deleted(self, uuids: Collection[str]) -> list[Instance]:
        """Read instances whose row is deleted, where Nova still has it."""
        found: list[Instance] = []
        for page in chunks(sorted(uuids), PAGE):
            listed = await self._conductor.instances(page, hidden=False, deleted=True)
            found += await self._decode(listed, page)
        return _requested(found, uuids)

    async def round(self, uuids: Sequence[str]) -> list[Instance | StoreError]:
        """Read a batch of instances; return a result for each, in order."""
        page = await self._read_page(sorted(set(uuids)))
        found = {each.uuid: each for each in page}
        unreadable_rows = [each for each in page if isinstance(each, UnreadableInstance) and each.uuid not in uuids]

        def answer(uuid: str) -> Instance | StoreError:
            instance = found.get(uuid)
            if isinstance(instance, UnreadableInstance):
                return StoreError(f"cannot read instance {uuid}: {instance.why}")
            if instance is None and unreadable_rows:
                # Any of the unreadable rows may be this instance.
                return StoreError(f"cannot read instance {uuid}: {unreadable_rows[0].why}")
            return instance or RecordNotFound(f"cannot read instance {uuid}: there is no such record")

        return [answer(uuid) for uuid in uuids]

    async def state_round(
        self, asked: Sequence[tuple[str, str]]
    ) -> list[tuple[RecordState, list[Migration]] | StoreError]:
        """Read the states of records, then the migrations, so that one that starts in between is seen."""
        uuids = sorted({uuid for uuid, _ in asked})
        states, unreadable_row = record_states_by_instance(await self._list(uuids, attributes=()))
        moves = {host: await self._moves(host, AWAY_STATUSES) for host in {host for _, host in asked}}

        def answer(uuid: str, host: str) -> tuple[RecordState, list[Migration]] | StoreError:
            # A row without a valid UUID may be any missing instance.
            record, mine = states.get(uuid, unreadable_row), moves[host].get(uuid, [])
            if record is None:
                return RecordNotFound(f"cannot read the state of instance {uuid}: there is no such record")
            if isinstance(record, Unreadable):
                return StoreError(f"cannot read the state of instance {uuid}: {record}")
            return mine if isinstance(mine, StoreError) else (record, mine)

        return [answer(uuid, host) for uuid, host in asked]

    async def _moves(self, host: str, statuses: Collection[str]) -> dict[str, list[Migration] | StoreError]:
        """Read the migrations from a host, by UUID of their instance, oldest first; an error where one is invalid."""
        return migrations_by_instance(await self._conductor.migrations(host, statuses))

    async def _read_pages(self, uuids: Collection[str]) -> list[Instance]:
        """Read pages concurrently: a cloud has several conductors."""
        wanted = sorted(set(uuids))
        pages: list[list[Instance] | StoreError] = [[] for _ in range(0, len(wanted), PAGE)]

        async def load(number: int, page: Sequence[str]) -> None:
            try:
                pages[number] = await self._read_page(page)
            except StoreError as error:
                pages[number] = error

        async with anyio.create_task_group() as group:
            for number, page in enumerate(chunks(wanted, PAGE)):
                group.start_soon(load, number, page)
        found: list[Instance] = []
        for loaded in pages:
            if isinstance(loaded, StoreError):
                raise loaded
            found += loaded
        # Two pages may contain the same instance.
        return without_duplicates(found)

    async def _read_page(self, uuids: Sequence[str]) -> list[Instance]:
        return await self._decode(await self._list(uuids, attributes=EXPECTED_ATTRS), uuids)

    async def _list(self, uuids: Sequence[str], *, attributes: Sequence[str]) -> list[Any]:
        found = await self._conductor.instances(uuids, hidden=False, attributes=attributes)
        if len(found) < len(uuids):
            found += await self._conductor.instances(uuids, hidden=True, attributes=attributes)
        return found

    async def _decode(self, found: Sequence[Any], uuids: Sequence[str]) -> list[Instance]:
        """Decode rows, each by itself: an unreadable one is an :class:`UnreadableInstance`."""
        devices = await self._devices(uuids) if found else {}
        instances: list[Instance] = []
        if found and not any(map(names_an_instance, found)):
            raise StoreError(f"cannot read {len(found)} instances: no row of nova-conductor has a UUID")
        for each in found:
            try:
                row = instance_row(each, name_template=self._name_template, devices=_devices_of(each, devices))
            except Unreadable as error:
                stub = unreadable(each, error)
                log.error("store.row_unreadable", instance=stub.uuid, error=stub.why)  # noqa: TRY400 - a sentence
                instances.append(stub)
            else:
                self._store(row)
                instances.append(self._with_flavor(row.instance))
        return without_duplicates(instances)

    async def _devices(self, uuids: Sequence[str]) -> dict[str, list[Mapping[str, Any]]]:
        return rows_by_instance(await self._conductor.block_devices(uuids), "BlockDeviceMapping")

    def _store(self, row: Row) -> None:
        self.numbers[row.instance.uuid] = row.number
        if row.flavor_number is not None:
            self._flavor_numbers[row.instance.uuid] = row.flavor_number
        if row.valueless:
            self.valueless[row.instance.uuid] = row.valueless
        else:
            self.valueless.pop(row.instance.uuid, None)


def _of_host(instance: Instance, host: str) -> Instance:
    is_unknown = isinstance(instance, UnreadableInstance) and instance.host is None
    return replace(instance, host=host) if is_unknown else instance


def _requested(found: Sequence[Instance], wanted: Collection[str]) -> list[Instance]:
    """Return the requested instances; a row without a readable UUID may be any that is missing."""
    known = [each for each in found if each.uuid in wanted]
    unreadable_rows = [each for each in found if isinstance(each, UnreadableInstance) and each.uuid not in wanted]
    missing = sorted(set(wanted) - {each.uuid for each in known}) if unreadable_rows else []
    return known + [replace(unreadable_rows[0], uuid=uuid, host=None) for uuid in missing]


def _devices_of(row: Any, devices: Mapping[str, Sequence[Mapping[str, Any]]]) -> Sequence[Mapping[str, Any]]:
    """Return the block devices of a row, in order; none without a valid UUID.

    :raises Unreadable: one of them is invalid.
    """
    uuid = uuid_of(row)
    return () if uuid is None else devices_by_instance(devices.get(uuid, ())).get(uuid, ())
