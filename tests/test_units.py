"""The unit files: what systemd itself says of them, without running them."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from bringup.daemon import errors
from bringup.daemon.cli.main import parser
from bringup.daemon.service import clock_sync
from bringup.daemon.settings import load
from bringup.daemon.storage import boot
from support.programs import needs

REPOSITORY = Path(__file__).parents[1]
UNITS = REPOSITORY / "systemd"
UNIT = UNITS / "bringup.service"
# What systemd-analyze security says of each, at most; docs/safety.md says what the number hides.
EXPOSURE = {
    "bringup.service": 1.5,
    "bringup-alive.service": 1.5,
    "plain-host/bringup-placement.service": 1.5,
    # These are root's, as virsh's user is on such a host.
    "plain-host/bringup-guests.service": 2.5,
    "plain-host/bringup-import.service": 2.5,
}
SAYS = (REPOSITORY / "docs/safety.md").read_text().partition("### What `systemd-analyze security` does not say")[2]
WITH_NETWORK = 1.7
"""The same of bringup.service with the capability for NICs and firewall rules."""


@pytest.fixture(scope="module")
def systems_own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a root with systemd's units, ours, and the programs that ours start."""
    needs("systemd-analyze")
    root = tmp_path_factory.mktemp("root")
    shutil.copytree("/lib/systemd/system", root / "usr/lib/systemd/system", symlinks=True)
    for program in ("opt/bringup/bin/bringup", "bin/kill", "usr/bin/systemctl", "usr/bin/touch"):
        (root / program).parent.mkdir(parents=True, exist_ok=True)
        (root / program).touch(0o755)
    return root


@pytest.fixture
def root(systems_own: Path) -> Path:
    """Return the root with our unit, and no drop-in."""
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


@pytest.mark.parametrize("unit", ["bringup.service", "plain-host/bringup-guests.service"])
def test_a_unit_with_a_status_endpoint_lets_the_process_that_answers_confine_itself(unit: str) -> None:
    lines = (UNITS / unit).read_text().splitlines()
    allowed = [line.partition("=")[2].split() for line in lines if line.startswith("SystemCallFilter=")]

    # The last word counts, and no list of systemd 252 has these.
    assert allowed[-1] == ["landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self", "seccomp"]


@pytest.mark.parametrize(
    "drop_in", [None, "once.conf", "openstack.conf", "nova-compute.conf", "addresses.conf"], ids=str
)
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


def test_systemd_finds_nothing_wrong_with_the_sockets_of_modular_daemons(root: Path) -> None:
    units = root / "etc/systemd/system"
    (units / "virtstoraged.service").write_text("[Service]\nExecStart=/bin/kill\n")
    (units / "virtstoraged.socket").write_text(
        "[Socket]\nListenStream=/run/libvirt/virtstoraged-sock\nSocketMode=0666\n"
    )
    shutil.copytree(UNITS / "only-root.socket.d", units / "virtstoraged.socket.d")

    ended = analyze(root, "verify", "--recursive-errors=no", "virtstoraged.socket")

    ours = [line for line in (ended.stdout + ended.stderr).splitlines() if re.search("bringup|virtstoraged", line)]
    assert (ended.returncode, ours) == (0, [])
    assert "systemd/only-root.socket.d/bringup.conf" in (REPOSITORY / "docs/libvirt.md").read_text()


def test_a_key_that_systemd_does_not_know_would_be_noticed(root: Path) -> None:
    unit = root / "etc/systemd/system/bringup.service"
    unit.write_text(unit.read_text().replace("ProtectHome=", "ProtectHouse="))

    assert "ProtectHouse" in analyze(root, "verify", "--recursive-errors=no", "bringup.service").stderr


def exposure(root: Path, unit: str, most: float) -> str:
    """Return what systemd says of a unit that is exposed more than that; "": it is not."""
    ended = analyze(root, "security", "--offline=true", f"--threshold={most * 10:.0f}", unit)
    return ended.stdout + ended.stderr if ended.returncode else ""


@pytest.mark.parametrize("unit", EXPOSURE)
def test_each_unit_is_exposed_no_more_than_its_work_wants(root: Path, unit: str) -> None:
    shutil.copy2(UNITS / unit, root / "etc/systemd/system")

    assert exposure(root, Path(unit).name, EXPOSURE[unit]) == ""


def test_no_unit_ships_without_a_limit_of_its_exposure() -> None:
    assert {str(unit.relative_to(UNITS)) for unit in UNITS.rglob("*.service")} == EXPOSURE.keys()


@pytest.mark.parametrize("drop_in", sorted((UNITS / "bringup.service.d").glob("*.conf")), ids=lambda path: path.name)
def test_no_drop_in_exposes_it_more(root: Path, drop_in: Path) -> None:
    with_drop_in(root, drop_in.name)

    assert exposure(root, "bringup.service", EXPOSURE["bringup.service"]) == ""


def test_the_network_costs_one_capability_and_one_device_and_no_more(root: Path) -> None:
    (root / "etc/systemd/system/bringup.service.d").mkdir()
    shutil.copy2(UNITS / "with-network/bringup.conf", root / "etc/systemd/system/bringup.service.d/network.conf")

    assert exposure(root, "bringup.service", EXPOSURE["bringup.service"]) != ""
    assert exposure(root, "bringup.service", WITH_NETWORK) == ""
    for unit, number in (("bringup.service", EXPOSURE["bringup.service"]), ("network.conf", WITH_NETWORK)):
        assert f"{number:g} " in SAYS
        assert unit in SAYS


def test_the_unit_lets_run_what_is_started_and_listen_where_the_pages_say() -> None:
    allowed = {word.removeprefix("-") for line in values("ExecPaths") for word in line.split()}

    assert {f"/usr/bin/{ask[0]}" for ask in (boot.ASK, clock_sync.QUERY)} <= allowed
    assert {"/usr/sbin/nft", "/usr/bin/ovs-vsctl", "/opt/bringup", "/usr/bin/python3", "/bin/kill"} <= allowed
    # Red Hat's python3 is older than what is wanted, and the right one is beside it.
    oldest = int(
        re.findall(r'^requires-python = ">=3\.(\d+)"', (REPOSITORY / "pyproject.toml").read_text(), re.MULTILINE)[0]
    )
    assert {f"/usr/bin/python3.{minor}" for minor in range(oldest, oldest + 4)} <= allowed
    [never] = values("NoExecPaths")
    writable = ("var/lib/bringup", "var/cache/bringup", "run/bringup", "tmp", "var/tmp", "dev/shm")
    assert {word.removeprefix("-") for word in never.split()} == {"/", *(f"/{place}" for place in writable)}
    [port] = re.findall(r'^#listen = "127.0.0.1:(\d+)"', (REPOSITORY / "daemon/example.toml").read_text(), re.MULTILINE)
    assert values("SocketBindAllow") == [f"tcp:{port}"]


def values(key: str, text: str | None = None) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", text or UNIT.read_text(), re.MULTILINE)


@pytest.mark.parametrize("unit", sorted(UNITS.rglob("*.service")), ids=lambda path: path.name)
def test_a_unit_that_hides_the_boot_of_a_container_names_which_it_is(unit: Path) -> None:
    text = unit.read_text()

    if "/opt/bringup/bin/bringup" in text and values("ProtectProc", text):
        assert "BRINGUP_BOOT_ID=%b" in values("Environment", text)


def test_what_wants_an_operator_is_not_tried_again() -> None:
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


def test_the_drop_in_for_systemd_262_has_one_key_that_older_ones_do_not_know_and_ignore(root: Path) -> None:
    with_drop_in(root, "restart-randomized.conf")

    ended = analyze(root, "verify", "--recursive-errors=no", "bringup.service")

    ours = [line for line in (ended.stdout + ended.stderr).splitlines() if "bringup" in line]
    assert all(
        re.search("Unknown key .*RestartRandomizedDelaySec.* in section .*Service.*ignoring", line) for line in ours
    )
    assert ended.returncode == len(ours) <= 1


def test_restarts_that_are_spread_still_reach_the_limit_of_a_start_that_fails_at_once() -> None:
    def seconds(key: str, text: str | None = None) -> int:
        [value] = values(key, text)
        number, unit = re.fullmatch(r"(\d+)(s|min)", value).groups()  # type: ignore[union-attr]
        return int(number) * (60 if unit == "min" else 1)

    [burst] = values("StartLimitBurst")
    spread_s = seconds("RestartRandomizedDelaySec", (UNITS / "bringup.service.d/restart-randomized.conf").read_text())
    assert int(burst) * (seconds("RestartSec") + spread_s) <= seconds("StartLimitIntervalSec")


def test_the_runtime_directory_survives_a_restart() -> None:
    assert (values("RuntimeDirectory"), values("RuntimeDirectoryPreserve")) == (["bringup"], ["restart"])


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
    assert {"libvirtd.service", "virtqemud.service", "polkit.service", "dbus.service"} <= set(after.split())
    for page in ("operating.md", "libvirt.md"):
        text = (REPOSITORY / "docs" / page).read_text()
        assert "libvirt-guests.service.d systemd/libvirt-guests.service.d/bringup.conf" in text
