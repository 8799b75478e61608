"""``bringup from-nova-conf``: settings for a host that has a nova-compute, from its nova.conf."""

import argparse
import json
import os
import sys
from pathlib import Path

from bringup.daemon.cli.options import note
from bringup.daemon.cli.replace_file import BEFORE, replace_file
from bringup.drivers.identifiers import uuid_in_any_spelling

HEADER = """\
# From {files}.  What is not here is as by default: docs/settings.md, example.toml.
# Secrets are read from there, not copied."""


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = commands.add_parser(
        "from-nova-conf",
        help="write settings for a host that has a nova.conf",
        description="Write settings for a host that has a nova-compute, from its nova.conf. No secret is copied: "
        "the settings name the files that have them. What cannot be known is said on standard error.",
    )
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="nova.conf, and files or folders after it")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help=f"write here, whole or not at all; what was there is kept as FILE{BEFORE} (default: standard output)",
    )
    parser.add_argument(
        "--node-uuid", type=_uuid, metavar="UUID", help="of nova-compute's node, where its file compute_id is not here"
    )
    parser.set_defaults(execute=execute)


def _uuid(text: str) -> str:
    try:
        return uuid_in_any_spelling(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no UUID") from None


def execute(arguments: argparse.Namespace) -> int:
    """Write settings to standard output, and what must be looked at to standard error; give the exit code."""
    from bringup.daemon.settings.credentials.from_nova_conf import settings_from

    paths = [path.absolute() for path in arguments.paths]
    taken = settings_from(paths, node_uuid=arguments.node_uuid)
    lines = [HEADER.format(files=", ".join(map(str, paths)))]
    for section, values in taken.sections.items():
        lines.append(f"\n[{section}]")
        lines += [f"{key} = {_toml(value)}" for key, value in values.items()]
    _write("".join(f"{line}\n" for line in lines), arguments.output)
    for each in taken.notes:
        note(each)
    return os.EX_OK


def _toml(value: object) -> str:
    """Write a value: what JSON makes of it is TOML, but for pairs of surrogates."""
    text = json.dumps(value, ensure_ascii=False)
    return "".join(each if each.isprintable() else f"\\U{ord(each):08X}" for each in text)


def _write(text: str, output: Path | None) -> None:
    if output is None:
        sys.stdout.write(text)
        return
    kept = replace_file(output, text, option="--output")
    if kept is not None:
        note(f"{output} was there already: what it had is in {kept}")
