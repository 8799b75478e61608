"""The local disks of guests, on this host and in libvirt's definitions; storage may hang, so all runs in threads.

A folder that cannot be seen is never taken for one that does not exist: nothing is done then (``NeedNotMet``).
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import structlog

from bringup.drivers.base import SharedStorageProbe
from bringup.drivers.libvirt.disks import DEFINITION, Disks
from bringup.drivers.libvirt.errors import CallTimedOut, NotSent
from bringup.drivers.libvirt.host_needs import Definition
from bringup.drivers.libvirt.options import LibvirtOptions
from bringup.drivers.libvirt.places import Place
from bringup.drivers.libvirt.room import Room
from bringup.drivers.libvirt.threads import on_disk
from bringup.drivers.needs import MetBy, Need, NeedKind, NeedNotMet, NeedState

log = structlog.get_logger()

T = TypeVar("T")
Definitions = Callable[[frozenset[str] | None], Awaitable[Sequence[Definition]]]
"""Reads the definitions of the guests with these UUIDs (None: of all)."""


class LocalDisks:
    """The folder of local disks (``instances_path``), and what guests have in it."""

    def __init__(self, options: LibvirtOptions, definitions: Definitions) -> None:
        """Store ``definitions``, which asks libvirt; no file is touched yet."""
        self._options = options
        self._folder = str(options.instances_path)
        self._definitions = definitions
        self._disks = Disks(options.instances_path)
        self._place = Place(options.instances_path, options.instances_mount, options.places_file)
        self._room = Room(options.connections, "place at the disk")

    def resize(self, count: int) -> None:
        """Allow ``count`` pieces of work at once from now on; what is under way continues."""
        self._room.resize(count)

    async def local_gb(self) -> int | None:
        """Return the size of the file system of the folder in GiB; None: the folder cannot be seen."""
        return await self._run(
            "read the size of the disk", lambda: self._disks.local_gb() if self._place.is_seen() else None
        )

    async def folder_needs(self, definitions: Sequence[Definition]) -> Sequence[Need]:
        """Return the need of the folder, and record what is mounted there; nothing if none of these guests uses it."""
        users = {one.uuid: one.local for one in definitions if one.local}
        if need := await self._problem_of_folder(users):
            return [need]
        if not users:
            return []
        if self._options.may_change:
            try:
                await self._run("record what is mounted", self._place.remember)
            except CallTimedOut:
                raise
            except Exception as error:  # noqa: BLE001 - the next boot knows less, and that is all
                log.warning("places.not_remembered", error=str(error.__cause__ or error))
        return [Need(kind=NeedKind.MOUNT, name=self._folder, state=NeedState.MET)]

    async def keep(self, uuid: str) -> Sequence[str]:
        """Move the folder of a guest's disks aside; return the paths of all that was moved aside."""
        what = f"keep the disks of {uuid}"
        await self.require_visible(what, uuid)
        return await self._run(what, partial(self._disks.keep, uuid))

    async def delete_kept(self, uuid: str, where: Sequence[str]) -> None:
        """Delete folders that were moved aside."""
        what = f"delete the kept disks of {uuid}"
        if not await self._run(what, self._place.is_seen):
            why = "it is not there, or what should be mounted there is not"
            need = Need(kind=NeedKind.MOUNT, name=self._folder, state=NeedState.ABSENT, why=why)
            raise NeedNotMet(f"cannot {what}: {self._folder}: {why}", [need])
        await self._run(what, partial(self._disks.delete_kept, uuid, where))

    async def mark(self, uuid: str) -> SharedStorageProbe | None:
        """Create a mark in the folder of a guest's disks; None: it has none here."""
        what = f"mark the disks of {uuid}"
        await self.require_visible(what, uuid)
        return await self._run(what, partial(self._disks.mark, uuid))

    async def unmark(self, probe: SharedStorageProbe) -> None:
        """Delete a mark."""
        await self._run(f"delete {probe.path}", partial(self._disks.unmark, probe))

    async def delete(self, uuid: str) -> None:
        """Delete the folders of a guest."""
        await self._run(f"delete the disks of {uuid}", partial(self._disks.delete, uuid))

    async def remove_copy(self, uuid: str, path: Path) -> None:
        """Delete what an interrupted snapshot was writing."""
        await self._run(f"remove {path}", partial(self._disks.remove_copy, uuid, path))

    async def definition(self, uuid: str) -> str | None:
        """Read the definition that older Novas keep beside the disks."""
        return await self._run(f"read the definition of {uuid}", partial(self._disks.definition, uuid))

    async def take_back(self, uuid: str) -> None:
        """Give a guest the folder back that it had before a resize.

        :raises NeedNotMet: neither that one nor its own exists, though it has disks here.
        """
        what = f"take the disks of {uuid} back"
        await self.require_visible(what, uuid)
        if await self._run(what, partial(self._disks.take_back, uuid)):
            return
        there = await self._run(what, self._disks.of(uuid).is_dir)
        if not there and any(one.local for one in await self._definitions(frozenset({uuid}))):
            before = self._disks.before_resize(uuid)
            why = f"neither it nor {self._disks.of(uuid)} is there; the disks may be on the other host of the resize"
            need = Need(kind=NeedKind.DISK, name=str(before), state=NeedState.ABSENT, met_by=MetBy.PERSON, why=why)
            raise NeedNotMet(f"cannot {what}: {before}: {why}", [need])

    async def with_kept_by_resize(self, uuid: str, needs: Sequence[Need]) -> Sequence[Need]:
        """Return the needs; files that a resize keeps by another name are met by rolling it back (``MetBy.REVERT``)."""
        own = f"{self._disks.of(uuid)}/"
        lacking = {need: _file_of(need, own) for need in needs if need.state is NeedState.ABSENT}
        if not any(lacking.values()):
            return needs
        before = self._disks.before_resize(uuid)

        def found() -> set[Need]:
            return {need for need, name in lacking.items() if name and (before / name).is_file()}

        kept = await self._run(f"read the disks of {uuid}", found)
        why = f"a resize has moved it to {before}"
        return [replace(need, met_by=MetBy.REVERT, why=why) if need in kept else need for need in needs]

    async def require_visible(self, what: str, uuid: str) -> None:
        """Ensure that it can be seen which local disks a guest has.

        :raises NeedNotMet: it cannot.
        """
        if need := await self._problem_of_folder(await self._in_folder(uuid)):
            raise NeedNotMet(f"cannot {what}: {need.name}: {need.why}", [need])

    async def _in_folder(self, uuid: str) -> Mapping[str, Collection[str]]:
        """Return what a guest has in the folder, by UUID; one that is not defined may have what others here have."""
        own = await self._definitions(frozenset({uuid}))
        if own:
            return {one.uuid: one.local for one in own if one.local}
        return {uuid: ()} if any(one.local for one in await self._definitions(None)) else {}

    async def _problem_of_folder(self, users: Mapping[str, Collection[str]]) -> Need | None:
        deadline_s = self._options.call_deadline_s
        try:
            return await on_disk(
                f"check {self._folder}", partial(self._place.problem, users), room=self._room, deadline_s=deadline_s
            )
        except NotSent:
            raise
        except CallTimedOut:
            why = f"its storage has not answered in {deadline_s:g} s"
            return Need(kind=NeedKind.MOUNT, name=self._folder, state=NeedState.UNVERIFIED, why=why)

    async def _run(self, what: str, work: Callable[[], T]) -> T:
        return await on_disk(what, work, room=self._room, deadline_s=self._options.start_deadline_s)


def _file_of(need: Need, own: str) -> str:
    """Return the name of the file of an instance's folder that a need is; "" if it is none."""
    if need.kind is NeedKind.DEFINITION:
        return DEFINITION
    return need.name.removeprefix(own) if need.name.startswith(own) else ""
