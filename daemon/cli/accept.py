"""``bringup accept``: accept a changed identity of this host, which a start refuses."""

import argparse
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from bringup.daemon.cli.instance_arguments import as_uuid
from bringup.daemon.cli.options import add_json_to, add_settings_to, settings_of, write_json, write_line
from bringup.daemon.errors import Temporary
from bringup.daemon.text import labelled

if TYPE_CHECKING:
    from bringup.daemon.settings import Settings
    from bringup.daemon.storage.identity import Identity


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = commands.add_parser(
        "accept",
        help="accept that this host has changed: its name, its machine, its guests",
        description="Accept what a start refuses: a host name, node UUID or machine that differs from the state "
        "directory's and, with --guests, guests of the hypervisor without a record of this host.",
    )
    add_settings_to(parser, placement=False)
    add_json_to(parser)
    parser.add_argument("--guests", action="store_true", help="accept the guests without a record of this host")
    parser.set_defaults(execute=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Write the accepted identity; return the exit code."""
    from bringup.daemon.service import assembly
    from bringup.daemon.storage import identity, state_directory

    settings = settings_of(arguments)
    host = settings.host
    state_directory.prepare(host.state_directory)
    with state_directory.hold_lock(host.state_directory):
        before = identity.read_identity(host.state_directory)
        now = assembly.given_by(settings)
        after = identity.merge_identity(before, now)
        names: Mapping[str, str] = {}
        if arguments.guests:
            names = _unknown_guests(settings)
            after = replace(after, accepted_guests=after.accepted_guests | names.keys())
        changed = _changed(before, after)
        if changed:
            try:
                identity.write(host.state_directory, after, at=assembly.utc_now)
            except OSError as error:
                raise Temporary(f"cannot write {host.state_directory / identity.FILE}; nothing was changed") from error
    _write(before, after, changed, names, as_json=arguments.json)
    return os.EX_OK


def _unknown_guests(settings: "Settings") -> Mapping[str, str]:
    """Return the guests without a record of this host, each with the name that a record of another host has."""
    import anyio

    from bringup.daemon.recovery.load_records import start_driver
    from bringup.daemon.service import assembly

    async def read() -> dict[str, str]:
        driver = assembly.make_driver(settings)
        try:
            local = await start_driver(driver, settings.host.name, deadline_s=settings.limits.host_deadline)
            async with assembly.opened_store(settings) as store:
                own = await store.load_instances(settings.host.name)
                unknown = local - {name for instance in own for name in (instance.uuid, instance.name)}
                others = await store.load_instances_by_uuid([guest for guest in unknown if as_uuid(guest)])
        finally:
            await assembly.close_driver(driver)
        return dict.fromkeys(unknown, "") | {other.uuid: other.shown_name for other in others}

    return anyio.run(read)


def _changed(before: "Identity | None", after: "Identity") -> list[str]:
    names = ("host", "node_uuid", "machine", "accepted_guests")
    return [name for name in names if getattr(before, name, None) != getattr(after, name)]


def _write(
    before: "Identity | None", after: "Identity", changed: list[str], names: Mapping[str, str], *, as_json: bool
) -> None:
    new_guests = sorted(after.accepted_guests - (before.accepted_guests if before else frozenset()))
    if as_json:
        write_json(
            {"changed": changed, "host": after.host, "node_uuid": after.node_uuid, "accepted_guests": new_guests}
        )
        return
    if not changed:
        write_line("nothing to accept: this host is as recorded")
        return
    for name in changed:
        if name == "accepted_guests":
            write_line(f"guests accepted: {len(new_guests)}")
            for uuid in new_guests:
                write_line(f"  {labelled(uuid, names.get(uuid, ''))}")
        elif name == "machine":
            write_line("machine: this one")
        else:
            write_line(f"{name}: {getattr(before, name, '') or 'none'} -> {getattr(after, name)}")
