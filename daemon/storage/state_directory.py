"""Directory of the daemon's state, and the lock that admits one daemon per host.

A directory that cannot be written now (its file system is read-only, full or failing) does not keep the host down: the
lock needs no file.  It is taken on the directory, and on the file ``lock`` in it, which has the pid of the holder.  If
the file system keeps no locks at all (NFS without its lock service), an abstract UNIX socket that is named after the
directory replaces it: the kernel gives it to one process at a time, for its lifetime.
"""

import errno
import fcntl
import hashlib
import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from bringup.daemon.errors import SettingsError, Temporary
from bringup.daemon.logs import get_logger
from bringup.drivers.files import read_file

log = get_logger()

LOCK: Final = "lock"
NOT_NOW: Final = (errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO)
"""Nothing can be written at the moment; the directory is the right one nevertheless."""
OPERATOR_ERRORS: Final = (
    errno.EACCES,
    errno.EPERM,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.EINVAL,
)
"""Errors that an operator must correct (path, owner).  All others may pass: NFS or FUSE not available yet, load."""
SHORT: Final = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)
"""The host, or this process, has no resources left at the moment."""
NO_LOCKS: Final = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EBADF, errno.EIO, errno.EROFS)
"""The file system keeps no locks, or none for a file that cannot be opened for writing."""
WHEN_IT_IS: Final = "start again when its file system answers and this host has memory and files left"
"""End of a message about a directory that cannot be reached now."""
_CREDENTIALS: Final = struct.Struct("iII")
_CONNECT_S: Final = 1.0


def prepare(path: Path) -> str | None:
    """Create the state directory; return why nothing can be written there now, None if it can.

    :raises SettingsError: it cannot be used.
    :raises Temporary: it is not there, and cannot be made now; or its file system does not answer now.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        if error.errno not in OPERATOR_ERRORS:
            raise _unreachable(path, "made", error) from error
        raise _unusable(path, error) from error
    try:
        probe = path / f".writable-{os.getpid()}"
        probe.touch(mode=0o600)
        probe.unlink()
    except OSError as error:
        if error.errno in NOT_NOW:
            return error.strerror
        if error.errno not in OPERATOR_ERRORS:
            raise _unreachable(path, "written to", error) from error
        raise _unusable(path, error) from error
    return None


def _unreachable(path: Path, how: str, error: OSError) -> Temporary:
    return Temporary(f"host.state_directory: {path} cannot be {how} ({error.strerror}); {WHEN_IT_IS}")


def _unusable(path: Path, error: OSError) -> SettingsError:
    problem = f"host.state_directory: {path} cannot be used ({error.strerror}); name a directory that may be written to"
    return SettingsError([problem])


def is_private(path: Path) -> bool:
    """Check whether only its owner can read a directory."""
    return not path.stat().st_mode & 0o077


def without_locks(directory: Path) -> str | None:
    """Return why SQLite cannot lock files in a directory; None if it can, or if that is unknown.

    Tried on a file of its own: closing one of SQLite's would drop the locks that this process has on it.
    """
    probe = directory / f".locks-{os.getpid()}-{threading.get_ident()}"
    try:
        descriptor = os.open(probe, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError:
        return None
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.strerror if error.errno in {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS} else None
    finally:
        os.close(descriptor)
        with suppress(OSError):
            probe.unlink()
    return None


def is_read_only(path: Path) -> bool:
    """Check whether a file or directory is on a read-only file system."""
    with suppress(OSError):
        return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    return False


@contextmanager
def hold_lock(path: Path) -> Iterator[None]:
    """Hold the lock of this host for as long as the block lasts.

    :raises Temporary: another process holds it, or it cannot be taken now.
    :raises SettingsError: it cannot be taken.
    """
    with ExitStack() as held:
        # Both: on a full disk the file may be missing, and a later process may create it.
        taken = [_taken(held, path, path, os.O_RDONLY | os.O_DIRECTORY), _taken(held, path, path / LOCK, os.O_RDWR)]
        if not any(taken):
            log.warning("state_directory.no_locks", path=str(path))
            _take_socket(held, path)
        yield


def _taken(held: ExitStack, directory: Path, path: Path, flags: int) -> bool:
    """Lock a directory or the file in it; return False if it cannot be locked at all."""
    is_file = path != directory
    try:
        descriptor = os.open(path, flags | os.O_CLOEXEC | (os.O_CREAT if is_file else 0), 0o600)
    except OSError as error:
        if error.errno not in (*NOT_NOW, *OPERATOR_ERRORS):
            raise _unreachable(path, "opened", error) from error
        if is_file and error.errno not in NOT_NOW:
            raise SettingsError([f"host.state_directory: {path} cannot be opened ({error.strerror})"]) from error
        return False
    held.callback(os.close, descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise _held(directory, _pid_in(directory)) from None
    except OSError as error:
        if error.errno in NO_LOCKS:
            return False
        if error.errno not in OPERATOR_ERRORS:
            raise _unreachable(path, "locked", error) from error
        raise SettingsError([f"host.state_directory: {path} cannot be locked ({error.strerror})"]) from error
    if is_file:
        # The pid is for messages only: a host comes back on a full disk too.
        with suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return True


def _pid_in(directory: Path) -> str:
    with suppress(OSError):
        return read_file(directory / LOCK)[:20].decode(errors="replace").strip()
    return ""


def _held(directory: Path, pid: str) -> Temporary:
    return Temporary(
        f"another bringup (pid {pid or 'unknown'}) runs for this host: it holds {directory / LOCK}; "
        "stop it, or wait until it ends"
    )


def _take_socket(held: ExitStack, directory: Path) -> None:
    try:
        found = directory.stat()
    except OSError as error:
        raise _unreachable(directory, "checked", error) from error
    name = hashlib.sha256(f"{found.st_dev}:{found.st_ino}".encode()).hexdigest()
    address = f"\0bringup-{name}"
    try:
        own = held.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        own.bind(address)
    except OSError as error:
        if error.errno in SHORT:
            raise _unreachable(directory, "locked", error) from error
        if error.errno != errno.EADDRINUSE:
            problem = (
                f"host.state_directory: {directory} is on a file system that keeps no locks, and there is no other "
                f"lock ({error.strerror}); name a directory on a file system of this host"
            )
            raise SettingsError([problem]) from error
        raise _held_behind(directory, address) from None
    own.listen(1)


def _held_behind(directory: Path, address: str) -> Temporary:
    pid, user = _process_behind(address)
    if user in {None, 0, os.geteuid()}:
        return _held(directory, pid)
    return Temporary(
        f"a process of another user (pid {pid}, uid {user}), which is no bringup of this host, holds the lock that "
        f"stands for {directory}, whose file system keeps no locks; end that process, or name a directory on a file "
        "system of this host in host.state_directory"
    )


def _process_behind(address: str) -> tuple[str, int | None]:
    """Return the pid and the user of the process that has an address; empty if none listens."""
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(_CONNECT_S)
        client.connect(address)
        pid, user, _ = _CREDENTIALS.unpack(client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
        return str(pid), user
    return "", None
