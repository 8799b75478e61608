"""``bringup plot``: a timeline of a run, as SVG."""

import argparse
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from bringup.daemon.cli.options import add_json_to, add_settings_to, settings_of
from bringup.daemon.errors import UsageError

if TYPE_CHECKING:
    from bringup.daemon.status.timeline import Timeline


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = commands.add_parser(
        "plot",
        help="draw a run as a timeline (SVG)",
        description="Draw a run as a timeline in SVG: a bar for each instance, coloured by action. With --json a "
        "line for each instance, with its actions and their times, in seconds since the start of the run.",
    )
    add_settings_to(parser, placement=False)
    add_json_to(parser)
    parser.add_argument(
        "--run", metavar="ID", default="last", help='its id, a unique prefix of it, or "last" (default)'
    )
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="file to write (default: standard output)")
    parser.set_defaults(execute=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Draw the timeline; return the exit code."""
    from bringup.daemon.service.assembly import JOURNAL
    from bringup.daemon.status.timeline_of_run import timeline_of
    from bringup.daemon.status.timeline_svg import svg
    from bringup.daemon.storage.journal.history import read

    settings = settings_of(arguments)
    with read(settings.host.state_directory / JOURNAL) as history:
        timeline = None if history is None else timeline_of(history, arguments.run)
    if timeline is None:
        raise UsageError(f"--run {arguments.run}: no run, or more than one, has this id; bringup history lists them")
    text = _lines(timeline) if arguments.json else svg(timeline)
    if arguments.output is None:
        sys.stdout.write(text)
        return os.EX_OK
    try:
        arguments.output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--output {arguments.output}: cannot be written ({error.strerror})") from error
    return os.EX_OK


def _lines(timeline: "Timeline") -> str:
    # The two enums.
    bars = (json.dumps(asdict(bar), default=lambda each: each.value) for bar in timeline.bars)
    return "".join(f"{bar}\n" for bar in bars)
