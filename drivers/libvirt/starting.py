"""One start of a guest: what is called, and what it means that libvirt refused, or said nothing of it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from bringup.drivers.base import DriverError
from bringup.drivers.libvirt.binding import Domain
from bringup.drivers.libvirt.errors import CallTimedOut, ConnectionLost, DiskFull, GuestBusy, NotSent
from bringup.drivers.libvirt.needed.rules.missing import missing_in
from bringup.drivers.libvirt.needed.rules.verdicts import need
from bringup.drivers.needs import MetBy, Need, NeedKind, NeedNotMet

OF_THE_IMAGE: Final = "load of migration failed"
AFRESH: Final = "its managed save image was empty or cut short, libvirt threw it away, and the guest booted afresh"

UNSETTLED: Final[tuple[tuple[type[DriverError], NeedKind, str, str], ...]] = (
    (NotSent, NeedKind.MACHINE, "free connection to libvirt", "what holds the connections hangs"),
    (CallTimedOut, NeedKind.MACHINE, "answer of libvirt", "it gave none in time; the guest may still start"),
    (ConnectionLost, NeedKind.MACHINE, "libvirt", "it went away and is not back yet"),
    (GuestBusy, NeedKind.MACHINE, "guest that nothing else works on", "libvirt still works on it"),
    (DiskFull, NeedKind.DISK, "room where libvirt and QEMU write", "that disk is full or failing"),
)
"""What says nothing against a guest: it may have been started, or can be as soon as the host has recovered."""


@asynccontextmanager
async def deferring() -> AsyncIterator[None]:
    """Turn a failure that says nothing of the guest into a need of its host.

    :raises NeedNotMet: what becomes of the start is not known, or the host could not do it now.
    """
    try:
        yield
    except (CallTimedOut, ConnectionLost, GuestBusy, DiskFull) as error:
        raise NeedNotMet(str(error), [_unsettled(error)]) from error.__cause__


def _unsettled(error: DriverError) -> Need:
    return next(need(kind, name, unverified=why) for cls, kind, name, why in UNSETTLED if isinstance(error, cls))


class Starting:
    """A call that starts a guest."""

    def __init__(self, libvirt: Any, *, anew: bool) -> None:
        """``anew``: a managed save image is thrown away."""
        self._libvirt = libvirt
        self._anew = anew
        self._saved = False
        self._name = ""
        self.lost_memory = False
        """It had a managed save image, and has not gone on from it."""

    def act(self, domain: Domain) -> None:
        """Start; blocks."""
        self._name = domain.name()
        self._saved = bool(domain.hasManagedSaveImage())
        if self._anew and self._saved:
            domain.createWithFlags(self._libvirt.VIR_DOMAIN_START_FORCE_BOOT)
            return
        domain.create()
        if self._saved:
            state, reason = domain.state()[:2]
            booted = self._libvirt.VIR_DOMAIN_RUNNING_BOOTED
            self.lost_memory = (state, reason) == (self._libvirt.VIR_DOMAIN_RUNNING, booted)

    def meaning_of(self, error: DriverError) -> DriverError:
        """Give what is to be raised for a start that was refused."""
        cause = error.__cause__
        if not isinstance(cause, self._libvirt.libvirtError):
            return error
        goes_on = self._saved and not self._anew
        # QEMU ends what it says of an image that is cut short with "Input/output error", as of a disk that fails.
        missing = None if goes_on and OF_THE_IMAGE in str(cause) else missing_in(cause, self._libvirt)
        if missing is not None:
            return NeedNotMet(f"{error}: something of this host is missing", [missing])
        if goes_on:
            remove = f"virsh managedsave-remove {self._name}"
            why = f"libvirt cannot go on from it; {remove} throws it away, and the guest boots afresh"
            image = need(NeedKind.MEMORY, f"managed save image of {self._name}", met_by=MetBy.PERSON, unverified=why)
            return NeedNotMet(
                f"{error} from its managed save image: mend that, or drop the saved memory with {remove}", [image]
            )
        return error
