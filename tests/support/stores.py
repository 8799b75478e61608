"""Every store that there is, to be held against one contract."""

import functools
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

import anyio.to_thread

from bringup.daemon.storage.sqlite_file import BUSY_TIMEOUT_S
from bringup.daemon.storage.store import postgresql, sqlite
from bringup.daemon.storage.store.base import ImportingStore
from bringup.daemon.storage.store.sql import SqlStore, open_store
from support.postgresql import PASSWORD, the_server

Open = Callable[[], Awaitable[ImportingStore]]


async def sqlite_store(path: Path, *, busy_timeout_s: float = BUSY_TIMEOUT_S, must_exist: bool = False) -> SqlStore:
    """Open a store in a file; whoever calls closes it."""
    opens = partial(sqlite.open_database, path, busy_timeout_s, must_exist=must_exist)
    return SqlStore(await anyio.to_thread.run_sync(opens))


def open_sqlite(
    path: Path, *, busy_timeout_s: float = BUSY_TIMEOUT_S, must_exist: bool = False
) -> AbstractAsyncContextManager[SqlStore]:
    """Open a store in a file, and close it on exit."""
    return open_store(partial(sqlite.open_database, path, busy_timeout_s, must_exist=must_exist))


@functools.cache
def empty_store() -> bytes:
    """Return the file of a store without records: a copy costs less than to create its tables."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store.sqlite"
        sqlite.open_database(path).engine.dispose()
        return path.read_bytes()


async def postgresql_store(url: str, *, wait_s: float = 30.0) -> SqlStore:
    """Open a store in a database of the server; whoever calls closes it."""
    return SqlStore(await anyio.to_thread.run_sync(postgresql.open_database, url, PASSWORD, wait_s))


async def _open_postgresql(directory: Path) -> ImportingStore:
    url = directory / "url"
    if not url.exists():
        url.write_text(the_server().new_database())
    return await postgresql_store(url.read_text(), wait_s=10)


STORES: dict[str, Callable[[Path], Awaitable[ImportingStore]]] = {
    "sqlite": lambda directory: sqlite_store(directory / "store.sqlite"),
    "postgresql": _open_postgresql,
}
"""Opens the store of a directory; again gives the same records."""
