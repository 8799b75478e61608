"""The whole real nova-compute with its real libvirt driver, on the libvirtd and in the cloud of a test.

To be used in namespaces of one's own (network, host name, mounts): Nova looks into ``/sys/class/net``, and libvirt's
name of the host is Nova's name of the node.
"""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

from bringup.drivers.libvirt.binding import binding
from support import boot_sectors, rabbitmq
from support.libvirtd import Libvirtd
from support.openstack import CloudHost
from support.programs import path_of

CHILD = Path(__file__).with_name("real_compute_child.py")
PATIENCE_S = 240.0
IMAGE = "5c1f2a62-0bd7-4b51-9d0b-6b9f1a1f0c11"
PRIVSEP = ("nova_sys_admin", "vif_plug_ovs_privileged", "vif_plug_linux_bridge_privileged", "privsep_osbrick")
COMPUTE = """\
[DEFAULT]
host = {host}
my_ip = 127.0.0.1
compute_driver = libvirt.LibvirtDriver
resume_guests_state_on_host_boot = true
instances_path = {instances}
state_path = {state}
vif_plugging_is_fatal = false
vif_plugging_timeout = 0
default_ephemeral_format = ext4
{rest}
[os_vif_ovs]
ovsdb_connection = {ovsdb}
ovs_vsctl_timeout = 5
[libvirt]
connection_uri = {uri}
virt_type = qemu
cpu_mode = none
swtpm_enabled = false
rx_queue_size =
num_pcie_ports = 0
[neutron]
auth_type = admin_token
endpoint = {neutron}
endpoint_override = {neutron}
token = admin
[vnc]
enabled = false
[spice]
enabled = false
"""


def libvirt_for_nova(directory: Path) -> Path:
    """Return a folder with the binding of libvirt alone: Nova's environment has none, and is of the same Python."""
    folder = directory / "libvirt-python"
    folder.mkdir(exist_ok=True)
    found = Path(binding().__file__).parent
    for file in (*found.glob("libvirt*.py"), *found.glob("libvirtmod*.so")):
        (folder / file.name).symlink_to(file)
    return folder


def image_metadata() -> dict[str, str]:
    """Return what Nova's API has written of an image that a guest of one boot sector starts from."""
    return {
        "image_container_format": "bare",
        "image_disk_format": "qcow2",
        "image_min_ram": "0",
        "image_min_disk": "1",
        "image_base_image_ref": IMAGE,
        "image_hw_machine_type": "pc",
        "image_hw_disk_bus": "virtio",
        "image_hw_cdrom_bus": "ide",
        "image_hw_vif_model": "virtio",
        "image_hw_video_model": "virtio",
        "image_hw_input_bus": "usb",
        "image_hw_pointer_model": "usbtablet",
        "boot_roles": "member",
        "owner_user_name": "demo",
        "owner_project_name": "demo",
    }


def local_disk() -> dict[str, Any]:
    """Return the block device mapping of a disk made from an image."""
    return {
        "source_type": "image",
        "destination_type": "local",
        "device_name": "/dev/vda",
        "device_type": "disk",
        "disk_bus": "virtio",
        "boot_index": 0,
        "delete_on_termination": True,
        "image_id": IMAGE,
        "volume_size": None,
        "guest_format": None,
        "no_device": False,
    }


def make_disk(path: Path) -> None:
    """Make the disk of a guest that ignores the power button."""
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = path.with_suffix(".raw")
    raw.write_bytes(boot_sectors.image(boot_sectors.IGNORES_ACPI).ljust(1 << 20, b"\0"))
    subprocess.run([path_of("qemu-img"), "convert", "-q", "-f", "raw", "-O", "qcow2", raw, path], check=True)
    raw.unlink()


class RealCompute:
    """A nova-compute that can be started on a host, as often as wanted."""

    def __init__(self, host: CloudHost, server: Libvirtd, directory: Path, *, ovsdb: str, neutron: str) -> None:
        """Write its nova.conf."""
        self._nova = host.nova
        self._directory = directory
        self._path = libvirt_for_nova(directory)
        self.conf = directory / "compute.conf"
        self.log = directory / "compute.log"
        self._events = directory / "compute.events"
        state = directory / "compute"
        state.mkdir()
        (state / "compute_id").write_text(host.node)
        # libvirt's name of the host is Nova's name of the node.
        socket.sethostname(host.name)
        left_out = ("host = controller", f"state_path = {self._nova.directory}", "executor_thread_pool_size = 1")
        default, sections = self._nova.conf.read_text().split("[oslo_concurrency]", 1)
        rest = [line for line in default.splitlines() if line not in (*left_out, "[DEFAULT]")]
        helper = f"helper_command = {self._nova.python.parent}/privsep-helper --config-file {self.conf}\n"
        own = COMPUTE.format(
            host=host.name,
            instances=server.directory / "instances",
            state=state,
            uri=server.uri,
            ovsdb=ovsdb,
            neutron=neutron,
            rest="\n".join(rest),
        )
        self.conf.write_text(own + "[oslo_concurrency]" + sections + "".join(f"[{one}]\n{helper}" for one in PRIVSEP))
        self._child = self._a_child()

    def _a_child(self) -> "subprocess.Popen[bytes]":
        """Start the process that each nova-compute is forked from."""
        environment = {**os.environ, "PYTHONPATH": str(self._path)}
        environment["PATH"] = f"{self._nova.python.parent}:{environment['PATH']}"
        command = [str(self._nova.python), "-P", str(CHILD), "--config-file", str(self.conf)]
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [*rabbitmq.WITH_US, *command],
                cwd=self._directory,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                bufsize=0,
                env=environment,
            )

    def close(self) -> None:
        """End the process that they are forked from."""
        self._child.communicate()

    def run(self) -> str | None:
        """Start it, wait until ``init_host`` ended, and end it; return what that raised, None where it ended well."""
        self._events.unlink(missing_ok=True)
        requests, answers = self._child.stdin, self._child.stdout
        assert requests is not None
        assert answers is not None
        requests.write(f"{self._events}\n".encode())
        pid = int(answers.readline())
        try:
            until = time.monotonic() + PATIENCE_S
            # The file is there before its line is.
            while not (self._events.exists() and self._events.read_text().endswith("\n")):
                # It is told when the process has ended.
                assert not select.select([answers], [], [], 0.05)[0], self.log.read_text()[-4000:]
                assert time.monotonic() < until, f"no end of init_host: {self.log.read_text()[-4000:]}"
        finally:
            # It does not end in 15 s when it is asked to.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
            answers.readline()
        error: str | None = json.loads(self._events.read_text().splitlines()[0])["error"]
        return error
