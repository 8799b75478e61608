"""The store in PostgreSQL: several hosts, one database, which may be unavailable for a while.

Rows are locked in one order; :class:`bringup.daemon.storage.store.postgresql_transactions.PostgresqlTransactions`
makes the transactions.
"""

from sqlalchemy import Connection, create_engine, func, select
from sqlalchemy.exc import SQLAlchemyError

from bringup.daemon.errors import BringupError, SettingsError, Temporary
from bringup.daemon.storage.store.database_url import parse_database_url
from bringup.daemon.storage.store.postgresql_connection import Tls, connect_args, forget_libpqs_variables
from bringup.daemon.storage.store.postgresql_transactions import PostgresqlTransactions, cause_of, names_a_setting
from bringup.daemon.storage.store.schema import ensure_tables
from bringup.daemon.storage.store.sql import Database

# One daemon creates the tables, the others wait for it.
TABLES_LOCK = 0x6272696E67757031
ANY_TLS = Tls()


def open_database(url: str, password: str | None = None, wait_s: float = 30.0, *, tls: Tls = ANY_TLS) -> Database:
    """Connect, and create the tables where they are missing.  Blocks.

    :raises Temporary: no database that can be written to answered in ``wait_s``, or it failed within itself.
    :raises SettingsError: it refuses this daemon.
    :raises Refused: its tables are of a newer version.
    """
    forget_libpqs_variables()
    engine = create_engine(
        # Everything is in the parameters: SQLAlchemy's URL cannot name several hosts.
        "postgresql+psycopg://",
        connect_args=connect_args(parse_database_url(url), password, tls),
        # Values may be secrets of guests.
        hide_parameters=True,
    )
    transactions = PostgresqlTransactions(engine, url, wait_s)
    try:
        transactions.prepare()
        transactions.write(lambda connection: _ensure_tables(connection, url))
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


def _ensure_tables(connection: Connection, name: str) -> None:
    connection.execute(select(func.pg_advisory_xact_lock(TABLES_LOCK)))
    ensure_tables(connection, name)


def _cannot_open(name: str, error: SQLAlchemyError) -> BringupError:
    message = f"cannot open the store {name}"
    if names_a_setting(error):
        problem = f"store.url: {message} ({_first_line(error)}); correct its user, password and database"
        return SettingsError([problem])
    return Temporary(message)


def _first_line(error: SQLAlchemyError) -> str:
    return next(iter(str(cause_of(error)).strip().splitlines()), type(error).__name__)
