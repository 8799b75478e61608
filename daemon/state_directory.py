"""The directory where the daemon keeps what must survive it, and the lock that makes it the only one."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bringup.daemon.errors import SettingsError, Temporary
from bringup.daemon.scheduler.durable import write_durably

LOCK = "lock"
HOST = "host"
IF_OURS = "if the directory is this host's, write host.name into it"


def prepare(path: Path) -> None:
    """Make the state directory, or make sure that it can be used.

    :raises SettingsError: it cannot be.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe = path / f".writable-{os.getpid()}"
        probe.touch(mode=0o600)
        probe.unlink()
    except OSError as error:
        problem = (
            f"host.state_directory: {path} cannot be used ({error.strerror}); name a directory that may be written to"
        )
        raise SettingsError([problem]) from error


def remember_host(path: Path, name: str) -> None:
    """Remember whose state directory this is, the first time; afterwards, make sure that it still is.

    :raises SettingsError: it is another host's.
    """
    if not remembers_host(path, name):
        # A host comes back on a full disk too: what cannot be remembered now is remembered next time.
        with suppress(OSError):
            write_durably(path / HOST, f"{name}\n".encode(), draft=path / f".{HOST}")


def remembers_host(path: Path, name: str) -> bool:
    """Tell whether a state directory knows that it is this host's; False where it knows of none.

    A renamed host once made Nova delete every guest (bug 1419785); a wrong name would start those of another host.

    :raises SettingsError: it is another host's.
    """
    file = path / HOST
    try:
        remembered = file.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return False
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError([f"host.state_directory: {file} cannot be read; {IF_OURS}"]) from error
    if not remembered:
        raise SettingsError([f"host.state_directory: {file} is empty; {IF_OURS}"])
    if remembered == name:
        return True
    raise SettingsError(
        [
            (
                f"host.name: {name!r}, but {path} is the state directory of {remembered!r}; set host.name or "
                f"host.state_directory right; if the host was renamed, write its new name into {file}"
            )
        ]
    )


def is_private(path: Path) -> bool:
    """Tell whether nobody but its owner can look into a directory."""
    return not path.stat().st_mode & 0o077


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of this host for as long as the block lasts.

    :raises Temporary: another process holds it.
    :raises SettingsError: the lock file cannot be written.
    """
    try:
        descriptor = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SettingsError([f"host.state_directory: {path / LOCK} cannot be opened ({error.strerror})"]) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 20, 0).decode(errors="replace").strip() or "unknown"
            raise Temporary(
                f"another bringup (pid {holder}) runs for this host: it holds {path / LOCK}; "
                "stop it, or wait until it ends"
            ) from None
        # The pid is for messages only: a host comes back on a full disk too.
        with suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)
