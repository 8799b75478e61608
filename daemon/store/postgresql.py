"""The store in PostgreSQL: several hosts, one database, which may be away for a while.

Rows are locked in one order; :class:`bringup.daemon.store.patience.Patience` makes the transactions.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio.to_thread
from sqlalchemy import Connection, create_engine, func, insert, make_url, select, update
from sqlalchemy.exc import DBAPIError, OperationalError

from bringup.daemon.errors import BringupError, Refused, SettingsError, Temporary
from bringup.daemon.store.patience import STATEMENT_S, Patience, is_away
from bringup.daemon.store.schema import SCHEMA_VERSION, schema_version, tables
from bringup.daemon.store.sql import Database, SqlStore

CONNECT_S = 5
# One daemon makes the tables, the others wait for it.
TABLES_LOCK = 0x6272696E67757031


class PostgresqlStore(SqlStore):
    """Records in a PostgreSQL database.  Made by :meth:`open`; :func:`opened` closes it too."""

    @classmethod
    async def open(cls, url: str, *, password: str | None = None, wait_s: float = 30.0) -> "PostgresqlStore":
        """Connect, and make the tables where they are missing.

        :raises Temporary: the database did not answer in ``wait_s``.
        :raises SettingsError: it does not let this daemon in.
        :raises Refused: its tables are of a newer version.
        """
        return cls(await anyio.to_thread.run_sync(open_database, url, password, wait_s))


@asynccontextmanager
async def opened(url: str, *, password: str | None = None, wait_s: float = 30.0) -> AsyncIterator[PostgresqlStore]:
    """Open a store and close it at the end.  Raises as :meth:`PostgresqlStore.open` does."""
    store = await PostgresqlStore.open(url, password=password, wait_s=wait_s)
    try:
        yield store
    finally:
        await store.close()


def open_database(url: str, password: str | None = None, wait_s: float = 30.0) -> Database:
    """Connect and see to the tables; raises as :meth:`PostgresqlStore.open` does.  Blocks."""
    address = make_url(url).set(drivername="postgresql+psycopg", password=password)
    name = make_url(url).render_as_string(hide_password=True)
    engine = create_engine(
        address,
        connect_args={
            "connect_timeout": CONNECT_S,
            "application_name": "bringup",
            "options": f"-c statement_timeout={STATEMENT_S}s -c lock_timeout={STATEMENT_S // 2}s",
            # A server that is gone without a word is noticed.
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 1000 * STATEMENT_S,
        },
        # Values may be secrets of guests.
        hide_parameters=True,
    )
    transactions = Patience(engine, name, wait_s)
    try:
        transactions.prepare()
        transactions.write(lambda connection: _see_to_tables(connection, name))
    except DBAPIError as error:
        engine.dispose()
        raise _cannot_open(name, error) from error.orig
    except BringupError:
        engine.dispose()
        raise
    return Database(
        name=name, engine=engine, read=transactions.read, write=transactions.write, explain=lambda _error: "", now=_now
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


def _cannot_open(name: str, error: DBAPIError) -> BringupError:
    message = f"cannot open the store {name}"
    if isinstance(error, OperationalError) and is_away(error):
        return Temporary(message)
    return SettingsError([f"store.url: {message}; set its user, password and database right"])
