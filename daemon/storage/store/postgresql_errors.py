"""What an error of PostgreSQL means: there is no database that can be used now, or something is wrong with this one."""

from typing import Final

import psycopg
from sqlalchemy.exc import DBAPIError, PendingRollbackError, ResourceClosedError, SQLAlchemyError

CONFLICTS: Final = ("40001", "40P01", "55P03")
"""Serialization failure (on a standby: a conflict with recovery), deadlock, lock not available."""
READ_ONLY: Final = ("25006", "55000")
"""Only reads are taken (a standby, a server that was demoted or is switched over); not while it recovers."""
CUT_OFF: Final = ("57P01", "57P02", "57P03", "57P05", "25P03", "25P04")
"""Shut down, crashed, starting up or not accepting, idle for too long."""
HOPELESS: Final = (
    "authentication failed",
    "does not exist",
    "no such user",
    "no such database",
    "no pg_hba.conf entry",
    "no password supplied",
    "statement pooling mode",
)
"""Words of a refusal to connect that no waiting mends; each server that was asked must have said one."""
MADE_BY_ANOTHER: Final = ("42P07", "42710", "42701", "42P06")
"""A table, an object, a column or a schema is there already: another host made it at the same moment."""
NEXT_SERVER: Final = "\n- host: "
"""Where psycopg, which asked several servers, begins with what the next one said."""


class ReadOnlyServer(SQLAlchemyError):
    """The server takes no writes: it is a standby, or was made one."""


def is_read_only(error: BaseException | None) -> bool:
    """Tell whether an error of psycopg says that the server takes no writes now."""
    return isinstance(error, psycopg.Error) and error.sqlstate in READ_ONLY


def is_away(error: SQLAlchemyError) -> bool:
    """Tell whether there was no database to answer, or none that may be written to."""
    if not isinstance(error, DBAPIError):
        # A connection that broke in the middle, as whoever uses it next is told.
        return isinstance(error, PendingRollbackError | ResourceClosedError | ReadOnlyServer)
    cause = error.orig
    state = getattr(cause, "sqlstate", None)
    if is_read_only(cause) or state in CUT_OFF:
        return True
    of_the_connection = isinstance(cause, psycopg.OperationalError | psycopg.InterfaceError)
    if of_the_connection and _is_hopeless(str(cause)):
        return False
    return error.connection_invalidated or (of_the_connection and not is_conflict(error))


def names_a_setting(error: SQLAlchemyError) -> bool:
    """Tell whether a person must set something right: who, whose and which the database is, or what it is asked."""
    if not isinstance(error, DBAPIError):
        return False
    cause = error.orig
    state = getattr(cause, "sqlstate", None) or ""
    if state.startswith(("28", "3D")):
        return True
    if isinstance(cause, psycopg.OperationalError | psycopg.InterfaceError):
        return _is_hopeless(str(cause))
    return isinstance(cause, psycopg.ProgrammingError | psycopg.NotSupportedError) and state not in MADE_BY_ANOTHER


def is_conflict(error: SQLAlchemyError) -> bool:
    """Tell whether the database gave the transaction up for another's sake."""
    return isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) in CONFLICTS


def cause_of(error: SQLAlchemyError) -> BaseException:
    """Give the database module's own error: SQLAlchemy's shows statements, and may show values."""
    return error.orig if isinstance(error, DBAPIError) and error.orig is not None else error


def words_of(error: SQLAlchemyError) -> str:
    """Say what the database said."""
    return str(cause_of(error)).strip()


def _is_hopeless(text: str) -> bool:
    said = text.split(NEXT_SERVER)[1:] or [text]
    return all(any(words in each for words in HOPELESS) for each in said)
