"""What a guest needs of its host beside disks: shares, NICs, devices, firmware, huge pages, CPUs.  Blocks."""

import os
import socket
from collections.abc import Iterator

from bringup.drivers.libvirt.guest_needs.evidence import Sight
from bringup.drivers.libvirt.guest_needs.rules.definition import HostDevice, Nic, Share
from bringup.drivers.libvirt.guest_needs.rules.mounts import relied_on
from bringup.drivers.libvirt.guest_needs.rules.verdicts import need
from bringup.drivers.needs import MetBy, Need, NeedKind

HUGE = "/sys/kernel/mm/hugepages"
SILENT = "its storage does not answer"
NOT_SEEN = "this process does not see the file systems that libvirt sees"
VENDOR = 4
"""Digits of a PCI vendor's number."""


def devices(sight: Sight) -> Iterator[Need]:
    """Judge all of it."""
    for share in sight.definition.shares:
        yield _share(sight, share)
    for nic in sight.definition.nics:
        yield from _nic(sight, nic)
    for device in sight.definition.host_devices:
        if not device.optional:
            yield _host_device(sight, device)
    yield from _firmware(sight)
    if not sight.told.active:
        # One that runs has its pages already.
        yield from _pages(sight)
    yield from _pins(sight)


def _share(sight: Sight, share: Share) -> Need:
    if share.socket:
        gone = "nothing listens there" if sight.host.exists(share.socket) is False else ""
        return need(NeedKind.SHARE, share.socket, absent=gone)
    found = sight.host.find(share.path)
    if not sight.sees_host or found.is_hidden or found.is_silent:
        who, why = (MetBy.HOST, SILENT) if found.is_silent else (MetBy.PERSON, NOT_SEEN)
        return need(NeedKind.SHARE, share.path, met_by=who, unverified=why)
    mounts = sight.mounts_at(found.end)
    missing = relied_on(found.names, mounts, sight.expected, sight.nova_base)
    whose = MetBy.NOVA if sight.definition.by_nova or (missing is not None and missing.by_nova) else MetBy.HOST
    if missing is not None:
        at = "" if missing.point in found.names else f"{missing.point}: "
        return need(NeedKind.SHARE, share.path, met_by=whose, absent=f"{at}{missing.why}")
    if found.is_folder:
        is_mounted = any(mounts.is_mounted(path) for path in found.names)
        return need(NeedKind.SHARE, share.path, met_by=whose, absent="" if is_mounted else _bare(sight, found.end))
    if found.status is None:
        return need(NeedKind.SHARE, share.path, met_by=whose, absent="no such folder")
    return need(NeedKind.SHARE, share.path, met_by=MetBy.PERSON, unverified="it is no folder")


def _bare(sight: Sight, folder: str) -> str:
    """Say why a folder that nothing is mounted at is not what the guest had; "" if it may be."""
    if sight.definition.by_nova and not _is_below_a_mount(sight, folder):
        return "nothing is mounted there"
    if sight.host.is_empty(folder):
        # What the guest had there may have been mounted by hand.
        return "it is empty, and nothing is mounted there"
    return ""


def _is_below_a_mount(sight: Sight, path: str) -> bool:
    covering = sight.mounts.covering(path)
    return covering is not None and covering.point.startswith(f"{sight.nova_base}/")


def _nic(sight: Sight, nic: Nic) -> Iterator[Need]:
    if nic.type == "network":
        why = sight.told.answers.get(("network", nic.source), "")
        yield need(NeedKind.NETWORK, nic.source, absent=why)
    elif not sight.sees_host:
        # A container may have a network of its own: a start without what it needs fails by itself, and says so.
        return
    elif nic.type in ("bridge", "direct") and nic.source:
        yield _link(sight, nic.source, "bridge" if nic.type == "bridge" else "device")
    elif nic.type in ("vhostuser", "vdpa") and nic.source:
        is_made = nic.source in sight.made or sight.host.exists(nic.source) is not False
        yield need(NeedKind.NETWORK, nic.source, absent="" if is_made else "it is not there")
    elif nic.type == "ethernet" and nic.device:
        yield _link(sight, nic.device, "device")


def _link(sight: Sight, name: str, what: str) -> Need:
    if name in sight.made or _is_a_link(name):
        return need(NeedKind.NETWORK, name)
    if not sight.nics_in_record and sight.definition.by_nova:
        why = f"no such {what}; its record has no NICs, its definition has {len(sight.definition.nics)}: "
        return need(NeedKind.NETWORK, name, met_by=MetBy.NOVA, absent=why + "the info cache was lost")
    return need(NeedKind.NETWORK, name, absent=f"no such {what}")


def _is_a_link(name: str) -> bool:
    # Of this process' network namespace, whatever sysfs shows.
    try:
        return socket.if_nametoindex(name) > 0
    except (OSError, ValueError):
        return False


def _host_device(sight: Sight, device: HostDevice) -> Need:
    if device.type == "pci":
        return _pci(sight, device)
    if device.type == "mdev":
        is_there = sight.host.exists(f"/sys/bus/mdev/devices/{device.name}")
        gone = "" if is_there else "no such mediated device"
        whose = MetBy.NOVA if sight.definition.by_nova else MetBy.HOST
        return need(NeedKind.HOST_DEVICE, device.name, met_by=whose, absent=gone)
    if device.type == "usb":
        return _usb(sight, device)
    why = "numbers of SCSI hosts are given anew at each boot"
    return need(NeedKind.HOST_DEVICE, device.name, met_by=MetBy.PERSON, unverified=why)


def _pci(sight: Sight, device: HostDevice) -> Need:
    folder = f"/sys/bus/pci/devices/{device.name}"
    if not sight.host.exists(folder):
        return need(NeedKind.HOST_DEVICE, device.name, absent="no such PCI device")
    found = ":".join(sight.host.text(f"{folder}/{key}").removeprefix("0x").lower() for key in ("vendor", "device"))
    wanted = sight.profiles.get(device.name, "").lower()
    if wanted and wanted != found:
        why = f"it is a {found} now, and the record says {wanted}"
        return need(NeedKind.HOST_DEVICE, device.name, met_by=MetBy.PERSON, unverified=why)
    return need(NeedKind.HOST_DEVICE, device.name)


def _usb(sight: Sight, device: HostDevice) -> Need:
    found = [
        (sight.host.text(f"{folder}/busnum"), sight.host.text(f"{folder}/devnum"))
        for name in sight.host.names_in("/sys/bus/usb/devices")
        if (folder := f"/sys/bus/usb/devices/{name}")
        and (not device.vendor or sight.host.text(f"{folder}/idVendor").lower() == device.vendor)
        and (not device.product or sight.host.text(f"{folder}/idProduct").lower() == device.product)
    ]
    if device.bus is not None:
        found = [pair for pair in found if pair == (str(device.bus), str(device.device))]
    if not found:
        return need(NeedKind.HOST_DEVICE, device.name, absent="no such USB device")
    if not device.vendor:
        why = "bus and device numbers are given anew at each boot; the definition should name vendor and product"
        return need(NeedKind.HOST_DEVICE, device.name, met_by=MetBy.PERSON, unverified=why)
    return need(NeedKind.HOST_DEVICE, device.name)


def _firmware(sight: Sight) -> Iterator[Need]:
    if not sight.sees_host:
        # A start without it fails by itself, and says so.
        return
    for path in sight.definition.firmware:
        gone = "no such file" if sight.host.exists(path) is False else ""
        yield need(NeedKind.FIRMWARE, path, absent=gone)


def _pages(sight: Sight) -> Iterator[Need]:
    wanted: dict[int, int] = {}
    for pages in sight.definition.pages:
        size = pages.size_kib or _default_size(sight)
        if size and pages.size_kib != _page_of_the_kernel():
            wanted[size] = wanted.get(size, 0) + -(-pages.memory_kib // size)
    for size, count in wanted.items():
        folder = f"{HUGE}/hugepages-{size}kB"
        name = f"{count} huge pages of {size} KiB"
        if not sight.host.exists(folder):
            yield need(NeedKind.MEMORY, name, met_by=MetBy.PERSON, absent="this host has none of that size")
            continue
        free, reserved, most, surplus = (
            int(sight.host.text(f"{folder}/{key}") or 0)
            for key in ("free_hugepages", "resv_hugepages", "nr_overcommit_hugepages", "surplus_hugepages")
        )
        left = max(0, free - reserved) + max(0, most - surplus)
        yield need(NeedKind.MEMORY, name, absent="" if left >= count else f"{left} are free")


def _page_of_the_kernel() -> int:
    return os.sysconf("SC_PAGE_SIZE") // 1024


def _default_size(sight: Sight) -> int:
    for line in sight.host.text("/proc/meminfo").splitlines():
        if line.startswith("Hugepagesize:"):
            return int(line.split()[1])
    return 0


def _pins(sight: Sight) -> Iterator[Need]:
    online = sight.told.online
    for pin in sight.definition.pins:
        name = f"CPU {', '.join(map(str, sorted(pin)))}"
        why = "none of them is online" if online and not pin & online else ""
        yield need(NeedKind.MACHINE, name, met_by=MetBy.PERSON, absent=why)
