"""``bringup plan``: what a run would do with each instance, and because of which rules.  Changes nothing."""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bringup.daemon.cli.options import add_json_to, add_settings_to, note, settings_of
from bringup.daemon.errors import SettingsError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bringup.daemon.cli.plan_host import Planned
    from bringup.daemon.settings import Settings
    from bringup.daemon.storage.journal import Past
    from bringup.daemon.storage.record_files import Records
    from bringup.drivers.base import Driver

SHOWN_HOSTS = 5
NOTE_WAIT_AFTER_S = 2.0


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = commands.add_parser(
        "plan",
        help="show what a run would do with each instance, and why; changes nothing",
        description="Show what a run would do with each instance of this host, and because of which rules. Nothing is "
        "changed: the states of guests and records are read.",
    )
    parser.add_argument(
        "--records",
        type=Path,
        metavar="FILE",
        help="plan for a file of records (- is standard input) instead of the store",
    )
    parser.add_argument("--host", metavar="NAME", help="name of this host (default: host.name)")
    parser.add_argument("--no-look", action="store_true", help="plan without the hypervisor")
    parser.add_argument(
        "--after-power-cut",
        action="store_true",
        help="plan for the next boot after a power cut now: as if every guest were off",
    )
    parser.add_argument(
        "--uuid",
        action="append",
        default=[],
        metavar="UUID",
        help="plan for this instance only, by UUID or name; may be repeated",
    )
    add_settings_to(parser)
    add_json_to(parser)
    parser.set_defaults(execute=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Plan; return the exit code."""
    import anyio

    from bringup.daemon import logs

    settings = settings_of(arguments)
    logs.configure(level="warning", style="auto", stream=sys.stderr)
    records, host = _records(arguments, settings)

    async def main() -> "list[Planned]":
        return await _plan(arguments, settings, records, host)

    planned = anyio.run(main)
    if records is not None:
        _warn_if_all_elsewhere(records, host, arguments.records)
    chosen = _only(planned, arguments.uuid, host)
    _write(chosen, host, as_json=arguments.json)
    if not arguments.json:
        _write_power_cut(arguments, chosen, settings)
    return os.EX_OK


def _warn_if_all_elsewhere(records: "Records", host: str, path: Path) -> None:
    """Warn on standard error if no record of a file is of this host: a run would do nothing."""
    hosts = sorted({str(instance.host) for instance in records.instances if instance.host is not None})
    if not hosts or host in hosts:
        return
    short = host.partition(".")[0].lower()
    alike = [other for other in hosts if other.partition(".")[0].lower() == short]
    hint = f" ({alike[0]} may be this host under another name: try --host {alike[0]})" if alike else ""
    sys.stderr.write(
        f"warning: none of the {len(records.instances)} records of {path} is of this host, {host}; they are of "
        f"{', '.join(hosts[:SHOWN_HOSTS])}{', ...' if len(hosts) > SHOWN_HOSTS else ''}{hint}; set host.name, or "
        "--host, to Nova's name of this host\n"
    )


def _records(arguments: argparse.Namespace, settings: "Settings") -> "tuple[Records | None, str]":
    """Return the records of the file, if one is given, and the name of this host."""
    if arguments.records is None:
        return None, arguments.host or settings.host.name
    from bringup.daemon.cli.import_records import source_of
    from bringup.daemon.storage.record_files import read_records

    records = read_records(source_of(arguments.records), host=arguments.host)
    if arguments.host:
        return records, arguments.host
    if settings.source_of("host.name") != "default":
        return records, settings.host.name
    hosts = sorted({instance.host for instance in records.instances if instance.host is not None})
    if len(hosts) > 1:
        raise UsageError(
            f"unknown host: the records of {arguments.records} name {', '.join(hosts)}; select one with --host"
        )
    return records, hosts[0] if hosts else settings.host.name


async def _plan(
    arguments: argparse.Namespace, settings: "Settings", records: "Records | None", host: str
) -> "list[Planned]":
    from contextlib import AsyncExitStack

    from bringup.daemon.cli.file_store import FileStore
    from bringup.daemon.cli.plan_host import Planning
    from bringup.daemon.recovery.plan_checks import boot_of
    from bringup.daemon.service import assembly
    from bringup.daemon.storage.journal import Past
    from bringup.daemon.tasks import background

    async with AsyncExitStack() as opened:
        driver = _driver(arguments, settings)
        if driver is not None:
            opened.push_async_callback(assembly.close_driver, driver)
        if records is not None:
            planning = Planning(
                settings=settings,
                host=host,
                store=FileStore(records),
                driver=driver,
                # Records of a file may be any host's: the journal of this host does not apply to them.
                past=Past(run_id=""),
                others=records.instances,
                power_cut=arguments.after_power_cut,
            )
        else:
            past = _past(settings, host, power_cut=arguments.after_power_cut)
            store = await opened.enter_async_context(assembly.opened_store(settings, must_exist=True))
            planning = Planning(
                settings=settings,
                host=host,
                store=store,
                driver=driver,
                past=past,
                boot=None if arguments.after_power_cut else boot_of(past, assembly.alive(settings)),
                accepted_guests=_accepted(settings, host),
                power_cut=arguments.after_power_cut,
            )
        async with background() as tasks:
            if driver is not None:
                tasks.start_soon(_note_wait, settings.limits.host_deadline, name="wait-note")
            return await planning.plan()


async def _note_wait(limit_s: float) -> None:
    """Write what a silent plan waits for."""
    import anyio

    from bringup.daemon.time_spans import in_words

    await anyio.sleep(min(NOTE_WAIT_AFTER_S, limit_s / 10))
    note(f"waiting for the hypervisor, up to {in_words(limit_s)}; --no-look plans without it")


def _accepted(settings: "Settings", host: str) -> frozenset[str]:
    """Return the guests that an operator accepted; warn on standard error if a run would be refused."""
    from bringup.daemon.service import assembly
    from bringup.daemon.storage import identity

    if host != settings.host.name:
        # The plan is for another host.
        return frozenset()
    known = identity.read_identity(settings.host.state_directory)
    if known is None:
        return frozenset()
    for difference in identity.differences(known, assembly.given_by(settings)):
        # A plan may read any state directory.
        sys.stderr.write(f"warning: a run would be refused: {difference}\n")
    return known.accepted_guests


def _past(settings: "Settings", host: str, *, power_cut: bool) -> "Past":
    """Read what the journal would tell a run now, or on the next boot."""
    from bringup.daemon.cli.plan_host import next_boot
    from bringup.daemon.recovery.pause import end_of
    from bringup.daemon.service import assembly
    from bringup.daemon.storage.journal import Past
    from bringup.daemon.storage.journal.file import Mark
    from bringup.daemon.storage.journal.history import DamagedJournal, read

    path, boot_id = settings.host.state_directory / assembly.JOURNAL, assembly.boot_id(settings)
    past = None
    try:
        with read(path) as history:
            if history is not None:
                past = history.past(boot_id, host, assembly.utc_now())
                if (end := end_of(history.pause(), assembly.utc_now())) is not None:
                    note(f"starts are paused until {end}: what would be started waits for that, or for bringup resume")
    except DamagedJournal as error:
        note(f"warning: {error}, and uses the records alone; so does this plan")
    if past is None:
        past = Past(run_id="", memory_lost=Mark(path).lost(boot_id, is_new=True))
    return next_boot(past) if power_cut else past


def _driver(arguments: argparse.Namespace, settings: "Settings") -> "Driver | None":
    """Create the driver, if guests are to be read; for a file of records only if one is set."""
    from bringup.daemon.service import assembly

    if arguments.no_look or (arguments.records is not None and not assembly.has_driver(settings)):
        return None
    try:
        return assembly.make_driver(settings)
    except SettingsError as error:
        raise SettingsError([*error.problems, "--no-look plans without the hypervisor"]) from error.__cause__


def _only(planned: "list[Planned]", wanted: "Sequence[str]", host: str) -> "list[Planned]":
    if not wanted:
        return planned
    from bringup.daemon.cli.instance_arguments import as_uuid, uuid_with_name

    instances = [each.instance for each in planned]
    uuids = {as_uuid(text) or uuid_with_name(text, instances, option="--uuid", host=host) for text in wanted}
    missing = sorted(uuids - {each.uuid for each in instances})
    if missing:
        raise UsageError(f"no instance {', '.join(missing)} in the records of {host}")
    return [each for each in planned if each.instance.uuid in uuids]


def _write_power_cut(arguments: argparse.Namespace, planned: "Sequence[Planned]", settings: "Settings") -> None:
    if arguments.after_power_cut:
        from bringup.daemon.cli.plan_output import power_cut_summary

        sys.stdout.write(f"{power_cut_summary(planned, settings.resume.guests)}\n")
    sys.stdout.flush()


def _write(planned: "Sequence[Planned]", host: str, *, as_json: bool) -> None:
    from bringup.daemon.cli.plan_output import json_lines, text_lines

    for line in json_lines(planned) if as_json else text_lines(planned, host):
        sys.stdout.write(line + "\n")
    # A closed pipe must raise here, not when the process exits.
    sys.stdout.flush()
