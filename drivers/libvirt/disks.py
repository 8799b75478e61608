"""The local disks of instances: folders below ``instances_path``, named and treated as by Nova.  All of it blocks.

``UUID`` is an instance's; ``UUID_resize`` what a resize or cold migration keeps of it until it is confirmed;
``UUID_del`` what is being deleted; below ``bringup-kept`` is what was set aside.  A disk that is anywhere else is
nobody's to delete but its owner's.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bringup.drivers.base import DriverError, SharedStorageProbe
from bringup.drivers.identifiers import InstanceUuid, canonical_uuid

KEPT = "bringup-kept"
DEFINITION = "libvirt.xml"


@dataclass(frozen=True, slots=True)
class Disks:
    """The folders of this host."""

    instances_path: Path

    def of(self, uuid: str) -> Path:
        """Give the folder of an instance, which need not be there.

        :raises DriverError: it is no canonical UUID: its folder could be anywhere.
        """
        return self._named(uuid)

    def before_resize(self, uuid: str) -> Path:
        """Give the folder that a resize keeps of an instance, which need not be there.  Raises as :meth:`of` does."""
        return self._named(uuid, "_resize")

    def _named(self, uuid: str, end: str = "") -> Path:
        return self.instances_path / f"{_checked(uuid)}{end}"

    def delete(self, uuid: str) -> None:
        """Delete the folders of an instance; renamed first, so that nothing uses half of one (Nova's ``_del``)."""
        doomed = self._named(uuid, "_del")
        for folder in (doomed, self.of(uuid), self.before_resize(uuid)):
            if folder != doomed and folder.is_dir():
                folder.rename(doomed)
            if doomed.is_dir():
                shutil.rmtree(doomed)

    def keep(self, uuid: str) -> tuple[str, ...]:
        """Move the folder of an instance aside; give all that was moved aside of it, now or before."""
        kept = self.instances_path / KEPT
        there = self._kept(uuid)
        if self.of(uuid).is_dir():
            kept.mkdir(mode=0o700, exist_ok=True)
            number = 1 + max((int(path.name.removeprefix(f"{uuid}.")) for path in there), default=0)
            there = (*there, self.of(uuid).rename(kept / f"{uuid}.{number}"))
        return tuple(str(path) for path in there)

    def delete_kept(self, uuid: str, where: Sequence[str]) -> None:
        """Delete what was moved aside; gone already is fine.

        :raises DriverError: one of them is not what :meth:`keep` gave for this instance; nothing was deleted.
        """
        paths = [Path(text) for text in where]
        for path in paths:
            if path.parent != self.instances_path / KEPT or not _is_kept(uuid, path.name):
                raise DriverError(
                    f"did not delete {path}: kept disks of {uuid} are {self.instances_path / KEPT}/{uuid}.N; "
                    "if libvirt.instances_path has changed, delete them by hand"
                )
        for path in paths:
            if path.is_dir():
                shutil.rmtree(path)

    def take_back(self, uuid: str) -> bool:
        """Give an instance back the folder that it had before a resize; tell whether there was one.

        What the resize made meanwhile is deleted, as in Nova.
        """
        before = self.before_resize(uuid)
        if not before.is_dir():
            return False
        if self.of(uuid).is_dir():
            doomed = self._named(uuid, "_del")
            shutil.rmtree(doomed, ignore_errors=True)
            self.of(uuid).rename(doomed)
            before.rename(self.of(uuid))
            shutil.rmtree(doomed)
        else:
            before.rename(self.of(uuid))
        return True

    def definition(self, uuid: str) -> str | None:
        """Read the definition that older Novas keep beside the disks; None: there is none."""
        try:
            return (self.of(uuid) / DEFINITION).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None

    def mark(self, uuid: str) -> SharedStorageProbe | None:
        """Leave a mark in the folder of an instance; None: it has none here."""
        try:
            descriptor, path = tempfile.mkstemp(dir=self.of(uuid), prefix="bringup-probe-")
        except FileNotFoundError:
            return None
        os.close(descriptor)
        return SharedStorageProbe(uuid, path)

    def unmark(self, probe: SharedStorageProbe) -> None:
        """Take a mark away; gone already is fine."""
        Path(probe.path).unlink(missing_ok=True)

    def is_ours(self, path: Path) -> bool:
        """Tell whether a file is below ``instances_path``, whatever links say."""
        return path.resolve().is_relative_to(self.instances_path.resolve())

    def local_gb(self) -> int:
        """Tell how large the file system is that ``instances_path`` is on (GiB)."""
        found = os.statvfs(self.instances_path)
        return found.f_frsize * found.f_blocks // 1024**3

    def _kept(self, uuid: str) -> tuple[Path, ...]:
        _checked(uuid)
        try:
            paths = list((self.instances_path / KEPT).iterdir())
        except FileNotFoundError:
            return ()
        return tuple(sorted(path for path in paths if _is_kept(uuid, path.name)))


def _is_kept(uuid: str, name: str) -> bool:
    """Tell whether a name is one that :meth:`Disks.keep` gives."""
    return re.fullmatch(rf"{re.escape(_checked(uuid))}\.[1-9][0-9]{{0,8}}", name) is not None


def _checked(uuid: str) -> InstanceUuid:
    try:
        found = canonical_uuid(uuid)
    except ValueError as error:
        raise DriverError(f"did not touch any disk: {error}") from None
    if found != uuid:
        raise DriverError(f"did not touch any disk: {uuid} is not how libvirt and Nova write a UUID")
    return found
