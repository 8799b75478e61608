"""The whole real nova-compute with its real libvirt driver, on the libvirtd and in the cloud of a test.

To be used in namespaces of one's own (network, host name, mounts): Nova looks into ``/sys/class/net``, and libvirt's
name of the host is Nova's name of the node.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

from bringup.drivers.libvirt.binding import binding
from support.libvirtd import Libvirtd
from support.nova import nova_python
from support.openstack import CloudHost
from support.polling import until
from support.preloaded import Preloaded
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


def with_compute(directory: Path) -> Preloaded:
    """Return what Nova's programs are forked from, nova-compute too, for whose driver it has the binding of libvirt."""
    return Preloaded("env", f"PYTHONPATH={_binding_alone(directory)}", str(nova_python()), "-P", child=CHILD)


def _binding_alone(directory: Path) -> Path:
    """Make a folder with libvirt's binding and nothing else: Nova's environment has none, and is of the same Python."""
    folder = directory / "libvirt-python"
    folder.mkdir(exist_ok=True)
    found = Path(binding().__file__).parent
    for file in (*found.glob("libvirt*.py"), *found.glob("libvirtmod*.so")):
        if not (folder / file.name).exists():
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
    """Make the disk of a guest."""
    subprocess.run([path_of("qemu-img"), "create", "-q", "-f", "qcow2", path, "1M"], check=True)


class RealCompute:
    """A nova-compute that can be started on a host, as often as wanted."""

    def __init__(self, host: CloudHost, server: Libvirtd, directory: Path, *, ovsdb: str, neutron: str) -> None:
        """Write its nova.conf."""
        self._nova = host.nova
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

    def command(self) -> "subprocess.Popen[bytes]":
        """Start it as an operator does: its own command, which imports all that it needs, with nothing added.

        Whoever starts it ends it, see :meth:`end_command`.
        """
        environment = os.environ | {
            "OS_NOVA_DISABLE_EVENTLET_PATCHING": "1",
            "PATH": f"{nova_python().parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(_binding_alone(self.conf.parent)),
        }
        command = (nova_python().parent / "nova-compute", "--config-file", self.conf)
        with self.log.open("ab") as log:
            return subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def end_command(self) -> None:
        """Kill all processes that have its nova.conf: those with privileges may be orphans."""
        for pid in (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()):
            with contextlib.suppress(OSError):
                if str(self.conf).encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                    os.kill(pid, signal.SIGKILL)

    def run(self) -> str | None:
        """Start it, wait until ``init_host`` ended, and end it; return what that raised, None where it ended well.

        It is forked from the programs of its cloud.
        """
        self._events.unlink(missing_ok=True)
        with self.log.open("ab") as log:
            arguments = ("compute", str(self._events), "--config-file", str(self.conf))
            process = self._nova.fork(*arguments, stdout=log, stderr=log)

        def told() -> bool:
            # The file is there before its line is.
            has_told = self._events.exists() and self._events.read_text().endswith("\n")
            assert has_told or process.poll() is None, "nova-compute has ended"
            return has_told

        try:
            until(told, "the end of init_host", patience_s=PATIENCE_S)
        except AssertionError as error:
            error.add_note(self.log.read_text()[-4000:])
            raise
        finally:
            # It does not end in 15 s when it is asked to.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        ended: str | None = json.loads(self._events.read_text().splitlines()[0])["error"]
        return ended
