"""``bringup run``: the main job."""

import argparse
import os
import sys
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING

from bringup.daemon.cli.options import add_json_to, add_settings_to, settings_of
from bringup.daemon.cli.quick_imports import quick_imports

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from bringup.daemon.service.process import Ending, Presenter
    from bringup.daemon.settings import Settings
    from bringup.daemon.status.progress import Progress


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = commands.add_parser(
        "run",
        help="bring the host back, then stay and keep its records true",
        description="Wait for Placement, bring every instance of this host back as its record says, report "
        "what came of each; then stay, and keep the records true. bringup plan says beforehand what it would do.",
    )
    add_settings_to(parser)
    add_json_to(parser)
    parser.add_argument("--once", action="store_true", help="end when every instance is settled and reported")
    parser.set_defaults(execute=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Run; give the exit code."""
    with quick_imports():
        import anyio
        from stamina.instrumentation import set_on_retry_hooks

        from bringup.daemon.service.assembly import check_driver
        from bringup.daemon.service.file_descriptors import raise_limit
        from bringup.daemon.service.process import serve
        from bringup.daemon.settings import require_placement
        from bringup.daemon.status.systemd import from_environment

    settings = settings_of(arguments)
    require_placement(settings)
    check_driver(settings)
    # What is tried again is logged where it is: stamina's own line would name our internals.
    set_on_retry_hooks([])
    raise_limit()
    presenter = _presenter(settings, as_json=arguments.json)

    # A service manager that wants to be told how far it is may ask for a reload; a terminal that hangs up does not.
    notifier = from_environment(os.environ, pid=os.getpid())
    load = None if notifier is None else partial(settings_of, arguments)

    async def main() -> int:
        return await serve(settings, presenter, once=arguments.once, notifier=notifier, load=load)

    return anyio.run(main)


def _presenter(settings: "Settings", *, as_json: bool) -> "Presenter":
    """Choose: a person at a terminal sees progress and a table, everybody else JSON lines."""
    from bringup.daemon import logs

    watched = sys.stdout.isatty() and not as_json and settings.log.format not in ("json", "journal")
    if not watched:
        logs.configure(level=settings.log.level, style="json" if as_json else settings.log.format)
        return Unwatched()
    # The table says what came of each instance; lines are for what went wrong.
    level = "warning" if settings.log.level == "info" else settings.log.level
    logs.configure(level=level, style="console", stream=logs.CurrentStdout())
    from bringup.daemon.cli.run_on_terminal import Watched

    return Watched(lifecycle=settings.driver.handle_lifecycle_events)


class Unwatched:
    """Shows nothing: the log has it all."""

    def showing(self, progress: "Progress") -> "AbstractAsyncContextManager[None]":
        """Show nothing."""
        del progress
        return nullcontext()

    def show_ending(self, ending: "Ending", *, stays: bool) -> None:
        """Show nothing."""
        del ending, stays
