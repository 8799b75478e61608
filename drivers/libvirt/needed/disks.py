"""The disks of a guest, their backing files, and the mounts that these are on.  Blocks."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Final

from bringup.drivers.libvirt.needed.block import device_of, dm_uuid_of
from bringup.drivers.libvirt.needed.definition import Disk, Server, Source
from bringup.drivers.libvirt.needed.host import Found
from bringup.drivers.libvirt.needed.identified import doubt, who_can_tell
from bringup.drivers.libvirt.needed.knocking import knock
from bringup.drivers.libvirt.needed.mounts import points_above, relied_on
from bringup.drivers.libvirt.needed.names import Naming, is_stable_dm, read_name
from bringup.drivers.libvirt.needed.qcow2 import read_header, source_of
from bringup.drivers.libvirt.needed.sight import Sight
from bringup.drivers.libvirt.needed.verdicts import Verdict, need
from bringup.drivers.libvirt.needed.volumes import FILE_TYPES, Volume, volume_of
from bringup.drivers.needs import MetBy, Need, NeedKind

LONGEST_CHAIN: Final = 64
BY_ID: Final = "the definition should name it by /dev/disk/by-id"
MOST_SERVERS: Final = 3
PORTS: Final = {
    "rbd": (3300, 6789),
    "nbd": (10809,),
    "iscsi": (3260,),
    "gluster": (24007,),
    "http": (80,),
    "https": (443,),
    "ftp": (21,),
    "ftps": (990,),
    "ssh": (22,),
    "nfs": (2049,),
    "sheepdog": (7000,),
}
SPEAK_FIRST: Final = frozenset({"nbd", "rbd", "ssh"})
"""Protocols whose servers greet: one that accepts and is silent hangs."""
HEADER: Final = 64 * 1024


def disks(sight: Sight) -> Iterator[Verdict]:
    """Judge all disks."""
    for disk in sight.definition.disks:
        if not disk.optional:
            yield from _Look(sight, disk).verdicts()


class _Look:
    """A look at one disk."""

    def __init__(self, sight: Sight, disk: Disk) -> None:
        self._sight, self._disk = sight, disk
        self._volume = volume_of(sight.volumes, disk.target, disk.serial)
        self._seen: set[str] = set()

    def verdicts(self) -> Iterator[Verdict]:
        for number, source in enumerate(self._disk.sources):
            yield from self._source(source, is_top=number == 0, follow=not self._disk.chain_is_told)

    def _source(self, source: Source, *, is_top: bool, follow: bool) -> Iterator[Verdict]:
        if source.type == "volume":
            yield from self._in_pool(source, is_top=is_top)
        elif source.type == "network":
            yield Verdict(self._network(source))
        elif source.type in ("file", "block", "dir", "vhostvdpa"):
            yield from self._path(source, is_top=is_top, follow=follow)
        elif source.type == "nvme":
            there = self._sight.host.exists(f"/sys/bus/pci/devices/{source.pci}")
            yield Verdict(need(NeedKind.DISK, source.pci, absent="" if there else "no such PCI device"))
        elif source.type == "vhostuser":
            there = self._sight.host.exists(source.path)
            gone = "nothing listens there" if there is False else ""
            yield Verdict(need(NeedKind.DISK, source.path, absent=gone))
        else:
            why = "what it is cannot be told from its name"
            yield Verdict(need(NeedKind.DISK, source.name or self._disk.target, met_by=MetBy.PERSON, unverified=why))

    def _in_pool(self, source: Source, *, is_top: bool) -> Iterator[Verdict]:
        problem = self._sight.told.answers.get(("pool", source.pool), "")
        name = f"{source.volume} in pool {source.pool}"
        if problem:
            yield Verdict(need(NeedKind.DISK, name, absent=problem))
            return
        found = self._sight.told.volumes.get((source.pool, source.volume))
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
        if not path.startswith("/") or path in self._seen or len(self._seen) > LONGEST_CHAIN:
            return
        self._seen.add(path)
        found = self._sight.host.find(path)
        mounted = self._mount(found)
        if mounted is not None:
            yield Verdict(mounted)
        else:
            points = points_above(found.names, self._sight.expected, self._sight.nova_base)
            yield from (Verdict(need(NeedKind.MOUNT, point)) for point in points)
        target = self._disk.target if is_top and mounted is None and self._is_out_of_sight(found) else ""
        if found.status is None:
            yield Verdict(self._missing(found, source, mounted), target)
        elif found.is_block_device:
            yield Verdict(self._block(found))
        elif source.type == "block" or not (found.is_file or (source.type == "dir" and found.is_folder)):
            what = "no block device" if source.type == "block" else "neither a file nor a block device"
            yield Verdict(need(NeedKind.DISK, path, met_by=MetBy.PERSON, unverified=f"it is {what}"))
            return
        elif mounted is None:
            yield Verdict(need(NeedKind.DISK, path))
        if follow and found.is_file and source.format == "qcow2":
            yield from self._backing(found)

    def _is_out_of_sight(self, found: Found) -> bool:
        """Tell whether libvirt may be right where it sees what is not seen here: in a container, in a sandbox.

        Not of a guest that runs: QEMU has open what has gone since.  Nor below a mount that somebody names: what
        libvirt sees there may be what the mount should hide.
        """
        name = read_name(found.names[0])
        if (
            self._sight.told.active
            or self._is_nova_file
            or found.is_silent
            or name.naming in (Naming.UNSTABLE, Naming.ENCRYPTED)
        ):
            return False
        if name.naming is Naming.DM and not is_stable_dm(
            name, name.dm_name, dm_uuid_of(self._sight.host, name.dm_name)
        ):
            # Of a container's /dev sysfs knows nothing, of the kernel's devices it does.
            return False
        return not points_above(found.names, self._sight.expected, self._sight.nova_base)

    def _backing(self, found: Found) -> Iterator[Verdict]:
        header = read_header(self._sight.host.start_of(found.end, HEADER))
        if header is None:
            return
        # A relative name is one beside the image as it is named here, not beside what that is a link to.
        if header.data_file:
            yield from self._source(source_of(header.data_file, "raw", found.path), is_top=False, follow=False)
        if header.backing:
            backing = source_of(header.backing, header.backing_format, found.path)
            yield from self._source(backing, is_top=False, follow=True)

    def _block(self, found: Found) -> Need:
        why = doubt(found.names, device_of(self._sight.host, found), self._volume)
        whose = who_can_tell(self._volume, by_nova=self._sight.definition.by_nova)
        if why and whose is MetBy.PERSON:
            why += f"; {BY_ID}"
        return need(NeedKind.DISK, found.path, met_by=whose, unverified=why)

    def _mount(self, found: Found) -> Need | None:
        mounts = self._sight.mounts_at(found.end)
        missing = relied_on(found.names, mounts, self._sight.expected, self._sight.nova_base)
        if missing is not None:
            whose = MetBy.NOVA if missing.by_nova or self._is_nova_file else MetBy.HOST
            return need(NeedKind.MOUNT, missing.point, met_by=whose, absent=missing.why)
        if self._is_nova_file and self._volume is not None and not found.is_block_device:
            return self._exported(found, self._volume)
        return None

    def _exported(self, found: Found, volume: Volume) -> Need | None:
        """Look whether a volume that is a file is on the export that its record names."""
        covering = self._sight.mounts_at(found.end).covering(found.end)
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

    def _missing(self, found: Found, source: Source, mounted: Need | None) -> Need:
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
        return need(NeedKind.DISK, path, met_by=self._who_brings(found.names[0], is_device=is_device), absent=why)

    def _who_brings(self, path: str, *, is_device: bool) -> MetBy:
        by_nova = self._sight.definition.by_nova or (self._volume is not None and bool(self._volume.id))
        if not by_nova:
            return MetBy.HOST
        if "/_base/" in path:
            # Fetched anew from the image service.
            return MetBy.NOVA
        if not is_device:
            return MetBy.HOST
        is_fabric = read_name(path).naming in (Naming.STABLE, Naming.DM) and "-iscsi-" not in path
        return MetBy.HOST if is_fabric else MetBy.NOVA

    def _network(self, source: Source) -> Need:
        name = f"{source.protocol}:{source.name}"
        silent = []
        # What a guest that runs is served may be for one client alone; a container may not reach what its host does.
        is_asked = self._sight.sees_host and not self._sight.told.active
        for server in source.servers[:MOST_SERVERS] if is_asked else ():
            ask = partial(self._knock, server, source.protocol)
            problem = self._sight.host.kept(f"server {source.protocol} {server}", ask)
            if not problem:
                return need(NeedKind.DISK, name)
            silent.append(problem)
        if not silent or len(source.servers) > MOST_SERVERS:
            return need(NeedKind.DISK, name)
        return need(NeedKind.DISK, name, absent="its storage does not answer: " + "; ".join(silent))

    def _knock(self, server: Server, protocol: str) -> str:
        """Say why none of the addresses of a server answers; "" where one does, or none is known."""
        ports = (server.port,) if server.port else PORTS.get(protocol, ())
        addresses = [server.socket] if server.socket else [(server.name, port) for port in ports if server.name]
        silent = []
        for address in addresses:
            self._sight.host.at = address if isinstance(address, str) else f"{address[0]}:{address[1]}"
            silent.append(knock(address, speaks_first=protocol in SPEAK_FIRST))
            if not silent[-1]:
                return ""
        return ", ".join(silent)
