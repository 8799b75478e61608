"""The store in PostgreSQL: several hosts, one database, which may be away for a while.

Rows are locked in one order, and a transaction that the database gives up for another's sake is made again.  While the
database is away, reads and writes wait for it.  A commit whose answer was cut off is looked up afterwards: it is never
made twice, and never taken for a conflict with itself.
"""

import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import anyio.to_thread
import psycopg
from sqlalchemy import Connection, Engine, Text, create_engine, func, insert, make_url, select, text, update
from sqlalchemy.exc import (
    DBAPIError,
    OperationalError,
    PendingRollbackError,
    ResourceClosedError,
    SQLAlchemyError,
)

from bringup.daemon.errors import BringupError, Refused, SettingsError, StoreError, Temporary
from bringup.daemon.logs import get_logger
from bringup.daemon.store.schema import SCHEMA_VERSION, schema_version, tables
from bringup.daemon.store.sql import Database, SqlStore

log = get_logger()

T = TypeVar("T")

CONNECT_S = 5
STATEMENT_S = 30
FIRST_WAIT_S = 0.05
LONGEST_WAIT_S = 2.0
FATE_S = 10.0
"""How long the fate of a transaction is asked for whose commit was cut off."""
# One daemon makes the tables, the others wait for it.
TABLES_LOCK = 0x6272696E67757031
CONFLICTS = ("40001", "40P01", "55P03")
"""Serialization failure, deadlock, lock not available: the database gave this transaction up for another's sake."""
HOPELESS = ("authentication failed", "does not exist", "no pg_hba.conf entry", "password")
"""Words of a refusal to connect that no waiting mends."""


class Patience:
    """Makes transactions, waits while the database is away, and finds out what came of a commit that was cut off."""

    def __init__(self, engine: Engine, name: str, wait_s: float) -> None:
        """Wait for the database for ``wait_s`` seconds at most, each time."""
        self._engine = engine
        self._name = name
        self._wait_s = wait_s

    def read(self, work: Callable[[Connection], T]) -> T:
        """Carry out ``work``, which changes nothing, in one transaction.  Raises DBAPIError."""

        def once() -> T:
            with self._engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
                return work(connection)

        return self._again(once)

    def write(self, work: Callable[[Connection], T]) -> T:
        """Carry out ``work`` in one transaction, once.

        :raises DBAPIError: it was not made.
        :raises StoreError: it cannot be found out whether it was made.
        """

        def once() -> T:
            with self._engine.connect() as connection:
                transaction = connection.begin()
                try:
                    answer = work(connection)
                    number = connection.scalar(select(func.pg_current_xact_id().cast(Text)))
                except BaseException:
                    transaction.close()
                    raise
                try:
                    transaction.commit()
                except DBAPIError as error:
                    if not is_away(error) or not self._was_made(str(number)):
                        raise
            return answer

        return self._again(once)

    def _again(self, once: Callable[[], T]) -> T:
        until, wait_s = time.monotonic() + self._wait_s, FIRST_WAIT_S
        said = False
        while True:
            try:
                answer = once()
            except SQLAlchemyError as error:
                left_s = until - time.monotonic()
                if left_s <= 0 or not (is_away(error) or is_conflict(error)):
                    raise
                if is_away(error) and not said:
                    said = True
                    log.warning("store.away", store=self._name, error=_words_of(error))
                # Many daemons wait for one database: not all at once.
                time.sleep(min(random.uniform(wait_s / 2, wait_s), left_s))  # noqa: S311 - jitter
                wait_s = min(2 * wait_s, LONGEST_WAIT_S)
            else:
                if said:
                    log.info("store.back", store=self._name)
                return answer

    def _was_made(self, number: str) -> bool:
        """Ask what came of a transaction.

        :raises StoreError: nobody knows.
        """
        until = time.monotonic() + FATE_S

        def ask() -> str | None:
            with self._engine.connect() as connection:
                fate: str | None = connection.scalar(select(func.pg_xact_status(text(f"'{number}'::xid8"))))
                return fate

        while True:
            fate = self._again(ask)
            if fate == "committed":
                return True
            if fate == "aborted":
                return False
            if fate is None or time.monotonic() > until:
                raise StoreError(f"cannot tell whether transaction {number} was made in {self._name}: it is {fate}")
            # The server has not noticed yet that its client is gone.
            time.sleep(FIRST_WAIT_S)


def is_away(error: SQLAlchemyError) -> bool:
    """Tell whether there was no database to answer."""
    if not isinstance(error, DBAPIError):
        # A connection that broke in the middle, as whoever uses it next is told.
        return isinstance(error, PendingRollbackError | ResourceClosedError)
    if error.connection_invalidated:
        return True
    cause = error.orig
    away = isinstance(cause, psycopg.OperationalError | psycopg.InterfaceError) and not is_conflict(error)
    return away and not any(words in str(cause) for words in HOPELESS)


def is_conflict(error: SQLAlchemyError) -> bool:
    """Tell whether the database gave the transaction up for another's sake."""
    return isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) in CONFLICTS


def _words_of(error: SQLAlchemyError) -> str:
    return str(error.orig if isinstance(error, DBAPIError) else error).strip()


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
    patience = Patience(engine, name, wait_s)
    try:
        patience.write(lambda connection: _see_to_tables(connection, name))
    except DBAPIError as error:
        engine.dispose()
        raise _cannot_open(name, error) from error.orig
    except BringupError:
        engine.dispose()
        raise
    return Database(
        name=name, engine=engine, read=patience.read, write=patience.write, explain=lambda _error: "", now=_now
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
