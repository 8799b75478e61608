"""Transactions in a PostgreSQL that may be unavailable for a while, and what its errors mean.

While the database is unavailable, reads and writes wait for it; a transaction that it aborts for the sake of another is
made again.  A server that takes no writes is unavailable too, for reads as well: it may be behind.  Each attempt uses a
new connection: the address may belong to another server by now.

A commit whose answer was cut off is never made twice, and never mistaken for a conflict with itself: each transaction
leaves a row with a token of its own, which is looked up afterwards.  (The number of the transaction would not do: a
server that crashed before it wrote that number down gives it to another one.)
"""

import os
import socket
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, TypeVar

import psycopg
from sqlalchemy import (
    Column,
    Connection,
    DateTime,
    Engine,
    MetaData,
    String,
    Table,
    delete,
    event,
    func,
    insert,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import insert as insert_if_missing
from sqlalchemy.engine.interfaces import ExceptionContext
from sqlalchemy.exc import DBAPIError, PendingRollbackError, ResourceClosedError, SQLAlchemyError
from tenacity import RetryCallState, Retrying, retry_if_exception, wait_random_exponential
from tenacity.nap import sleep_using_event

from bringup.daemon.closing import HURRY_S
from bringup.daemon.errors import StoreUnavailable
from bringup.daemon.logs import get_logger

CONFLICTS: Final = ("40001", "40P01", "55P03")
"""Serialization failure (on a standby: a conflict with recovery), deadlock, lock not available."""
READ_ONLY: Final = ("25006", "55000")
"""Only reads are accepted (a standby, a server that was demoted or is switched over); not while it recovers."""
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
"""Words of a refusal to connect that waiting does not cure; each server must have answered with one."""
MADE_BY_ANOTHER: Final = ("42P07", "42710", "42701", "42P06")
"""A table, an object, a column or a schema exists already: another host created it at the same moment."""
NEXT_SERVER: Final = "\n- host: "
"""Separator of psycopg between the errors of several servers."""


class ReadOnlyServer(SQLAlchemyError):
    """The server accepts no writes: it is a standby, or was made one."""


def is_read_only(error: BaseException | None) -> bool:
    """Check whether an error of psycopg means that the server accepts no writes now."""
    return isinstance(error, psycopg.Error) and error.sqlstate in READ_ONLY


def is_unavailable(error: SQLAlchemyError) -> bool:
    """Check whether no database answered, or none that accepts writes."""
    if not isinstance(error, DBAPIError):
        # A connection that broke in the middle, as its next user finds it.
        return isinstance(error, PendingRollbackError | ResourceClosedError | ReadOnlyServer)
    cause = error.orig
    state = getattr(cause, "sqlstate", None)
    if is_read_only(cause) or state in CUT_OFF:
        return True
    of_the_connection = isinstance(cause, psycopg.OperationalError | psycopg.InterfaceError)
    if of_the_connection and _is_permanent(str(cause)):
        return False
    return error.connection_invalidated or (of_the_connection and not is_conflict(error))


def names_a_setting(error: SQLAlchemyError) -> bool:
    """Check whether an operator must correct something: the user, the database, or its schema."""
    if not isinstance(error, DBAPIError):
        return False
    cause = error.orig
    state = getattr(cause, "sqlstate", None) or ""
    if state.startswith(("28", "3D")):
        return True
    if isinstance(cause, psycopg.OperationalError | psycopg.InterfaceError):
        return _is_permanent(str(cause))
    return isinstance(cause, psycopg.ProgrammingError | psycopg.NotSupportedError) and state not in MADE_BY_ANOTHER


def is_conflict(error: SQLAlchemyError) -> bool:
    """Check whether the database aborted the transaction for the sake of another."""
    return isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) in CONFLICTS


def cause_of(error: SQLAlchemyError) -> BaseException:
    """Return the database module's own error: SQLAlchemy's shows statements, and may show values."""
    return error.orig if isinstance(error, DBAPIError) and error.orig is not None else error


def words_of(error: SQLAlchemyError) -> str:
    """Return the text of the database's error."""
    return str(cause_of(error)).strip()


def _is_permanent(text: str) -> bool:
    said = text.split(NEXT_SERVER)[1:] or [text]
    return all(any(words in each for words in HOPELESS) for each in said)


log = get_logger()

T = TypeVar("T")

WAIT = wait_random_exponential(multiplier=0.05, min=0.02, max=2)
"""Jittered: many daemons wait for one database."""
STATEMENT_S: Final = 30
"""Longest time of a statement, in seconds."""
# One daemon creates the table, the others wait for it.
TOKENS_LOCK = 0x6272696E67757032
KEPT_TOKENS = "1 day"
"""Tokens of a daemon that exited before it could delete them are deleted after this."""
# One round trip, and nothing is left in the session: its next transaction may be another client's.
BEGIN = select(
    func.set_config("statement_timeout", f"{STATEMENT_S}s", True),  # noqa: FBT003 - SQL's
    func.set_config("lock_timeout", f"{STATEMENT_S // 2}s", True),  # noqa: FBT003 - SQL's
    func.current_setting("transaction_read_only"),
)

# Created beside the store's tables: no other database has it.
own = MetaData()

commit_tokens = Table(
    "commit_tokens",
    own,
    Column("token", String(36), primary_key=True),
    Column("made_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)


class PostgresqlTransactions:
    """Transactions that wait while the database is unavailable, and look up the result of an interrupted commit."""

    def __init__(self, engine: Engine, name: str, wait_s: float) -> None:
        """Store how long each wait for the database may take, in seconds."""
        self._engine = engine
        self._name = name
        self._wait_s = wait_s
        self._hurry = threading.Event()
        # Connections that are in use; worker threads share it.
        self._in_use: set[psycopg.Connection[Any]] = set()
        # Tokens of transactions whose result is known; worker threads share it.
        self._settled: deque[str] = deque()
        event.listen(engine, "handle_error", _invalidate_all)
        event.listen(engine, "checkout", lambda raw, *_: self._in_use.add(raw))
        for end in ("checkin", "invalidate"):
            event.listen(engine, end, lambda raw, *_: self._in_use.discard(raw))

    def hurry(self) -> None:
        """Stop waiting, from now on: the daemon exits.  May be called from any thread, repeatedly.

        A query in progress gets a little time, then its connection is shut down: a server that has vanished would keep
        it for half a minute.
        """
        if self._hurry.is_set():
            return
        self._hurry.set()
        cut = threading.Timer(HURRY_S, self._cut_off)
        cut.daemon = True
        cut.start()

    def _cut_off(self) -> None:
        for raw in list(self._in_use):
            # Not closed: another thread waits on it, and gets the error.
            with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(raw.fileno())) as line:
                line.shutdown(socket.SHUT_RDWR)

    def prepare(self) -> None:
        """Create the table of tokens if it is missing, one daemon at a time.  Raises DBAPIError."""

        def once() -> None:
            with self._engine.begin() as connection:
                self._check_server(connection)
                connection.execute(select(func.pg_advisory_xact_lock(TOKENS_LOCK)))
                own.create_all(connection)
                old = func.now() - text(f"interval '{KEPT_TOKENS}'")
                connection.execute(delete(commit_tokens).where(commit_tokens.c.made_at < old))

        self._again(once, self._until())

    def read(self, work: Callable[[Connection], T]) -> T:
        """Carry out ``work``, which changes nothing, in one transaction.  Raises DBAPIError."""

        def once() -> T:
            with self._engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
                self._check_server(connection)
                return work(connection)

        return self._again(once, self._until())

    def write(self, work: Callable[[Connection], T]) -> T:
        """Carry out ``work`` in one transaction, once.

        :raises DBAPIError: it was not made.
        :raises StoreUnavailable: it is unknown whether it was made.
        """
        until = self._until()

        def once() -> T:
            token, settled = str(uuid.uuid4()), self._take_settled()
            try:
                with self._engine.connect() as connection:
                    transaction = connection.begin()
                    try:
                        self._check_server(connection)
                        answer = work(connection)
                        connection.execute(delete(commit_tokens).where(commit_tokens.c.token.in_(settled)))
                        connection.execute(insert(commit_tokens), {"token": token})
                    except BaseException:
                        transaction.close()
                        raise
                    try:
                        transaction.commit()
                    except DBAPIError as error:
                        if not is_unavailable(error) or not self._was_made(token, until):
                            raise
            except BaseException:
                self._settled.extend(settled)
                raise
            self._settled.append(token)
            return answer

        return self._again(once, until)

    def _check_server(self, connection: Connection) -> None:
        """Set the limits of a transaction that has begun, and check its server.

        :raises ReadOnlyServer: it accepts no writes; its connections are not used again.
        """
        (*_, read_only) = connection.execute(BEGIN).one()
        if read_only == "on":
            # Idle ones go to the same server.
            self._engine.dispose()
            connection.invalidate()
            raise ReadOnlyServer("the server is read-only: a standby, or one that was demoted")

    def _take_settled(self) -> list[str]:
        settled = []
        while self._settled:
            try:
                settled.append(self._settled.popleft())
            except IndexError:
                # Another thread was faster.
                break
        return settled

    def _until(self) -> float:
        """Return when a transaction that begins now is given up, the lookup of its commit included."""
        return time.monotonic() + self._wait_s

    def _again(self, once: Callable[[], T], until: float) -> T:
        """Carry out ``once`` until the database answers, or until that moment of the monotonic clock."""
        said = False

        def may_pass(error: BaseException) -> bool:
            nonlocal said
            if not isinstance(error, SQLAlchemyError) or not (is_unavailable(error) or is_conflict(error)):
                return False
            is_over = time.monotonic() >= until or self._hurry.is_set()
            if is_unavailable(error) and not said and not is_over:
                said = True
                log.warning("store.unavailable", store=self._name, error=words_of(error))
            return not is_over

        def wait(state: RetryCallState) -> float:
            return min(WAIT(state), max(0.0, until - time.monotonic()))

        answer = Retrying(retry=retry_if_exception(may_pass), wait=wait, sleep=sleep_using_event(self._hurry))(once)
        if said:
            log.info("store.available", store=self._name)
        return answer

    def _was_made(self, token: str, until: float) -> bool:
        """Check whether a transaction was committed: insert its token; a conflict means that it was.

        A server that has not noticed yet that its client is gone keeps the query waiting until it has.

        :raises StoreUnavailable: no server answers.
        """
        question = insert_if_missing(commit_tokens).values(token=token).on_conflict_do_nothing()

        def ask() -> bool:
            with self._engine.connect() as connection:
                self._check_server(connection)
                return connection.execute(question).rowcount == 0

        try:
            return self._again(ask, until)
        except SQLAlchemyError as error:
            raise StoreUnavailable(f"cannot find out whether a transaction was made in {self._name}") from error


def _invalidate_all(context: ExceptionContext) -> None:
    """Invalidate all connections to a server that became read-only, not only the one that noticed."""
    if is_read_only(context.original_exception):
        context.is_disconnect = True
