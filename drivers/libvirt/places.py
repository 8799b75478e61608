"""The folder of local disks (``instances_path``): is it there, and is mounted there what should be?  All of it blocks.

A mount point that is empty looks like a host whose disks are gone.  What should be mounted is known from the setting,
from fstab and systemd's mount units, and from what was mounted when the host was last brought back.
"""

import json
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bringup.drivers.files import read_file
from bringup.drivers.libvirt.disks import KEPT
from bringup.drivers.libvirt.needed.host import Host
from bringup.drivers.libvirt.needed.rules.mounts import parents
from bringup.drivers.needs import MetBy, Need, NeedKind, NeedState

KEY: Final = "libvirt.instances_path"
_UUID_FOLDER: Final = re.compile(r"([0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12})(?:_resize|_del|\.\d+)")
SEVERAL: Final = 2
MOST: Final = 100_000
WAY_OUT: Final = 'or say in libvirt.instances_mount where ("none": nowhere)'


@dataclass(frozen=True, slots=True)
class Place:
    """The folder, and how it is known what should be mounted there."""

    folder: Path
    mount: str = "auto"
    """``auto``, ``none``, or the mount point."""
    memory: Path | None = None
    """The file that remembers what was mounted; None: nothing is remembered."""
    host: Host = field(default_factory=Host)

    def problem(self, users: Mapping[str, Collection[str]]) -> Need | None:
        """Say what keeps local disks from being seen; ``users`` has, by UUID, the names that guests have in the folder.

        None: they can be seen, or there are none.
        """
        found = self.host.find(str(self.folder))
        if missing := self._not_mounted(found.names):
            return missing
        if not users:
            return None
        if found.is_hidden or (found.is_folder and self.host.is_empty(str(self.folder)) is None):
            # This process may not look: what is there is not known to be missing.
            return None
        if not found.is_folder:
            return self._need(str(self.folder), self._not_there(len(users)))
        names = {name for each in users.values() for name in each}
        there = self.host.names_in(str(self.folder), MOST)
        kept = self.host.names_in(str(self.folder / KEPT), MOST)
        if not names or not names.isdisjoint(map(_of_whom, [*there, *kept])) or (there and len(users) < SEVERAL):
            return None
        why = (
            f"it has nothing of the {len(users)} guests whose disks are in it: mount there what should be, "
            f"or set {KEY} right"
        )
        return self._need(str(self.folder), why)

    def is_seen(self) -> bool:
        """Tell whether the folder is there, with all mounted that should be."""
        found = self.host.find(str(self.folder))
        return found.is_folder and self._not_mounted(found.names) is None

    def remember(self) -> None:
        """Write down what is mounted there now, for the next boot; nothing where that cannot be written."""
        if self.memory is None:
            return
        mounts, end = self.host.mounts(), self.host.find(str(self.folder)).end
        # Not what a sandbox has bound onto itself.
        point = next((each for each in (end, *parents(end)) if each != "/" and mounts.is_mounted(each)), "")
        known = {"folder": str(self.folder), "mount": point}
        if point:
            known |= {"type": mounts.at[point].type, "source": mounts.at[point].source}
        if self._remembered() != known:
            made = self.memory.with_suffix(".new")
            made.write_text(json.dumps(known) + "\n", encoding="utf-8")
            made.replace(self.memory)

    def _not_mounted(self, names: Collection[str]) -> Need | None:
        mounts = self.host.mounts()
        for point, why in self._expected(names).items():
            if not mounts.is_mounted(point):
                return self._need(point, f"{KEY} = {self.folder} is on it, and {why}; mount it, {WAY_OUT}")
        return None

    def _expected(self, names: Collection[str]) -> Mapping[str, str]:
        """Give the mount points that the folder is on, each with why."""
        if self.mount == "none":
            return {}
        if self.mount != "auto":
            return {os.path.normpath(self.mount): "libvirt.instances_mount says so, and nothing is mounted there"}
        named = self.host.expected_mounts()
        above = dict.fromkeys(point for name in names for point in (name, *parents(name)) if point != "/")
        found = {point: f"{named[point]} is not mounted there" for point in above if point in named}
        was = self._remembered()
        point = str(was.get("mount", ""))
        if point and was.get("folder") == str(self.folder) and point not in found:
            found[point] = f"{was.get('source')} ({was.get('type')}), which was there at the last start, is not mounted"
        return found

    def _remembered(self) -> Mapping[str, object]:
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


def _of_whom(name: str) -> str:
    """Give the name that a folder has while nothing is done with it: a resize and a deletion rename it."""
    found = _UUID_FOLDER.fullmatch(name)
    return found[1] if found else name
