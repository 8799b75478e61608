"""``bringup release``: what a guard holds may go on."""

import argparse
import os
from typing import TYPE_CHECKING
from uuid import UUID

from bringup.daemon.cli.common import add_json_to, add_settings_to, settings_of, write_json, write_line
from bringup.daemon.errors import JournalError, Temporary, UsageError

if TYPE_CHECKING:
    from pathlib import Path


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = commands.add_parser(
        "release",
        help="let instances go on that a guard holds",
        description="Let instances go on that a guard holds: in the running daemon within a second, else at its next "
        "start. bringup history --run last shows what is held, and why.",
    )
    add_settings_to(parser)
    add_json_to(parser)
    parser.add_argument("uuids", nargs="*", metavar="UUID", help="instances; all that are held if none is given")
    parser.set_defaults(execute=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Write the release; give the exit code."""
    import anyio

    from bringup.daemon.journal.history import read
    from bringup.daemon.wiring import JOURNAL

    settings = settings_of(arguments)
    path = settings.host.state_directory / JOURNAL
    wanted = [_uuid(text) for text in arguments.uuids]
    with read(path) as history:
        held = [] if history is None else history.held()
    unknown = [uuid for uuid in wanted if uuid not in held]
    if unknown:
        raise UsageError(f"{', '.join(unknown)}: not held; held are: {', '.join(held) or 'none'}")
    if held:
        anyio.run(_release, path, wanted or held)
    if arguments.json:
        write_json({"released": wanted or held})
    elif held:
        write_line(f"released: {', '.join(wanted or held)}")
        write_line("bringup history --run last shows what comes of it")
    else:
        write_line("nothing is held")
    return os.EX_OK


def _uuid(text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError:
        raise UsageError(f"{text}: give the UUID of an instance") from None


async def _release(path: "Path", uuids: list[str]) -> None:
    from bringup.daemon.journal.sqlite import SqliteJournal
    from bringup.daemon.wiring import utc_now

    journal = SqliteJournal(path, boot_id="", keep_runs=1, keep_days=1, now=utc_now)
    try:
        await journal.release(uuids, at=utc_now())
    except JournalError as error:
        raise Temporary("cannot release; nothing was changed") from error
    finally:
        await journal.close()
