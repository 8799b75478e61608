"""``bringup import``: store records from files, or of libvirt's guests, all of them or none."""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bringup.daemon.cli.options import add_json_to, add_settings_to, settings_of, write_json, write_line

if TYPE_CHECKING:
    from bringup.daemon.decisions.instances import Instance, Migration
    from bringup.daemon.settings import Settings
    from bringup.daemon.storage.record_files import Records
    from bringup.daemon.storage.store.base import ImportingStore, ImportResult

STDIN = Path("-")


@dataclass(frozen=True, slots=True, kw_only=True)
class Evacuated:
    """Evacuations from this host in the store, by what a run does with their guests."""

    destroyed: int = 0
    """Evacuations that are done: a run destroys the guests that the hypervisor still has."""
    fenced: int = 0
    """Evacuations that are not done: a run powers the guests off."""
    elsewhere: int = 0
    """Imported instances of other hosts among them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """Result of an import."""

    result: "ImportResult"
    by_host: Mapping[str | None, int]
    """Number of instances by host; None: no host."""
    kept: int = 0
    """Number of records that were not overwritten: their guests should run, and are not back yet."""
    transient: Sequence[str] = ()
    """Names of guests without a definition: nothing can start them again once they stop."""
    evacuated: Evacuated = Evacuated()


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = commands.add_parser(
        "import",
        help="store records from Nova's GET /servers/detail, from bringup's own JSON, or of libvirt's guests",
        description="Store records: all of all files, or none. Records of the same UUID are overwritten.",
    )
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="file of records; - is standard input")
    parser.add_argument(
        "--from-libvirt", action="store_true", help="create records of libvirt's guests, as they are now"
    )
    parser.add_argument("--host", metavar="NAME", help="host of instances whose records have none")
    add_settings_to(parser, placement=False)
    add_json_to(parser)
    parser.set_defaults(execute=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Import; return the exit code."""
    import anyio

    from bringup.daemon import logs

    _check_sources(arguments)
    settings = settings_of(arguments)
    logs.configure(level="warning", style="auto", stream=sys.stderr)

    async def main() -> Imported:
        if arguments.from_libvirt:
            return await import_guests(settings)
        return await import_files(settings, arguments.files, host=arguments.host)

    imported = anyio.run(main)
    if arguments.json:
        _write_json(imported, settings)
    else:
        _write_words(imported, settings)
    sys.stdout.flush()
    return os.EX_OK


async def import_files(settings: "Settings", files: Sequence[Path], *, host: str | None = None) -> Imported:
    """Store the records of all files in one transaction.

    ``host`` is the host of instances whose records have none.

    :raises UsageError: a file or a record is not valid; nothing was stored.
    :raises Temporary: a daemon runs for this host, or the store could not be written; nothing was stored.
    :raises BringupError: the state directory or the store cannot be used.
    """
    records = _read_all(files, host)

    async def read_before(_store: "ImportingStore") -> "tuple[Records, int]":
        return records, 0

    return await _store_all(settings, read_before)


async def import_guests(settings: "Settings") -> Imported:
    """Store a record of each of libvirt's guests, as it is now, in one transaction.

    A guest that should run and is not back yet (this boot's run has not ended, or could not bring it back) keeps its
    record.

    :raises SettingsError: the settings of libvirt are not valid.
    :raises Unavailable: libvirt does not answer; nothing was stored.
    :raises Temporary: as :func:`import_files`.
    """
    from bringup.daemon.service import assembly
    from bringup.daemon.service.assembly.libvirt import defined_guests
    from bringup.daemon.storage import state_directory
    from bringup.daemon.storage.journal.history import read
    from bringup.daemon.storage.journal.queries import NotBack
    from bringup.daemon.storage.record_files.from_guests import keeping, records_of

    alive = assembly.alive(settings)
    host, boot_id = settings.host.name, alive.boot.boot_id
    state_directory.prepare(settings.host.state_directory)
    # This runs every few minutes and at shutdown: the next boot computes the downtime from it.
    alive.write(is_kept=True)

    transient: list[str] = []

    async def merge(store: "ImportingStore") -> "tuple[Records, int]":
        # Under the lock: a run between this read and the import would be overwritten with the state before it.
        guests = await defined_guests(settings)
        transient.extend(guest.name for guest in guests if not guest.persistent)
        found = records_of(guests, host, boot_id)
        known = await store.load_instances_by_uuid([instance.uuid for instance in found.instances])
        with read(settings.host.state_directory / assembly.JOURNAL) as history:
            pending = NotBack() if history is None else history.not_back(boot_id)
        return keeping(found, {instance.uuid: instance for instance in known}, pending, boot_id)

    return replace(await _store_all(settings, merge), transient=tuple(transient))


async def _store_all(
    settings: "Settings", make: "Callable[[ImportingStore], Awaitable[tuple[Records, int]]]"
) -> Imported:
    from bringup.daemon.errors import StoreError, Temporary
    from bringup.daemon.service import assembly
    from bringup.daemon.storage import state_directory

    directory = settings.host.state_directory
    state_directory.prepare(directory)
    # Records must not change under a run.
    with state_directory.hold_lock(directory):
        async with assembly.opened_own_store(settings) as store:
            try:
                records, kept = await make(store)
                result = await store.import_records(records)
            except StoreError as error:
                raise Temporary("cannot import: nothing was stored") from error
            evacuated = await _evacuated(store, records, settings.host.name)
    by_host = Counter(instance.host for instance in records.instances)
    return Imported(result=result, by_host=by_host, kept=kept, evacuated=evacuated)


def _check_sources(arguments: argparse.Namespace) -> None:
    from bringup.daemon.errors import UsageError

    if bool(arguments.files) is arguments.from_libvirt:
        raise UsageError("cannot import: name files of records or use --from-libvirt, one of the two")
    if arguments.from_libvirt and arguments.host is not None:
        raise UsageError("cannot import: --host is for files; libvirt's guests are on host.name")


def source_of(path: Path) -> Path | bytes:
    """Return the file to read, or the content of standard input, at most a byte over the limit."""
    from bringup.daemon.storage.record_files import LIMIT_BYTES

    return sys.stdin.buffer.read(LIMIT_BYTES + 1) if path == STDIN else path


def _read_all(files: Sequence[Path], host: str | None) -> "Records":
    from bringup.daemon.errors import UsageError
    from bringup.daemon.storage.record_files import Records, read_records

    instances: dict[str, Instance] = {}
    migrations: dict[str, Migration] = {}
    found: dict[str, Path] = {}
    for path in files:
        records = read_records(source_of(path), host=host)
        named = [f"instance {instance.uuid}" for instance in records.instances]
        named += [f"migration {migration.uuid}" for migration in records.migrations]
        for what in named:
            first = found.setdefault(what, path)
            if first != path:
                raise UsageError(f"cannot import {path}: {what} is in {first} too; a UUID must be unique")
        # A file that is named twice is read twice and stored once.
        instances |= {instance.uuid: instance for instance in records.instances}
        migrations |= {migration.uuid: migration for migration in records.migrations}
    return Records(instances=tuple(instances.values()), migrations=tuple(migrations.values()))


async def _evacuated(store: "ImportingStore", records: "Records", host: str) -> "Evacuated":
    """Count the evacuations from this host by what a run will do with their guests."""
    from bringup.daemon.decisions.from_record import EVACUATION_STATUSES
    from bringup.daemon.decisions.shared_rows import EVACUATION_DONE
    from bringup.daemon.recovery.load_records import latest

    found = latest(await store.load_migrations(host, EVACUATION_STATUSES), "evacuation", EVACUATION_STATUSES)
    back = {each.uuid for each in await store.load_instances_by_uuid(found) if each.host == host} if found else set()
    done = {uuid for uuid, each in found.items() if each.status == EVACUATION_DONE}
    return Evacuated(
        destroyed=len(done - back),
        fenced=len(found.keys() - done),
        elsewhere=sum(each.host != host and each.uuid in found for each in records.instances),
    )


def _elsewhere(imported: Imported, settings: "Settings") -> int:
    return sum(count for host, count in imported.by_host.items() if host != settings.host.name)


def _store(settings: "Settings") -> str:
    return str(settings.store.path or settings.store.url)


def _write_json(imported: Imported, settings: "Settings") -> None:
    result = imported.result
    write_json(
        {
            "added": result.added,
            "updated": result.updated,
            "migrations_added": result.migrations_added,
            "migrations_updated": result.migrations_updated,
            "by_host": [{"host": host, "instances": count} for host, count in imported.by_host.items()],
            "host": settings.host.name,
            "not_ours": _elsewhere(imported, settings),
            "kept": imported.kept,
            "transient": list(imported.transient),
            "store": _store(settings),
            **_evacuated_json(imported.evacuated),
        }
    )


def _evacuated_json(evacuated: Evacuated) -> dict[str, int]:
    """Return the numbers of evacuations that are not zero."""
    found = {"evacuated": evacuated.destroyed, "being_evacuated": evacuated.fenced}
    return {name: count for name, count in found.items() if count}


def _write_words(imported: Imported, settings: "Settings") -> None:
    result = imported.result
    write_line(f"instances: {result.added} added, {result.updated} updated in {_store(settings)}")
    if result.migrations_added or result.migrations_updated:
        write_line(f"migrations: {result.migrations_added} added, {result.migrations_updated} updated")
    for host, count in sorted(imported.by_host.items(), key=lambda item: (-item[1], item[0] or "")):
        write_line(f"  {count} on {host or 'no host'}" + (" (this host)" if host == settings.host.name else ""))
    if imported.kept:
        write_line(
            f"{imported.kept} records not overwritten: these guests should run and do not run yet; "
            "bringup run (the next boot) or virsh start starts them"
        )
    if imported.transient:
        write_line(
            f"warning: {', '.join(imported.transient)}: libvirt has no definition of these guests: once they stop, "
            "nothing can start them again; define each one now: virsh dumpxml GUEST > GUEST.xml; "
            "virsh define GUEST.xml"
        )
    evacuated = imported.evacuated
    if evacuated.destroyed:
        write_line(
            f"warning: {evacuated.destroyed} were evacuated from this host: the next run destroys those of their "
            "guests that its hypervisor still has (within [guards]; disks only with "
            'evacuated.shared_storage = "local"), '
            "also if their instances were deleted since; bringup plan lists them"
        )
    if evacuated.fenced:
        write_line(
            f"warning: {evacuated.fenced} are being evacuated from this host: the next run powers off those of their "
            "guests that run here"
        )
    elsewhere = _elsewhere(imported, settings) - evacuated.elsewhere
    if elsewhere:
        write_line(
            f"warning: {elsewhere} of them are not on this host, {settings.host.name}, and stay off: "
            "if they are of this host, set host.name to Nova's name of it"
        )
