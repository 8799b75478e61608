"""A secret text that survives a restart of the service and not the boot: a file in systemd's runtime directory.

The unit has ``RuntimeDirectory=``, a folder in /run that is in memory, and ``RuntimeDirectoryPreserve=restart``.  Where
nothing passes ``RUNTIME_DIRECTORY``, no text is kept: a secret is never written to a disk.
"""

import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bringup.daemon.logs import get_logger
from bringup.daemon.storage.files import make_private_directory, write_durably
from bringup.drivers.files import read_file

log = get_logger()

VARIABLE: Final = "RUNTIME_DIRECTORY"
LARGEST: Final = 1 << 16
OTHERS: Final = 0o077


def runtime_directory(environment: Mapping[str, str] = os.environ) -> Path | None:
    """Return the first runtime directory of the unit; None: there is none."""
    first = environment.get(VARIABLE, "").partition(":")[0]
    return Path(first) if first.startswith("/") else None


@dataclass(slots=True)
class RuntimeFile:
    """A file in a private folder (0600 in 0700)."""

    path: Path
    fails: bool = False
    """Whether the last write failed; logged once."""

    def read(self) -> str | None:
        """Return the text; None where there is none.  A file that others could write or read is removed."""
        try:
            return _read_own(self.path)
        except FileNotFoundError:
            return None
        except (OSError, Foreign) as error:
            log.warning("runtime_file.ignored", path=str(self.path), reason=_reason(error))
            self.remove()
            return None

    def write(self, text: str) -> None:
        """Replace the text; where it cannot be written, the next process has none."""
        try:
            make_private_directory(self.path.parent)
            _check_folder(self.path.parent)
            write_durably(self.path, text.encode(), draft=self.path.with_name(f".{self.path.name}"))
        except (OSError, Foreign) as error:
            if not self.fails:
                log.warning("runtime_file.not_written", path=str(self.path), reason=_reason(error))
            self.fails = True
            self.remove()
        else:
            self.fails = False

    def remove(self) -> None:
        """Remove the file, if it is there."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)


class Foreign(Exception):
    """A file or a folder that is not this user's alone, or no such file; the message has the reason."""


def _reason(error: OSError | Foreign) -> str:
    return str(error) if isinstance(error, Foreign) else (error.strerror or type(error).__name__).lower()


def _check_folder(folder: Path) -> None:
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & OTHERS:
        raise Foreign(f"{folder} is not a folder of this user alone (mode 0700)")


def _read_own(path: Path) -> str:
    """Read a file that only this user could write and read.

    :raises OSError: it cannot be read.
    :raises Foreign: it is another one.
    """
    _check_folder(path.parent)
    # Nobody else can change what is in that folder meanwhile.
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode):
        raise Foreign("it is a link" if stat.S_ISLNK(found.st_mode) else "it is no file")
    if found.st_uid != os.geteuid() or found.st_mode & OTHERS or found.st_nlink != 1:
        raise Foreign("it is not a file of this user alone (mode 0600, one name)")
    if found.st_size > LARGEST:
        raise Foreign(f"it is larger than {LARGEST} bytes")
    # What is no text is no JSON: the caller drops it.
    return read_file(path).decode("ascii", "replace")
