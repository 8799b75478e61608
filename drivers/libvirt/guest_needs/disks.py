"""Disks of a guest, their backing files and mounts, firmware variables, persistent memory.  Blocks."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from bringup.drivers.libvirt.guest_needs.block_devices import device_of, dm_uuid_of
from bringup.drivers.libvirt.guest_needs.devices import NOT_SEEN
from bringup.drivers.libvirt.guest_needs.disk_servers import network_disk
from bringup.drivers.libvirt.guest_needs.evidence import Evidence
from bringup.drivers.libvirt.guest_needs.host import HIDDEN, PathTarget
from bringup.drivers.libvirt.guest_needs.rules.backing_files import read_header, source_of
from bringup.drivers.libvirt.guest_needs.rules.definition import Disk, Source
from bringup.drivers.libvirt.guest_needs.rules.disk_identity import (
    FILE_TYPES,
    Volume,
    identity_problem,
    volume_of,
    who_can_identify,
)
from bringup.drivers.libvirt.guest_needs.rules.disk_names import Naming, is_stable_dm, read_name
from bringup.drivers.libvirt.guest_needs.rules.mounts import missing_mount, mount_points_above
from bringup.drivers.libvirt.guest_needs.rules.verdicts import LibvirtObject, Verdict, need
from bringup.drivers.needs import MetBy, Need, NeedKind, NeedState

LONGEST_CHAIN: Final = 64
BY_ID: Final = "the definition should name it by /dev/disk/by-id"
HEADER: Final = 64 * 1024


def disks(evidence: Evidence) -> Iterator[Verdict]:
    """Return the verdicts on all disks."""
    for disk in evidence.definition.disks:
        verdicts = list(DiskCheck(evidence, disk).verdicts())
        if disk.optional:
            verdicts = list(_of_medium(verdicts))
        yield from verdicts


def _of_medium(verdicts: Sequence[Verdict]) -> Iterator[Verdict]:
    """Drop what an absent medium lacks: libvirt starts the guest without it.

    A medium that exists would be given to the guest, also below a mount point that has nothing mounted.
    """
    is_absent = any(each.need.kind is NeedKind.DISK and each.need.state is NeedState.ABSENT for each in verdicts)
    for verdict in verdicts:
        if not (is_absent and verdict.need.state is NeedState.ABSENT):
            yield replace(verdict, optional=verdict.need.kind is NeedKind.DISK)


class DiskCheck:
    """Check of one disk."""

    def __init__(self, evidence: Evidence, disk: Disk) -> None:
        """Store the disk, and find its volume in the record."""
        self._evidence, self._disk = evidence, disk
        self._volume = volume_of(evidence.volumes, disk.target, disk.serial)
        self._seen: set[str] = set()

    def verdicts(self) -> Iterator[Verdict]:
        """Return the verdicts on all that it is read from."""
        for number, source in enumerate(self._disk.sources):
            yield from self._source(source, is_top=number == 0, follow=not self._disk.chain_is_complete)

    def _source(self, source: Source, *, is_top: bool, follow: bool) -> Iterator[Verdict]:
        if source.type == "volume":
            yield from self._in_pool(source, is_top=is_top)
        elif source.type == "network":
            yield Verdict(network_disk(self._evidence, source))
        elif source.type in ("file", "block", "dir", "vhostvdpa", "memory"):
            yield from self._path(source, is_top=is_top, follow=follow)
        elif source.type == "nvme":
            yield Verdict(self._nvme(source))
        elif source.type == "vhostuser":
            there = self._evidence.host.exists(source.path)
            gone = "nothing listens there" if there is False else ""
            yield Verdict(need(NeedKind.DISK, source.path, absent=gone))
        else:
            yield self._unknown(source)

    def _unknown(self, source: Source) -> Verdict:
        name = source.name or source.path or self._disk.target
        why = "its name does not say what it is"
        return Verdict(need(NeedKind.DISK, name, met_by=MetBy.PERSON, unverified=why))

    def _in_pool(self, source: Source, *, is_top: bool) -> Iterator[Verdict]:
        problem = self._evidence.libvirt.answers.get(("pool", source.pool), "")
        name = f"{source.volume} in pool {source.pool}"
        if problem:
            yield Verdict(need(NeedKind.DISK, name, absent=problem, origin=LibvirtObject("pool", source.pool)))
            return
        found = self._evidence.libvirt.volumes.get((source.pool, source.volume))
        if found is None:
            yield Verdict(need(NeedKind.DISK, name, met_by=MetBy.PERSON, absent="the pool has no such volume"))
            return
        kind, path = found
        if kind in ("file", "block"):
            yield from self._path(replace(source, type=kind, path=path), is_top=is_top, follow=True)
        else:
            yield Verdict(need(NeedKind.DISK, name))

    def _path(self, source: Source, *, is_top: bool, follow: bool) -> Iterator[Verdict]:
        path = source.path
        if not path or path in self._seen:
            return
        if not path.startswith("/") or len(self._seen) > LONGEST_CHAIN:
            yield self._unknown(source)
            return
        self._seen.add(path)
        found = self._evidence.host.find(path)
        mounted = self._mount(found)
        if mounted is not None:
            yield Verdict(mounted)
        else:
            points = mount_points_above(found.names, self._evidence.expected, self._evidence.nova_base)
            yield from (Verdict(need(NeedKind.MOUNT, point)) for point in points)
        target = self._disk.target if is_top and mounted is None and self._is_out_of_sight(found) else ""
        if found.status is None:
            yield Verdict(self._missing(found, source, mounted), target)
        elif found.is_block_device:
            yield Verdict(self._block(found))
        elif source.type == "block" or not (found.is_file or (source.type == "dir" and found.is_folder)):
            if source.type == "memory":
                whose = who_can_identify(None, by_nova=self._evidence.definition.by_nova)
                yield Verdict(need(NeedKind.DISK, path, met_by=whose, unverified=f"nothing proves what {found.end} is"))
                return
            what = "no block device" if source.type == "block" else "neither a file nor a block device"
            yield Verdict(need(NeedKind.DISK, path, met_by=MetBy.PERSON, unverified=f"it is {what}"))
            return
        elif mounted is None:
            yield Verdict(need(NeedKind.DISK, path))
        if follow and found.is_file and source.format == "qcow2":
            yield from self._backing(found)

    def _is_out_of_sight(self, found: PathTarget) -> bool:
        """Check whether libvirt may be right where it sees what is not seen here: in a container, in a sandbox.

        Not of a guest that runs: QEMU has open what has gone since.  Nor below a mount that somebody names: what
        libvirt sees there may be what the mount should hide.
        """
        read = [read_name(each) for each in found.names]
        # A link from elsewhere is what it leads to.
        name = next((each for each in read if each.naming is not Naming.PLAIN), read[0])
        if (
            self._evidence.libvirt.active
            or not self._is_of_definition
            or self._is_nova_file
            or found.is_silent
            or name.naming in (Naming.UNSTABLE, Naming.ENCRYPTED)
        ):
            return False
        if name.naming is Naming.DM and not is_stable_dm(
            name, name.dm_name, dm_uuid_of(self._evidence.host, name.dm_name)
        ):
            # Of a container's /dev sysfs knows nothing, of the kernel's devices it does.
            return False
        return not mount_points_above(found.names, self._evidence.expected, self._evidence.nova_base)

    @property
    def _is_of_definition(self) -> bool:
        """Check whether libvirt means this disk by its target: not one of the managed save image alone."""
        disk, definitions = self._disk, self._evidence.libvirt.definitions
        same = (each for each in definitions[0].disks if each.target == disk.target) if definitions else ()
        return any(_key_of(each.sources[0]) == _key_of(disk.sources[0]) for each in same)

    def _nvme(self, source: Source) -> Need:
        if not self._evidence.host.exists(f"/sys/bus/pci/devices/{source.pci}"):
            return need(NeedKind.DISK, source.pci, absent="no such PCI device")
        why = "nothing proves that the device at that address is the same as before the boot"
        return need(NeedKind.DISK, source.pci, met_by=MetBy.PERSON, unverified=why)

    def _backing(self, found: PathTarget) -> Iterator[Verdict]:
        start, error = self._evidence.host.read_start(found.end, HEADER)
        if error and error not in HIDDEN:
            why = f"its backing files are not known: {os.strerror(error)}"
            yield Verdict(need(NeedKind.DISK, found.path, unverified=why))
        header = read_header(start)
        if header is None:
            return
        # A relative name is relative to the image as it is named here, not to the target of that link.
        if header.data_file:
            yield from self._source(source_of(header.data_file, "raw", found.path), is_top=False, follow=False)
        if header.backing:
            backing = source_of(header.backing, header.backing_format, found.path)
            yield from self._source(backing, is_top=False, follow=True)

    def _block(self, found: PathTarget) -> Need:
        why = identity_problem(found.names, device_of(self._evidence.host, found), self._volume)
        whose = who_can_identify(self._volume, by_nova=self._evidence.definition.by_nova)
        if why and whose is MetBy.PERSON:
            why += f"; {BY_ID}"
        return need(NeedKind.DISK, found.path, met_by=whose, unverified=why)

    def _mount(self, found: PathTarget) -> Need | None:
        mounts = self._evidence.mounts_at(found.end)
        missing = missing_mount(found.names, mounts, self._evidence.expected, self._evidence.nova_base)
        if missing is not None:
            whose = MetBy.NOVA if missing.by_nova or self._is_nova_file else MetBy.HOST
            return need(NeedKind.MOUNT, missing.point, met_by=whose, absent=missing.why)
        if self._is_nova_file and self._volume is not None and not found.is_block_device:
            return self._exported(found, self._volume)
        return None

    def _exported(self, found: PathTarget, volume: Volume) -> Need | None:
        """Check whether a volume that is a file is on the export that its record names."""
        covering = self._evidence.mounts_at(found.end).covering(found.end)
        if covering is None or covering.point == "/":
            point = found.end.rpartition("/")[0]
            return need(NeedKind.MOUNT, point, met_by=MetBy.NOVA, absent=f"the {volume.protocol} export is not mounted")
        same = covering.source.rstrip("/") == volume.export.rstrip("/")
        if volume.protocol == "nfs" and volume.export and not same:
            why = "another export is mounted there than the record says"
            return need(NeedKind.MOUNT, covering.point, met_by=MetBy.NOVA, unverified=why)
        return None

    @property
    def _is_nova_file(self) -> bool:
        return self._volume is not None and self._volume.protocol in FILE_TYPES

    def _missing(self, found: PathTarget, source: Source, mounted: Need | None) -> Need:
        path = found.path
        if found.is_silent:
            return need(NeedKind.DISK, path, unverified="its storage does not answer")
        if found.is_hidden:
            return need(NeedKind.DISK, path, met_by=MetBy.PERSON, unverified="this process may not look there")
        if mounted is not None:
            return need(NeedKind.DISK, path, met_by=mounted.met_by, absent=f"{mounted.name} is not mounted")
        is_device = found.names[0].startswith("/dev/") or source.type == "block"
        why = "no such block device" if is_device else "no such file"
        if len(found.names) > 1:
            why = f"a link to {found.end}, which is not there"
        return need(NeedKind.DISK, path, met_by=self._provider(found.names[0], is_device=is_device), absent=why)

    def _provider(self, path: str, *, is_device: bool) -> MetBy:
        by_nova = self._evidence.definition.by_nova or (self._volume is not None and bool(self._volume.id))
        if not by_nova:
            return MetBy.HOST
        if "/_base/" in path:
            # Nova fetches it from the image service again.
            return MetBy.NOVA
        if not is_device:
            return MetBy.HOST
        is_fabric = read_name(path).naming in (Naming.STABLE, Naming.DM) and "-iscsi-" not in path
        return MetBy.HOST if is_fabric else MetBy.NOVA


def _key_of(source: Source) -> tuple[str, str, str]:
    return source.path, source.pool, source.volume


def firmware_and_memory(evidence: Evidence) -> Iterator[Verdict]:
    """Return the verdicts on firmware variables and persistent memory, which are checked like disks."""
    for source in evidence.definition.memory:
        if evidence.sees_host:
            yield from _alone(evidence, source)
        else:
            # QEMU creates a missing file, and the guest finds its memory empty.
            yield Verdict(need(NeedKind.DISK, source.path, met_by=MetBy.PERSON, unverified=NOT_SEEN))
    for source, template in evidence.definition.nvram:
        is_file = source.type == "file" and not source.path.startswith("/dev/")
        if is_file and not evidence.sees_host:
            # A start without it fails by itself, with a message.
            continue
        for verdict in _alone(evidence, source):
            yield replace(verdict, need=_variable_store(evidence, verdict.need, source.path, template, is_file=is_file))


def _alone(evidence: Evidence, source: Source) -> list[Verdict]:
    return list(
        DiskCheck(
            evidence, Disk(target="", serial="", optional=False, sources=(source,), chain_is_complete=True)
        ).verdicts()
    )


def _variable_store(evidence: Evidence, found: Need, path: str, template: str, *, is_file: bool) -> Need:
    """Return the need of a variable store: libvirt creates a missing file from its template."""
    if found.kind is not NeedKind.DISK:
        return found
    store = replace(found, kind=NeedKind.FIRMWARE)
    if not is_file or found.state is NeedState.MET:
        return store
    end = evidence.host.find(path)
    if end.is_hidden:
        # The folder is libvirt's, and libvirt can see it.
        return need(NeedKind.FIRMWARE, found.name)
    if found.state is not NeedState.ABSENT or read_name(end.end).naming is not Naming.PLAIN:
        return store
    if template and evidence.host.exists(template) is False:
        return need(NeedKind.FIRMWARE, found.name, absent=f"no such file, nor {template}, which it is made of")
    return need(NeedKind.FIRMWARE, found.name)
