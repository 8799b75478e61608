"""The unit files: what systemd itself says of them, without running them."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from bringup.daemon import errors
from bringup.daemon.cli.main import parser
from bringup.daemon.settings import load
from support.programs import needs

REPOSITORY = Path(__file__).parents[1]
UNITS = REPOSITORY / "systemd"
UNIT = UNITS / "bringup.service"
EXPOSURE = 2.0
"""What systemd-analyze security may say at most; the unit justifies the rest, line by line."""


@pytest.fixture(scope="module")
def systems_own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a root with systemd's units, ours, and the programs that ours start."""
    needs("systemd-analyze")
    root = tmp_path_factory.mktemp("root")
    shutil.copytree("/lib/systemd/system", root / "usr/lib/systemd/system", symlinks=True)
    for program in ("opt/bringup/bin/bringup", "bin/kill", "usr/bin/systemctl"):
        (root / program).parent.mkdir(parents=True, exist_ok=True)
        (root / program).touch(0o755)
    return root


@pytest.fixture
def root(systems_own: Path) -> Path:
    """Give the root with our unit, and no drop-in."""
    ours = systems_own / "etc/systemd/system"
    shutil.rmtree(ours, ignore_errors=True)
    ours.mkdir(parents=True)
    shutil.copy2(UNIT, ours)
    return systems_own


def analyze(root: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = ["systemd-analyze", f"--root={root}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def with_drop_in(root: Path, name: str) -> None:
    folder = root / "etc/systemd/system/bringup.service.d"
    folder.mkdir()
    shutil.copy2(UNITS / "bringup.service.d" / name, folder)


@pytest.mark.parametrize("drop_in", [None, "once.conf", "openstack.conf", "nova-compute.conf"], ids=str)
def test_systemd_finds_nothing_wrong_with_the_unit(root: Path, drop_in: str | None) -> None:
    if drop_in:
        with_drop_in(root, drop_in)

    ended = analyze(root, "verify", "--recursive-errors=no", "bringup.service")

    # Complaints about others are none of ours.
    ours = [line for line in (ended.stdout + ended.stderr).splitlines() if "bringup" in line]
    assert (ended.returncode, ours) == (0, [])


def test_systemd_finds_nothing_wrong_with_a_nova_compute_that_waits_for_it(root: Path) -> None:
    units = root / "etc/systemd/system"
    (units / "nova-compute.service").write_text("[Service]\nExecStart=/bin/kill\n")
    shutil.copytree(UNITS / "nova-compute.service.d", units / "nova-compute.service.d")

    ended = analyze(root, "verify", "nova-compute.service")

    ours = [line for line in (ended.stdout + ended.stderr).splitlines() if re.search("bringup|nova-compute", line)]
    assert (ended.returncode, ours) == (0, [])


def test_a_key_that_systemd_does_not_know_would_be_noticed(root: Path) -> None:
    unit = root / "etc/systemd/system/bringup.service"
    unit.write_text(unit.read_text().replace("ProtectHome=", "ProtectHouse="))

    assert "ProtectHouse" in analyze(root, "verify", "--recursive-errors=no", "bringup.service").stderr


@pytest.mark.parametrize("drop_in", [None, "once.conf"], ids=str)
def test_it_is_exposed_no_more_than_the_work_wants(root: Path, drop_in: str | None) -> None:
    if drop_in:
        with_drop_in(root, drop_in)
    threshold = f"--threshold={EXPOSURE * 10:.0f}"

    ended = analyze(root, "security", "--offline=true", threshold, "bringup.service")

    assert ended.returncode == 0, ended.stdout


def values(key: str, text: str | None = None) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", text or UNIT.read_text(), re.MULTILINE)


def test_what_wants_a_person_is_not_tried_again() -> None:
    [prevented] = values("RestartPreventExitStatus")

    codes = {error.exit_code for error in (errors.SettingsError, errors.UsageError, errors.Refused)}
    assert {int(code) for code in prevented.split()} == codes


def test_its_command_lines_are_ones() -> None:
    once = (UNITS / "bringup.service.d/once.conf").read_text()
    for line in (*values("ExecStart"), *filter(None, values("ExecStart", once))):
        program, *arguments = line.split()
        assert program == "/opt/bringup/bin/bringup"
        assert callable(parser().parse_args(arguments).execute)


def test_the_state_directory_is_the_default_of_the_settings() -> None:
    assert [f"/var/lib/{name}" for name in values("StateDirectory")] == [
        str(load(None, environment={}, overrides=()).host.state_directory)
    ]


def test_the_user_is_the_one_that_is_made() -> None:
    users = (UNITS / "sysusers.d/bringup.conf").read_text()

    assert re.search(r"^u bringup ", users, re.MULTILINE)
    assert values("User") == values("Group") == ["bringup"]
    assert "d /var/lib/bringup 0700 bringup bringup -" in (UNITS / "tmpfiles.d/bringup.conf").read_text()


# What others call nova-compute, and what has to be there before it.
COMPUTE = (
    "nova-compute",
    "openstack-nova-compute",
    "kolla-nova_compute-container",
    "tripleo_nova_compute",
    "edpm_nova_compute",
    "devstack@n-cpu",
    "snap.openstack-hypervisor.nova-compute",
)
BEFORE_IT = (
    "libvirtd",
    "virtqemud",
    "kolla-nova_libvirt-container",
    "kolla-openvswitch_vswitchd-container",
    "edpm_libvirt",
    "iscsid",
    "multipathd",
)


def test_it_has_its_place_also_where_nova_runs_in_containers() -> None:
    before = {word.rpartition(".")[0] for line in values("Before") for word in line.split()}
    after = {word.rpartition(".")[0] for line in values("After") for word in line.split()}

    assert before >= set(COMPUTE)
    assert after >= set(BEFORE_IT)


def test_it_is_stopped_before_guests_are_asked_to_shut_down_and_before_their_scopes_end() -> None:
    after = {word for line in values("After") for word in line.split()}

    assert after >= {"libvirt-guests.service", "virt-guest-shutdown.target", "systemd-machined.service"}
    assert "virt-guest-shutdown.target" in values("Wants")


def test_the_drop_in_for_a_newer_systemd_has_the_same_secrets() -> None:
    drop_in = (UNITS / "bringup.service.d/import-credential.conf").read_text()

    assert values("LoadCredential", drop_in) == [""]
    assert values("ImportCredential", drop_in) == values("LoadCredential")


@pytest.mark.parametrize("unit", ["bringup-guests.service", "bringup-import.service", "bringup-import.timer"])
def test_systemd_finds_nothing_wrong_with_the_units_of_a_plain_host(root: Path, unit: str) -> None:
    for file in (UNITS / "plain-host").glob("bringup-*"):
        shutil.copy2(file, root / "etc/systemd/system")

    ended = analyze(root, "verify", "--recursive-errors=no", unit)

    ours = [line for line in (ended.stdout + ended.stderr).splitlines() if "bringup" in line]
    assert (ended.returncode, ours) == (0, [])


def test_libvirt_guests_ends_before_the_daemon_that_it_asks() -> None:
    drop_in = UNITS / "libvirt-guests.service.d/bringup.conf"

    [after] = values("After", drop_in.read_text())
    assert {"libvirtd.service", "virtqemud.service"} <= set(after.split())
    for page in ("operating.md", "libvirt.md"):
        text = (REPOSITORY / "docs" / page).read_text()
        assert "libvirt-guests.service.d systemd/libvirt-guests.service.d/bringup.conf" in text
