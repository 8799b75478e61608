"""Meaning of libvirt's errors, in one table.

::

    DriverError
      InstanceNotFound           VIR_ERR_NO_DOMAIN
      ConnectionLost             the daemon is gone: what was under way is checked again
        NotConnected             there is none yet, or not again yet
        HypervisorUnavailable    it did not come back in time
      CallTimedOut               no answer in time: the effect is unknown
        NotSent                  it was not sent at all: no connection was free
      NotInThatState             VIR_ERR_OPERATION_INVALID: the guest is not running, is running already
      GuestBusy                  VIR_ERR_OPERATION_TIMEOUT: something else works on it
      DefinitionGone             (of drivers.needs) there is no guest, and a verb would have started it
      NeedNotMet                 (of drivers.needs) a start was refused since this host lacks something
      DiskFull                   whatever its code: no space left where libvirt or QEMU writes
      NotAllowed                 VIR_ERR_ACCESS_DENIED: libvirt's access control; nothing is wrong with the guest
      AutostartConflict                 (of drivers.base)
    NotImplementedError          VIR_ERR_NO_SUPPORT
"""

import errno
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from bringup.drivers.base import DriverError, InstanceNotFound, NotBegun
from bringup.drivers.needs import Need, NeedKind, NeedNotMet, NeedState


class LibvirtError(Protocol):
    """``libvirt.libvirtError``."""

    def get_error_code(self) -> int | None: ...  # noqa: D102 - libvirt's own
    def get_error_domain(self) -> int | None: ...  # noqa: D102
    def get_error_message(self) -> str | None: ...  # noqa: D102
    def get_int1(self) -> int | None: ...  # noqa: D102


class ConnectionLost(DriverError):
    """The connection to libvirt broke."""


class NotConnected(ConnectionLost):
    """No connection to libvirt could be made."""


class HypervisorUnavailable(ConnectionLost):
    """Libvirt did not come back in time."""


class CallTimedOut(DriverError):
    """Libvirt has not answered in time; the call may still take effect."""


class NotSent(CallTimedOut, NotBegun):
    """It was not sent: the calls that use the connections hang."""


class NotInThatState(DriverError):
    """The guest is not in a state in which this can be done."""


class GuestBusy(DriverError):
    """Another operation of libvirt works on the guest."""


class DiskFull(DriverError):
    """No space left for a file that libvirt or QEMU writes; nothing of the guest is lost."""

    def __init__(self, problem: str) -> None:
        """Add the cause to ``problem``: not each message of libvirt contains it."""
        super().__init__(f"{problem}: a disk that libvirt writes to is full or failing")


class NotAllowed(NeedNotMet):
    """Libvirt's access control refused a call, or does not answer: it is no problem of the guest."""

    def __init__(self, problem: str) -> None:
        """Add how it can be permitted."""
        why = (
            "libvirt's access control (access_drivers of its daemon) does not allow it, or polkit does not answer: see "
            '"What bringup may do in libvirt" in docs/libvirt.md'
        )
        need = Need(kind=NeedKind.MACHINE, name="permission of libvirt", state=NeedState.ABSENT, why=why)
        super().__init__(f"{problem}: {why}", [need])


# By the names of libvirt's codes, since an older binding lacks some of them.
CODES: Final[Mapping[str, Callable[[str], Exception]]] = {
    "VIR_ERR_NO_DOMAIN": InstanceNotFound,
    "VIR_ERR_ACCESS_DENIED": NotAllowed,
    "VIR_ERR_NO_SUPPORT": NotImplementedError,
    "VIR_ERR_NO_CONNECT": ConnectionLost,
    "VIR_ERR_INVALID_CONN": ConnectionLost,
    "VIR_ERR_RPC": ConnectionLost,
    "VIR_ERR_OPERATION_INVALID": NotInThatState,
    "VIR_ERR_OPERATION_TIMEOUT": GuestBusy,
}
# As in Nova: these two mean a broken connection if libvirt's remote driver itself raises them.
BROKEN: Final = ("VIR_ERR_SYSTEM_ERROR", "VIR_ERR_INTERNAL_ERROR")
REMOTE: Final = ("VIR_FROM_REMOTE", "VIR_FROM_RPC")
FULL: Final = (errno.ENOSPC, errno.EDQUOT)
# Errors without a number: QEMU's are text, in C's locale; for its own key for a guest's secrets, the first file of a
# start, libvirt has no other message (9.0: the number is in its log only).
FULL_IN_WORDS: Final = ("No space left on device", "Disk quota exceeded", "failed to write master key file")


NOT_ACTIVE: Final = re.compile(r"(?:network|pool) .*is not active")


def meaning_of(error: LibvirtError, libvirt: Any) -> Callable[[str], Exception]:
    """Return the class of our error for an error of libvirt."""
    code, domain = error.get_error_code(), error.get_error_domain()
    if code in _numbers(libvirt, BROKEN) and domain in _numbers(libvirt, REMOTE):
        return ConnectionLost
    if is_of_a_full_disk(error, libvirt):
        return DiskFull
    if NOT_ACTIVE.search(error.get_error_message() or ""):
        # A problem of what a guest is attached to, not of the guest.
        return DriverError
    for name, kind in CODES.items():
        if code == getattr(libvirt, name, None):
            return kind
    return DriverError


def is_of_a_full_disk(error: LibvirtError, libvirt: Any) -> bool:
    """Check whether there was no space for a file."""
    if error.get_error_code() == libvirt.VIR_ERR_SYSTEM_ERROR and error.get_int1() in FULL:
        return True
    message = error.get_error_message() or ""
    return any(words in message for words in FULL_IN_WORDS)


def is_kill_pending(error: LibvirtError, libvirt: Any) -> bool:
    """Check whether the killed process still exists since it waits for storage (Nova kills it again then)."""
    return error.get_error_code() == libvirt.VIR_ERR_SYSTEM_ERROR and error.get_int1() == errno.EBUSY


def _numbers(libvirt: Any, names: tuple[str, ...]) -> list[int]:
    return [getattr(libvirt, name) for name in names]
