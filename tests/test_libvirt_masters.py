"""Who else starts guests, and which limits are too narrow: what is read in the files of a host."""

from pathlib import Path

import pytest

from bringup.drivers.libvirt import DaemonLimits, OtherMasters, bottlenecks, daemon_limits, is_local
from bringup.drivers.libvirt.masters import libvirt_guests
from bringup.drivers.libvirt.options import Autostart

ENABLED = "etc/systemd/system/multi-user.target.wants/libvirt-guests.service"


def having(root: Path, **files: str) -> Path:
    """Write files whose names have "__" for "/"."""
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_D_", "-")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def enabled(root: Path) -> Path:
    (root / ENABLED).parent.mkdir(parents=True, exist_ok=True)
    (root / ENABLED).symlink_to("/nonexistent/libvirt-guests.service")
    return root


@pytest.mark.parametrize(
    ("script", "settings", "starts"),
    [
        ('ON_BOOT="ignore"\n', "#ON_BOOT=start\n", False),
        ('ON_BOOT="ignore"\n', "ON_BOOT=start\n", True),
        ('ON_BOOT="start"\n', "", True),
        ('ON_BOOT="start"\n', "ON_BOOT='ignore'\n", False),
        ("", "", True),
    ],
    ids=["debian", "debian told to", "upstream", "upstream told not to", "nobody knows"],
)
def test_libvirt_guests_starts_guests_where_it_is_enabled_and_told_to(
    tmp_path: Path, script: str, settings: str, *, starts: bool
) -> None:
    having(tmp_path, **{"usr__lib__libvirt__libvirt_D_guests.sh": script, "etc__default__libvirt_D_guests": settings})

    assert libvirt_guests(root=tmp_path) is None
    found = libvirt_guests(root=enabled(tmp_path))

    assert (found is not None) is starts
    assert found is None or "ON_BOOT=ignore" in found


@pytest.mark.parametrize(
    ("text", "workers"),
    [
        ("max_workers = 40\n", 40),
        ("  max_workers=7  # few\n", 7),
        ("#max_workers = 40\n", 20),
        ("max_workers = 3\nmax_workers = 9\n", 9),
        ("", 20),
        ('max_workers = "many"\n', 20),
    ],
)
def test_the_limits_of_the_daemon_are_read_as_it_reads_them(tmp_path: Path, text: str, workers: int) -> None:
    having(tmp_path, etc__libvirt__libvirtd_conf="")
    config = tmp_path / "etc/libvirt/virtqemud.conf"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(text)

    assert daemon_limits(None, root=tmp_path).max_workers == workers
    assert daemon_limits(config).max_workers == workers


def test_a_host_without_the_file_has_the_defaults_of_libvirt(tmp_path: Path) -> None:
    assert daemon_limits(None, root=tmp_path) == DaemonLimits(max_workers=20, source=None)


@pytest.mark.parametrize(
    ("concurrency", "connections", "words"),
    [(8, 8, []), (20, 20, []), (21, 21, ["max_workers = 20"]), (8, 2, ["libvirt.connections"])],
)
def test_what_is_too_narrow_is_named_with_what_would_be_right(
    concurrency: int, connections: int, words: list[str]
) -> None:
    found = bottlenecks(DaemonLimits(), concurrency=concurrency, connections=connections)

    assert len(found) == len(words)
    assert all(word in sentence for word, sentence in zip(words, found, strict=True))


@pytest.mark.parametrize(
    ("uri", "local"),
    [
        ("qemu:///system", True),
        ("qemu+unix:///system?socket=/run/x", True),
        ("qemu+ssh://other/system", False),
        ("qemu+tls://other.example/system", False),
        ("test:///default", False),
    ],
)
def test_only_this_hosts_own_daemon_is_local(uri: str, *, local: bool) -> None:
    assert is_local(uri) is local


@pytest.mark.parametrize(
    ("policy", "refused"),
    [("refuse", ["autostart", "libvirt-guests"]), ("take_over", ["libvirt-guests"]), ("warn", [])],
)
def test_only_autostart_can_be_taken_over(policy: Autostart, refused: list[str]) -> None:
    assert OtherMasters("autostart", "libvirt-guests").refused(policy) == refused
    assert OtherMasters(None, None).refused(policy) == []
