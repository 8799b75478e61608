"""What the commands have in common."""

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
    """Add the options that say where the settings are; ``placement``: whether it is asked, with credentials."""
    parser.add_argument(
        "-c",
        "--config",
        type=Path,
        metavar="FILE",
        help="settings file in TOML (default: $BRINGUP_CONFIG, else /etc/bringup/bringup.toml where that is there)",
    )
    parser.add_argument(
        "-s",
        "--set",
        action="append",
        default=[],
        dest="overrides",
        metavar="SECTION.KEY=VALUE",
        help="override one setting; may be given again",
    )
    parser.add_argument(
        "--nova-conf",
        action="append",
        default=[],
        metavar="PATH",
        help="take the credentials for Placement from this nova.conf (file or folder); may be given again"
        if placement
        else argparse.SUPPRESS,
    )


def add_json_to(parser: argparse.ArgumentParser) -> None:
    """Add ``--json``."""
    parser.add_argument("--json", action="store_true", help="write JSON lines")


def settings_of(arguments: argparse.Namespace) -> "Settings":
    """Load the settings that the command line names.

    :raises SettingsError: any of them is wrong.
    """
    from bringup.daemon.settings import load

    return load(arguments.config, environment=os.environ, overrides=arguments.overrides, nova_conf=arguments.nova_conf)


def write_line(text: str) -> None:
    """Write a line to standard output; what is in it of others stays in it."""
    sys.stdout.write(printable(text) + "\n")


def note(text: str) -> None:
    """Write a line about what was done to standard error."""
    sys.stderr.write(f"bringup: {printable(text)}\n")


def write_json(facts: Mapping[str, Any]) -> None:
    """Write a JSON line to standard output."""
    sys.stdout.write(one_line_of_json(facts) + "\n")
