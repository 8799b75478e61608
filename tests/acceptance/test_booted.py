"""A machine that boots, loses its power and boots again, with bringup on it as an operator installs it."""

import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from bringup.daemon.service import clock_sync
from bringup.daemon.storage.record_files import Records, dump_records
from bringup.drivers.base import PowerState
from bringup.drivers.simulated import Fault, Scenario, SimulatedGuest, dump_scenario
from support.boot_sectors import OBEYS_ACPI, image
from support.booted import HAS_LIBVIRT, Machine, booted, make_tree, require_a_machine
from support.debian import REPOSITORY
from support.polling import until
from support.records import HOST, instance, migration, uuid_of

pytestmark = pytest.mark.timeout(600)

UNIT = "bringup.service"
BRINGUP = "/opt/bringup/bin/bringup"
STATE = "/var/lib/bringup"
RUNTIME = "/run/bringup"
INSTALL = re.compile(r"```sh install\n(.*?)```", re.DOTALL)
NARROW = re.compile(r"```sh narrow\n(.*?)```", re.DOTALL)
# Who has to be on either side of it; libvirt itself where there is a driver for it.
IDLE = "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n"
NEIGHBOURS = {"nova-compute.service": IDLE} if HAS_LIBVIRT else {"nova-compute.service": IDLE, "libvirtd.service": IDLE}
# What the hypervisor has is gone when the power is, and is there when the daemon only was away.
HYPERVISOR = "d /run/hypervisor 0700 bringup bringup -\n"
# As udev makes it on a host.
TUN = "d /dev/net 0755 root root -\nc /dev/net/tun 0666 root root - 10:200\n"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    require_a_machine()
    machine = Machine(tmp_path_factory.mktemp("machine"))
    make_tree(machine.tree)
    for name, text in NEIGHBOURS.items():
        machine.write(f"/etc/systemd/system/{name}", f"{text}[Install]\nWantedBy=multi-user.target\n")
    with booted(machine):
        documented = INSTALL.search((REPOSITORY / "docs/operating.md").read_text())
        assert documented is not None
        machine.shell(documented[1], PIP_NO_INDEX="1", PIP_FIND_LINKS="/usr/src/wheels")
        machine.write("/etc/tmpfiles.d/hypervisor.conf", HYPERVISOR + TUN)
        machine.shell("systemd-tmpfiles --create")
        machine.systemctl("enable", "--quiet", *NEIGHBOURS)
        yield machine
    # Half a gigabyte, which pytest would keep.
    shutil.rmtree(machine.directory, ignore_errors=True)


@pytest.fixture
def machine(installed: Machine) -> Machine:
    """Return the machine with no trace of the test before."""
    installed.systemctl("stop", UNIT)
    installed.shell(f"rm -rf {STATE}/* /run/hypervisor/* /etc/systemd/system/{UNIT}.d")
    installed.shell(f"install -D -m 0644 systemd/with-network/bringup.conf /etc/systemd/system/{UNIT}.d/network.conf")
    installed.systemctl("daemon-reload")
    installed.systemctl("reset-failed")
    return installed


def settings(machine: Machine, **sections: Mapping[str, Any]) -> None:
    """Write the settings file."""
    known: dict[str, dict[str, Any]] = {
        "host": {"name": HOST},
        "limits": {"concurrency": 2, "instance_deadline": 20, "host_deadline": 10},
        "placement": {"url": "http://127.0.0.1:8778", "create_resource_provider": True},
        "driver": {"scenario": "/etc/bringup/scenario.json", "scenario_state": "/run/hypervisor/guests.sqlite"},
        "resume": {"guests": "on_host_boot"},
    }
    for name, values in sections.items():
        known[name] = {**known.get(name, {}), **values}
    lines = [
        f"[{name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())
        for name, values in known.items()
    ]
    machine.write("/etc/bringup/bringup.toml", "".join(lines))


def host(
    machine: Machine,
    *faults: Fault,
    latency: Mapping[Any, float] | None = None,
    drop_in: str = "",
    **sections: Mapping[str, Any],
) -> None:
    """Prepare a host that has just booted: settings, records, guests that are off, and lines for its unit."""
    settings(machine, **sections)
    instances = tuple(instance(number) for number in range(1, 5))
    guests = tuple(SimulatedGuest(uuid=one.uuid, name=one.name, power_state=PowerState.SHUTDOWN) for one in instances)
    scenario = Scenario(guests=guests, faults=faults, latency=latency or {})
    machine.write("/etc/bringup/scenario.json", dump_scenario(scenario))
    machine.write("/etc/bringup/records.json", dump_records(Records(instances=instances)))
    machine.shell(f"chmod 0644 /etc/bringup/*.json; {IMPORTED}")
    if drop_in:
        machine.write(f"/etc/systemd/system/{UNIT}.d/test.conf", drop_in)
        machine.systemctl("daemon-reload")


# The same records for each test: the command makes them once.
IMPORTED = f"""
if [ ! -e /srv/imported ]; then
  runuser -u bringup -- {BRINGUP} import /etc/bringup/records.json
  cp -a {STATE} /srv/imported
fi
cp -a /srv/imported/. {STATE}
"""


def event(name: str, **facts: str) -> Any:
    wanted = {"BRINGUP_EVENT": name, **facts}
    return lambda entry: wanted.items() <= entry.items()


def canonical(entries: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """By instance, why it came out as it did."""
    return {
        entry["INSTANCE_UUID"]: json.loads(entry["BRINGUP_BECAUSE"])
        for entry in entries
        if entry.get("BRINGUP_EVENT", "").startswith("instance.") and "BRINGUP_BECAUSE" in entry
    }


def running_guests(machine: Machine) -> set[str]:
    """Query the hypervisor, which is kept in the machine's memory."""
    query = "SELECT CAST(document AS TEXT) FROM guests"
    script = f"import sqlite3, sys; [print(row[0]) for row in sqlite3.connect(sys.argv[1]).execute('{query}')]"
    guests = map(json.loads, machine.run("python3", "-c", script, "/run/hypervisor/guests.sqlite").splitlines())
    # What stands for itself is not written.
    return {guest["uuid"] for guest in guests if guest.get("power_state", "running") == "running"}


def since_boot(machine: Machine, unit: str, what: str) -> int:
    """Return when something happened to a unit, in microseconds since the boot."""
    name = f"{what}TimestampMonotonic"
    return int(machine.shown(unit, name)[name])


def all_of(count: int = 4) -> set[str]:
    return {uuid_of(number) for number in range(1, count + 1)}


HANGS = Fault(verb="plug_vifs", uuid=uuid_of(2), hang=True, times=1)
QUICK = "[Service]\nRestartSec=100ms\n"


def test_after_a_power_cut_the_unit_runs_in_its_order_and_every_guest_is_back(machine: Machine) -> None:
    host(machine)

    machine.power_cut()

    shown = machine.shown(UNIT, "ActiveState", "StatusText", "NRestarts")
    assert shown == {"ActiveState": "active", "StatusText": "ready, 4/4 done, 4 started", "NRestarts": "0"}
    assert running_guests(machine) == all_of()
    entries = machine.entries("--boot", f"--unit={UNIT}")
    assert canonical(entries) == {uuid: ["vifs", "ran_before"] for uuid in all_of()}
    assert all(entry["_SYSTEMD_UNIT"] == UNIT for entry in entries if "INSTANCE_UUID" in entry)
    # Who waits for whom: network and libvirt, then this one as a whole, then nova-compute.
    begins, ready = since_boot(machine, UNIT, "ExecMainStart"), since_boot(machine, UNIT, "ActiveEnter")
    for earlier in ("network-online.target", "libvirtd.service"):
        assert since_boot(machine, earlier, "ActiveEnter") < begins
    assert since_boot(machine, "nova-compute.service", "ExecMainStart") > ready

    before = machine.cursor()
    machine.systemctl("restart", UNIT)

    again = canonical(machine.entries(f"--after-cursor={before}", f"--unit={UNIT}"))
    assert again == {uuid: ["vifs", "runs"] for uuid in all_of()}


COMPUTE = "nova-compute.service"


def test_each_power_cut_is_a_boot_of_its_own_for_the_unit_as_it_is_shipped(machine: Machine) -> None:
    """In a system container ProtectProc= shows the id of the kernel's boot, which is the outer one's for ever."""
    host(machine)
    outer = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    boots = set()

    for _ in range(2):
        machine.power_cut()
        assert running_guests(machine) == all_of()
        [ended] = [each for each in machine.entries("--boot", f"--unit={UNIT}") if event("run.ended")(each)]
        boots.add(ended["BRINGUP_BOOT_ID"])
        assert ended["BRINGUP_BOOT_ID"].replace("-", "") == ended["_BOOT_ID"]
        # Whoever asks from a shell means the same boot.
        plan = machine.run("runuser", "-u", "bringup", "--", BRINGUP, "plan", "--json")
        assert {json.loads(line)["because"][-1] for line in plan.splitlines()} == {"runs"}

    assert len(boots) == 2
    assert outer not in boots
    # systemd and the time service answer the unit, whatever else it may not do.
    assert not any(event("boot.systemd_not_queried")(entry) for entry in machine.entries(f"--unit={UNIT}"))
    confined = ("--uid=bringup", "--property=ProtectProc=invisible", "--property=ProtectClock=yes", "--quiet", "--pipe")
    assert machine.run("systemd-run", "--wait", *confined, *clock_sync.QUERY) in {"yes", "no"}
    # A restart is no boot.
    machine.systemctl("restart", UNIT)
    assert canonical(machine.entries("--boot", f"--unit={UNIT}"))[uuid_of(1)] == ["vifs", "runs"]


def test_that_the_host_is_up_is_noted_where_no_daemon_stays(machine: Machine) -> None:
    host(machine, resume={"guests": "on_host_boot", "max_downtime": "1h"})
    machine.write(
        f"/etc/systemd/system/{UNIT}.d/once.conf", (REPOSITORY / "systemd/bringup.service.d/once.conf").read_text()
    )
    machine.systemctl("daemon-reload")

    machine.power_cut()
    assert machine.shown("bringup-alive.timer", "ActiveState") == {"ActiveState": "active"}
    machine.systemctl("start", "bringup-alive.service")
    assert machine.run("stat", "--format=%U", f"{STATE}/alive") == "bringup"
    machine.power_cut()

    [known] = [
        each for each in machine.entries("--boot", f"--unit={UNIT}") if each.get("BRINGUP_EVENT") == "boot.detected"
    ]
    assert 0 < float(known["BRINGUP_DOWNTIME_S"]) < 600
    assert running_guests(machine) == all_of()


def test_a_nova_compute_that_wants_it_starts_when_it_has_ended_and_not_while_it_fails(machine: Machine) -> None:
    for name, unit in (("once.conf", UNIT), ("nova-compute.conf", UNIT), ("bringup.conf", COMPUTE)):
        text = (REPOSITORY / f"systemd/{unit}.d/{name}").read_text()
        machine.write(f"/etc/systemd/system/{unit}.d/{name}", text)
    machine.write("/etc/credstore/placement.token", "nobody\n")
    machine.systemctl("stop", COMPUTE)
    host(machine, placement={"wait": 0}, drop_in=QUICK)
    before = machine.cursor()

    machine.systemctl("start", COMPUTE, code=1)
    assert machine.shown(COMPUTE, "ActiveState") == {"ActiveState": "inactive"}
    machine.write("/etc/credstore/placement.token", "admin\n")

    # Nobody starts it again: bringup is tried again, and says to nova-compute that it may.
    started = machine.until(
        lambda entry: entry.get("UNIT") == COMPUTE and entry.get("JOB_RESULT") == "done", after=before
    )
    assert started["JOB_TYPE"] == "start"
    shown = machine.shown(UNIT, "ActiveState", "SubState", "MainPID")
    assert shown == {"ActiveState": "active", "SubState": "exited", "MainPID": "0"}
    assert since_boot(machine, COMPUTE, "ExecMainStart") > since_boot(machine, UNIT, "ExecMainExit")
    assert running_guests(machine) == all_of()
    machine.shell(f"rm -r /etc/credstore/placement.token /etc/systemd/system/{COMPUTE}.d")


DOMAIN = """
<domain type='qemu'><name>{name}</name><uuid>{uuid}</uuid><memory unit='MiB'>4</memory><vcpu>1</vcpu>
 <os><type arch='x86_64' machine='pc'>hvm</type><boot dev='fd'/></os><features><acpi/></features>
 <devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
  <disk type='file' device='floppy'><driver name='qemu' type='raw'/>
   <source file='/var/lib/libvirt/images/acpi.img'/><target dev='fda' bus='fdc'/><readonly/></disk>
  <controller type='usb' model='none'/><memballoon model='none'/><video><model type='none'/></video>
 </devices></domain>
"""


def narrow(machine: Machine) -> None:
    """Make libvirt query polkit for each call, as the page says."""
    documented = NARROW.search((REPOSITORY / "docs/libvirt.md").read_text())
    assert documented is not None
    machine.systemctl("start", "polkit")
    before = since_boot(machine, "polkit.service", "ExecMainStart")
    machine.shell(documented[1])
    # One that ran may have read the rules before it could, and does not do so again.
    assert since_boot(machine, "polkit.service", "ExecMainStart") > before


def it_is_said_that_libvirt_asks(machine: Machine) -> None:
    lines = map(json.loads, machine.run(BRINGUP, "check", "--json", code=None).splitlines())
    [found] = [line for line in lines if line["check"] == "libvirt"]
    assert found["access_drivers"] == ["polkit"]


def what_was_evacuated_is_undefined(machine: Machine) -> None:
    machine.write("/srv/domain.xml", DOMAIN.format(name="moved", uuid=uuid_of(9)))
    machine.shell("virsh --quiet define /srv/domain.xml; virsh --quiet start moved")
    moved = Records(instances=(instance(9, host="compute-2", network_info=()),), migrations=(migration(9),))
    machine.write("/etc/bringup/records.json", dump_records(moved))
    machine.shell(f"chmod 0644 /etc/bringup/records.json; systemctl stop {UNIT}")
    machine.run("runuser", "-u", "bringup", "--", BRINGUP, "import", "/etc/bringup/records.json")
    machine.systemctl("start", UNIT)

    def is_gone() -> bool:
        return "moved" not in machine.run("virsh", "list", "--all", "--name").split()

    try:
        # On a machine that is busy polkit may not answer libvirt in time: then it is deferred, and tried again.
        until(is_gone, "the end of the evacuated guest")
    except AssertionError as error:
        units = (f"--unit={each}" for each in (UNIT, "polkit", "libvirtd"))
        raise AssertionError(machine.run("journalctl", "--no-pager", *units, "--lines=80", "--output=cat")) from error


def what_would_make_it_root_is_refused(machine: Machine) -> None:
    for words in ("pool-create-as evil dir --target /etc", "define /srv/domain.xml", "create /srv/domain.xml"):
        refused = f"runuser -u bringup -- virsh --connect qemu:///system {words} 2>&1 || true"
        assert "access denied" in machine.shell(refused), words


@pytest.mark.skipif(not HAS_LIBVIRT, reason="needs the driver for libvirt")
def test_real_guests_of_libvirt_are_back_after_a_power_cut_and_after_a_reboot_in_good_order(machine: Machine) -> None:
    names = {uuid: f"guest-{number}" for number, uuid in enumerate(sorted(all_of(3)))}
    (machine.tree / "var/lib/libvirt/images/acpi.img").write_bytes(image(OBEYS_ACPI))
    machine.shell("chmod 0644 /var/lib/libvirt/images/acpi.img")
    for uuid, name in names.items():
        machine.write("/srv/domain.xml", DOMAIN.format(name=name, uuid=uuid))
        machine.shell(f"virsh --quiet define /srv/domain.xml; virsh --quiet start {name}")
    settings(
        machine,
        driver={"name": "libvirt"},
        libvirt={"instances_path": "/var/lib/libvirt/images"},
        network={"filter": "nftables"},
        evacuated={"shared_storage": "local"},
        limits={"instance_deadline": 110, "host_deadline": 60},
    )
    machine.run("runuser", "-u", "bringup", "--", BRINGUP, "import", "--from-libvirt")

    machine.power_cut()

    machine.systemctl("is-active", UNIT)
    assert set(machine.run("virsh", "list", "--name", "--state-running").split()) == set(names.values())
    came = canonical(machine.entries("--boot", f"--unit={UNIT}"))
    assert {uuid: because[-1] for uuid, because in came.items()} == dict.fromkeys(names, "ran_before")
    assert since_boot(machine, "libvirtd.service", "ActiveEnter") < since_boot(machine, UNIT, "ExecMainStart")
    machine.systemctl("restart", UNIT)
    again = machine.run("virsh", "list", "--name", "--state-running").split()
    assert set(again) == set(names.values())

    narrow(machine)
    it_is_said_that_libvirt_asks(machine)
    what_was_evacuated_is_undefined(machine)
    what_would_make_it_root_is_refused(machine)

    # libvirt-guests asks each to shut down; the daemon has ended before, so no record says that somebody stopped it.
    machine.reboot()

    machine.systemctl("is-active", UNIT)
    assert set(machine.run("virsh", "list", "--name", "--state-running").split()) == set(names.values())
    said = " ".join(str(entry["MESSAGE"]) for entry in machine.entries("--boot=-1", "--unit=libvirt-guests.service"))
    assert all(f"Starting shutdown on guest: {name}" in said for name in names.values()), said
    for name in names.values():
        machine.shell(f"virsh --quiet destroy {name}; virsh --quiet undefine {name}")


def test_it_is_an_unprivileged_user_with_one_capability(machine: Machine) -> None:
    host(machine)
    machine.systemctl("start", UNIT)

    pid = machine.shown(UNIT, "MainPID")["MainPID"]
    lines = machine.run("cat", f"/proc/{pid}/status").splitlines()
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    user = machine.run("id", "--user", "bringup")
    assert status["Uid"].split() == [user] * 4
    net_admin = f"{1 << 12:016x}"
    assert {status[name] for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")} == {net_admin}
    assert machine.shown(UNIT, "MemoryMax", "TasksMax", "LimitNOFILE") == {
        "MemoryMax": str(1 << 30),
        "TasksMax": "2048",
        "LimitNOFILE": "8192",
    }
    # Who answers has none, though the unit refuses capset(2), and answers in all that surrounds it.
    assert json.loads(machine.run("runuser", "-u", "bringup", "--", BRINGUP, "status", "--json"))["state"] == "ready"
    [answers] = machine.run("cat", f"/proc/{pid}/task/{pid}/children").split()
    theirs = machine.run("cat", f"/proc/{answers}/status")
    assert re.findall(r"^Cap(?:Eff|Prm|Amb):\t(.*)$", theirs, re.MULTILINE) == ["0" * 16] * 3
    # Where NICs are made by others, it is left out.
    machine.shell(f"rm /etc/systemd/system/{UNIT}.d/network.conf; systemctl daemon-reload; systemctl restart {UNIT}")
    pid = machine.shown(UNIT, "MainPID")["MainPID"]
    assert (
        re.findall(r"^Cap(?:Eff|Prm|Bnd|Amb):\t(.*)$", machine.run("cat", f"/proc/{pid}/status"), re.MULTILINE)
        == ["0" * 16] * 4
    )
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert machine.run("stat", "--format=%U %a", STATE) == "bringup 700"


# What a driver of the network does: a bridge without IPv6, a tap in it, a table of rules.
NETWORK = """
ip link add bringup-br type bridge
echo 1 > /proc/sys/net/ipv6/conf/bringup-br/disable_ipv6
ip tuntap add dev bringup-tap mode tap
ip link set bringup-tap master bringup-br
nft add table bridge bringup-test
nft delete table bridge bringup-test
ip link delete bringup-tap
ip link delete bringup-br
"""


# As the daemon would, with its interpreter: programs of the host, one that was written, code in a written file.
EXECUTE = f"""
import ctypes, mmap, os, shutil, subprocess, sys
ran = []
folders = ("{STATE}", "/tmp", "/var/tmp", "/run/bringup", "/dev/shm")
written = [shutil.copy("/usr/bin/true", folder) for folder in folders]
for program in ("/bin/sh", "/usr/bin/virsh", "/usr/bin/env", *written):
    try:
        ran.append(subprocess.run([program], capture_output=True).args)
    except PermissionError:
        pass
with open(written[0], "rb") as file:
    try:
        ran.append(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ | mmap.PROT_EXEC, flags=mmap.MAP_PRIVATE))
    except PermissionError:
        pass
subprocess.run(["nft", "list", "tables"], check=True)
subprocess.run(["timedatectl", "--version"], check=True)
subprocess.run(["systemctl", "--version"], check=True)
sys.exit(str(ran) if ran else None)
"""


def test_what_surrounds_it_lets_it_work_on_the_network_and_write_nowhere_else(machine: Machine) -> None:
    closed = "/etc/bringup/x /usr/x /root/x /proc/sys/x"
    refused = f"for path in {closed}; do if touch $path 2>/dev/null; then exit 1; fi; done\n"
    machine.write("/usr/local/bin/try-it", f"#!/bin/sh -eu\n{NETWORK}{refused}touch {STATE}/x\n")
    machine.shell("chmod 0755 /usr/local/bin/try-it")

    # What is run beside the daemon is no program that it may run.
    host(machine, drop_in="[Service]\nExecPaths=/usr\nExecStartPre=/usr/local/bin/try-it\n")

    machine.systemctl("start", UNIT)
    assert machine.run("stat", "--format=%U", f"{STATE}/x") == "bringup"


def test_no_program_runs_that_its_unit_does_not_name_and_no_code_that_it_could_write(machine: Machine) -> None:
    machine.write("/usr/local/bin/execute.py", EXECUTE)

    host(machine, drop_in="[Service]\nExecStartPre=/usr/bin/python3 /usr/local/bin/execute.py\n")

    machine.systemctl("start", UNIT)


def test_a_secret_of_root_is_handed_over_and_the_daemon_cannot_read_the_file(machine: Machine) -> None:
    secret = "/etc/credstore/placement.token"
    # Placement takes no other for an administrator's; without any, "admin" is sent.
    machine.write(secret, "nobody\n")
    machine.shell(f"chmod 0700 /etc/credstore; chmod 0600 {secret}")
    host(machine, placement={"wait": 0})

    machine.systemctl("start", UNIT, code=1)
    assert machine.shown(UNIT, "ExecMainStatus") == {"ExecMainStatus": "69"}
    machine.systemctl("stop", UNIT)
    machine.write(secret, "admin\n")
    before = machine.cursor()
    machine.systemctl("start", UNIT)

    said = [entry["MESSAGE"] for entry in machine.entries(f"--after-cursor={before}", f"--unit={UNIT}")]
    assert not any("placement.token" in line for line in said)
    machine.run("runuser", "-u", "bringup", "--", "cat", secret, code=1)
    # By hand it is root who reads it.
    machine.run("env", "CREDENTIALS_DIRECTORY=/etc/credstore", BRINGUP, "plan")
    machine.shell(f"rm {secret}")


def test_a_run_that_is_slow_is_waited_for(machine: Machine) -> None:
    limit_s = 10
    slow = {"plug_vifs": 0.25 * limit_s + 0.1}
    host(machine, latency=slow, limits={"concurrency": 1}, drop_in=f"[Service]\nTimeoutStartSec={limit_s}s\n")

    machine.systemctl("start", UNIT)

    took_us = since_boot(machine, UNIT, "ActiveEnter") - since_boot(machine, UNIT, "InactiveExit")
    assert took_us > limit_s * 1_000_000
    assert machine.shown(UNIT, "NRestarts") == {"NRestarts": "0"}


REPORT = f"{STATE}/outbox/0.json"
A_REPORT = f"install -o bringup -g bringup -m 0600 /dev/null {REPORT}"
# An outbox whose disk does not answer is soon taken for what it is.
HASTY = {"stuck_after": 1, "shutdown_report_deadline": 1}
NOBODY = {"transport": "http", "url": "http://127.0.0.1:1", "timeout": 1, "retry_initial": 0.1, "retry_max": 0.1}


def test_a_run_that_is_stuck_is_killed_reports_where_and_is_started_again(machine: Machine) -> None:
    impatient = f"{QUICK}TimeoutStartSec=10s\nTimeoutStopSec=1s\n"
    host(machine, drop_in=impatient, limits=HASTY, scheduler=NOBODY)
    machine.shell(f"install -d -o bringup -g bringup -m 0700 {STATE}/outbox")
    before = machine.cursor()

    # Opening it hangs for ever, in a thread that nobody can call back, while the event loop turns.
    with machine.silent(REPORT, after=A_REPORT):
        machine.systemctl("start", "--no-block", UNIT)

        because = machine.until(event("service.stuck"), after=before)["BRINGUP_WHY"]
        assert "phase report" in because
        machine.until(lambda entry: "spool.py" in entry["MESSAGE"] and " in read" in entry["MESSAGE"], after=before)
    machine.shell(f"rm -f {REPORT}")
    machine.until(event("service.ready"), after=before)
    assert int(machine.shown(UNIT, "NRestarts")["NRestarts"]) >= 1
    assert running_guests(machine) == all_of()


def test_a_daemon_that_stays_and_whose_work_hangs_is_killed_by_the_watchdog(machine: Machine) -> None:
    host(machine, drop_in=f"{QUICK}WatchdogSec=10s\n", limits=HASTY, scheduler=NOBODY)
    machine.systemctl("start", UNIT)
    before = machine.cursor()

    with machine.silent(REPORT, after=A_REPORT):
        assert machine.until(event("service.stuck"), after=before)["BRINGUP_WHY"] == "the outbox is overdue"
        machine.until(lambda entry: "spool.py" in entry["MESSAGE"] and " in read" in entry["MESSAGE"], after=before)
    machine.shell(f"rm -f {REPORT}")
    machine.until(event("service.ready"), after=before)
    lines = " ".join(entry["MESSAGE"] for entry in machine.entries(f"--after-cursor={before}", f"--unit={UNIT}"))
    assert "Watchdog timeout" in lines


def test_killed_in_its_middle_it_is_started_again_and_continues(machine: Machine) -> None:
    host(machine, HANGS, drop_in=QUICK)
    before = machine.cursor()
    machine.systemctl("start", "--no-block", UNIT)
    machine.until(event("instance.initialized", INSTANCE_UUID=uuid_of(1)), after=before)
    machine.shell(f"touch {RUNTIME}/kept")

    machine.systemctl("kill", "--signal=KILL", UNIT)

    machine.until(event("run.continued"), after=before)
    machine.until(event("service.ready"), after=before)
    assert machine.shown(UNIT, "NRestarts") == {"NRestarts": "1"}
    assert running_guests(machine) == all_of()
    # The login of a daemon with Keystone is there: until the unit is stopped.
    machine.shell(f"test -e {RUNTIME}/kept; systemctl restart {UNIT}; test -e {RUNTIME}/kept")
    machine.systemctl("stop", UNIT)
    machine.shell(f"test ! -e {RUNTIME}")


@pytest.mark.parametrize("verb", ["stop", "restart"])
def test_stopped_in_its_middle_it_ends_well_and_the_next_start_continues(machine: Machine, verb: str) -> None:
    host(machine, HANGS)
    before = machine.cursor()
    machine.systemctl("start", "--no-block", UNIT)
    machine.until(event("instance.initialized", INSTANCE_UUID=uuid_of(1)), after=before)

    machine.systemctl(verb, UNIT)
    if verb == "stop":
        assert machine.shown(UNIT, "ActiveState", "Result") == {"ActiveState": "inactive", "Result": "success"}
        machine.systemctl("start", UNIT)

    names = [entry.get("BRINGUP_EVENT") for entry in machine.entries(f"--after-cursor={before}", f"--unit={UNIT}")]
    assert names.index("service.stopping") < names.index("service.stopped") < names.index("run.continued")
    assert running_guests(machine) == all_of()


def test_a_reload_changes_what_can_be_changed_and_wrong_settings_change_nothing(machine: Machine) -> None:
    host(machine)
    machine.systemctl("start", UNIT)
    pid = machine.shown(UNIT, "MainPID")
    before = machine.cursor()

    settings(machine, log={"level": "debug"}, limits={"concurrency": 7, "host_deadline": 11})
    machine.systemctl("reload", UNIT)
    changed = machine.until(event("settings.reloaded"), after=before)
    restart = machine.until(event("settings.need_restart"), after=before)
    settings(machine, log={"level": "loud"})
    machine.systemctl("reload", UNIT)
    refused = machine.until(event("settings.not_reloaded"), after=before)

    assert json.loads(changed["BRINGUP_CHANGED"]) == ["limits.concurrency", "log.level"]
    assert json.loads(restart["BRINGUP_KEYS"]) == ["limits.host_deadline"]
    assert "log.level" in refused["BRINGUP_PROBLEMS"]
    assert machine.shown(UNIT, "MainPID") == pid
    machine.systemctl("is-active", UNIT)


def test_wrong_settings_are_not_tried_again(machine: Machine) -> None:
    host(machine, drop_in=QUICK)
    settings(machine, limits={"concurrency": 0})
    before = machine.cursor()

    machine.systemctl("start", UNIT, code=1)

    shown = machine.shown(UNIT, "ActiveState", "ExecMainStatus", "NRestarts")
    assert shown == {"ActiveState": "failed", "ExecMainStatus": "78", "NRestarts": "0"}
    said = [entry["MESSAGE"] for entry in machine.entries(f"--after-cursor={before}", f"--unit={UNIT}")]
    assert any("limits.concurrency" in line for line in said)


def test_the_oneshot_variant_is_active_when_the_host_is_back_and_no_daemon_stays(machine: Machine) -> None:
    host(machine)
    machine.shell(f"install -D -m 0644 -t /etc/systemd/system/{UNIT}.d systemd/{UNIT}.d/once.conf")
    machine.systemctl("daemon-reload")

    machine.systemctl("start", UNIT)

    shown = machine.shown(UNIT, "ActiveState", "SubState", "MainPID", "Result")
    assert shown == {"ActiveState": "active", "SubState": "exited", "MainPID": "0", "Result": "success"}
    assert running_guests(machine) == all_of()
