"""``bringup run``: the main job."""

import argparse
import os
import sys
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING

from bringup.daemon.cli.options import add_json_to, add_settings_to, settings_of
from bringup.daemon.quick_imports import quick_imports

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from bringup.daemon.service.process import Ending, Presenter
    from bringup.daemon.settings import Settings
    from bringup.daemon.status.progress import Progress


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = commands.add_parser(
        "run",
        help="bring every instance back, then keep their records up to date",
        description="Wait for Placement, bring every instance of this host back as its record says and report the "
        "outcome of each; then stay and keep the records up to date. bringup plan shows beforehand what it would do.",
    )
    add_settings_to(parser)
    add_json_to(parser)
    parser.add_argument("--once", action="store_true", help="exit once every instance is settled and reported")
    parser.set_defaults(execute=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Run; return the exit code."""
    with quick_imports():
        import anyio

        from bringup.daemon.service.assembly import check_driver
        from bringup.daemon.service.file_descriptors import raise_limit
        from bringup.daemon.service.process import serve
        from bringup.daemon.settings import require_placement
        from bringup.daemon.status.systemd import from_environment

    settings = settings_of(arguments)
    require_placement(settings)
    check_driver(settings)
    raise_limit()
    presenter = _presenter(settings, as_json=arguments.json)

    # A service manager that expects notifications may request a reload; a terminal that hangs up does not.
    notifier = from_environment(os.environ, pid=os.getpid())
    load = None if notifier is None else partial(settings_of, arguments)

    async def main() -> int:
        return await serve(settings, presenter, once=arguments.once, notifier=notifier, load=load)

    return anyio.run(main)


def _presenter(settings: "Settings", *, as_json: bool) -> "Presenter":
    """Return the presenter: progress and a table on a terminal, otherwise none, with JSON lines as the log."""
    from bringup.daemon import logs

    on_terminal = sys.stdout.isatty() and not as_json and settings.log.format not in ("json", "journal")
    if not on_terminal:
        logs.configure(level=settings.log.level, style="json" if as_json else settings.log.format)
        return LogPresenter()
    # The table has the outcomes; log lines are for problems.
    level = "warning" if settings.log.level == "info" else settings.log.level
    logs.configure(level=level, style="console", stream=logs.CurrentStdout())
    from bringup.daemon.cli.run_on_terminal import TerminalPresenter

    return TerminalPresenter(lifecycle=settings.driver.handle_lifecycle_events)


class LogPresenter:
    """Presenter that shows nothing: the log has everything."""

    def showing(self, progress: "Progress") -> "AbstractAsyncContextManager[None]":
        """Show nothing."""
        del progress
        return nullcontext()

    def show_ending(self, ending: "Ending", *, stays: bool) -> None:
        """Show nothing."""
        del ending, stays
