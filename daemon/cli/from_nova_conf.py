"""``bringup from-nova-conf``: settings for a host that has a nova-compute, from its nova.conf."""

import argparse
import json
import os
import sys
from pathlib import Path

from bringup.daemon.cli.common import write_line

HEADER = """\
# From {files}.  What is not here is as by default: docs/settings.md, example.toml.
# Secrets are read from there, not copied."""


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = commands.add_parser("from-nova-conf", help="write settings for a host that has a nova.conf")
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="nova.conf, and files or folders after it")
    parser.set_defaults(execute=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Write settings to standard output, and what must be looked at to standard error; give the exit code."""
    from bringup.daemon.credentials.nova_settings import settings_from

    paths = [path.absolute() for path in arguments.paths]
    taken = settings_from(paths)
    write_line(HEADER.format(files=", ".join(map(str, paths))))
    for section, values in taken.sections.items():
        write_line(f"\n[{section}]")
        for key, value in values.items():
            # A string, number, boolean or list of JSON is one of TOML; a pair of surrogates would not be.
            write_line(f"{key} = {json.dumps(value, ensure_ascii=False)}")
    for note in taken.notes:
        sys.stderr.write(f"bringup: {note}\n")
    return os.EX_OK
