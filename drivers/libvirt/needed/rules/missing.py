"""What a start that libvirt or QEMU refused was missing, in one table.  Pure.

A look before a start and the start are two moments: what goes away between them must not be told as the guest's fault.
"""

import errno
import re
from typing import Any, Final

from bringup.drivers.libvirt.errors import LibvirtError
from bringup.drivers.libvirt.needed.rules.verdicts import need
from bringup.drivers.needs import MetBy, Need, NeedKind

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
# The first that fits; a group is the name of what is missing.
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
    # The lease of a client that lost its power expires, or whoever holds the lock lets go: it is never forced.
    r"failed to get (?:shared )?\"?[a-z ]+\"? lock|is another process using",
    re.IGNORECASE,
)
_QUOTED: Final = re.compile(r"'(/[^']*)'|\"(/[^\"]*)\"|[\s:=](/[^\s:,'\"]+)")


def missing_in(error: LibvirtError, libvirt: Any) -> Need | None:
    """Give what a start that failed was missing; None: it failed for another reason."""
    message = error.get_error_message() or ""
    for name, (kind, met_by) in CODES.items():
        if error.get_error_code() == getattr(libvirt, name, None):
            named = re.search(r"'([^']+)'", message)
            return _need(kind, message, met_by, named[1] if named else "")
    # A person has to say who may read what; only of QEMU itself it is this host that is wrong.
    denied = re.search(r"permission denied", message, re.IGNORECASE)
    for pattern, kind, met_by in WORDS:
        if (found := pattern.search(message)) and (not denied or kind is MACHINE):
            return _need(kind, message, met_by, next(filter(None, found.groups()), ""))
    if denied:
        return None
    code = error.get_error_code()
    if GONE.search(message) or (code == libvirt.VIR_ERR_SYSTEM_ERROR and error.get_int1() in ERRNOS):
        return _need(DISK, message, HOST)
    return None


def _need(kind: NeedKind, message: str, met_by: MetBy, name: str = "") -> Need:
    quoted = _QUOTED.search(message)
    name = name or (next(filter(None, quoted.groups()), "") if quoted else "")
    why = " ".join(message.split()) or "libvirt does not say what"
    return need(kind, name or f"a {kind.value.replace('_', ' ')} that libvirt misses", met_by=met_by, absent=why)
