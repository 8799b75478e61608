"""A warm process that runs the daemon again and again, each time in a child that can be killed.

Standard input has one JSON line a run: ``config``, the settings file; ``kill_at``, the number of the journal's boundary
at which the child kills itself, or null.  Standard output has two lines a run: the pid of the child, how it ended.
"""

import json
import os
import signal
import sys
import traceback
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import certifi
import httpcore
from anyio._backends import _asyncio
from sqlalchemy.dialects.sqlite import pysqlite

from bringup.daemon import logs
from bringup.daemon.cli.run import LogPresenter
from bringup.daemon.decisions.rules import Step
from bringup.daemon.openstack import scheduler_http
from bringup.daemon.service import assembly
from bringup.daemon.service.process import serve
from bringup.daemon.settings import Settings, load
from bringup.daemon.storage.journal import Journal
from bringup.daemon.storage.journal import sqlite as _journal
from bringup.daemon.storage.store import sqlite as _store
from bringup.drivers import simulated as _simulated

# Imported above so that a child need not do it.
WARM = (_asyncio, _journal, _store, _simulated, scheduler_http, httpcore, certifi, pysqlite)


class Boundaries:
    """Counts the boundaries of a journal, and pulls the plug at one of them."""

    def __init__(self, journal: Journal, kill_at: int | None) -> None:
        self._journal = journal
        self._kill_at = kill_at
        self.count = 0

    def passes(self) -> None:
        """Come to a boundary."""
        self.count += 1
        if self.count == self._kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def ended(self, uuid: str, step: Step, error: Exception | None) -> None:
        self.passes()
        self._journal.ended(uuid, step, error)

    def sharing_commits(self) -> AbstractAsyncContextManager[None]:
        return self._journal.sharing_commits()

    def __getattr__(self, name: str) -> Any:
        method: Callable[..., Any] = getattr(self._journal, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            self.passes()
            answer = await method(*args, **kwargs)
            self.passes()
            return answer

        return call


def run(config: str, kill_at: int | None) -> int:
    """Run the daemon once, in this process."""

    @asynccontextmanager
    async def opened(settings: Settings, boot_id: str) -> AsyncIterator[Any]:
        async with assembly.opened_journal(settings, boot_id) as journal:
            boundaries = Boundaries(journal, kill_at)
            yield boundaries
            Path(config).with_name("boundaries").write_text(str(boundaries.count))

    settings = load(Path(config), environment={}, overrides=())
    logs.configure(level=settings.log.level, style=settings.log.format)

    async def main() -> int:
        return await serve(settings, LogPresenter(), once=True, open_journal=opened)

    return anyio.run(main)


def in_child(arguments: Sequence[Any]) -> int:
    """Run in a child; return its pid."""
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        with Path(arguments[0]).with_name("log").open("a") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        code = run(*arguments)
        sys.stdout.flush()
    except BaseException:  # noqa: BLE001 - the child must never return to the loop of its parent
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def main() -> None:
    """Run what standard input asks for."""
    for line in sys.stdin:
        request = json.loads(line)
        pid = in_child((request["config"], request["kill_at"]))
        print(pid, flush=True)  # noqa: T201 - the answer
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)  # noqa: T201 - the answer


if __name__ == "__main__":
    main()
