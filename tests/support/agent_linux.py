"""A Linux for guests that boot: it reads its disk, computes for a while, and ends in a guest agent, or in none.

Debian's kernel, busybox and qemu-guest-agent with the libraries that it is linked with; under TCG a boot takes seconds.
"""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.programs import find, path_of
from support.small_linux import MODULES, PACKAGES, archive

AGENT = "qemu-ga"
MORE_MODULES = (*MODULES, "drivers/block/virtio_blk.ko", "drivers/char/virtio_console.ko")
DISK_MB = 32
INIT = """#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /run /tmp /var/run
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
for module in {modules}; do /bin/busybox insmod /$module; done
/bin/busybox dd if=/dev/vda of=/dev/null bs=256k iflag=direct 2>/dev/null
/bin/busybox dd if=/dev/zero bs=1M count={compute_mb} 2>/dev/null | /bin/busybox sha256sum >/dev/null
echo ready > /dev/ttyS0
for port in /dev/vport*p1; do
  if [ -e $port ]; then exec /qemu-ga -m virtio-serial -p $port -t /tmp; fi
done
{otherwise}
"""
QUIET, BUSY = "exec /bin/busybox sleep 2147483647", "while :; do :; done"
DOMAIN = """<domain type='qemu'><name>{name}</name><uuid>{uuid}</uuid><memory unit='MiB'>128</memory><vcpu>1</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type><kernel>{kernel}</kernel><initrd>{initrd}</initrd>
    <cmdline>quiet panic=-1 random.trust_cpu=on</cmdline></os><features><acpi/></features>
  <devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
    <controller type='usb' model='none'/><memballoon model='none'/><video><model type='none'/></video>
    <disk type='file' device='disk'><driver name='qemu' type='raw' cache='none' io='native'/><source file='{disk}'/>
      <target dev='vda' bus='virtio'/></disk>{channel}
    <serial type='file'><source path='{console}'/></serial>
  </devices></domain>"""
CHANNEL = "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"


@dataclass(frozen=True)
class AgentLinux:
    """What QEMU boots."""

    directory: Path
    kernel: Path
    quiet: Path
    busy: Path
    """It never ends to compute, and so it is never quiet."""

    def domain_xml(self, uuid: str, name: str, *, agent: bool = True, busy: bool = False) -> str:
        """Describe a guest with a disk of its own, and with a channel for its agent where it is to have one."""
        disk = self.directory / f"{name}.img"
        with disk.open("wb") as file:
            for _ in range(DISK_MB):
                file.write(os.urandom(1 << 20))
        initrd = self.busy if busy else self.quiet
        channel = CHANNEL if agent else ""
        more = {"disk": disk, "channel": channel, "console": self.console(name)}
        return DOMAIN.format(uuid=uuid, name=name, kernel=self.kernel, initrd=initrd, **more)

    def console(self, name: str) -> Path:
        """Return the file that a guest writes to when it has booted."""
        return self.directory / f"{name}.console"


def make_agent_linux(directory: Path, *, compute_mb: int = 8) -> AgentLinux:
    """Make one that computes the checksum of so much; skip where a package is missing."""
    root = Path("/")
    agent = find(AGENT)
    missing = sorted(package for package, pattern in PACKAGES.items() if not any(root.glob(pattern)))
    missing += [] if agent else ["qemu-guest-agent"]
    if agent is None or missing:
        pytest.skip(f"a Linux with a guest agent needs the packages {', '.join(missing)}")
    kernel = max(root.glob(PACKAGES["linux-image-cloud-amd64"]))
    modules = root / "lib/modules" / kernel.name.removeprefix("vmlinuz-") / "kernel"
    if not all((modules / module).exists() for module in MORE_MODULES):
        pytest.skip(f"{kernel.name} has not the modules of linux-image-cloud-amd64 in Debian 12")
    names = {Path(module).name: (modules / module).read_bytes() for module in MORE_MODULES}
    files = {"bin/busybox": Path("/bin/busybox").read_bytes(), AGENT: Path(agent).read_bytes(), **names}
    files |= dict(_libraries(agent))
    made = {}
    for name, otherwise in (("quiet", QUIET), ("busy", BUSY)):
        init = INIT.format(modules=" ".join(names), compute_mb=compute_mb, otherwise=otherwise)
        made[name] = directory / f"initrd-{name}"
        made[name].write_bytes(b"".join(archive({**files, "init": init.encode()})))
    return AgentLinux(directory, kernel, **made)


def _libraries(program: str) -> Iterator[tuple[str, bytes]]:
    """Return the libraries that a program is linked with, by the path under which it looks for each."""
    listed = subprocess.run([path_of("ldd"), program], capture_output=True, text=True, check=True).stdout
    for line in listed.splitlines():
        path = next((word for word in line.split() if word.startswith("/")), None)
        if path is not None:
            yield path.lstrip("/"), Path(path).read_bytes()
