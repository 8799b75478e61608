"""``bringup release`` and ``bringup retry``: requests of an operator to the running daemon, or to its next start."""

import argparse
import os
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from bringup.daemon.cli.options import add_json_to, add_settings_to, settings_of, write_json, write_line

if TYPE_CHECKING:
    from bringup.daemon.settings import Settings

OUTCOME = "bringup history --run last shows the outcome"


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add both commands."""
    release = commands.add_parser(
        "release",
        help="release instances that a guard holds",
        description="Release instances that a guard holds: the running daemon processes them within a second, "
        "otherwise its next start does. bringup history --run last shows which are held, and why.",
    )
    _add_options(release, "all that are held")
    release.set_defaults(execute=_execute_release)
    retry = commands.add_parser(
        "retry",
        help="retry instances that failed or were deferred",
        description="Retry instances that failed or were deferred: the running daemon does it within a second, "
        "otherwise its next start does (bringup run --once, or the service). A record that a failure of bringup set "
        "to ERROR, and that nobody changed since, is restored first. The rules and guards of a run apply.",
    )
    _add_options(retry, "all that failed or were deferred on this boot")
    retry.set_defaults(execute=_execute_retry)


def _add_options(parser: argparse.ArgumentParser, default: str) -> None:
    add_settings_to(parser, placement=False)
    add_json_to(parser)
    parser.add_argument("uuids", nargs="*", metavar="UUID", help=f"instances, by UUID or name (default: {default})")


def _execute_release(arguments: argparse.Namespace) -> int:
    from bringup.daemon.service.assembly import JOURNAL
    from bringup.daemon.service.journal_requests import release

    settings = settings_of(arguments)
    request = partial(release, settings.host.state_directory / JOURNAL)
    released = _request(settings, arguments.uuids, request, option="release")
    if arguments.json:
        write_json({"released": released})
    else:
        _write(settings, released, "released", OUTCOME, none="no instance is held")
    return os.EX_OK


def _execute_retry(arguments: argparse.Namespace) -> int:
    from bringup.daemon.service.assembly import JOURNAL, boot_id
    from bringup.daemon.service.journal_requests import retry

    settings = settings_of(arguments)
    request = partial(retry, settings.host.state_directory / JOURNAL, boot_id(settings))
    retried = _request(settings, arguments.uuids, request, option="retry")
    if arguments.json:
        write_json({"retried": retried})
    else:
        when = f"a running daemon does it at once, otherwise the next start; {OUTCOME}"
        _write(settings, retried, "to be retried", when, none="no instance failed or is deferred")
    return os.EX_OK


def _request(
    settings: "Settings", named: Sequence[str], request: Callable[[Sequence[str]], Awaitable[list[str]]], *, option: str
) -> list[str]:
    import anyio

    from bringup.daemon.cli.instance_arguments import uuids_of

    async def main() -> list[str]:
        return await request(await uuids_of(named, settings, option=option))

    return anyio.run(main)


def _write(settings: "Settings", uuids: Sequence[str], done: str, then: str, *, none: str) -> None:
    from bringup.daemon.cli.instance_arguments import labels_of

    if not uuids:
        write_line(none)
        return
    write_line(f"{done}: {', '.join(labels_of(uuids, settings))}")
    write_line(then)
