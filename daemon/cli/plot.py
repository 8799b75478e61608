"""``bringup plot``: a run of the journal as a picture."""

import argparse
import os
import sys
from pathlib import Path

from bringup.daemon.cli.common import add_settings_to, settings_of
from bringup.daemon.errors import UsageError


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = commands.add_parser(
        "plot",
        help="draw a run as a timeline (SVG)",
        description="Draw a run as a timeline: one bar an instance, coloured by what was done; SVG.",
    )
    add_settings_to(parser)
    parser.add_argument("--run", metavar="ID", default="last", help='its id, the beginning of it, or "last" (last)')
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write here; standard output if not given")
    parser.set_defaults(execute=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Draw it; give the exit code."""
    from bringup.daemon.drawing import svg
    from bringup.daemon.journal.history import read
    from bringup.daemon.wiring import JOURNAL

    settings = settings_of(arguments)
    with read(settings.host.state_directory / JOURNAL) as history:
        timeline = None if history is None else history.timeline(arguments.run)
    if timeline is None:
        raise UsageError(f"--run {arguments.run}: there is no such run, or more than one; bringup history lists them")
    text = svg(timeline)
    if arguments.output is None:
        sys.stdout.write(text)
        return os.EX_OK
    try:
        arguments.output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--output {arguments.output}: cannot be written ({error.strerror})") from error
    return os.EX_OK
