"""Transactions of a PostgreSQL that may be away for a while.

While the database is away, reads and writes wait for it; a transaction that it gives up for another's sake is made
again.  One that takes no writes is away too, for reads as well: it may be behind.  What is waited for is asked on a new
connection: the address may belong to another server by now.

A commit whose answer was cut off is never made twice, and never taken for a conflict with itself: each transaction
leaves a row with a token of its own, which is looked for afterwards.  (The number of the transaction would not do: a
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
from typing import Any, TypeVar

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
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from tenacity import RetryCallState, Retrying, retry_if_exception, wait_random_exponential
from tenacity.nap import sleep_using_event

from bringup.daemon.closing import HURRY_S
from bringup.daemon.errors import StoreUnavailable
from bringup.daemon.logs import get_logger
from bringup.daemon.storage.store.postgresql_connection import STATEMENT_S
from bringup.daemon.storage.store.postgresql_errors import ReadOnlyServer, is_away, is_conflict, is_read_only, words_of

log = get_logger()

T = TypeVar("T")

WAIT = wait_random_exponential(multiplier=0.05, min=0.02, max=2)
"""Jittered: many daemons wait for one database."""
# One daemon makes the table, the others wait for it.
TOKENS_LOCK = 0x6272696E67757032
KEPT_TOKENS = "1 day"
"""Tokens of a daemon that ended, before it could clear them away, go after this."""
# One round trip, and nothing is left in the session: its next transaction may be another client's.
BEGIN = select(
    func.set_config("statement_timeout", f"{STATEMENT_S}s", True),  # noqa: FBT003 - SQL's
    func.set_config("lock_timeout", f"{STATEMENT_S // 2}s", True),  # noqa: FBT003 - SQL's
    func.current_setting("transaction_read_only"),
)

# Made beside the store's tables: no other database has it.
own = MetaData()

commit_tokens = Table(
    "commit_tokens",
    own,
    Column("token", String(36), primary_key=True),
    Column("made_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)


class Patience:
    """Makes transactions, waits while the database is away, and finds out what came of a commit that was cut off."""

    def __init__(self, engine: Engine, name: str, wait_s: float) -> None:
        """Wait for the database for ``wait_s`` seconds at most, each time."""
        self._engine = engine
        self._name = name
        self._wait_s = wait_s
        self._hurry = threading.Event()
        # Connections that are in use; worker threads share it.
        self._asking: set[psycopg.Connection[Any]] = set()
        # Tokens of transactions whose fate is known; worker threads share it.
        self._settled: deque[str] = deque()
        event.listen(engine, "handle_error", _never_again)
        event.listen(engine, "checkout", lambda raw, *_: self._asking.add(raw))
        for end in ("checkin", "invalidate"):
            event.listen(engine, end, lambda raw, *_: self._asking.discard(raw))

    def hurry(self) -> None:
        """Wait no more, from now on: the daemon ends.  May be called from any thread, again too.

        What is asked at this moment has a little time to be answered, then it is cut off: a server that is gone without
        a word would keep it for half a minute.
        """
        if self._hurry.is_set():
            return
        self._hurry.set()
        cut = threading.Timer(HURRY_S, self._cut_off)
        cut.daemon = True
        cut.start()

    def _cut_off(self) -> None:
        for raw in list(self._asking):
            # Not closed: another thread waits in it, and finds out.
            with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(raw.fileno())) as line:
                line.shutdown(socket.SHUT_RDWR)

    def prepare(self) -> None:
        """Make the table of tokens where it is missing, one daemon at a time.  Raises DBAPIError."""

        def once() -> None:
            with self._engine.begin() as connection:
                self._begun(connection)
                connection.execute(select(func.pg_advisory_xact_lock(TOKENS_LOCK)))
                own.create_all(connection)
                old = func.now() - text(f"interval '{KEPT_TOKENS}'")
                connection.execute(delete(commit_tokens).where(commit_tokens.c.made_at < old))

        self._again(once, self._until())

    def read(self, work: Callable[[Connection], T]) -> T:
        """Carry out ``work``, which changes nothing, in one transaction.  Raises DBAPIError."""

        def once() -> T:
            with self._engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
                self._begun(connection)
                return work(connection)

        return self._again(once, self._until())

    def write(self, work: Callable[[Connection], T]) -> T:
        """Carry out ``work`` in one transaction, once.

        :raises DBAPIError: it was not made.
        :raises StoreUnavailable: it cannot be found out whether it was made.
        """
        until = self._until()

        def once() -> T:
            token, settled = str(uuid.uuid4()), self._take_settled()
            try:
                with self._engine.connect() as connection:
                    transaction = connection.begin()
                    try:
                        self._begun(connection)
                        answer = work(connection)
                        connection.execute(delete(commit_tokens).where(commit_tokens.c.token.in_(settled)))
                        connection.execute(insert(commit_tokens), {"token": token})
                    except BaseException:
                        transaction.close()
                        raise
                    try:
                        transaction.commit()
                    except DBAPIError as error:
                        if not is_away(error) or not self._was_made(token, until):
                            raise
            except BaseException:
                self._settled.extend(settled)
                raise
            self._settled.append(token)
            return answer

        return self._again(once, until)

    def _begun(self, connection: Connection) -> None:
        """Bound a transaction that has begun, and make sure of its server.

        :raises ReadOnlyServer: it takes no writes; its connections are not used again.
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
        """Return when a transaction that begins now is given up, what came of its commit included."""
        return time.monotonic() + self._wait_s

    def _again(self, once: Callable[[], T], until: float) -> T:
        """Carry out ``once`` until the database answers, or until that moment of the monotonic clock."""
        said = False

        def may_pass(error: BaseException) -> bool:
            nonlocal said
            if not isinstance(error, SQLAlchemyError) or not (is_away(error) or is_conflict(error)):
                return False
            is_over = time.monotonic() >= until or self._hurry.is_set()
            if is_away(error) and not said and not is_over:
                said = True
                log.warning("store.away", store=self._name, error=words_of(error))
            return not is_over

        def wait(state: RetryCallState) -> float:
            return min(WAIT(state), max(0.0, until - time.monotonic()))

        answer = Retrying(retry=retry_if_exception(may_pass), wait=wait, sleep=sleep_using_event(self._hurry))(once)
        if said:
            log.info("store.back", store=self._name)
        return answer

    def _was_made(self, token: str, until: float) -> bool:
        """Ask what came of a transaction: leave its token in its place, and take it back.

        A server that has not noticed yet that its client is gone keeps the question waiting until it has.

        :raises StoreUnavailable: nobody answers.
        """
        question = insert_if_missing(commit_tokens).values(token=token).on_conflict_do_nothing()

        def ask() -> bool:
            with self._engine.connect() as connection:
                self._begun(connection)
                return connection.execute(question).rowcount == 0

        try:
            return self._again(ask, until)
        except SQLAlchemyError as error:
            raise StoreUnavailable(f"cannot tell whether a transaction was made in {self._name}") from error


def _never_again(context: ExceptionContext) -> None:
    """Have a server that turned read-only lose all its connections, not only the one that found out."""
    if is_read_only(context.original_exception):
        context.is_disconnect = True
