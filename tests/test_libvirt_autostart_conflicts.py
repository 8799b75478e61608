"""Other programs that start guests, and limits that are too narrow, as read in the files of a host."""

from pathlib import Path
from typing import Any

import pytest

from bringup.drivers.libvirt.autostart_conflicts import (
    AutostartConflicts,
    DaemonLimits,
    access_drivers,
    auto_restore,
    bottlenecks,
    daemon_limits,
    is_local,
    libvirt_guests,
    starts_once,
)
from bringup.drivers.libvirt_options import Autostart

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
def test_libvirt_guests_starts_guests_where_it_is_enabled_and_configured_to(
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
def test_limits_that_are_too_low_are_named_with_the_right_value(
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
    assert AutostartConflicts("autostart", "libvirt-guests").refused(policy) == refused
    assert AutostartConflicts(None, None).refused(policy) == []


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('auto_shutdown_try_shutdown = "all"\n', "try_shutdown"),
        ('auto_shutdown_try_save = "persistent"\nauto_shutdown_restore = 1\n', "try_save"),
        ("  auto_shutdown_poweroff='transient'  # at last\n", "poweroff"),
        ('auto_shutdown_poweroff = "none"\nauto_shutdown_poweroff = "all"\n', "poweroff"),
        ('auto_shutdown_try_shutdown = "all"\nauto_shutdown_restore = 0\n', None),
        ('auto_shutdown_try_shutdown = "none"\n', None),
        ('#auto_shutdown_try_shutdown = "all"\n#auto_shutdown_restore = 1\n', None),
        ("auto_shutdown_restore = 1\n", None),
        ("", None),
    ],
)
def test_libvirt_starts_at_boot_what_it_shut_down_itself(tmp_path: Path, text: str, named: str | None) -> None:
    assert auto_restore(root=tmp_path) is None
    (tmp_path / "etc/libvirt").mkdir(parents=True)
    (tmp_path / "etc/libvirt/qemu.conf").write_text(text)
    found = auto_restore(root=tmp_path)

    assert (found is not None) is (named is not None)
    if found is not None and named is not None:
        assert named in found
        assert "auto_shutdown_restore = 0" in found


def test_autostart_that_only_an_operator_can_end_is_refused_in_any_mode() -> None:
    conflicts = AutostartConflicts("libvirt starts web", None, "libvirt starts again what it stopped")

    assert conflicts.refused("take_over") == ["libvirt starts again what it stopped"]
    assert conflicts.refused("refuse") == conflicts.sentences == ["libvirt starts web", *conflicts.refused("take_over")]
    assert conflicts.refused("warn") == []


class Refused(Exception):
    """As libvirt says that its daemon does not know a call."""


class Newer:
    """A guest as libvirt 11.2 has it; the libvirt of the tests is older."""

    def __init__(self, answer: int | None) -> None:
        self.answer = answer

    def autostartOnce(self) -> int:  # noqa: N802 - libvirt's own
        if self.answer is None:
            raise Refused
        return self.answer


@pytest.mark.parametrize(
    ("guest", "once"), [(Newer(1), True), (Newer(0), False), (Newer(None), False), (object(), False)]
)
def test_a_guest_that_is_started_once_at_the_next_boot_is_known_where_libvirt_is_new_enough(
    guest: Any, *, once: bool
) -> None:
    assert starts_once(guest, Refused) is once


@pytest.mark.parametrize(
    ("text", "drivers"),
    [
        ('access_drivers = ["polkit"]\n', ("polkit",)),
        ("access_drivers = [ 'polkit', \"nop\", ]\n", ("polkit", "nop")),
        ('#access_drivers = [ "polkit" ]\n', ()),
        ("", ()),
        ("access_drivers = []\n", ()),
    ],
)
def test_access_drivers_are_read_from_the_daemons_file(tmp_path: Path, text: str, drivers: tuple[str, ...]) -> None:
    config = tmp_path / "libvirtd.conf"
    config.write_text(text)

    assert access_drivers(config) == drivers


def test_the_file_of_the_daemon_that_is_there_counts(tmp_path: Path) -> None:
    folder = tmp_path / "etc/libvirt"
    folder.mkdir(parents=True)
    (folder / "libvirtd.conf").write_text('access_drivers = ["polkit"]\n')
    assert access_drivers(None, root=tmp_path) == ("polkit",)

    (folder / "virtqemud.conf").write_text("")
    assert access_drivers(None, root=tmp_path) == ()
    assert access_drivers(tmp_path / "none.conf") == ()
