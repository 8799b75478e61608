"""What should be mounted at the folder of disks, as fstab, systemd, a setting and the last start say."""

import json
from pathlib import Path

import pytest

from bringup.drivers.libvirt.guest_needs.host import HostFiles
from bringup.drivers.libvirt.local_disks import InstancesFolder

ROOT = "21 1 8:1 / / rw - ext4 /dev/sda1 rw"
NFS = "30 21 0:40 / /var/lib/nova/instances rw - nfs4 filer:/vms rw"
VAR = "31 21 8:2 / /var rw - xfs /dev/sda2 rw"
# What a sandbox makes of ReadWritePaths=.
BOUND = "32 21 8:1 /var/lib/nova/instances /var/lib/nova/instances rw - ext4 /dev/sda1 rw"
AUTOFS = "33 21 0:41 / /var/lib/nova/instances rw - autofs systemd-1 rw"
FOLDER = Path("/var/lib/nova/instances")
FSTAB = "filer:/vms /var/lib/nova/instances nfs4 _netdev,nofail 0 0\n"
UNIT = "[Mount]\nWhat=filer:/vms\nWhere=/var/lib/nova\nType=nfs4\n"


def host(
    root: Path, *mounted: str, fstab: str = "", unit: tuple[str, str] | None = None, folder: Path | None = FOLDER
) -> HostFiles:
    """Make the copy of a host."""
    for place in ("proc/self", "etc/systemd/system", "run/systemd/generator"):
        (root / place).mkdir(parents=True, exist_ok=True)
    (root / "proc/self/mountinfo").write_text("\n".join([ROOT, *mounted]) + "\n")
    (root / "etc/fstab").write_text(fstab)
    if unit is not None:
        (root / unit[0]).write_text(unit[1])
    if folder is not None:
        (root / str(folder).lstrip("/") / "u").mkdir(parents=True, exist_ok=True)
    return HostFiles(root)


CASES = {
    "nothing is said": ((), "", None, None),
    "fstab, mounted": ((NFS,), FSTAB, None, None),
    "fstab, not mounted": ((), FSTAB, None, "filer:/vms is not mounted there"),
    "fstab, only bound by a sandbox": ((BOUND,), FSTAB, None, "filer:/vms is not mounted there"),
    "fstab, automount has not mounted it": ((AUTOFS,), FSTAB, None, "filer:/vms is not mounted there"),
    "fstab, above it": ((VAR,), "/dev/sda2 /var xfs defaults 0 0\n", None, None),
    "fstab, above it, not mounted": ((), "/dev/sda2 /var xfs defaults 0 0\n", None, "/dev/sda2 is not mounted there"),
    "fstab, root and elsewhere": ((), "/dev/sda1 / ext4 d 0 0\n/dev/sdb /srv xfs d 0 0\n# x /var y\n", None, None),
    "a mount unit": ((), "", ("etc/systemd/system/var-lib-nova.mount", UNIT), "filer:/vms is not mounted there"),
    "a mount unit of the generator": (
        (),
        "",
        ("run/systemd/generator/var-lib-nova.mount", UNIT),
        "filer:/vms is not mounted there",
    ),
    "a mount unit that is masked": ((), "", ("etc/systemd/system/var-lib-nova.mount", ""), None),
}


@pytest.mark.parametrize(("mounted", "fstab", "unit", "says"), CASES.values(), ids=CASES)
def test_expected_mounts_are_known_from_the_host(
    tmp_path: Path, mounted: tuple[str, ...], fstab: str, unit: tuple[str, str] | None, says: str | None
) -> None:
    found = InstancesFolder(FOLDER, host=host(tmp_path, *mounted, fstab=fstab, unit=unit)).need({"u": ["u"]})
    assert (found is None) is (says is None)
    if found is not None and says is not None:
        assert says in found.why
        assert "libvirt.instances_mount" in found.why, "what to do where that is not meant"


@pytest.mark.parametrize(
    ("mounted", "remembered"),
    [((NFS,), str(FOLDER)), ((VAR,), "/var"), ((BOUND,), ""), ((), "")],
    ids=["its own", "above it", "bound by a sandbox", "none"],
)
def test_only_recorded_mounts_are_missed(tmp_path: Path, mounted: tuple[str, ...], remembered: str) -> None:
    memory = tmp_path / "places.json"
    InstancesFolder(FOLDER, memory=memory, host=host(tmp_path, *mounted)).record()
    assert json.loads(memory.read_text())["mount"] == remembered

    after_boot = InstancesFolder(FOLDER, memory=memory, host=host(tmp_path)).need({"u": ["u"]})
    assert (None if after_boot is None else after_boot.name) == (remembered or None)
    # Another folder was set since: what was seen says nothing of it.
    elsewhere = InstancesFolder(Path("/srv/vms"), memory=memory, host=host(tmp_path, folder=Path("/srv/vms")))
    assert elsewhere.need({"u": ["u"]}) is None


def test_a_link_is_followed_to_what_should_be_mounted(tmp_path: Path) -> None:
    made = host(tmp_path, fstab="filer:/vms /srv/vms nfs4 d 0 0\n", folder=Path("/srv/vms"))
    (tmp_path / "var/lib/nova").mkdir(parents=True)
    (tmp_path / "var/lib/nova/instances").symlink_to("/srv/vms")
    found = InstancesFolder(FOLDER, host=made).need({"u": ["u"]})
    assert found is not None
    assert found.name == "/srv/vms"


@pytest.mark.parametrize(
    ("setting", "point"), [("none", None), ("/var/lib/nova/instances/", str(FOLDER)), ("/var", "/var")]
)
def test_a_setting_precedes_the_mounts_of_the_host(tmp_path: Path, setting: str, point: str | None) -> None:
    found = InstancesFolder(FOLDER, setting, host=host(tmp_path, fstab=FSTAB)).need({"u": ["u"]})
    assert (None if found is None else found.name) == point
