"""``bringup status``: is it done, what is stuck, what failed and why."""

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bringup.daemon.cli.options import add_json_to, add_settings_to, settings_of, write_json

LOOK_EVERY_S = 0.5
WIDE = 200


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = commands.add_parser(
        "status",
        help="show how far the running daemon is",
        description="Show how far the running daemon is: text, or JSON with --json. "
        "Exit code 69 if there is none, or if its start failed.",
    )
    add_settings_to(parser, placement=False)
    add_json_to(parser)
    parser.add_argument("--watch", action="store_true", help="go on showing it until the host is back")
    parser.set_defaults(execute=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Show it; give the exit code."""
    import anyio

    path = settings_of(arguments).status.socket
    show = _watch if arguments.watch else _show
    try:
        answer = anyio.run(lambda: show(path, as_json=arguments.json))
    except KeyboardInterrupt:
        return os.EX_OK if arguments.watch else 130
    return os.EX_UNAVAILABLE if answer["state"] == "failed" else os.EX_OK


async def _show(path: Path, *, as_json: bool) -> Mapping[str, Any]:
    from bringup.daemon.status.client import ask

    answer = await ask(path)
    if as_json:
        write_json(answer)
        return answer
    from rich.console import Console

    from bringup.daemon.status.console import told

    # Nobody's lines are to be broken where they are piped.
    Console(width=None if sys.stdout.isatty() else WIDE).print(told(answer), highlight=False)
    return answer


async def _watch(path: Path, *, as_json: bool) -> Mapping[str, Any]:
    """Show it again and again, until there is nothing more to come."""
    import anyio

    from bringup.daemon.status.client import ask

    answer = await ask(path)
    if as_json:
        write_json(answer)
        while answer["state"] == "initializing":
            await anyio.sleep(LOOK_EVERY_S)
            answer = await ask(path)
            write_json(answer)
            sys.stdout.flush()
        return answer
    from rich.console import Console
    from rich.live import Live

    from bringup.daemon.status.console import told

    with Live(told(answer), console=Console(), auto_refresh=False) as live:
        while answer["state"] == "initializing":
            await anyio.sleep(LOOK_EVERY_S)
            answer = await ask(path)
            live.update(told(answer), refresh=True)
    return answer
