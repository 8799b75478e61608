"""``bringup check``: checks of what a run needs, a line each; changes nothing."""

import argparse
import os
import sys
from typing import TYPE_CHECKING

from bringup.daemon.cli.options import add_json_to, add_settings_to, settings_of, write_json, write_line
from bringup.daemon.errors import SettingsError

if TYPE_CHECKING:
    from bringup.daemon.cli.check_finding import Finding
    from bringup.daemon.settings import Settings

# The most severe first: what an operator must correct, before what may be temporary.
BY_SEVERITY = (os.EX_CONFIG, os.EX_NOPERM, os.EX_UNAVAILABLE, os.EX_TEMPFAIL)


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = commands.add_parser(
        "check",
        help="check settings, store, hypervisor, Placement and scheduler; changes nothing",
        description="Check what a run needs, one line each: ok, warning or failed. Nothing is changed.",
    )
    add_settings_to(parser)
    add_json_to(parser)
    parser.set_defaults(execute=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Run the checks; return 0, or the exit code of the most severe failure."""
    import anyio

    from bringup.daemon import logs
    from bringup.daemon.cli.check_finding import Finding, Status
    from bringup.daemon.cli.check_steps import Checks

    codes: list[int] = []

    def show(finding: Finding) -> None:
        codes.append(finding.exit_code)
        _write(finding, as_json=arguments.json)

    try:
        settings = settings_of(arguments)
    except SettingsError as error:
        for problem in error.problems:
            show(Finding("settings", Status.FAILED, problem, exit_code=error.exit_code))
    else:
        logs.configure(level="error", style="auto", stream=sys.stderr)
        for warning in settings.warnings:
            show(Finding("settings", Status.WARNING, warning))
        show(Finding("settings", Status.OK, f"host {settings.host.name}; {_origin(settings)}"))

        async def main() -> None:
            async for finding in Checks(settings).findings():
                show(finding)

        anyio.run(main)
    return next((code for code in BY_SEVERITY if code in codes), os.EX_OK)


def _origin(settings: "Settings") -> str:
    origins = sorted(set(settings.sources.values()))
    return f"from {', '.join(origins)}" if origins else "all of them defaults"


def _write(finding: "Finding", *, as_json: bool) -> None:
    from bringup.daemon.cli.check_finding import Status

    if as_json:
        facts = finding.facts if finding.status is not Status.FAILED else {"exit_code": finding.exit_code}
        write_json({"check": finding.check, "status": finding.status.value, "message": finding.message, **facts})
    else:
        # One line for each finding, also if an error has more than one sentence.
        write_line(f"{finding.status.value:<8} {finding.check:<10} {'; '.join(finding.message.splitlines())}")
    # A hypervisor that hangs must not delay earlier findings.
    sys.stdout.flush()
