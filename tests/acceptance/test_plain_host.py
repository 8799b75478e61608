"""A plain libvirt host: the blocks of docs/libvirt.md as they are, in a machine that goes down and loses its power."""

import ast
import re
import shutil
import textwrap
from collections.abc import Iterator

import pytest

from support import boot_sectors
from support.booted import HAS_LIBVIRT, Machine, booted, make_tree, require_a_machine
from support.debian import REPOSITORY
from support.records import uuid_of

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(not HAS_LIBVIRT, reason="needs the driver for libvirt"),
]

PAGE = (REPOSITORY / "docs/libvirt.md").read_text()
BLOCKS = [
    textwrap.dedent(block) for block in re.findall(r"^ *```sh plain-host\n(.*?)^ *```$", PAGE, re.DOTALL | re.MULTILINE)
]
UNIT, GUESTS = "bringup-guests.service", "libvirt-guests.service"
UUIDS = {name: uuid_of(number) for number, name in enumerate(("web", "db", "backup"), 1)}
RAN = {"web", "db"}
IMAGE = "/var/lib/libvirt/images/acpi.img"
DOMAIN = """
<domain type='qemu'><name>{name}</name><uuid>{uuid}</uuid><memory unit='MiB'>4</memory><vcpu>1</vcpu>
 <os><type arch='x86_64' machine='pc'>hvm</type><boot dev='fd'/></os><features><acpi/></features>
 <devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
  <disk type='file' device='floppy'><driver name='qemu' type='raw'/>
   <source file='{image}'/><target dev='fda' bus='fdc'/><readonly/></disk>
  <controller type='usb' model='none'/><memballoon model='none'/><video><model type='none'/></video>
 </devices></domain>
"""
# As systemd-machined puts a guest into a scope; the machine of the tests has no controllers for libvirt's own.
SCOPE = """
systemctl --quiet is-active machine-{name}.scope && exit
pid=$(cat /run/libvirt/qemu/{name}.pid)
busctl call org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager StartTransientUnit \
  'ssa(sv)a(sa(sv))' machine-{name}.scope fail 4 PIDs au 1 $pid Slice s machine.slice \
  After as 1 libvirtd.service Before as 1 virt-guest-shutdown.target 0
"""


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    require_a_machine()
    machine = Machine(tmp_path_factory.mktemp("plain"))
    make_tree(machine.tree)
    with booted(machine, placement=False):
        (machine.tree / IMAGE.lstrip("/")).write_bytes(boot_sectors.image(boot_sectors.OBEYS_ACPI))
        machine.shell(f"chmod 0644 {IMAGE}")
        for name, uuid in UUIDS.items():
            machine.write("/srv/domain.xml", DOMAIN.format(name=name, uuid=uuid, image=IMAGE))
            machine.shell("virsh --quiet define /srv/domain.xml")
        start(machine, *RAN)
        for block in BLOCKS:
            machine.shell(block, PIP_NO_INDEX="1", PIP_FIND_LINKS="/usr/src/wheels")
        yield machine
    shutil.rmtree(machine.directory, ignore_errors=True)


def start(machine: Machine, *names: str) -> None:
    """Start guests, each in a scope of its own."""
    for name in names:
        if name not in running(machine):
            machine.shell(f"virsh --quiet start {name}")
        machine.shell(SCOPE.format(name=name))


def running(machine: Machine) -> set[str]:
    return set(machine.run("virsh", "list", "--name", "--state-running").split())


def until_back(machine: Machine) -> None:
    """Wait for the job of the unit, where there is one."""
    machine.systemctl("start", UNIT)


QUERY = "SELECT display_name, vm_state FROM instances"
STORED = f"import sqlite3; print(dict(sqlite3.connect('/var/lib/bringup/instances.sqlite').execute('{QUERY}')))"


def records(machine: Machine) -> dict[str, str]:
    """Return by name what the records say."""
    found: dict[str, str] = ast.literal_eval(machine.run("python3", "-c", STORED))
    return found


def settings(machine: Machine, more: str = "") -> None:
    """Write the settings of the page, and lines for Placement."""
    machine.write("/etc/bringup/bringup.toml", (REPOSITORY / "systemd/plain-host/bringup.toml").read_text() + more)


ACTIVE = {"web": "active", "db": "active", "backup": "stopped"}


def test_after_the_blocks_of_the_page_everything_is_right_and_it_reports_what_will_come_back(machine: Machine) -> None:
    assert len(BLOCKS) >= 4
    checked = machine.run("bringup", "check")
    assert "failed" not in checked
    assert "ok       resume" in checked
    assert "no other autostart mechanism found" in checked
    assert "after a power cut: 2 would be started, 1 stays off" in machine.run("bringup", "plan", "--after-power-cut")
    assert records(machine) == ACTIVE


def test_after_a_power_cut_the_guests_that_ran_are_back(machine: Machine) -> None:
    machine.power_cut()
    until_back(machine)

    assert running(machine) == RAN
    assert machine.shown(UNIT, "ActiveState", "NRestarts") == {"ActiveState": "active", "NRestarts": "0"}


@pytest.mark.parametrize("asked", [True, False], ids=["asked by libvirt-guests", "not asked"])
def test_after_a_reboot_in_good_order_the_records_are_right_and_the_guests_are_back(
    machine: Machine, *, asked: bool
) -> None:
    until_back(machine)
    machine.systemctl("enable" if asked else "disable", "--now", "--quiet", GUESTS)
    start(machine, *RAN)

    machine.reboot()
    until_back(machine)

    assert running(machine) == RAN
    assert records(machine) == ACTIVE
    said = " ".join(entry["MESSAGE"] for entry in machine.entries("--boot=-1", f"--unit={GUESTS}"))
    if asked:
        assert "Shutdown of guest web complete" in said or "shutdown of guest web complete" in said.lower(), said
    machine.systemctl("enable", "--now", "--quiet", GUESTS)


def test_guests_that_their_administrator_has_stopped_stay_off(machine: Machine) -> None:
    until_back(machine)
    # As the page says: the drop-in counts from its next start.
    machine.systemctl("try-restart", "libvirtd.service")
    # Without it libvirtd would end by itself, and could not be asked when the host goes down.
    assert "--timeout" not in machine.run(
        "cat", f"/proc/{machine.shown('libvirtd.service', 'MainPID')['MainPID']}/cmdline"
    )
    start(machine, *RAN)
    for name in RAN:
        machine.shell(f"virsh --quiet destroy {name}")

    machine.reboot()
    until_back(machine)

    assert running(machine) == set()
    assert set(records(machine).values()) == {"stopped"}
    start(machine, *RAN)
    machine.shell("bringup import --from-libvirt")


def test_a_boot_without_placement_is_tried_again_and_the_timer_forgets_nobody_meanwhile(machine: Machine) -> None:
    until_back(machine)
    settings(machine, "wait = 0\n")
    machine.write(f"/etc/systemd/system/{UNIT}.d/quick.conf", "[Service]\nRestartSec=1s\n")
    machine.systemctl("disable", "--quiet", "bringup-placement.service")
    machine.power_cut()

    machine.systemctl("start", "bringup-import.service")
    assert running(machine) == set()
    assert records(machine) == ACTIVE
    before = machine.cursor()
    machine.systemctl("enable", "--quiet", "--now", "bringup-placement.service")

    # Nobody starts it but systemd.
    machine.until(lambda entry: str(entry.get("MESSAGE")).startswith(f"Finished {UNIT}"), after=before)
    until_back(machine)
    assert running(machine) == RAN
    assert int(machine.shown(UNIT, "NRestarts")["NRestarts"]) >= 1
    settings(machine)
    machine.shell(f"rm -r /etc/systemd/system/{UNIT}.d")
    machine.systemctl("daemon-reload")


def test_installing_again_leaves_the_settings_and_the_records(machine: Machine) -> None:
    settings(machine, "wait = 7\n")

    for block in BLOCKS[:2]:
        machine.shell(block, PIP_NO_INDEX="1", PIP_FIND_LINKS="/usr/src/wheels")

    assert (machine.tree / "etc/bringup/bringup.toml").read_text().endswith("wait = 7\n")
    assert records(machine) == ACTIVE


@pytest.mark.parametrize("command", ["status", "history", "plan", "check", "run --once", "plot", "release", "accept"])
def test_a_user_without_rights_gets_the_names_of_those_with_rights(machine: Machine, command: str) -> None:
    machine.shell("chmod 0750 /etc/bringup")

    said = machine.run("runuser", "-u", "nobody", "--", "sh", "-c", f"bringup {command} 2>&1; echo code $?")

    assert "Traceback" not in said
    assert "settings file /etc/bringup/bringup.toml cannot be read (Permission denied)" in said
    assert said.endswith("code 78")
