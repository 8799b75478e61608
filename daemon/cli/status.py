"""``bringup status``: progress of the running daemon, what is stuck and what failed."""

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bringup.daemon.cli.options import add_json_to, add_settings_to, settings_of, write_json

POLL_INTERVAL_S = 0.5
WIDE = 200


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = commands.add_parser(
        "status",
        help="show the progress of the running daemon",
        description="Show the progress of the running daemon, as text or with --json as JSON. "
        "Exit code 69 if no daemon runs, or if its start failed.",
    )
    add_settings_to(parser, placement=False)
    add_json_to(parser)
    parser.add_argument("--watch", action="store_true", help="keep showing it until the run is complete")
    parser.set_defaults(execute=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Show the status; return the exit code."""
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

    from bringup.daemon.status.console import render

    # Lines are not wrapped in a pipe.
    Console(width=None if sys.stdout.isatty() else WIDE).print(render(answer), highlight=False)
    return answer


async def _watch(path: Path, *, as_json: bool) -> Mapping[str, Any]:
    """Show the status again and again until the run is complete."""
    import anyio

    from bringup.daemon.status.client import ask

    answer = await ask(path)
    if as_json:
        write_json(answer)
        while answer["state"] == "initializing":
            await anyio.sleep(POLL_INTERVAL_S)
            answer = await ask(path)
            write_json(answer)
            sys.stdout.flush()
        return answer
    from rich.console import Console
    from rich.live import Live

    from bringup.daemon.status.console import render

    with Live(render(answer), console=Console(), auto_refresh=False) as live:
        while answer["state"] == "initializing":
            await anyio.sleep(POLL_INTERVAL_S)
            answer = await ask(path)
            live.update(render(answer), refresh=True)
    return answer
