"""Decoding of migrations, row by row: an unreadable one is an error of its instance, never a guess."""

import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from bringup.daemon.decisions.instances import UNREADABLE, Migration
from bringup.daemon.errors import StoreError
from bringup.daemon.logs import get_logger
from bringup.daemon.openstack.conductor.decoding import migration, rows_by_instance
from bringup.daemon.openstack.rpc.errors import Unreadable
from bringup.daemon.openstack.rpc.objects import number_of
from bringup.daemon.text import printable

log = get_logger()


def migrations_by_instance(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[Migration] | StoreError]:
    """Parse migrations by the UUID of their instance, oldest first; an error where one cannot be read."""
    return {uuid: _migrations_or_error(uuid, own) for uuid, own in rows_by_instance(rows, "Migration").items()}


def oldest_first(rows: Iterable[Mapping[str, Any]]) -> list[Migration]:
    """Parse migrations, oldest first; one without an instance is ignored."""
    sorted_out = rows_by_instance(rows, "Migration")
    return _sort_by_number(each for uuid, own in sorted_out.items() for each in _numbered(uuid, own))


def _migrations_or_error(uuid: str, rows: Iterable[Mapping[str, Any]]) -> list[Migration] | StoreError:
    found = _sort_by_number(_numbered(uuid, rows))
    if any(each.migration_type == UNREADABLE for each in found):
        return StoreError(f"cannot read a migration of instance {uuid}: nothing is started on a guess")
    return found


def _sort_by_number(numbered: Iterable[tuple[int, Migration]]) -> list[Migration]:
    return [each for _, each in sorted(numbered, key=lambda pair: pair[0])]


def _numbered(uuid: str, rows: Iterable[Mapping[str, Any]]) -> Iterator[tuple[int, Migration]]:
    """Parse the migrations of one instance; an unreadable one has the type :data:`UNREADABLE`, and counts as newest."""
    for row in rows:
        try:
            yield number_of(row, "id", "Migration"), migration(row)
        except Unreadable as error:
            log.error("store.row_unreadable", instance=uuid, error=printable(str(error)))  # noqa: TRY400 - a sentence
            yield (
                sys.maxsize,
                Migration(uuid=uuid, instance_uuid=uuid, migration_type=UNREADABLE, status="", source_compute=""),
            )
