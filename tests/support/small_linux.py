"""A small Linux for a guest: Debian's kernel, busybox, and a file system in memory that gives its NIC addresses."""

import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGES: Mapping[str, str] = {
    "linux-image-cloud-amd64": "boot/vmlinuz-*-cloud-amd64",
    "busybox-static": "var/lib/dpkg/info/busybox-static.list",
}
"""By package, what of it shows that it is installed."""
# Each needs those before it.
MODULES = (
    "drivers/virtio/virtio_ring.ko",
    "drivers/virtio/virtio.ko",
    "drivers/virtio/virtio_pci_legacy_dev.ko",
    "drivers/virtio/virtio_pci_modern_dev.ko",
    "drivers/virtio/virtio_pci.ko",
    "net/core/failover.ko",
    "drivers/net/net_failover.ko",
    "drivers/net/virtio_net.ko",
)
OPTIONS = (
    "quiet panic=-1 random.trust_cpu=on "
    "cryptomgr.notests mitigations=off nokaslr no_timer_check noreplace-smp tsc=reliable"
)
"""Of the kernel; what is in the second line is there because it saves a quarter of the CPU of a boot under TCG."""
DOMAIN = """<domain type='qemu'><name>{name}</name><uuid>{uuid}</uuid><memory unit='MiB'>96</memory><vcpu>1</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type><kernel>{kernel}</kernel><initrd>{initrd}</initrd>
    <cmdline>{options}</cmdline></os><features><acpi/></features>
  <devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
    <controller type='usb' model='none'/><memballoon model='none'/><video><model type='none'/></video>
    <interface type='bridge'><mac address='{mac}'/><source bridge='{bridge}'/><target dev='{device}'/>
      <model type='virtio'/></interface>
  </devices></domain>"""
INIT = """#!/bin/busybox sh
for module in {modules}; do /bin/busybox insmod /$module; done
/bin/busybox ip link set eth0 up
for address in {addresses}; do /bin/busybox ip address add $address dev eth0; done
/bin/busybox arp -s {peer} {peer_mac}
exec /bin/busybox sleep 2147483647
"""


@dataclass(frozen=True)
class SmallLinux:
    """What QEMU boots."""

    kernel: Path
    initrd: Path

    def domain_xml(self, uuid: str, name: str, **nic: str) -> str:
        """Describe a guest as Nova does one on a Linux bridge; its NIC has ``mac``, ``bridge`` and ``device``."""
        return DOMAIN.format(uuid=uuid, name=name, kernel=self.kernel, initrd=self.initrd, options=OPTIONS, **nic)


def make_small_linux(directory: Path, *, addresses: Sequence[str], peer: str, peer_mac: str) -> SmallLinux:
    """Make one whose NIC has these addresses (with prefix) and knows its peer; skip where a package is missing."""
    kernel, files = debian_kernel(MODULES)
    names = " ".join(Path(module).name for module in MODULES)
    init = INIT.format(modules=names, addresses=" ".join(addresses), peer=peer, peer_mac=peer_mac)
    initrd = directory / "initrd"
    initrd.write_bytes(b"".join(archive({**files, "init": init.encode()})))
    return SmallLinux(kernel, initrd)


def debian_kernel(modules: Sequence[str], *lacking: str) -> tuple[Path, dict[str, bytes]]:
    """Return Debian's kernel, and by path in an initrd these modules of it and busybox; skip without their packages.

    ``lacking`` are packages that the caller lacks.
    """
    root = Path("/")
    missing = sorted([*lacking, *(package for package, pattern in PACKAGES.items() if not any(root.glob(pattern)))])
    if missing:
        pytest.skip(f"a small Linux needs the packages {', '.join(missing)}")
    kernel = max(root.glob(PACKAGES["linux-image-cloud-amd64"]))
    folder = root / "lib/modules" / kernel.name.removeprefix("vmlinuz-") / "kernel"
    if not all((folder / module).exists() for module in modules):
        pytest.skip(f"{kernel.name} has not the modules of linux-image-cloud-amd64 in Debian 12")
    files = {Path(module).name: (folder / module).read_bytes() for module in modules}
    return kernel, {"bin/busybox": Path("/bin/busybox").read_bytes(), **files}


def archive(files: Mapping[str, bytes]) -> Iterator[bytes]:
    """Put files that may be executed into an archive as the kernel unpacks it (cpio, newc)."""
    for folder in sorted({str(parent) for name in files for parent in Path(name).parents if str(parent) != "."}):
        yield _entry(folder, stat.S_IFDIR | 0o755, b"")
    for name, content in files.items():
        yield _entry(name, stat.S_IFREG | 0o755, content)
    yield _entry("TRAILER!!!", 0, b"")


def _entry(name: str, mode: int, content: bytes) -> bytes:
    path = name.encode() + b"\0"
    # inode, mode, user, group, links, time, size, the file's device and its own, length of the name, checksum
    numbers = (0, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(path), 0)
    head = b"070701" + b"".join(b"%08x" % number for number in numbers) + path
    return _padded(head) + _padded(content)


def _padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % 4)
