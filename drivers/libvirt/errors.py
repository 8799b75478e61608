"""What an error of libvirt means, in one table.

::

    DriverError
      InstanceNotFound           VIR_ERR_NO_DOMAIN
      ConnectionLost             the daemon went away: what was under way is looked at again
        NotConnected             there is none yet, or not yet again
        HypervisorUnavailable    it did not come back in time
      CallTimedOut               no answer in time: what became of it is not known
        NotSent                  it was not sent at all: no connection was free
      NotInThatState             VIR_ERR_OPERATION_INVALID: the guest is not running, is running already
      GuestBusy                  VIR_ERR_OPERATION_TIMEOUT: something else works on it
      DefinitionGone             (of drivers.needs) there is no guest, and a verb would have started it
      NeedNotMet                 (of drivers.needs) a start was refused because something of this host is missing
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
    """Libvirt has not answered in time; the call may still have its effect."""


class NotSent(CallTimedOut, NotBegun):
    """It was not sent: what holds the connections hangs."""


class NotInThatState(DriverError):
    """The guest is not in a state in which this can be done."""


class GuestBusy(DriverError):
    """Something else works on the guest."""


class DiskFull(DriverError):
    """A file that libvirt or QEMU writes found no room; nothing of the guest is lost by that."""

    def __init__(self, problem: str) -> None:
        """Say why ``problem`` came: not each text of libvirt does."""
        super().__init__(f"{problem}: a disk that libvirt writes to is full or failing")


class NotAllowed(NeedNotMet):
    """Libvirt's access control refused a call, or could not be asked: nothing is wrong with the guest."""

    def __init__(self, problem: str) -> None:
        """Say who can allow it."""
        why = (
            "libvirt's access control (access_drivers of its daemon) does not allow it, or polkit does not answer: see "
            '"What bringup may do in libvirt" in docs/libvirt.md'
        )
        need = Need(kind=NeedKind.MACHINE, name="permission of libvirt", state=NeedState.ABSENT, why=why)
        super().__init__(f"{problem}: {why}", [need])


# By the names of libvirt's codes, for an older binding has not all of them.
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
# As Nova has it: these two mean a broken connection where the remote driver of libvirt itself says them.
BROKEN: Final = ("VIR_ERR_SYSTEM_ERROR", "VIR_ERR_INTERNAL_ERROR")
REMOTE: Final = ("VIR_FROM_REMOTE", "VIR_FROM_RPC")
FULL: Final = (errno.ENOSPC, errno.EDQUOT)
# What has no number: QEMU's errors are text, in C's locale; of its own key for a guest's secrets, the first file of a
# start, libvirt says nothing else (9.0: the number is in its log alone).
FULL_IN_WORDS: Final = ("No space left on device", "Disk quota exceeded", "failed to write master key file")


NOT_ACTIVE: Final = re.compile(r"(?:network|pool) .*is not active")


def meaning_of(error: LibvirtError, libvirt: Any) -> Callable[[str], Exception]:
    """Give the class of the error that ours shall be."""
    code, domain = error.get_error_code(), error.get_error_domain()
    if code in _numbers(libvirt, BROKEN) and domain in _numbers(libvirt, REMOTE):
        return ConnectionLost
    if is_of_a_full_disk(error, libvirt):
        return DiskFull
    if NOT_ACTIVE.search(error.get_error_message() or ""):
        # Of what a guest is attached to, not of the guest.
        return DriverError
    for name, kind in CODES.items():
        if code == getattr(libvirt, name, None):
            return kind
    return DriverError


def is_of_a_full_disk(error: LibvirtError, libvirt: Any) -> bool:
    """Tell whether there was no room for a file."""
    if error.get_error_code() == libvirt.VIR_ERR_SYSTEM_ERROR and error.get_int1() in FULL:
        return True
    message = error.get_error_message() or ""
    return any(words in message for words in FULL_IN_WORDS)


def is_slow_to_die(error: LibvirtError, libvirt: Any) -> bool:
    """Tell whether the kernel still has the process that was killed: it waits for storage (Nova asks again then)."""
    return error.get_error_code() == libvirt.VIR_ERR_SYSTEM_ERROR and error.get_int1() == errno.EBUSY


def _numbers(libvirt: Any, names: tuple[str, ...]) -> list[int]:
    return [getattr(libvirt, name) for name in names]
