"""Instances as the command line names them: by UUID, or by a name that one instance of this host has."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from bringup.daemon.errors import UsageError
from bringup.daemon.text import labelled
from bringup.drivers.identifiers import uuid_in_any_spelling

if TYPE_CHECKING:
    from bringup.daemon.decisions.instances import Instance
    from bringup.daemon.settings import Settings


def as_uuid(text: str) -> str | None:
    """Parse a UUID; None if it is none, and may be a name."""
    try:
        return uuid_in_any_spelling(text)
    except ValueError:
        return None


def uuid_with_name(text: str, instances: "Iterable[Instance]", *, option: str, host: str) -> str:
    """Return the UUID of the one instance with this name, Nova's or the hypervisor's.

    :raises UsageError: no instance has the name, or several have.
    """
    found = [each.uuid for each in instances if text and text in (each.name, each.display_name)]
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(f"{option} {text}: {len(found)} instances have this name: use one of {', '.join(found)}")
    raise UsageError(f"{option} {text}: no instance of {host} has this name or UUID")


async def uuids_of(texts: Iterable[str], settings: "Settings", *, option: str) -> list[str]:
    """Return the UUIDs of instances given by UUID or name; the records are read only for a name.

    :raises UsageError: no instance has a name, or several have it.
    :raises BringupError: the records cannot be read.
    """
    wanted = list(texts)
    if all(as_uuid(text) is not None for text in wanted):
        return [as_uuid(text) or text for text in wanted]
    from bringup.daemon.errors import SettingsError, StoreError, Temporary
    from bringup.daemon.service import assembly

    host = settings.host.name
    try:
        async with assembly.opened_store(settings, must_exist=True) as store:
            instances = await store.load_instances(host)
    except StoreError as error:
        raise Temporary("cannot read the names of the instances; use UUIDs") from error
    except SettingsError as error:
        raise UsageError(f"{option}: cannot read the names of the instances; use UUIDs") from error
    return [as_uuid(text) or uuid_with_name(text, instances, option=option, host=host) for text in wanted]


def labels_of(uuids: Iterable[str], settings: "Settings") -> list[str]:
    """Return instances by name and UUID, with the names that the journal has of them."""
    from bringup.daemon.service.assembly import JOURNAL
    from bringup.daemon.storage.journal.history import read

    with read(settings.host.state_directory / JOURNAL) as history:
        return [labelled(uuid, "" if history is None else history.name_of(uuid)) for uuid in uuids]
