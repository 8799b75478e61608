"""Options and output that the commands share."""

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bringup.daemon.text import one_line_of_json, printable

if TYPE_CHECKING:
    from bringup.daemon.settings import Settings


def add_settings_to(parser: argparse.ArgumentParser, *, placement: bool = True) -> None:
    """Add the options that select the settings; ``placement``: the command logs in to Placement."""
    parser.add_argument(
        "-c",
        "--config",
        type=Path,
        metavar="FILE",
        help="settings file in TOML (default: $BRINGUP_CONFIG, else /etc/bringup/bringup.toml if it exists)",
    )
    parser.add_argument(
        "-s",
        "--set",
        action="append",
        default=[],
        dest="overrides",
        metavar="SECTION.KEY=VALUE",
        help="override one setting; may be repeated",
    )
    parser.add_argument(
        "--nova-conf",
        action="append",
        default=[],
        metavar="PATH",
        help="read the credentials for Placement from this nova.conf (file or folder); may be repeated"
        if placement
        else argparse.SUPPRESS,
    )


def add_json_to(parser: argparse.ArgumentParser) -> None:
    """Add ``--json``."""
    parser.add_argument("--json", action="store_true", help="write JSON lines")


def settings_of(arguments: argparse.Namespace) -> "Settings":
    """Load the settings that the command line selects.

    :raises SettingsError: one of them is not valid.
    """
    from bringup.daemon.settings import load

    return load(arguments.config, environment=os.environ, overrides=arguments.overrides, nova_conf=arguments.nova_conf)


def write_line(text: str) -> None:
    """Write a line to standard output, with control characters escaped."""
    sys.stdout.write(printable(text) + "\n")


def note(text: str) -> None:
    """Write a line to standard error, with control characters escaped."""
    sys.stderr.write(f"bringup: {printable(text)}\n")


def write_json(facts: Mapping[str, Any]) -> None:
    """Write a JSON line to standard output."""
    sys.stdout.write(one_line_of_json(facts) + "\n")
