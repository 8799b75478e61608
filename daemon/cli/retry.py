"""``bringup retry``: what failed or was deferred is tried again."""

import argparse
import os

from bringup.daemon.cli.options import add_json_to, add_settings_to, settings_of, write_json, write_line


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = commands.add_parser(
        "retry",
        help="try instances again that failed or were deferred",
        description="Try instances again that failed or were deferred: in the running daemon within a second, else at "
        "its next start (bringup run --once, or the start of the service). A record that a failure of bringup has set "
        "to ERROR, and that nobody has changed since, is put right first. The rules, guards and fences of a run hold.",
    )
    add_settings_to(parser, placement=False)
    add_json_to(parser)
    parser.add_argument(
        "uuids",
        nargs="*",
        metavar="UUID",
        help="instances, by UUID or name; all that failed or were deferred on this boot if none is given",
    )
    parser.set_defaults(execute=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Write it down; give the exit code."""
    import anyio

    from bringup.daemon.cli.which_instance import uuids_of
    from bringup.daemon.service.assembly import JOURNAL, boot_id
    from bringup.daemon.service.retry_request import retry

    settings = settings_of(arguments)

    async def main() -> list[str]:
        uuids = await uuids_of(arguments.uuids, settings, option="retry")
        return await retry(settings.host.state_directory / JOURNAL, boot_id(settings), uuids)

    retried = anyio.run(main)
    if arguments.json:
        write_json({"retried": retried})
    elif retried:
        write_line(f"to be tried again: {', '.join(retried)}")
        write_line(
            "a running daemon does it at once, else the next start; bringup history --run last shows what comes of it"
        )
    else:
        write_line("nothing failed and nothing is deferred")
    return os.EX_OK
