"""Which instance somebody means: a UUID, or a name that only one instance of this host has."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from bringup.daemon.errors import UsageError
from bringup.drivers.identifiers import uuid_in_any_spelling

if TYPE_CHECKING:
    from bringup.daemon.decisions.instances import Instance
    from bringup.daemon.settings import Settings


def as_uuid(text: str) -> str | None:
    """Read a UUID; None: it is none, and may be a name."""
    try:
        return uuid_in_any_spelling(text)
    except ValueError:
        return None


def named(text: str, instances: "Iterable[Instance]", *, option: str, host: str) -> str:
    """Give the UUID of the one instance with this name, Nova's or the hypervisor's.

    :raises UsageError: none has it, or several have.
    """
    found = [each.uuid for each in instances if text and text in (each.name, each.display_name)]
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(f"{option} {text}: {len(found)} instances have this name: give one of {', '.join(found)}")
    raise UsageError(f"{option} {text}: no instance of {host} has this name; give its UUID, or its name")


async def uuids_of(texts: Iterable[str], settings: "Settings", *, option: str) -> list[str]:
    """Give the UUIDs that are meant; the records are read only where a name is given.

    :raises UsageError: a name is nobody's, or not only one's.
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
        raise Temporary("cannot read the names of the instances; give UUIDs") from error
    except SettingsError as error:
        raise UsageError(f"{option}: give UUIDs; names are in the records, which cannot be read") from error
    return [as_uuid(text) or named(text, instances, option=option, host=host) for text in wanted]
