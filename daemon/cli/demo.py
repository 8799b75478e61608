"""``bringup demo``: a crashed host comes back, with a real Placement and a simulated hypervisor."""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bringup.daemon.cli.options import add_json_to, write_line
from bringup.daemon.errors import UsageError
from bringup.daemon.text import counted

if TYPE_CHECKING:
    from bringup.daemon.settings import Settings

SETTINGS = """\
# Written by `bringup demo`.
[host]
name = "{host}"
state_directory = {directory}

[limits]
concurrency = 8
instance_deadline = "8s"

[placement]
url = "{placement}"
token = "admin"
resource_provider = "{host}"
create_resource_provider = true

[driver]
scenario = {scenario}
scenario_state = {guests}
defer_iptables_apply = true

[resume]
guests = "on_every_start"

[guests]
shutdown_timeout = "5s"

[evacuated]
shared_storage = "local"

[scheduler]
transport = "http"
url = "{scheduler}/reports"
"""
MARK = "bringup-demo"


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = commands.add_parser(
        "demo",
        help="watch a crashed host come back: real Placement, simulated hypervisor, no root",
        description="Watch a crashed host come back: a real Placement, a simulated hypervisor with 69 instances. "
        "No root; it writes only to a folder of its own. --stay keeps the services running to try more.",
    )
    parser.add_argument("--directory", type=Path, help="directory of its files (default: a new temporary directory)")
    parser.add_argument("--stay", action="store_true", help="keep Placement and the scheduler running until Ctrl-C")
    add_json_to(parser)
    parser.set_defaults(execute=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Run the demonstration; return the exit code of its run."""
    from bringup.daemon.cli.demo_site.children import serving

    directory = _fresh(arguments.directory)
    with (
        serving(
            "bringup.daemon.cli.demo_site.placement_server", ["--database", str(directory / "placement.sqlite")]
        ) as placement,
        serving(
            "bringup.daemon.cli.demo_site.scheduler_receiver", ["--directory", str(directory / "scheduler")]
        ) as scheduler,
    ):
        settings, config = prepare(directory, placement, scheduler, quiet=arguments.json)
        code = _run(settings, as_json=arguments.json)
        if not arguments.json:
            _write_received(scheduler, settings.host.name)
            _write_next_steps(config, stays=arguments.stay)
        if arguments.stay:
            _wait()
    return code


def _fresh(directory: Path | None) -> Path:
    """Create an empty directory, or empty that of an earlier demonstration.

    :raises UsageError: it contains other files, or cannot be used.
    """
    if directory is None:
        return Path(tempfile.mkdtemp(prefix="bringup-demo-"))
    directory = directory.absolute()
    import shutil

    try:
        if directory.exists() and any(directory.iterdir()) and not (directory / MARK).exists():
            raise UsageError(
                f"--directory {directory}: contains files that are not of a demonstration; name another directory"
            )
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        (directory / MARK).touch()
    except OSError as error:
        raise UsageError(f"--directory {directory}: cannot be created or written; name another directory") from error
    return directory


def prepare(directory: Path, placement: str, scheduler: str, *, quiet: bool) -> "tuple[Settings, Path]":
    """Write the files of the demonstration and import its records; return its settings and their file."""
    import json

    import anyio

    from bringup.daemon.cli.demo_site.crashed_host import HOST, crashed_host
    from bringup.daemon.cli.import_records import import_files
    from bringup.daemon.settings import load
    from bringup.daemon.storage.record_files import dump_records
    from bringup.drivers.simulated import dump_scenario

    records, scenario = crashed_host()
    (directory / "records.json").write_text(dump_records(records), encoding="utf-8")
    (directory / "scenario.json").write_text(dump_scenario(scenario), encoding="utf-8")
    config = directory / "bringup.toml"
    text = SETTINGS.format(
        host=HOST,
        directory=json.dumps(str(directory / "state")),
        scenario=json.dumps(str(directory / "scenario.json")),
        guests=json.dumps(str(directory / "guests.sqlite")),
        placement=placement,
        scheduler=scheduler,
    )
    config.touch(mode=0o600)
    config.write_text(text, encoding="utf-8")
    settings = load(config, environment={}, overrides=())
    anyio.run(import_files, settings, [directory / "records.json"])
    if not quiet:
        write_line(f"Placement: {placement}, scheduler: {scheduler}, files: {directory}")
        write_line(f"{HOST} lost power with {len(records.instances)} instances. Bringing it back:")
    return settings, config


def _run(settings: "Settings", *, as_json: bool) -> int:
    import anyio

    from bringup.daemon import logs
    from bringup.daemon.cli.run import LogPresenter
    from bringup.daemon.cli.run_on_terminal import TerminalPresenter
    from bringup.daemon.service.process import Presenter, serve

    presenter: Presenter
    if as_json:
        logs.configure(level="info", style="json")
        presenter = LogPresenter()
    else:
        logs.configure(level="warning", style="console", stream=logs.CurrentStdout())
        presenter = TerminalPresenter()

    async def main() -> int:
        return await serve(settings, presenter, once=True)

    return anyio.run(main)


def _write_received(scheduler: str, host: str) -> None:
    import httpx

    # A proxy of this machine does not reach its loopback.
    with httpx.Client(base_url=scheduler, trust_env=False) as client:
        reports: list[dict[str, Any]] = client.get("/reports").json()["reports"]
        if not reports:
            return
        report = reports[-1]
        known: list[Any] = client.get(f"/hosts/{host}").json()["instances"]
    write_line(
        f"The scheduler received report {report['report_id']}: {counted(report['did'])}; "
        f"{report['counts']['failed']} failed, {len(report['elsewhere'])} on other hosts. "
        f"It now knows {len(known)} instances on {host}."
    )


def _write_next_steps(config: Path, *, stays: bool) -> None:
    command = sys.argv[0] if sys.argv[0].endswith("bringup") else "bringup"
    tries = [
        (f"plan -c {config}", "what a second run would do, and why"),
        ("explain --vm-state active --task-state reboot_started --look shutdown", "the rules for this state"),
    ]
    if stays:
        tries += [
            (f"check -c {config}", "a line for each check"),
            (f"run -c {config}", "a second run; Placement and the scheduler answer until Ctrl-C here"),
        ]
    else:
        tries.append(("demo --stay", "the same, and Placement keeps running for `check` and `run` in another terminal"))
    write_line("")
    write_line("What to try next:")
    for what, why in tries:
        write_line(f"  {command} {what}")
        write_line(f"      {why}")


def _wait() -> None:
    import threading

    threading.Event().wait()
