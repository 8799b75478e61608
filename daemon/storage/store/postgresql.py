"""The store in PostgreSQL: several hosts, one database, which may be away for a while.

Rows are locked in one order; :class:`bringup.daemon.storage.store.postgresql_transactions.Patience` makes the
transactions.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import anyio.to_thread
from sqlalchemy import Connection, create_engine, func, insert, select, update
from sqlalchemy.exc import SQLAlchemyError

from bringup.daemon.errors import BringupError, Refused, SettingsError, Temporary
from bringup.daemon.storage.store.database_url import parse_database_url
from bringup.daemon.storage.store.postgresql_connection import Tls, connect_args, forget_libpqs_variables
from bringup.daemon.storage.store.postgresql_errors import cause_of, names_a_setting
from bringup.daemon.storage.store.postgresql_transactions import Patience
from bringup.daemon.storage.store.schema import SCHEMA_VERSION, schema_version, tables
from bringup.daemon.storage.store.sql import Database, SqlStore

# One daemon makes the tables, the others wait for it.
TABLES_LOCK = 0x6272696E67757031
ANY_TLS = Tls()


class PostgresqlStore(SqlStore):
    """Records in a PostgreSQL database.  Made by :meth:`open`; :func:`opened` closes it too."""

    @classmethod
    async def open(
        cls, url: str, *, password: str | None = None, wait_s: float = 30.0, tls: Tls = ANY_TLS
    ) -> "PostgresqlStore":
        """Connect, and make the tables where they are missing.

        :raises Temporary: no database that can be written to answered in ``wait_s``, or it failed within itself.
        :raises SettingsError: it does not let this daemon in.
        :raises Refused: its tables are of a newer version.
        """
        return cls(await anyio.to_thread.run_sync(partial(open_database, url, password, wait_s, tls=tls)))


@asynccontextmanager
async def opened(
    url: str, *, password: str | None = None, wait_s: float = 30.0, tls: Tls = ANY_TLS
) -> AsyncIterator[PostgresqlStore]:
    """Open a store and close it at the end.  Raises as :meth:`PostgresqlStore.open` does."""
    store = await PostgresqlStore.open(url, password=password, wait_s=wait_s, tls=tls)
    try:
        yield store
    finally:
        await store.close()


def open_database(url: str, password: str | None = None, wait_s: float = 30.0, *, tls: Tls = ANY_TLS) -> Database:
    """Connect and see to the tables; raises as :meth:`PostgresqlStore.open` does.  Blocks."""
    forget_libpqs_variables()
    engine = create_engine(
        # Everything is in the parameters: SQLAlchemy's URL has no words for several hosts.
        "postgresql+psycopg://",
        connect_args=connect_args(parse_database_url(url), password, tls),
        # Values may be secrets of guests.
        hide_parameters=True,
    )
    transactions = Patience(engine, url, wait_s)
    try:
        transactions.prepare()
        transactions.write(lambda connection: _see_to_tables(connection, url))
    except SQLAlchemyError as error:
        engine.dispose()
        raise _cannot_open(url, error) from cause_of(error)
    except BringupError:
        engine.dispose()
        raise
    return Database(
        name=url,
        engine=engine,
        read=transactions.read,
        write=transactions.write,
        explain=lambda _error: "",
        now=_now,
        hurry=transactions.hurry,
    )


def _now(connection: Connection) -> float:
    return float(connection.scalar(select(func.extract("epoch", func.clock_timestamp()))) or 0)


def _see_to_tables(connection: Connection, name: str) -> None:
    connection.execute(select(func.pg_advisory_xact_lock(TABLES_LOCK)))
    tables.create_all(connection)
    version = connection.scalar(select(schema_version.c.version))
    if version is None:
        connection.execute(insert(schema_version), {"version": SCHEMA_VERSION})
    elif version < SCHEMA_VERSION:
        connection.execute(update(schema_version), {"version": SCHEMA_VERSION})
    elif version > SCHEMA_VERSION:
        raise Refused(
            f"cannot use the store {name}: its schema version is {version}, this version of bringup knows "
            f"{SCHEMA_VERSION}; run the version that wrote it"
        )


def _cannot_open(name: str, error: SQLAlchemyError) -> BringupError:
    message = f"cannot open the store {name}"
    if names_a_setting(error):
        problem = f"store.url: {message} ({_first_line(error)}); set its user, password and database right"
        return SettingsError([problem])
    return Temporary(message)


def _first_line(error: SQLAlchemyError) -> str:
    return next(iter(str(cause_of(error)).strip().splitlines()), type(error).__name__)
