"""What a definition relies on, as values.  Pure: whether it is there is looked at elsewhere."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Where a network disk is served."""

    name: str = ""
    port: int | None = None
    socket: str | None = None
    """A UNIX socket instead of a name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What a disk, or a backing file of one, is read from."""

    type: str
    """``file``, ``block``, ``network``, ``volume``, ``nvme``, ...: libvirt's word."""
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
    """``ceph``, ``volume``, ``iscsi``, ``tls``, ``vtpm``; libvirt's word ``passphrase`` is that of a volume."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """One disk."""

    target: str
    serial: str
    optional: bool
    """The guest starts without the medium where that is not there."""
    sources: tuple[Source, ...]
    """What it is read from first; then the backing files that the definition names."""
    chain_is_told: bool
    """The definition names all backing files, or says that there are none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A folder that the guest gets as a file system."""

    path: str
    socket: str | None = None
    """Somebody else serves it there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Nic:
    """What a NIC is attached to."""

    type: str
    source: str = ""
    device: str = ""
    """Its device on the host, where the definition has it as one that is not libvirt's to make."""
    switch: str = ""
    """``openvswitch`` and such."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostDevice:
    """A device of the host that the guest gets."""

    type: str
    """``pci``, ``mdev``, ``usb``, ``scsi``."""
    name: str
    """PCI address, UUID, or what a person knows a USB device by."""
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
    """What runs the guest."""

    type: str
    """``kvm``, ``qemu``."""
    emulator: str
    arch: str
    machine: str


@dataclass(frozen=True, slots=True)
class Definition:
    """All of it."""

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
    """A variable store, and the template that it is made of where it is not there."""
    memory: tuple[Source, ...]
    """NVDIMM and virtio-pmem: what is kept in a file, or on a device, over boots."""
    pages: tuple[Pages, ...]
    pins: tuple[frozenset[int], ...] = field(default=())
