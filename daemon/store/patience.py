"""Transactions of a PostgreSQL that may be away for a while.

While the database is away, reads and writes wait for it; a transaction that it gives up for another's sake is made
again.  A commit whose answer was cut off is never made twice, and never taken for a conflict with itself: each
transaction leaves a row with a token of its own, which is looked for afterwards.  (The number of the transaction would
not do: a server that crashed before it wrote that number down gives it to another one.)
"""

import random
import time
import uuid
from collections import deque
from collections.abc import Callable
from typing import TypeVar

import psycopg
from sqlalchemy import Column, Connection, DateTime, Engine, MetaData, String, Table, delete, func, insert, select, text
from sqlalchemy.dialects.postgresql import insert as insert_if_missing
from sqlalchemy.exc import DBAPIError, PendingRollbackError, ResourceClosedError, SQLAlchemyError

from bringup.daemon.errors import StoreUnavailable
from bringup.daemon.logs import get_logger

log = get_logger()

T = TypeVar("T")

STATEMENT_S = 30
FIRST_WAIT_S = 0.05
LONGEST_WAIT_S = 2.0
# One daemon makes the table, the others wait for it.
TOKENS_LOCK = 0x6272696E67757032
KEPT_TOKENS = "1 day"
"""Tokens of a daemon that ended, before it could clear them away, go after this."""
CONFLICTS = ("40001", "40P01", "55P03")
"""Serialization failure, deadlock, lock not available: the database gave this transaction up for another's sake."""
HOPELESS = ("authentication failed", "does not exist", "no pg_hba.conf entry", "password")
"""Words of a refusal to connect that no waiting mends."""

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
        # Tokens of transactions whose fate is known; worker threads share it.
        self._settled: deque[str] = deque()

    def prepare(self) -> None:
        """Make the table of tokens where it is missing, one daemon at a time.  Raises DBAPIError."""

        def once() -> None:
            with self._engine.begin() as connection:
                connection.execute(select(func.pg_advisory_xact_lock(TOKENS_LOCK)))
                own.create_all(connection)
                old = func.now() - text(f"interval '{KEPT_TOKENS}'")
                connection.execute(delete(commit_tokens).where(commit_tokens.c.made_at < old))

        self._again(once)

    def read(self, work: Callable[[Connection], T]) -> T:
        """Carry out ``work``, which changes nothing, in one transaction.  Raises DBAPIError."""

        def once() -> T:
            with self._engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
                return work(connection)

        return self._again(once)

    def write(self, work: Callable[[Connection], T]) -> T:
        """Carry out ``work`` in one transaction, once.

        :raises DBAPIError: it was not made.
        :raises StoreUnavailable: it cannot be found out whether it was made.
        """

        def once() -> T:
            token, settled = str(uuid.uuid4()), self._take_settled()
            try:
                with self._engine.connect() as connection:
                    transaction = connection.begin()
                    try:
                        answer = work(connection)
                        connection.execute(delete(commit_tokens).where(commit_tokens.c.token.in_(settled)))
                        connection.execute(insert(commit_tokens), {"token": token})
                    except BaseException:
                        transaction.close()
                        raise
                    try:
                        transaction.commit()
                    except DBAPIError as error:
                        if not is_away(error) or not self._was_made(token):
                            raise
            except BaseException:
                self._settled.extend(settled)
                raise
            self._settled.append(token)
            return answer

        return self._again(once)

    def _take_settled(self) -> list[str]:
        settled = []
        while self._settled:
            try:
                settled.append(self._settled.popleft())
            except IndexError:
                # Another thread was faster.
                break
        return settled

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

    def _was_made(self, token: str) -> bool:
        """Ask what came of a transaction: leave its token in its place, and take it back.

        A server that has not noticed yet that its client is gone keeps the question waiting until it has.

        :raises StoreUnavailable: nobody answers.
        """
        question = insert_if_missing(commit_tokens).values(token=token).on_conflict_do_nothing()

        def ask() -> bool:
            with self._engine.connect() as connection:
                return connection.execute(question).rowcount == 0

        try:
            return self._again(ask)
        except SQLAlchemyError as error:
            raise StoreUnavailable(f"cannot tell whether a transaction was made in {self._name}") from error


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
