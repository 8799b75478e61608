"""The local disks of instances: folders below ``instances_path``, named and treated as by Nova.  All of it blocks.

``UUID`` is an instance's; ``UUID_resize`` what a resize or cold migration keeps of it until it is confirmed;
``UUID_del`` what is being deleted; below ``bringup-kept`` is what was moved aside.  A disk anywhere else is never
deleted.

Other writers (user nova, other hosts of a shared folder) may create a link anywhere: none is followed.
"""

import errno
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bringup.drivers.base import DriverError, SharedStorageProbe
from bringup.drivers.identifiers import InstanceUuid, canonical_uuid

KEPT = "bringup-kept"
SNAPSHOTS = "snapshots"
DEFINITION = "libvirt.xml"
LONGEST_DEFINITION = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Disks:
    """The folders of this host."""

    instances_path: Path

    def folder_of(self, uuid: str) -> Path:
        """Return the path of the folder of an instance, which need not exist.

        :raises DriverError: it is no canonical UUID: the path could lead anywhere.
        """
        return self._named(uuid)

    def folder_before_resize(self, uuid: str) -> Path:
        """Return the path of the folder that a resize keeps, which need not exist; raises as :meth:`folder_of`."""
        return self._named(uuid, "_resize")

    def _named(self, uuid: str, end: str = "") -> Path:
        return self.instances_path / f"{_canonical(uuid)}{end}"

    def delete(self, uuid: str) -> None:
        """Delete the folders of an instance; each is first renamed to ``_del`` as by Nova, so none is used half."""
        doomed = self._named(uuid, "_del")
        for folder in (doomed, self.folder_of(uuid), self.folder_before_resize(uuid)):
            if folder != doomed and folder.is_dir():
                _remove(doomed)
                folder.rename(doomed)
            _remove(doomed)

    def keep(self, uuid: str) -> tuple[str, ...]:
        """Move the folder of an instance aside; return the paths of all that was moved aside, now or before."""
        kept = self.instances_path / KEPT
        there = self._kept(uuid)
        if self.folder_of(uuid).is_dir():
            kept.mkdir(mode=0o700, exist_ok=True)
            self._refuse_link(kept)
            number = 1 + max((int(path.name.removeprefix(f"{uuid}.")) for path in there), default=0)
            there = (*there, self.folder_of(uuid).rename(kept / f"{uuid}.{number}"))
        return tuple(str(path) for path in there)

    def delete_kept(self, uuid: str, where: Sequence[str]) -> None:
        """Delete what was moved aside; may be repeated.

        :raises DriverError: :meth:`keep` did not return one of them for this instance; nothing was deleted.
        """
        paths = [Path(text) for text in where]
        for path in paths:
            if path.parent != self.instances_path / KEPT or not _is_kept(uuid, path.name):
                raise DriverError(
                    f"did not delete {path}: kept disks of {uuid} are {self.instances_path / KEPT}/{uuid}.N; "
                    "if libvirt.instances_path has changed, delete them by hand"
                )
        self._refuse_link(self.instances_path / KEPT)
        for path in paths:
            _remove(path)

    def restore_before_resize(self, uuid: str) -> bool:
        """Restore the folder that an instance had before a resize; return whether there was one.

        What the resize created meanwhile is deleted, as in Nova.
        """
        before = self.folder_before_resize(uuid)
        if not before.is_dir():
            return False
        if self.folder_of(uuid).is_dir():
            doomed = self._named(uuid, "_del")
            _remove(doomed)
            self.folder_of(uuid).rename(doomed)
            before.rename(self.folder_of(uuid))
            _remove(doomed)
        else:
            before.rename(self.folder_of(uuid))
        return True

    def definition(self, uuid: str) -> str | None:
        """Read the definition that older Novas keep beside the disks; None: there is none.

        :raises DriverError: it is no plain file of a reasonable size.
        """
        path = self.folder_of(uuid) / DEFINITION
        try:
            with self._opened(uuid) as folder:
                # An open would wait for the writer of a FIFO.
                flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
                with _closing(os.open(DEFINITION, flags, dir_fd=folder)) as found:
                    if not stat.S_ISREG(os.fstat(found).st_mode):
                        raise DriverError(f"did not read {path}: it is no plain file")
                    content = os.read(found, LONGEST_DEFINITION + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DriverError(f"did not read {path}: {_reason(error)}") from None
        if len(content) > LONGEST_DEFINITION:
            raise DriverError(f"did not read {path}: it is longer than {LONGEST_DEFINITION} bytes")
        return content.decode(errors="replace")

    def mark(self, uuid: str) -> SharedStorageProbe | None:
        """Create a mark in the folder of an instance; None: it has none here.

        :raises DriverError: its folder is a link.
        """
        name = f"bringup-probe-{secrets.token_hex(8)}"
        try:
            with self._opened(uuid) as folder:
                os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600, dir_fd=folder))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DriverError(f"did not mark {self.folder_of(uuid)}: {_reason(error)}") from None
        return SharedStorageProbe(uuid, str(self.folder_of(uuid) / name))

    def unmark(self, probe: SharedStorageProbe) -> None:
        """Delete a mark; may be repeated."""
        Path(probe.path).unlink(missing_ok=True)

    def remove_copy(self, uuid: str, path: Path) -> None:
        """Delete what a snapshot was writing, if :meth:`contains_file_of` allows it; may be repeated."""
        if self.contains_file_of(uuid, path):
            path.unlink(missing_ok=True)

    def contains_file_of(self, uuid: str, path: Path) -> bool:
        """Check whether a file is in the folder of an instance, or where Nova creates snapshots, links resolved."""
        try:
            root, found = self.instances_path.resolve(), path.resolve()
        except RuntimeError:  # a link that leads to itself
            return False
        return any(found.is_relative_to(root / name) for name in (_canonical(uuid), SNAPSHOTS))

    @contextmanager
    def _opened(self, uuid: str) -> Iterator[int]:
        """Open the folder of an instance, which must not be a link."""
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        with _closing(os.open(self.folder_of(uuid), flags)) as folder:
            yield folder

    def _refuse_link(self, path: Path) -> None:
        if path.is_symlink():
            raise DriverError(f"did not touch {path}: it is a link; make it a folder of {self.instances_path}")

    def local_gb(self) -> int:
        """Return the size of the file system that ``instances_path`` is on, in GiB."""
        found = os.statvfs(self.instances_path)
        return found.f_frsize * found.f_blocks // 1024**3

    def _kept(self, uuid: str) -> tuple[Path, ...]:
        _canonical(uuid)
        try:
            paths = list((self.instances_path / KEPT).iterdir())
        except FileNotFoundError:
            return ()
        return tuple(sorted(path for path in paths if _is_kept(uuid, path.name)))


@contextmanager
def _closing(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    """Delete a folder with its content; of anything else (a link, a FIFO, a file) the name alone.

    :raises DriverError: its folders are nested too deeply.
    """
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    try:
        shutil.rmtree(path)
    except RecursionError:
        raise DriverError(f"did not delete {path}: its folders are nested too deeply; delete it by hand") from None


def _reason(error: OSError) -> str:
    # O_NOFOLLOW: a link instead of a folder or a file.
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        return "it is a link, or no folder"
    return (error.strerror or type(error).__name__).lower()


def _is_kept(uuid: str, name: str) -> bool:
    """Check whether a name is one that :meth:`Disks.keep` creates."""
    return re.fullmatch(rf"{re.escape(_canonical(uuid))}\.[1-9][0-9]{{0,8}}", name) is not None


def _canonical(uuid: str) -> InstanceUuid:
    try:
        found = canonical_uuid(uuid)
    except ValueError as error:
        raise DriverError(f"did not touch any disk: {error}") from None
    if found != uuid:
        raise DriverError(f"did not touch any disk: {uuid} is not how libvirt and Nova write a UUID")
    return found
