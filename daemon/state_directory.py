"""The directory where the daemon keeps what must survive it, and the lock that makes it the only one."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bringup.daemon.errors import SettingsError, Temporary

LOCK = "lock"


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
