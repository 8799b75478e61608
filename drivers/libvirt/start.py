"""One start of a guest: the call, and what it means that libvirt refuses it or does not answer.

A check before a start and the start are two moments: what disappears between them must not be reported as the guest's
fault.
"""

import errno
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from bringup.drivers.base import DriverError
from bringup.drivers.libvirt.binding import Domain
from bringup.drivers.libvirt.errors import CallTimedOut, ConnectionLost, DiskFull, GuestBusy, LibvirtError, NotSent
from bringup.drivers.libvirt.guest_needs.rules.verdicts import need
from bringup.drivers.needs import MetBy, Need, NeedKind, NeedNotMet

DISK, SHARE, NETWORK, HOST_DEVICE = NeedKind.DISK, NeedKind.SHARE, NeedKind.NETWORK, NeedKind.HOST_DEVICE
SECRET, FIRMWARE, MEMORY, MACHINE = NeedKind.SECRET, NeedKind.FIRMWARE, NeedKind.MEMORY, NeedKind.MACHINE
HOST, NOVA, PERSON = MetBy.HOST, MetBy.NOVA, MetBy.PERSON

CODES: Final = {
    "VIR_ERR_NO_SECRET": (SECRET, PERSON),
    "VIR_ERR_NO_NETWORK": (NETWORK, HOST),
    "VIR_ERR_NO_INTERFACE": (NETWORK, HOST),
    "VIR_ERR_NO_STORAGE_POOL": (DISK, HOST),
    "VIR_ERR_NO_STORAGE_VOL": (DISK, PERSON),
    "VIR_ERR_NO_NODE_DEVICE": (HOST_DEVICE, HOST),
}
ERRNOS: Final = (
    errno.ENOENT,
    errno.ENODEV,
    errno.ENXIO,
    errno.ENOTCONN,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.ECONNREFUSED,
    errno.EHOSTUNREACH,
    errno.EHOSTDOWN,
    errno.ENETUNREACH,
    errno.ECONNRESET,
    # A path, a session or a disk that is failing: it may come back, and its guest is not at fault.
    errno.EIO,
    errno.EREMOTEIO,
    errno.EAGAIN,
    errno.EBUSY,
)
# The first match counts; a group is the name of what is missing.
WORDS: Final = tuple(
    (re.compile(pattern, re.IGNORECASE), kind, met_by)
    for pattern, kind, met_by in (
        (r"network '([^']*)' is not active", NETWORK, HOST),
        (r"pool '?([^']*?)'? (?:containing volume '[^']*' )?is not active", DISK, HOST),
        (r"interface MTU on '([^']*)'|index for interface ([^:\s]+)", NETWORK, HOST),
        (r"add bridge (\S+) port", NETWORK, HOST),
        (r"managed='no' but specified dev doesn't exist", NETWORK, HOST),
        (r"(?:interface|bridge|device) '?(\S+?)'? (?:is not a bridge|.*ovs-vsctl)", NETWORK, HOST),
        (r"secret (?:with|.*does not have a value|.*not found)|no secret", SECRET, PERSON),
        (r"hugetlbfs|huge ?pages?|backing store for guest RAM|preallocate memory|free host memory pages", MEMORY, HOST),
        (r"cannot allocate memory|cannot set up guest memory", MEMORY, HOST),
        (r"mediated device '?([0-9a-f-]*)'? .*not found|mdev.*no such", HOST_DEVICE, HOST),
        (r"device '?([0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])'?.*not found", HOST_DEVICE, HOST),
        (r"passthrough of host PCI devices|requires VFIO support", HOST_DEVICE, PERSON),
        (r"/sys/bus/(?:usb|pci|mdev)/", HOST_DEVICE, HOST),
        (r"did not find USB device '?([0-9a-f:]*)'?|no such USB device", HOST_DEVICE, HOST),
        (r"(?=.*vfio).*(?:no such (?:file|device)|(?:device or )?resource busy)", HOST_DEVICE, HOST),
        (r"(?:unsupported|does not support) machine|machine type .* not supported", MACHINE, PERSON),
        (r"binary (\S+?):? .*(?:no such file|permission denied)", MACHINE, PERSON),
        (r"KVM (?:is )?not (?:available|supported)|initialize kvm|access KVM kernel module", MACHINE, PERSON),
        (r"does not support virt type|incompatible with host CPU|guest CPU doesn't match", MACHINE, PERSON),
        (r"cpuset\.(?:cpus|mems)|CPU affinity.*invalid argument", MACHINE, PERSON),
        (r"master var store for loader: (\S+)", FIRMWARE, HOST),
        (r"virtiofs export directory '([^']*)' does not exist", SHARE, HOST),
        (r"(?:could not load (?:PC BIOS|kernel)|open kernel file|firmware) '?([^':]*)", FIRMWARE, HOST),
        (r"'([^']*(?:OVMF|AAVMF|_VARS|\.fd)[^']*)'.*no such file", FIRMWARE, HOST),
    )
)
GONE: Final = re.compile(
    r"no such (?:file|device)|connection (?:refused|timed out)|no route to host|host is (?:down|unreachable)|"
    r"network is unreachable|stale file handle|endpoint is not connected|no medium found|failed to connect to|"
    r"is not available on this host|input/output error|remote i/o error|operation timed out|"
    r"connection reset by peer|temporary failure in name resolution|name or service not known|"
    r"unexpected end-of-file before all bytes were read|requested export not available|"
    r"resource temporarily unavailable|device or resource busy|"
    # The lease of a client that lost its power expires, or the owner of the lock releases it: it is never forced.
    r"failed to get (?:shared )?\"?[a-z ]+\"? lock|is another process using",
    re.IGNORECASE,
)
_QUOTED: Final = re.compile(r"'(/[^']*)'|\"(/[^\"]*)\"|[\s:=](/[^\s:,'\"]+)")


def missing_need(error: LibvirtError, libvirt: Any) -> Need | None:
    """Return the need for lack of which a start failed; None: it failed for another reason."""
    message = error.get_error_message() or ""
    for name, (kind, met_by) in CODES.items():
        if error.get_error_code() == getattr(libvirt, name, None):
            named = re.search(r"'([^']+)'", message)
            return _missing_need(kind, message, met_by, named[1] if named else "")
    # An operator decides who may read what; only for QEMU itself this host is wrong.
    denied = re.search(r"permission denied", message, re.IGNORECASE)
    for pattern, kind, met_by in WORDS:
        if (found := pattern.search(message)) and (not denied or kind is MACHINE):
            return _missing_need(kind, message, met_by, next(filter(None, found.groups()), ""))
    if denied:
        return None
    code = error.get_error_code()
    if GONE.search(message) or (code == libvirt.VIR_ERR_SYSTEM_ERROR and error.get_int1() in ERRNOS):
        return _missing_need(DISK, message, HOST)
    return None


def _missing_need(kind: NeedKind, message: str, met_by: MetBy, name: str = "") -> Need:
    quoted = _QUOTED.search(message)
    name = name or (next(filter(None, quoted.groups()), "") if quoted else "")
    why = " ".join(message.split()) or "libvirt does not report what"
    return need(kind, name or f"a {kind.value.replace('_', ' ')} that libvirt lacks", met_by=met_by, absent=why)


OF_THE_IMAGE: Final = "load of migration failed"
BOOTED_AFRESH: Final = (
    "its managed save image was empty or truncated, libvirt discarded it, and the guest booted afresh"
)

HOST_FAILURES: Final[tuple[tuple[type[DriverError], NeedKind, str, str], ...]] = (
    (NotSent, NeedKind.MACHINE, "free connection to libvirt", "the calls that use the connections hang"),
    (CallTimedOut, NeedKind.MACHINE, "answer of libvirt", "there was none in time; the guest may still start"),
    (ConnectionLost, NeedKind.MACHINE, "libvirt", "it is unavailable"),
    (GuestBusy, NeedKind.MACHINE, "guest that nothing else works on", "libvirt still works on it"),
    (DiskFull, NeedKind.DISK, "room where libvirt and QEMU write", "that disk is full or failing"),
)
"""Errors that are no problem of the guest: it may have been started, or can be once the host has recovered."""


@asynccontextmanager
async def deferred_on_host_failure() -> AsyncIterator[None]:
    """Convert a failure that is no problem of the guest into a need of its host.

    :raises NeedNotMet: the outcome of the start is unknown, or the host could not do it now.
    """
    try:
        yield
    except (CallTimedOut, ConnectionLost, GuestBusy, DiskFull) as error:
        raise NeedNotMet(str(error), [_need_of_host(error)]) from error.__cause__


def _need_of_host(error: DriverError) -> Need:
    return next(need(kind, name, unverified=why) for cls, kind, name, why in HOST_FAILURES if isinstance(error, cls))


class StartCall:
    """A call that starts a guest, and its outcome."""

    def __init__(self, libvirt: Any, *, anew: bool) -> None:
        """Store the options; with ``anew`` a managed save image is discarded."""
        self._libvirt = libvirt
        self._anew = anew
        self._saved = False
        self._name = ""
        self.lost_memory = False
        """It had a managed save image, and was not restored from it."""

    def act(self, domain: Domain) -> None:
        """Start the guest; blocks."""
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
        """Return the error to raise for a start that was refused."""
        cause = error.__cause__
        if not isinstance(cause, self._libvirt.libvirtError):
            return error
        restores = self._saved and not self._anew
        # QEMU's message about a truncated image ends with "Input/output error", as of a disk that fails.
        missing = None if restores and OF_THE_IMAGE in str(cause) else missing_need(cause, self._libvirt)
        if missing is not None:
            return NeedNotMet(f"{error}: something of this host is missing", [missing])
        if restores:
            remove = f"virsh managedsave-remove {self._name}"
            why = f"libvirt cannot restore it; {remove} discards it, and the guest boots afresh"
            image = need(NeedKind.MEMORY, f"managed save image of {self._name}", met_by=MetBy.PERSON, unverified=why)
            return NeedNotMet(
                f"{error} from its managed save image: repair that, or discard the saved memory with {remove}", [image]
            )
        return error
