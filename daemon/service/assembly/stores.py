"""The store that is set: SQLite, PostgreSQL, or Nova's own records."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from bringup.daemon.errors import SettingsError, UsageError
from bringup.daemon.service.assembly.messaging import opened_messaging
from bringup.daemon.settings import Settings
from bringup.daemon.storage.store.base import ImportingStore, Store

if TYPE_CHECKING:
    from bringup.daemon.openstack.rpc.client import Rpc
    from bringup.daemon.storage.store.postgresql import Tls
    from bringup.daemon.storage.store.sql import Database

NO_POSTGRESQL = (
    "store.url: PostgreSQL needs the extra bringup[postgresql]: in the checkout, /opt/bringup/bin/pip install "
    "'.[postgresql]'"
)


@asynccontextmanager
async def opened_store(
    settings: Settings, *, must_exist: bool = False, rpc: "Rpc | None" = None
) -> AsyncIterator[Store]:
    """Open the store that is set, and close it on exit; ``rpc`` is used if it is open already.

    :raises BringupError: it cannot be opened.
    """
    if not settings.store.is_nova_conductor:
        async with opened_own_store(settings, must_exist=must_exist) as store:
            yield store
        return
    from bringup.daemon.openstack.conductor import NovaConductorStore

    async with AsyncExitStack() as opened:
        caller = rpc or await opened.enter_async_context(opened_messaging(settings))
        if caller is None:
            raise SettingsError([f"store.url: {settings.store.url} is not used by these settings"])
        nova = NovaConductorStore(
            caller, name_template=settings.store.instance_name_template, budget_s=settings.messaging.budget
        )
        opened.push_async_callback(nova.close)
        yield nova


@asynccontextmanager
async def opened_own_store(settings: Settings, *, must_exist: bool = False) -> AsyncIterator[ImportingStore]:
    """Open the database that is set, and close it on exit.

    :raises UsageError: the records are Nova's: nothing is put into them from outside.
    :raises BringupError: it cannot be opened.
    """
    if settings.store.is_nova_conductor:
        raise UsageError(
            f'store.url = "{settings.store.url}": the records are Nova\'s own, and nothing is imported into them'
        )
    from bringup.daemon.storage.store import sql

    async with sql.open_store(partial(open_database, settings, must_exist=must_exist)) as store:
        yield store


def open_database(settings: Settings, *, must_exist: bool = False) -> "Database":
    """Open the database of the store that is set; blocks.

    :raises BringupError: it cannot be opened.
    """
    path = settings.store.path
    if path is not None:
        from bringup.daemon.storage.store import sqlite

        return sqlite.open_database(path, settings.store.busy_timeout, must_exist=must_exist)
    try:
        from bringup.daemon.storage.store import postgresql
    except ImportError as error:
        raise SettingsError([NO_POSTGRESQL]) from error
    store = settings.store
    return postgresql.open_database(store.url, _password(settings), store.wait, tls=_store_tls(settings))


def _store_tls(settings: Settings) -> "Tls":
    from bringup.daemon.storage.store.postgresql import Tls

    store = settings.store
    return Tls(mode=store.tls, ca_file=store.ca_file, cert_file=store.cert_file, key_file=store.key_file)


def _password(settings: Settings) -> str | None:
    """Return the password of PostgreSQL's user; None: none is set."""
    password = settings.store.password
    return None if password is None else password.get_secret_value()


def hurry(store: Store) -> None:
    """Bound the waits for the store: the daemon stops."""
    from bringup.daemon.storage.store.sql import SqlStore

    if isinstance(store, SqlStore):
        store.hurry()
