"""Every store that there is, to be held against one contract."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from bringup.daemon.records import Records
from bringup.daemon.store.base import Store
from bringup.daemon.store.imports import ImportResult
from bringup.daemon.store.sqlite import SqliteStore


class ImportingStore(Store, Protocol):
    """A store that takes records from a file."""

    async def import_records(self, records: Records) -> ImportResult: ...


Open = Callable[[], Awaitable[ImportingStore]]
STORES: dict[str, Callable[[Path], Awaitable[ImportingStore]]] = {
    "sqlite": lambda directory: SqliteStore.open(directory / "store.sqlite"),
}
"""Opens the store of a directory; again gives the same records."""
