"""A guest's definition: the values that it relies on, parsed from libvirt's XML.  Pure."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final
from xml.etree import ElementTree as ET

from bringup.drivers.libvirt.guest_needs.rules.xml_values import cpus_of, kib_of, number


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Server of a network disk."""

    name: str = ""
    port: int | None = None
    socket: str | None = None
    """A UNIX socket instead of a name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Source of a disk, or of a backing file of one."""

    type: str
    """``file``, ``block``, ``network``, ``volume``, ``nvme``, ...: libvirt's type."""
    path: str = ""
    format: str = ""
    protocol: str = ""
    name: str = ""
    servers: tuple[Server, ...] = ()
    pool: str = ""
    volume: str = ""
    pci: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretName:
    """A secret of libvirt."""

    uuid: str = ""
    usage: str = ""
    type: str = ""
    """``ceph``, ``volume``, ``iscsi``, ``tls``, ``vtpm``; libvirt's ``passphrase`` is that of a volume."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """One disk."""

    target: str
    serial: str
    optional: bool
    """The guest starts without the medium if that does not exist."""
    sources: tuple[Source, ...]
    """Its own source first; then the backing files that the definition names."""
    chain_is_complete: bool
    """The definition names all backing files, or that there are none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A folder that the guest gets as a file system."""

    path: str
    socket: str | None = None
    """Another program serves the folder there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Nic:
    """A NIC, and what it is attached to."""

    type: str
    source: str = ""
    device: str = ""
    """Its device on the host, if the definition says that libvirt does not create it."""
    switch: str = ""
    """``openvswitch`` and such."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostDevice:
    """A device of the host that is passed to the guest."""

    type: str
    """``pci``, ``mdev``, ``usb``, ``scsi``."""
    name: str
    """PCI address, UUID, or the name of a USB device for an operator."""
    vendor: str = ""
    product: str = ""
    bus: int | None = None
    device: int | None = None
    optional: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Pages:
    """Huge pages."""

    size_kib: int | None
    """None: the host's default size."""
    memory_kib: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Emulator and machine type of the guest."""

    type: str
    """``kvm``, ``qemu``."""
    emulator: str
    arch: str
    machine: str


@dataclass(frozen=True, slots=True)
class Definition:
    """All that the definition of a guest relies on."""

    name: str
    by_nova: bool
    machine: Machine
    disks: tuple[Disk, ...]
    secrets: tuple[SecretName, ...]
    shares: tuple[Share, ...]
    nics: tuple[Nic, ...]
    host_devices: tuple[HostDevice, ...]
    firmware: tuple[str, ...]
    nvram: tuple[tuple[Source, str], ...]
    """A variable store, and the template from which libvirt creates a missing one."""
    memory: tuple[Source, ...]
    """NVDIMM and virtio-pmem: memory that is kept in a file, or on a device, over boots."""
    pages: tuple[Pages, ...]
    pins: tuple[frozenset[int], ...] = field(default=())


NOVA: Final = "{http://openstack.org/xmlns/libvirt/nova/"


@lru_cache(maxsize=64)
def read_definition(xml: str) -> Definition:
    """Parse a definition; a start of a guest reads it several times, and it is the same.

    :raises ValueError: it is no XML.
    """
    try:
        root = ET.fromstring(xml)  # noqa: S314 - it comes from the daemon, which is trusted as the hypervisor is
    except ET.ParseError as error:
        raise ValueError(f"no XML: {error}") from error
    system = root.find("./os/type")
    return Definition(
        name=root.findtext("name", ""),
        by_nova=any(element.tag.startswith(NOVA) for element in root.iterfind("./metadata/*")),
        machine=Machine(
            type=root.get("type", ""),
            emulator=root.findtext("./devices/emulator", ""),
            arch="" if system is None else system.get("arch", ""),
            machine="" if system is None else system.get("machine", ""),
        ),
        disks=tuple(_disks(root)),
        secrets=tuple(dict.fromkeys(_secrets(root))),
        shares=tuple(_shares(root)),
        nics=tuple(_nic(nic) for nic in root.iterfind("./devices/interface")),
        host_devices=tuple(_host_devices(root)),
        firmware=tuple(_firmware(root)),
        nvram=tuple(_nvram(root)),
        memory=tuple(_memory(root)),
        pages=tuple(_pages(root)),
        pins=tuple(_pins(root)),
    )


def _disks(root: ET.Element) -> Iterator[Disk]:
    for disk in root.iterfind("./devices/disk"):
        found = disk.find("source")
        if found is None or not (found.attrib or len(found)):
            # A drive without a medium.
            continue
        target, driver = disk.find("target"), disk.find("driver")
        form = "" if driver is None else driver.get("type", "")
        backing, complete = _backing(disk)
        data = [_source(store, store.get("type", "")) for store in found.iterfind("./dataStore")]
        yield Disk(
            target="" if target is None else target.get("dev", ""),
            serial=disk.findtext("serial", "").strip(),
            # A hard disk, or a LUN, that libvirt drops is one that the guest misses.
            optional=found.get("startupPolicy") == "optional" and disk.get("device") in ("cdrom", "floppy"),
            sources=(_source(found, disk.get("type", ""), form), *data, *backing),
            chain_is_complete=complete,
        )


def _backing(disk: ET.Element) -> tuple[list[Source], bool]:
    """Return the backing files that are named, and whether these are all."""
    found: list[Source] = []
    store = disk.find("backingStore")
    while store is not None:
        source, form = store.find("source"), store.find("format")
        if source is None:
            # An empty element is the end of the chain.
            return found, True
        found.append(_source(source, store.get("type", ""), "" if form is None else form.get("type", "")))
        store = store.find("backingStore")
    return found, False


def _source(source: ET.Element, kind: str, form: str = "") -> Source:
    inner = source.find("source")
    if inner is not None and not source.attrib.keys() & {"file", "dev", "name"}:
        # A data store: its source is one deeper.
        source = inner
    address = source.find("address")
    return Source(
        type=kind,
        path=source.get("file") or source.get("dev") or source.get("dir") or source.get("path") or "",
        format=form,
        protocol=source.get("protocol", ""),
        name=source.get("name", ""),
        servers=tuple(
            Server(name=host.get("name", ""), port=number(host.get("port")), socket=host.get("socket"))
            for host in source.iterfind("host")
        ),
        pool=source.get("pool", ""),
        volume=source.get("volume", ""),
        pci="" if address is None else _pci_address(address),
    )


def _secrets(root: ET.Element) -> Iterator[SecretName]:
    for secret in root.iterfind("./devices//secret"):
        if secret.get("uuid") or secret.get("usage"):
            kind = secret.get("type", "")
            yield SecretName(
                uuid=secret.get("uuid", ""),
                usage=secret.get("usage", ""),
                type="volume" if kind == "passphrase" else kind,
            )
    for encryption in root.iterfind("./devices/tpm/backend/encryption"):
        yield SecretName(uuid=encryption.get("secret", ""), type="vtpm")


def _shares(root: ET.Element) -> Iterator[Share]:
    for filesystem in root.iterfind("./devices/filesystem"):
        source = filesystem.find("source")
        if source is None or filesystem.get("type", "mount") not in ("mount", "bind"):
            continue
        yield Share(path=source.get("dir", ""), socket=source.get("socket"))


def _nic(nic: ET.Element) -> Nic:
    source, target, port = nic.find("source"), nic.find("target"), nic.find("virtualport")
    kind = nic.get("type", "")
    named = {} if source is None else source.attrib
    unmanaged = target is not None and target.get("managed") == "no"
    if kind == "vhostuser" and named.get("mode") == "server":
        # QEMU creates the socket itself.
        named = {}
    return Nic(
        type=kind,
        source=named.get("bridge") or named.get("network") or named.get("dev") or named.get("path") or "",
        device="" if target is None or not unmanaged else target.get("dev", ""),
        switch="" if port is None else port.get("type", ""),
    )


def _host_devices(root: ET.Element) -> Iterator[HostDevice]:
    for element in (*root.iterfind("./devices/hostdev"), *root.iterfind("./devices/interface[@type='hostdev']")):
        source = element.find("source")
        if source is None:
            continue
        address = source.find("address")
        kind = element.get("type", "") if element.tag == "hostdev" else "pci"
        optional = source.get("startupPolicy") in ("optional", "requisite")
        if kind == "mdev" and address is not None:
            yield HostDevice(type="mdev", name=address.get("uuid", ""))
        elif kind == "pci" and address is not None:
            yield HostDevice(type="pci", name=_pci_address(address), optional=optional)
        elif kind == "usb":
            yield _usb(source, address, optional=optional)
        elif kind == "scsi" and source.get("protocol") != "iscsi":
            adapter = source.find("adapter")
            name = "" if adapter is None else adapter.get("name", "")
            at = {} if address is None else address.attrib
            yield HostDevice(type="scsi", name=f"{name}:{at.get('bus')}:{at.get('target')}:{at.get('unit')}")


def _usb(source: ET.Element, address: ET.Element | None, *, optional: bool) -> HostDevice:
    vendor, product = (
        "" if element is None else element.get("id", "").lower().removeprefix("0x")
        for element in (source.find("vendor"), source.find("product"))
    )
    bus = None if address is None else number(address.get("bus"))
    device = None if address is None else number(address.get("device"))
    named = f"{vendor}:{product}" if vendor else f"bus {bus} device {device}"
    return HostDevice(type="usb", name=named, vendor=vendor, product=product, bus=bus, device=device, optional=optional)


def _pci_address(address: ET.Element) -> str:
    domain, bus, slot, function = (number(address.get(key, "0")) or 0 for key in ("domain", "bus", "slot", "function"))
    return f"{domain:04x}:{bus:02x}:{slot:02x}.{function:x}"


def _firmware(root: ET.Element) -> Iterator[str]:
    for path in ("./os/loader", "./os/kernel", "./os/initrd", "./os/dtb", "./os/acpi/table"):
        for element in root.iterfind(path):
            if (text := (element.text or "").strip()).startswith("/"):
                yield text


def _nvram(root: ET.Element) -> Iterator[tuple[Source, str]]:
    for element in root.iterfind("./os/nvram"):
        source = element.find("source")
        path, template = (element.text or "").strip(), element.get("template", "")
        if path:
            yield Source(type="file", path=path), template
        elif source is not None:
            yield _source(source, element.get("type", "file")), template


def _memory(root: ET.Element) -> Iterator[Source]:
    for memory in root.iterfind("./devices/memory"):
        path = memory.findtext("./source/path", "").strip()
        if path and memory.get("model") in ("nvdimm", "virtio-pmem"):
            yield Source(type="memory", path=path)


def _pages(root: ET.Element) -> Iterator[Pages]:
    hugepages = root.find("./memoryBacking/hugepages")
    if hugepages is None:
        return
    memory = root.find("currentMemory")
    if memory is None:
        memory = root.find("memory")
    all_of_it = 0 if memory is None else kib_of(memory.text, memory.get("unit", "KiB"))
    cells = {cell.get("id", ""): cell for cell in root.iterfind("./cpu/numa/cell")}
    pages = list(hugepages.iterfind("page"))
    if not pages:
        yield Pages(size_kib=None, memory_kib=all_of_it)
    for page in pages:
        nodes = cpus_of(page.get("nodeset", ""))
        of_nodes = [cell for name, cell in cells.items() if (number(name) or 0) in nodes]
        sizes = [kib_of(cell.get("memory"), cell.get("unit", "KiB")) for cell in of_nodes]
        size = kib_of(page.get("size"), page.get("unit", "KiB"))
        yield Pages(size_kib=size or None, memory_kib=sum(sizes) if sizes else all_of_it)


def _pins(root: ET.Element) -> Iterator[frozenset[int]]:
    sets: Iterable[str] = (
        *(element.get("cpuset", "") for element in root.iterfind("./cputune/*[@cpuset]")),
        *(element.get("cpuset", "") for element in root.iterfind("./vcpu[@cpuset]")),
    )
    for text in dict.fromkeys(sets):
        if cpus := cpus_of(text):
            yield cpus
