"""Requests of operators, written to the journal: ``bringup release``, ``retry``, ``pause``, ``resume``, or by HTTP."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Protocol

import anyio.to_thread

from bringup.daemon.decisions.outcomes import Kind
from bringup.daemon.errors import JournalError, Temporary, UsageError
from bringup.daemon.service.assembly import utc_now
from bringup.daemon.storage.journal import StartPause
from bringup.daemon.storage.journal.history import read
from bringup.daemon.storage.journal.sqlite import SqliteJournal
from bringup.daemon.time_spans import seconds_of
from bringup.drivers.identifiers import uuid_in_any_spelling
from bringup.drivers.kinds import WEEK

DEFAULT_PAUSE: Final = "30min"
LONGEST_PAUSE_S: Final = WEEK


@dataclass(frozen=True, slots=True)
class _Retriable:
    """Instances that can be tried again."""

    open: tuple[str, ...]
    """Those that failed, were deferred or superseded in the last run, or failed in an earlier one of this boot."""
    failed: frozenset[str]
    """All whose records a failure has changed, on whatever boot."""


class _Request(Protocol):
    async def __call__(self, journal: SqliteJournal, /, uuids: Sequence[str], *, at: datetime) -> None:
        """Write the request."""


async def release(path: Path, wanted: Sequence[str]) -> list[str]:
    """Release instances that the last run holds, all of them if none is named; return those that were released.

    :raises UsageError: one of them is no UUID or is not held; nothing is released.
    :raises Temporary: the journal cannot be read or written now.
    """
    uuids = [_uuid_of(text) for text in wanted]
    held = await anyio.to_thread.run_sync(_held, path)
    unknown = [uuid for uuid in uuids if uuid not in held]
    if unknown:
        raise UsageError(f"{', '.join(unknown)}: not held; held are: {', '.join(held) or 'none'}")
    return await _write(path, uuids or held, SqliteJournal.release, "cannot release; nothing was changed")


async def retry(path: Path, boot_id: str, wanted: Sequence[str]) -> list[str]:
    """Request a retry of instances, of all that failed or were deferred if none is named; return them.

    :raises UsageError: one of them is no UUID, or neither failed nor is deferred; nothing is written.
    :raises Temporary: the journal cannot be read or written now.
    """
    uuids = [_uuid_of(text) for text in wanted]
    known = await anyio.to_thread.run_sync(_retriable, path, boot_id)
    unknown = [uuid for uuid in uuids if uuid not in known.failed and uuid not in known.open]
    if unknown:
        can_be = ", ".join(known.open) or "none"
        raise UsageError(f"{', '.join(unknown)}: neither failed nor deferred; what can be tried again: {can_be}")
    chosen = list(dict.fromkeys(uuids)) or list(known.open)
    return await _write(path, chosen, SqliteJournal.retry, "cannot request the retry; nothing was changed")


def _uuid_of(text: str) -> str:
    try:
        return uuid_in_any_spelling(text)
    except ValueError:
        raise UsageError(f"{text}: give the UUID of an instance") from None


def _held(path: Path) -> list[str]:
    with read(path) as history:
        return [] if history is None else history.held()


def _retriable(path: Path, boot_id: str) -> _Retriable:
    with read(path) as history:
        if history is None:
            return _Retriable((), frozenset())
        failures = history.failures(boot_id)
        in_error = history.last_because("in_error")
        last = history.last_with(Kind.FAILED, Kind.DEFERRED, Kind.SUPERSEDED)
        # The next run of the same boot skips one that failed: its record is in ERROR.
        last += [uuid for uuid, failure in failures.items() if failure.is_of_boot and uuid in in_error]
        return _Retriable(tuple(dict.fromkeys(last)), frozenset(failures))


async def _write(path: Path, uuids: list[str], request: _Request, problem: str) -> list[str]:
    if uuids:
        async with _opened(path, problem) as journal:
            await request(journal, uuids, at=utc_now())
    return uuids


@asynccontextmanager
async def _opened(path: Path, problem: str) -> AsyncIterator[SqliteJournal]:
    """Open the journal for one request.

    :raises Temporary: it cannot be read or written now.
    """
    journal = SqliteJournal(path, boot_id="", keep_runs=1, keep_days=1, now=utc_now)
    try:
        yield journal
    except JournalError as error:
        raise Temporary(problem) from error
    finally:
        await journal.close()


async def pause(path: Path, for_s: float) -> StartPause:
    """Pause all starts for so many seconds from now on; an earlier pause is replaced.

    :raises UsageError: there is no state directory yet.
    :raises Refused: the journal is not one, or this user may not read it.
    :raises Temporary: the journal cannot be written now.
    """
    await anyio.to_thread.run_sync(_is_there, path)
    if not await anyio.to_thread.run_sync(path.parent.is_dir):
        right = "make it as the user of the service (systemctl start bringup.service does), or correct the setting"
        raise UsageError(f"cannot pause: host.state_directory: {path.parent} is not there; {right}")
    now = utc_now()
    paused = StartPause(since=now, until=now + timedelta(seconds=for_s))
    async with _opened(path, "cannot pause; nothing was changed") as journal:
        await journal.write_pause(paused)
    return paused


async def resume(path: Path) -> StartPause | None:
    """End the pause of starts; return it, None if starts are not paused.

    :raises Refused: the journal is not one, or this user may not read it.
    :raises Temporary: the journal cannot be read or written now.
    """
    if not await anyio.to_thread.run_sync(_is_there, path):
        return None
    now = utc_now()
    async with _opened(path, "cannot resume; nothing was changed") as journal:
        paused = await journal.pause()
        await journal.end_pause(at=now)
    return paused if paused is not None and now < paused.until else None


def _is_there(path: Path) -> bool:
    with read(path) as history:
        return history is not None


def time_span(text: str = DEFAULT_PAUSE) -> float:
    """Parse how long a pause lasts, in seconds.

    :raises UsageError: it is no time span, or one that is too long.
    """
    try:
        for_s = seconds_of(text)
    except ValueError:
        for_s = 0.0
    if not 0 < for_s <= LONGEST_PAUSE_S:
        longest = f"at most {LONGEST_PAUSE_S / WEEK:g} week"
        raise UsageError(f"--for {text}: give a time span such as 30min or 2h, {longest}")
    return for_s
