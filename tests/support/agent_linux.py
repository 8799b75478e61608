"""A Linux for guests that boot: it reads its disk, computes for a while, and ends in a guest agent, or in none.

Debian's kernel, busybox and qemu-guest-agent with the libraries that it is linked with; under TCG a boot takes seconds.
What it does beside that is on its command line, any of ``DOES``.
"""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from support.programs import find, path_of
from support.small_linux import MODULES, OPTIONS, archive, debian_kernel

AGENT = "qemu-ga"
MORE_MODULES = (*MODULES, "drivers/block/virtio_blk.ko", "drivers/char/virtio_console.ko")
INIT = """#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /run /tmp /var/run
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
for module in {modules}; do /bin/busybox insmod /$module; done
does() {{ /bin/busybox grep -qw "does=$1" /proc/cmdline; }}
/bin/busybox dd if=/dev/vda of=/dev/null bs=256k iflag=direct 2>/dev/null
/bin/busybox dd if=/dev/zero bs=1M count={compute_mb} 2>/dev/null | /bin/busybox sha256sum >/dev/null
if does network; then
  /bin/busybox ip link set eth0 up
  /bin/busybox ip address add 10.9.0.2/24 dev eth0
  /bin/busybox ping -c 1 -W 1 10.9.0.1 >/dev/null
fi
if does write; then /bin/busybox dd if=/dev/zero of=/dev/vda bs=64k count=64 oflag=direct 2>/dev/null; fi
echo ready > /dev/ttyS0
if does busy; then while :; do :; done; fi
for port in /dev/vport*p1; do
  if [ -e $port ]; then
    if does lose_agent; then /bin/busybox timeout 5 /qemu-ga -m virtio-serial -p $port -t /tmp
    else exec /qemu-ga -m virtio-serial -p $port -t /tmp; fi
  fi
done
exec /bin/busybox sleep 2147483647
"""
Does = Literal["busy", "lose_agent", "network", "panic", "write"]
"""Never rest; end its agent after a while; send packets; panic, with a restart at once; write to its disk."""
TOO_LITTLE = " mem=32M"
"""Memory: with so much the kernel panics early."""
DOMAIN = """<domain type='qemu'><name>{name}</name><uuid>{uuid}</uuid><memory unit='MiB'>128</memory><vcpu>1</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type><kernel>{kernel}</kernel><initrd>{initrd}</initrd>
    <cmdline>{options} {does}</cmdline></os><features><acpi/></features>
  <devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
    <controller type='usb' model='none'/><memballoon model='none'/><video><model type='none'/></video>
    {disk}{devices}
    <serial type='file'><source path='{console}'/></serial>
  </devices></domain>"""
CHANNEL = "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
DISK = """<disk type='file' device='disk'><driver name='qemu' type='raw' cache='none' io='native'/>
  <source file='{path}'/><target dev='vda' bus='virtio'/></disk>"""
NIC = "<interface type='ethernet'><model type='virtio'/></interface>"


@dataclass(frozen=True)
class AgentLinux:
    """What QEMU boots."""

    directory: Path
    kernel: Path
    initrd: Path
    disk_mb: int

    def domain_xml(
        self,
        uuid: str,
        name: str,
        *does: Does,
        agent: bool = True,
        nic: bool = False,
        disk: str | None = None,
    ) -> str:
        """Describe a guest with a channel for its agent, a NIC, and a disk of its own unless ``disk`` describes one."""
        return DOMAIN.format(
            uuid=uuid,
            name=name,
            kernel=self.kernel,
            initrd=self.initrd,
            options=OPTIONS,
            does=" ".join(f"does={each}" for each in does) + (TOO_LITTLE if "panic" in does else ""),
            disk=disk or DISK.format(path=self._full_disk(name)),
            devices=(CHANNEL if agent else "") + (NIC if nic else ""),
            console=self.console(name),
        )

    def _full_disk(self, name: str) -> Path:
        disk = self.directory / f"{name}.img"
        with disk.open("wb") as file:
            for _ in range(self.disk_mb):
                file.write(os.urandom(1 << 20))
        return disk

    def console(self, name: str) -> Path:
        """Return the file that a guest writes to when it has booted."""
        return self.directory / f"{name}.console"


def make_agent_linux(directory: Path, *, compute_mb: int = 8, disk_mb: int = 32) -> AgentLinux:
    """Make one that computes the checksum of so much, and reads a disk of that size; skip without its packages."""
    kernel, files = debian_kernel(MORE_MODULES, *([] if find(AGENT) else ["qemu-guest-agent"]))
    agent = path_of(AGENT)
    files[AGENT] = Path(agent).read_bytes()
    files |= dict(_libraries(agent))
    init = INIT.format(modules=" ".join(Path(module).name for module in MORE_MODULES), compute_mb=compute_mb)
    initrd = directory / "initrd"
    initrd.write_bytes(b"".join(archive({**files, "init": init.encode()})))
    return AgentLinux(directory, kernel, initrd, disk_mb)


def _libraries(program: str) -> Iterator[tuple[str, bytes]]:
    """Return the libraries that a program is linked with, by the path under which it looks for each."""
    listed = subprocess.run([path_of("ldd"), program], capture_output=True, text=True, check=True).stdout
    for line in listed.splitlines():
        path = next((word for word in line.split() if word.startswith("/")), None)
        if path is not None:
            yield path.lstrip("/"), Path(path).read_bytes()
