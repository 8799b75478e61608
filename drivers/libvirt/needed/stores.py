"""What a guest keeps beside its disks: variables of its firmware, and persistent memory.  Blocks."""

from collections.abc import Iterator
from dataclasses import replace

from bringup.drivers.libvirt.needed.devices import NOT_SEEN
from bringup.drivers.libvirt.needed.disks import DiskLook
from bringup.drivers.libvirt.needed.rules.definition import Disk, Source
from bringup.drivers.libvirt.needed.rules.names import Naming, read_name
from bringup.drivers.libvirt.needed.rules.verdicts import Verdict, need
from bringup.drivers.libvirt.needed.sight import Sight
from bringup.drivers.needs import MetBy, Need, NeedKind, NeedState


def stores(sight: Sight) -> Iterator[Verdict]:
    """Judge all of it as a path of a disk is judged."""
    for source in sight.definition.memory:
        if sight.sees_host:
            yield from _alone(sight, source)
        else:
            # QEMU makes a file that is not there, and the guest finds its memory empty.
            yield Verdict(need(NeedKind.DISK, source.path, met_by=MetBy.PERSON, unverified=NOT_SEEN))
    for source, template in sight.definition.nvram:
        is_file = source.type == "file" and not source.path.startswith("/dev/")
        if is_file and not sight.sees_host:
            # A start without it fails by itself, and says so.
            continue
        for verdict in _alone(sight, source):
            yield replace(verdict, need=_of_store(sight, verdict.need, source.path, template, is_file=is_file))


def _alone(sight: Sight, source: Source) -> list[Verdict]:
    return list(
        DiskLook(sight, Disk(target="", serial="", optional=False, sources=(source,), chain_is_told=True)).verdicts()
    )


def _of_store(sight: Sight, found: Need, path: str, template: str, *, is_file: bool) -> Need:
    """Judge a variable store: a file that is not there is made of its template, below mounts that are there."""
    if found.kind is not NeedKind.DISK:
        return found
    store = replace(found, kind=NeedKind.FIRMWARE)
    if not is_file or found.state is NeedState.MET:
        return store
    end = sight.host.find(path)
    if end.is_hidden:
        # The folder is libvirt's, and it sees what is there.
        return need(NeedKind.FIRMWARE, found.name)
    if found.state is not NeedState.ABSENT or read_name(end.end).naming is not Naming.PLAIN:
        return store
    if template and sight.host.exists(template) is False:
        return need(NeedKind.FIRMWARE, found.name, absent=f"no such file, nor {template}, which it is made of")
    return need(NeedKind.FIRMWARE, found.name)
