"""Needs beside disks: shares, NICs, host devices, firmware, huge pages, CPUs.  Blocks."""

import os
import socket
from collections.abc import Iterator

from bringup.drivers.libvirt.guest_needs.evidence import Evidence
from bringup.drivers.libvirt.guest_needs.rules.definition import HostDevice, Nic, Share
from bringup.drivers.libvirt.guest_needs.rules.mounts import missing_mount
from bringup.drivers.libvirt.guest_needs.rules.verdicts import LibvirtObject, need
from bringup.drivers.needs import LinkOrigin, MetBy, Need, NeedKind

HUGE = "/sys/kernel/mm/hugepages"
SILENT = "its storage does not answer"
NOT_SEEN = "this process does not see the file systems that libvirt sees"
VENDOR = 4
"""Digits of a PCI vendor's number."""


def devices(evidence: Evidence) -> Iterator[Need]:
    """Return the needs of a guest beside its disks."""
    for share in evidence.definition.shares:
        yield _share(evidence, share)
    for nic in evidence.definition.nics:
        yield from _nic(evidence, nic)
    for device in evidence.definition.host_devices:
        if not device.optional:
            yield _host_device(evidence, device)
    yield from _firmware(evidence)
    if not evidence.libvirt.active:
        # A running guest has its pages already.
        yield from _pages(evidence)
    yield from _pins(evidence)


def _share(evidence: Evidence, share: Share) -> Need:
    if share.socket:
        gone = "nothing listens there" if evidence.host.exists(share.socket) is False else ""
        return need(NeedKind.SHARE, share.socket, absent=gone)
    found = evidence.host.find(share.path)
    if not evidence.sees_host or found.is_hidden or found.is_silent:
        who, why = (MetBy.HOST, SILENT) if found.is_silent else (MetBy.PERSON, NOT_SEEN)
        return need(NeedKind.SHARE, share.path, met_by=who, unverified=why)
    mounts = evidence.mounts_at(found.end)
    missing = missing_mount(found.names, mounts, evidence.expected, evidence.nova_base)
    whose = MetBy.NOVA if evidence.definition.by_nova or (missing is not None and missing.by_nova) else MetBy.HOST
    if missing is not None:
        at = "" if missing.point in found.names else f"{missing.point}: "
        return need(NeedKind.SHARE, share.path, met_by=whose, absent=f"{at}{missing.why}")
    if found.is_folder:
        is_mounted = any(mounts.is_mounted(path) for path in found.names)
        return need(NeedKind.SHARE, share.path, met_by=whose, absent="" if is_mounted else _bare(evidence, found.end))
    if found.status is None:
        return need(NeedKind.SHARE, share.path, met_by=whose, absent="no such folder")
    return need(NeedKind.SHARE, share.path, met_by=MetBy.PERSON, unverified="it is no folder")


def _bare(evidence: Evidence, folder: str) -> str:
    """Return why a folder with nothing mounted at it is not what the guest had; "" if it may be."""
    if evidence.definition.by_nova and not _is_below_a_mount(evidence, folder):
        return "nothing is mounted there"
    if evidence.host.is_empty(folder):
        # What the guest had there may have been mounted by hand.
        return "it is empty, and nothing is mounted there"
    return ""


def _is_below_a_mount(evidence: Evidence, path: str) -> bool:
    covering = evidence.mounts.covering(path)
    return covering is not None and covering.point.startswith(f"{evidence.nova_base}/")


def _nic(evidence: Evidence, nic: Nic) -> Iterator[Need]:
    if nic.type == "network":
        why = evidence.libvirt.answers.get(("network", nic.source), "")
        yield need(NeedKind.NETWORK, nic.source, absent=why, origin=LibvirtObject("network", nic.source))
    elif not evidence.sees_host:
        # A container may have a network of its own: a start that lacks something fails by itself, with a message.
        return
    elif nic.type in ("bridge", "direct") and nic.source:
        yield _link(evidence, nic.source, "bridge" if nic.type == "bridge" else "device")
    elif nic.type in ("vhostuser", "vdpa") and nic.source:
        is_made = nic.source in evidence.made or evidence.host.exists(nic.source) is not False
        yield need(NeedKind.NETWORK, nic.source, absent="" if is_made else "it is not there")
    elif nic.type == "ethernet" and nic.device:
        yield _link(evidence, nic.device, "device")


def _link(evidence: Evidence, name: str, what: str) -> Need:
    if name in evidence.made or _is_a_link(name):
        return need(NeedKind.NETWORK, name)
    if not evidence.nics_in_record and evidence.definition.by_nova:
        why = f"no such {what}; its record has no NICs, its definition has {len(evidence.definition.nics)}: "
        return need(NeedKind.NETWORK, name, met_by=MetBy.NOVA, absent=why + "the info cache was lost")
    return need(NeedKind.NETWORK, name, absent=f"no such {what}", origin=LinkOrigin())


def _is_a_link(name: str) -> bool:
    # Of this process' network namespace, whatever sysfs shows.
    try:
        return socket.if_nametoindex(name) > 0
    except (OSError, ValueError):
        return False


def _host_device(evidence: Evidence, device: HostDevice) -> Need:
    if device.type == "pci":
        return _pci(evidence, device)
    if device.type == "mdev":
        is_there = evidence.host.exists(f"/sys/bus/mdev/devices/{device.name}")
        gone = "" if is_there else "no such mediated device"
        whose = MetBy.NOVA if evidence.definition.by_nova else MetBy.HOST
        return need(NeedKind.HOST_DEVICE, device.name, met_by=whose, absent=gone)
    if device.type == "usb":
        return _usb(evidence, device)
    why = "numbers of SCSI hosts are given anew at each boot"
    return need(NeedKind.HOST_DEVICE, device.name, met_by=MetBy.PERSON, unverified=why)


def _pci(evidence: Evidence, device: HostDevice) -> Need:
    folder = f"/sys/bus/pci/devices/{device.name}"
    if not evidence.host.exists(folder):
        return need(NeedKind.HOST_DEVICE, device.name, absent="no such PCI device")
    found = ":".join(evidence.host.text(f"{folder}/{key}").removeprefix("0x").lower() for key in ("vendor", "device"))
    wanted = evidence.profiles.get(device.name, "").lower()
    if wanted and wanted != found:
        why = f"it is a {found} now, and the record says {wanted}"
        return need(NeedKind.HOST_DEVICE, device.name, met_by=MetBy.PERSON, unverified=why)
    return need(NeedKind.HOST_DEVICE, device.name)


def _usb(evidence: Evidence, device: HostDevice) -> Need:
    found = [
        (evidence.host.text(f"{folder}/busnum"), evidence.host.text(f"{folder}/devnum"))
        for name in evidence.host.names_in("/sys/bus/usb/devices")
        if (folder := f"/sys/bus/usb/devices/{name}")
        and (not device.vendor or evidence.host.text(f"{folder}/idVendor").lower() == device.vendor)
        and (not device.product or evidence.host.text(f"{folder}/idProduct").lower() == device.product)
    ]
    if device.bus is not None:
        found = [pair for pair in found if pair == (str(device.bus), str(device.device))]
    if not found:
        return need(NeedKind.HOST_DEVICE, device.name, absent="no such USB device")
    if not device.vendor:
        why = "bus and device numbers are given anew at each boot; the definition should name vendor and product"
        return need(NeedKind.HOST_DEVICE, device.name, met_by=MetBy.PERSON, unverified=why)
    return need(NeedKind.HOST_DEVICE, device.name)


def _firmware(evidence: Evidence) -> Iterator[Need]:
    if not evidence.sees_host:
        # A start without it fails by itself, with a message.
        return
    for path in evidence.definition.firmware:
        gone = "no such file" if evidence.host.exists(path) is False else ""
        yield need(NeedKind.FIRMWARE, path, absent=gone)


def _pages(evidence: Evidence) -> Iterator[Need]:
    wanted: dict[int, int] = {}
    for pages in evidence.definition.pages:
        size = pages.size_kib or _default_size(evidence)
        if size and pages.size_kib != _page_of_the_kernel():
            wanted[size] = wanted.get(size, 0) + -(-pages.memory_kib // size)
    for size, count in wanted.items():
        folder = f"{HUGE}/hugepages-{size}kB"
        name = f"{count} huge pages of {size} KiB"
        if not evidence.host.exists(folder):
            yield need(NeedKind.MEMORY, name, met_by=MetBy.PERSON, absent="this host has none of that size")
            continue
        free, reserved, most, surplus = (
            int(evidence.host.text(f"{folder}/{key}") or 0)
            for key in ("free_hugepages", "resv_hugepages", "nr_overcommit_hugepages", "surplus_hugepages")
        )
        left = max(0, free - reserved) + max(0, most - surplus)
        yield need(NeedKind.MEMORY, name, absent="" if left >= count else f"{left} are free")


def _page_of_the_kernel() -> int:
    return os.sysconf("SC_PAGE_SIZE") // 1024


def _default_size(evidence: Evidence) -> int:
    for line in evidence.host.text("/proc/meminfo").splitlines():
        if line.startswith("Hugepagesize:"):
            return int(line.split()[1])
    return 0


def _pins(evidence: Evidence) -> Iterator[Need]:
    online = evidence.libvirt.online
    for pin in evidence.definition.pins:
        name = f"CPU {', '.join(map(str, sorted(pin)))}"
        why = "none of them is online" if online and not pin & online else ""
        yield need(NeedKind.MACHINE, name, met_by=MetBy.PERSON, absent=why)
