"""Every store that there is, to be held against one contract."""

from collections.abc import Awaitable, Callable
from pathlib import Path

from bringup.daemon.storage.store.base import ImportingStore
from bringup.daemon.storage.store.postgresql import PostgresqlStore
from bringup.daemon.storage.store.sqlite import SqliteStore
from support.postgresql import PASSWORD, the_server

Open = Callable[[], Awaitable[ImportingStore]]


async def _open_postgresql(directory: Path) -> ImportingStore:
    url = directory / "url"
    if not url.exists():
        url.write_text(the_server().new_database())
    return await PostgresqlStore.open(url.read_text(), password=PASSWORD, wait_s=10)


STORES: dict[str, Callable[[Path], Awaitable[ImportingStore]]] = {
    "sqlite": lambda directory: SqliteStore.open(directory / "store.sqlite"),
    "postgresql": _open_postgresql,
}
"""Opens the store of a directory; again gives the same records."""
