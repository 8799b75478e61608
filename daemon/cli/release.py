"""``bringup release``: what a guard holds may go on."""

import argparse
import os

from bringup.daemon.cli.options import add_json_to, add_settings_to, settings_of, write_json, write_line


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = commands.add_parser(
        "release",
        help="let instances go on that a guard holds",
        description="Let instances go on that a guard holds: in the running daemon within a second, else at its next "
        "start. bringup history --run last shows what is held, and why.",
    )
    add_settings_to(parser, placement=False)
    add_json_to(parser)
    parser.add_argument(
        "uuids", nargs="*", metavar="UUID", help="instances, by UUID or name; all that are held if none is given"
    )
    parser.set_defaults(execute=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Write the release; give the exit code."""
    import anyio

    from bringup.daemon.cli.which_instance import uuids_of
    from bringup.daemon.service.assembly import JOURNAL
    from bringup.daemon.service.release_request import release

    settings = settings_of(arguments)

    async def main() -> list[str]:
        uuids = await uuids_of(arguments.uuids, settings, option="release")
        return await release(settings.host.state_directory / JOURNAL, uuids)

    released = anyio.run(main)
    if arguments.json:
        write_json({"released": released})
    elif released:
        write_line(f"released: {', '.join(released)}")
        write_line("bringup history --run last shows what comes of it")
    else:
        write_line("nothing is held")
    return os.EX_OK
