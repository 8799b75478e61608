"""The local disks of guests: their folder (``instances_path``), its mounts, what guests have in it.

An empty mount point looks like a host whose disks are gone.  The expected mounts are known from the setting, from fstab
and systemd's mount units, and from the mounts when the host last came back.  An invisible folder is never taken for a
missing one: nothing is done then (``NeedNotMet``).  Storage may hang: :class:`LocalDisks` runs all in threads.
"""

import json
import os
import re
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import structlog

from bringup.drivers.base import SharedStorageProbe
from bringup.drivers.files import read_file
from bringup.drivers.libvirt.disks import DEFINITION, KEPT, Disks
from bringup.drivers.libvirt.errors import CallTimedOut, NotSent
from bringup.drivers.libvirt.guest_needs.host import HostFiles
from bringup.drivers.libvirt.guest_needs.rules.mounts import parents
from bringup.drivers.libvirt.host_needs import HostWideNeeds
from bringup.drivers.libvirt.slots import Slots
from bringup.drivers.libvirt.threads import on_disk
from bringup.drivers.libvirt_options import LibvirtOptions
from bringup.drivers.needs import MetBy, Need, NeedKind, NeedNotMet, NeedState

KEY: Final = "libvirt.instances_path"
_UUID_FOLDER: Final = re.compile(r"([0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12})(?:_resize|_del|\.\d+)")
SEVERAL: Final = 2
MOST: Final = 100_000
REMEDY: Final = 'or say in libvirt.instances_mount where ("none": nowhere)'


@dataclass(frozen=True, slots=True)
class InstancesFolder:
    """The folder of local disks, and where its expected mounts are known from.  Its methods block."""

    folder: Path
    mount: str = "auto"
    """``auto``, ``none``, or the mount point."""
    memory: Path | None = None
    """The file that records the mounts; None: nothing is recorded."""
    host: HostFiles = field(default_factory=HostFiles)

    def need(self, users: Mapping[str, Collection[str]]) -> Need | None:
        """Return the need that hides local disks; ``users`` has, by UUID, the names that guests have in the folder.

        None: they are visible, or there are none.
        """
        found = self.host.find(str(self.folder))
        if missing := self._not_mounted(found.names):
            return missing
        if not users:
            return None
        if found.is_hidden or (found.is_folder and self.host.is_empty(str(self.folder)) is None):
            # This process may not read it: nothing is known to be missing.
            return None
        if not found.is_folder:
            return self._need(str(self.folder), self._not_there(len(users)))
        names = {name for each in users.values() for name in each}
        there = self.host.names_in(str(self.folder), MOST)
        kept = self.host.names_in(str(self.folder / KEPT), MOST)
        if not names or not names.isdisjoint(map(_instance_of, [*there, *kept])) or (there and len(users) < SEVERAL):
            return None
        why = (
            f"it has nothing of the {len(users)} guests whose disks are in it: mount there what should be, "
            f"or correct {KEY}"
        )
        return self._need(str(self.folder), why)

    def is_visible(self) -> bool:
        """Check whether the folder exists, with all expected mounts."""
        found = self.host.find(str(self.folder))
        return found.is_folder and self._not_mounted(found.names) is None

    def record(self) -> None:
        """Record what is mounted there now, for the next boot."""
        if self.memory is None:
            return
        mounts, end = self.host.mounts(), self.host.find(str(self.folder)).end
        # Not what a sandbox has bind-mounted onto itself.
        point = next((each for each in (end, *parents(end)) if each != "/" and mounts.is_mounted(each)), "")
        known = {"folder": str(self.folder), "mount": point}
        if point:
            known |= {"type": mounts.at[point].type, "source": mounts.at[point].source}
        if self._recorded() != known:
            made = self.memory.with_suffix(".new")
            made.write_text(json.dumps(known) + "\n", encoding="utf-8")
            made.replace(self.memory)

    def _not_mounted(self, names: Collection[str]) -> Need | None:
        mounts = self.host.mounts()
        for point, why in self._expected(names).items():
            if not mounts.is_mounted(point):
                return self._need(point, f"{KEY} = {self.folder} is on it, and {why}; mount it, {REMEDY}")
        return None

    def _expected(self, names: Collection[str]) -> Mapping[str, str]:
        """Return the expected mount points at or above the folder, each with the reason."""
        if self.mount == "none":
            return {}
        if self.mount != "auto":
            return {os.path.normpath(self.mount): "libvirt.instances_mount says so, and nothing is mounted there"}
        named = self.host.expected_mounts()
        above = dict.fromkeys(point for name in names for point in (name, *parents(name)) if point != "/")
        found = {point: f"{named[point]} is not mounted there" for point in above if point in named}
        was = self._recorded()
        point = str(was.get("mount", ""))
        if point and was.get("folder") == str(self.folder) and point not in found:
            found[point] = f"{was.get('source')} ({was.get('type')}), which was there at the last start, is not mounted"
        return found

    def _recorded(self) -> Mapping[str, object]:
        try:
            known = json.loads("{}" if self.memory is None else read_file(self.memory))
        except (OSError, ValueError, RecursionError):
            return {}
        return known if isinstance(known, dict) else {}

    def _not_there(self, users: int) -> str:
        return (
            f"{KEY} is not there, and {users} guests have their disks below it; mount it, or set {KEY} to where this "
            "host has it (where Nova runs in containers, bind-mount its volume to the path that the guests' "
            "definitions name)"
        )

    def _need(self, name: str, why: str) -> Need:
        return Need(kind=NeedKind.MOUNT, name=name, state=NeedState.ABSENT, met_by=MetBy.HOST, why=why)


def _instance_of(name: str) -> str:
    """Return the UUID of a folder's instance: a resize and a deletion rename the folder."""
    found = _UUID_FOLDER.fullmatch(name)
    return found[1] if found else name


log = structlog.get_logger()

T = TypeVar("T")
Definitions = Callable[[frozenset[str] | None], Awaitable[Sequence[HostWideNeeds]]]
"""Reads the definitions of the guests with these UUIDs (None: of all)."""


class LocalDisks:
    """The folder of local disks (``instances_path``), and what guests have in it."""

    def __init__(self, options: LibvirtOptions, definitions: Definitions, slots: int) -> None:
        """Store ``definitions``, which asks libvirt; no file is touched yet."""
        self._options = options
        self._folder = str(options.instances_path)
        self._definitions = definitions
        self._disks = Disks(options.instances_path)
        self._folder_state = InstancesFolder(options.instances_path, options.instances_mount, options.mounts_file)
        self._slots = Slots(slots, "place at the disk")

    def resize(self, count: int) -> None:
        """Allow ``count`` pieces of work at once from now on; what is under way continues."""
        self._slots.resize(count)

    async def local_gb(self) -> int | None:
        """Return the size of the file system of the folder in GiB; None: the folder cannot be seen."""
        return await self._run(
            "read the size of the disk", lambda: self._disks.local_gb() if self._folder_state.is_visible() else None
        )

    async def folder_needs(self, definitions: Sequence[HostWideNeeds]) -> Sequence[Need]:
        """Return the need of the folder, and record what is mounted there; nothing if none of these guests uses it."""
        users = {one.uuid: one.local for one in definitions if one.local}
        if need := await self._need_of_folder(users):
            return [need]
        if not users:
            return []
        if self._options.may_change:
            try:
                await self._run("record what is mounted", self._folder_state.record)
            except CallTimedOut:
                raise
            except Exception as error:  # noqa: BLE001 - the next boot knows less, and that is all
                log.warning("mounts.not_recorded", error=str(error.__cause__ or error))
        return [Need(kind=NeedKind.MOUNT, name=self._folder, state=NeedState.MET)]

    async def keep(self, uuid: str) -> Sequence[str]:
        """Move the folder of a guest's disks aside; return the paths of all that was moved aside."""
        what = f"keep the disks of {uuid}"
        await self.require_visible(what, uuid)
        return await self._run(what, partial(self._disks.keep, uuid))

    async def delete_kept(self, uuid: str, where: Sequence[str]) -> None:
        """Delete folders that were moved aside."""
        what = f"delete the kept disks of {uuid}"
        if not await self._run(what, self._folder_state.is_visible):
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
        """Return a guest the folder back that it had before a resize.

        :raises NeedNotMet: neither that one nor its own exists, though it has disks here.
        """
        what = f"take the disks of {uuid} back"
        await self.require_visible(what, uuid)
        if await self._run(what, partial(self._disks.restore_before_resize, uuid)):
            return
        there = await self._run(what, self._disks.folder_of(uuid).is_dir)
        if not there and any(one.local for one in await self._definitions(frozenset({uuid}))):
            before = self._disks.folder_before_resize(uuid)
            own = self._disks.folder_of(uuid)
            why = f"neither it nor {own} is there; the disks may be on the other host of the resize"
            need = Need(kind=NeedKind.DISK, name=str(before), state=NeedState.ABSENT, met_by=MetBy.PERSON, why=why)
            raise NeedNotMet(f"cannot {what}: {before}: {why}", [need])

    async def with_kept_by_resize(self, uuid: str, needs: Sequence[Need]) -> Sequence[Need]:
        """Return the needs; files that a resize keeps by another name are met by rolling it back (``MetBy.REVERT``)."""
        own = f"{self._disks.folder_of(uuid)}/"
        lacking = {need: _file_of(need, own) for need in needs if need.state is NeedState.ABSENT}
        if not any(lacking.values()):
            return needs
        before = self._disks.folder_before_resize(uuid)

        def found() -> set[Need]:
            return {need for need, name in lacking.items() if name and (before / name).is_file()}

        kept = await self._run(f"read the disks of {uuid}", found)
        why = f"a resize has moved it to {before}"
        return [replace(need, met_by=MetBy.REVERT, why=why) if need in kept else need for need in needs]

    async def require_visible(self, what: str, uuid: str) -> None:
        """Ensure that it can be seen which local disks a guest has.

        :raises NeedNotMet: it cannot.
        """
        if need := await self._need_of_folder(await self._in_folder(uuid)):
            raise NeedNotMet(f"cannot {what}: {need.name}: {need.why}", [need])

    async def _in_folder(self, uuid: str) -> Mapping[str, Collection[str]]:
        """Return what a guest has in the folder, by UUID; one that is not defined may have what others here have."""
        own = await self._definitions(frozenset({uuid}))
        if own:
            return {one.uuid: one.local for one in own if one.local}
        return {uuid: ()} if any(one.local for one in await self._definitions(None)) else {}

    async def _need_of_folder(self, users: Mapping[str, Collection[str]]) -> Need | None:
        deadline_s = self._options.call_deadline
        try:
            return await on_disk(
                f"check {self._folder}",
                partial(self._folder_state.need, users),
                slots=self._slots,
                deadline_s=deadline_s,
            )
        except NotSent:
            raise
        except CallTimedOut:
            why = f"its storage has not answered in {deadline_s:g} s"
            return Need(kind=NeedKind.MOUNT, name=self._folder, state=NeedState.UNVERIFIED, why=why)

    async def _run(self, what: str, work: Callable[[], T]) -> T:
        return await on_disk(what, work, slots=self._slots, deadline_s=self._options.start_deadline)


def _file_of(need: Need, own: str) -> str:
    """Return the name of the file of an instance's folder that a need is; "" if it is none."""
    if need.kind is NeedKind.DEFINITION:
        return DEFINITION
    return need.name.removeprefix(own) if need.name.startswith(own) else ""
