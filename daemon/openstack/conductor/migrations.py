"""Migrations of nova-conductor, each read by itself: one that cannot be read is no guess on what moves an instance."""

import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from bringup.daemon.decisions.instances import UNREADABLE, Migration
from bringup.daemon.errors import StoreError
from bringup.daemon.logs import get_logger
from bringup.daemon.openstack.conductor.decoding import each_of_its_own, migration
from bringup.daemon.openstack.rpc.errors import Unreadable
from bringup.daemon.openstack.rpc.objects import number_of
from bringup.daemon.text import printable

log = get_logger()


def of_each_instance(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[Migration] | StoreError]:
    """Read migrations, oldest first, by the UUID of their instance; an error where one of them cannot be read."""
    return {uuid: _known(uuid, own) for uuid, own in each_of_its_own(rows, "Migration").items()}


def in_order(rows: Iterable[Mapping[str, Any]]) -> list[Migration]:
    """Read migrations, oldest first; one that names no instance says nothing of any, and is left out."""
    sorted_out = each_of_its_own(rows, "Migration")
    return _oldest_first(each for uuid, own in sorted_out.items() for each in _numbered(uuid, own))


def _known(uuid: str, rows: Iterable[Mapping[str, Any]]) -> list[Migration] | StoreError:
    found = _oldest_first(_numbered(uuid, rows))
    if any(each.migration_type == UNREADABLE for each in found):
        return StoreError(f"cannot read a migration of instance {uuid}: nothing is started on a guess")
    return found


def _oldest_first(numbered: Iterable[tuple[int, Migration]]) -> list[Migration]:
    return [each for _, each in sorted(numbered, key=lambda pair: pair[0])]


def _numbered(uuid: str, rows: Iterable[Mapping[str, Any]]) -> Iterator[tuple[int, Migration]]:
    """Read migrations of one instance; one that cannot be read is of the type that says so, and the newest."""
    for row in rows:
        try:
            yield number_of(row, "id", "Migration"), migration(row)
        except Unreadable as error:
            log.error("store.row_unreadable", instance=uuid, error=printable(str(error)))  # noqa: TRY400 - a sentence
            yield (
                sys.maxsize,
                Migration(uuid=uuid, instance_uuid=uuid, migration_type=UNREADABLE, status="", source_compute=""),
            )
