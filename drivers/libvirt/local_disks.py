"""The driver's verbs of local disks; none of them takes a folder that cannot be seen for one that is not there."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

import structlog

from bringup.drivers.base import AvailableResource, Guest, SharedStorageProbe
from bringup.drivers.libvirt.disks import DEFINITION, Disks
from bringup.drivers.libvirt.errors import CallTimedOut, NotSent
from bringup.drivers.libvirt.host_needs import Definition, definitions_of, drivers_needed, look_at_driver
from bringup.drivers.libvirt.opening import Opening
from bringup.drivers.libvirt.options import LibvirtOptions
from bringup.drivers.libvirt.places import Place
from bringup.drivers.libvirt.room import Room
from bringup.drivers.libvirt.threads import on_disk
from bringup.drivers.needs import MetBy, Need, NeedKind, NeedNotMet, NeedState
from bringup.drivers.network import Network

log = structlog.get_logger()

T = TypeVar("T")


class LocalDisks(Opening):
    """A hypervisor that is opened and closed, with the folder of its guests' local disks."""

    def __init__(self, options: LibvirtOptions, network: Network | None = None) -> None:
        """Open nothing yet; without a ``network`` NICs and firewall are left to libvirt."""
        super().__init__(options, network)
        self._disks = Disks(options.instances_path)
        self._place = Place(options.instances_path, options.instances_mount, options.places_file)
        self._files = Room(options.connections, "place at the disk")

    def resize(self, connections: int) -> None:
        """Have so many connections for verbs from now on, more or fewer; what is under way goes on."""
        super().resize(connections)
        self._files.resize(connections)

    async def host_needs(self, guests: Sequence[Guest]) -> Sequence[Need]:
        """Tell of libvirt's other drivers, the folder of local disks, Open vSwitch, nft: where a guest needs them."""
        wanted = frozenset(guest.uuid for guest in guests)
        definitions = await self._definitions(wanted)
        error_class = self._host.libvirt.libvirtError
        needs = []
        for name in drivers_needed(definitions):
            look = partial(look_at_driver, name=name, error_class=error_class)
            needs.append(await self._ask(f"ask {name}", look))
        needs += await self._folder_needs({one.uuid: one.local for one in definitions if one.local})
        if self._network is not None:
            needs += await self._network.look(guests)
        return needs

    async def get_available_resource(self) -> AvailableResource:
        """CPUs and memory as libvirt tells them, disk of the file system of ``instances_path``."""
        info = await self._ask("ask what the host has", lambda connection: connection.getInfo())

        def local_gb() -> int | None:
            return self._disks.local_gb() if self._place.is_seen() else None

        return AvailableResource(
            vcpus=int(str(info[2])),
            memory_mb=int(str(info[1])),
            local_gb=await self._on_disk("look at the disk", local_gb),
        )

    async def keep_disks(self, guest: Guest) -> Sequence[str]:
        """Move the folder of a guest's disks aside."""
        await self._see_disks(f"keep the disks of {guest.uuid}", guest.uuid)
        return await self._on_disk(f"keep the disks of {guest.uuid}", partial(self._disks.keep, guest.uuid))

    async def delete_kept_disks(self, uuid: str, where: Sequence[str]) -> None:
        """Delete folders that were moved aside."""
        what = f"delete the kept disks of {uuid}"
        if not await self._on_disk(what, self._place.is_seen):
            folder = str(self._options.instances_path)
            why = "it is not there, or what should be mounted there is not"
            need = Need(kind=NeedKind.MOUNT, name=folder, state=NeedState.ABSENT, why=why)
            raise NeedNotMet(f"cannot {what}: {folder}: {why}", [need])
        await self._on_disk(what, partial(self._disks.delete_kept, uuid, where))

    async def check_instance_shared_storage_local(self, guest: Guest) -> SharedStorageProbe | None:
        """Leave a mark in the folder of a guest's disks; None where it has none here."""
        what = f"mark the disks of {guest.uuid}"
        await self._see_disks(what, guest.uuid)
        return await self._on_disk(what, partial(self._disks.mark, guest.uuid))

    async def check_instance_shared_storage_cleanup(self, probe: SharedStorageProbe) -> None:
        """Take the mark away."""
        await self._on_disk(f"take {probe.path} away", partial(self._disks.unmark, probe))

    async def _delete_disks(self, uuid: str) -> None:
        await self._on_disk(f"delete the disks of {uuid}", partial(self._disks.delete, uuid))

    async def _take_disks_back(self, uuid: str) -> None:
        """Give a guest the folder back that it had before a resize.

        :raises NeedNotMet: neither that one nor its own is there, though it has disks here.
        """
        what = f"take the disks of {uuid} back"
        await self._see_disks(what, uuid)
        if await self._on_disk(what, partial(self._disks.take_back, uuid)):
            return
        there = await self._on_disk(what, self._disks.of(uuid).is_dir)
        if not there and any(one.local for one in await self._definitions(frozenset({uuid}))):
            before = self._disks.before_resize(uuid)
            why = f"neither it nor {self._disks.of(uuid)} is there; the disks may be on the other host of the resize"
            need = Need(kind=NeedKind.DISK, name=str(before), state=NeedState.ABSENT, met_by=MetBy.PERSON, why=why)
            raise NeedNotMet(f"cannot {what}: {before}: {why}", [need])

    async def _with_kept_disks(self, uuid: str, needs: Sequence[Need]) -> Sequence[Need]:
        """Say of what a resize keeps by another name that rolling the resize back brings it."""
        own = f"{self._disks.of(uuid)}/"
        lacking = {need: _file_of(need, own) for need in needs if need.state is NeedState.ABSENT}
        if not any(lacking.values()):
            return needs
        before = self._disks.before_resize(uuid)

        def found() -> set[Need]:
            return {need for need, name in lacking.items() if name and (before / name).is_file()}

        kept = await self._on_disk(f"look at the disks of {uuid}", found)
        why = f"a resize has moved it to {before}"
        return [replace(need, met_by=MetBy.REVERT, why=why) if need in kept else need for need in needs]

    async def _see_disks(self, what: str, uuid: str) -> None:
        """Make sure that it can be seen which local disks a guest has.

        :raises NeedNotMet: it cannot.
        """
        if need := await self._problem_of_folder(await self._local_disks(uuid)):
            raise NeedNotMet(f"cannot {what}: {need.name}: {need.why}", [need])

    async def _local_disks(self, uuid: str) -> Mapping[str, Collection[str]]:
        """Tell what a guest has in the folder; one that is not defined any more has something where others here do."""
        own = await self._definitions(frozenset({uuid}))
        if own:
            return {one.uuid: one.local for one in own if one.local}
        return {uuid: ()} if any(one.local for one in await self._definitions(None)) else {}

    async def _definitions(self, wanted: frozenset[str] | None) -> Sequence[Definition]:
        folder = str(self._options.instances_path)
        return await self._ask("read the definitions of guests", partial(definitions_of, wanted=wanted, folder=folder))

    async def _folder_needs(self, users: Mapping[str, Collection[str]]) -> Sequence[Need]:
        if need := await self._problem_of_folder(users):
            return [need]
        if not users:
            return []
        if self._options.may_change:
            try:
                await self._on_disk("remember what is mounted", self._place.remember)
            except CallTimedOut:
                raise
            except Exception as error:  # noqa: BLE001 - what is not remembered is not known next time, and no more
                log.warning("places.not_remembered", error=str(error.__cause__ or error))
        name = str(self._options.instances_path)
        return [Need(kind=NeedKind.MOUNT, name=name, state=NeedState.MET)]

    async def _problem_of_folder(self, users: Mapping[str, Collection[str]]) -> Need | None:
        what = f"look at {self._options.instances_path}"
        try:
            return await on_disk(
                what,
                partial(self._place.problem, users),
                room=self._files,
                deadline_s=self._options.call_deadline_s,
            )
        except NotSent:
            raise
        except CallTimedOut:
            name = str(self._options.instances_path)
            why = f"its storage has not answered in {self._options.call_deadline_s:g} s"
            return Need(kind=NeedKind.MOUNT, name=name, state=NeedState.UNVERIFIED, why=why)

    async def _on_disk(self, what: str, work: Callable[[], T]) -> T:
        """Do something with files, in a thread: storage may hang as anything else may."""
        return await on_disk(what, work, room=self._files, deadline_s=self._host.options.start_deadline_s)


def _file_of(need: Need, own: str) -> str:
    """Name the file of an instance's folder that a need is; "" where it is none."""
    if need.kind is NeedKind.DEFINITION:
        return DEFINITION
    return need.name.removeprefix(own) if need.name.startswith(own) else ""
