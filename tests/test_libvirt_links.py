"""Links and other surprises below ``instances_path``: whoever can write there leads nothing of ours elsewhere."""

import os
from pathlib import Path

import pytest

from bringup.drivers.base import DriverError
from bringup.drivers.libvirt.disks import DEFINITION, KEPT, LONGEST_DEFINITION, Disks
from support.records import uuid_of

UUID, OTHER = uuid_of(1), uuid_of(2)


@pytest.fixture
def disks(tmp_path: Path) -> Disks:
    (tmp_path / "instances").mkdir()
    return Disks(tmp_path / "instances")


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """Return a folder that is somebody else's."""
    folder = tmp_path / "victim"
    folder.mkdir()
    (folder / "disk").write_text("theirs")
    return folder


def a_folder(disks: Disks, name: str = UUID) -> Path:
    folder = disks.instances_path / name
    folder.mkdir()
    (folder / "disk").write_text("ours")
    return folder


def is_intact(victim: Path) -> bool:
    return [path.name for path in victim.iterdir()] == ["disk"]


@pytest.mark.parametrize("name", [UUID, f"{UUID}_resize", f"{UUID}_del"])
def test_a_deletion_removes_a_link_and_keeps_its_target(disks: Disks, victim: Path, name: str) -> None:
    (disks.instances_path / name).symlink_to(victim)
    if name != UUID:
        a_folder(disks)

    disks.delete(UUID)
    disks.delete(UUID)

    assert list(disks.instances_path.iterdir()) == []
    assert is_intact(victim)


def test_nothing_is_kept_or_deleted_where_the_folder_of_what_is_kept_is_a_link(disks: Disks, victim: Path) -> None:
    (disks.instances_path / KEPT).symlink_to(victim)
    folder = a_folder(disks)
    (victim / f"{UUID}.1").mkdir()

    with pytest.raises(DriverError, match="it is a link"):
        disks.keep(UUID)
    with pytest.raises(DriverError, match="it is a link"):
        disks.delete_kept(UUID, [str(disks.instances_path / KEPT / f"{UUID}.1")])

    assert (folder / "disk").read_text() == "ours"
    assert (victim / f"{UUID}.1").is_dir()


def test_a_kept_folder_that_is_a_link_is_removed_without_its_target(disks: Disks, victim: Path) -> None:
    (disks.instances_path / KEPT).mkdir()
    kept = disks.instances_path / KEPT / f"{UUID}.1"
    kept.symlink_to(victim)
    disks.delete_kept(UUID, [str(kept)])
    assert (kept.is_symlink(), is_intact(victim)) == (False, True)


def test_disks_are_restored_although_a_link_is_in_the_way(disks: Disks, victim: Path) -> None:
    a_folder(disks, f"{UUID}_resize")
    a_folder(disks)
    (disks.instances_path / f"{UUID}_del").symlink_to(victim)
    assert disks.restore_before_resize(UUID)
    assert [path.name for path in disks.instances_path.iterdir()] == [UUID]
    assert is_intact(victim)


def test_no_mark_is_left_through_a_link(disks: Disks, victim: Path) -> None:
    (disks.instances_path / UUID).symlink_to(victim)
    with pytest.raises(DriverError, match="it is a link"):
        disks.mark(UUID)
    assert is_intact(victim)
    assert disks.mark(OTHER) is None


def test_a_mark_is_private_and_is_removed(disks: Disks) -> None:
    folder = a_folder(disks)
    probe = disks.mark(UUID)
    assert probe is not None
    assert Path(probe.path).stat().st_mode & 0o777 == 0o600
    disks.unmark(probe)
    assert [path.name for path in folder.iterdir()] == ["disk"]


def a_link(path: Path, victim: Path) -> None:
    path.symlink_to(victim / "disk")


def a_fifo(path: Path, _victim: Path) -> None:
    os.mkfifo(path)


def a_folder_there(path: Path, _victim: Path) -> None:
    path.mkdir()


def too_long(path: Path, _victim: Path) -> None:
    with path.open("wb") as file:
        file.truncate(LONGEST_DEFINITION + 1)


@pytest.mark.parametrize("made", [a_link, a_fifo, a_folder_there, too_long], ids=lambda made: made.__name__)
def test_a_definition_is_read_from_a_plain_file_of_a_reasonable_size(disks: Disks, victim: Path, made: object) -> None:
    assert callable(made)
    made(a_folder(disks) / DEFINITION, victim)
    with pytest.raises(DriverError, match="did not read"):
        disks.definition(UUID)


def test_a_definition_is_not_read_through_a_folder_that_is_a_link(disks: Disks, victim: Path) -> None:
    (victim / DEFINITION).write_text("<domain/>")
    (disks.instances_path / UUID).symlink_to(victim)
    with pytest.raises(DriverError, match="did not read"):
        disks.definition(UUID)
    a_folder(disks, OTHER)
    assert disks.definition(OTHER) is None
    (disks.instances_path / OTHER / DEFINITION).write_text("<domain/>")
    assert disks.definition(OTHER) == "<domain/>"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (f"{UUID}/disk.delta", True),
        ("snapshots/tmp1/image", True),
        (f"{OTHER}/disk", False),
        (f"{UUID}/../{OTHER}/disk", False),
        ("_base/image", False),
        ("../elsewhere", False),
        ("link/disk", False),
    ],
)
def test_only_what_is_of_this_instance_or_of_a_snapshot_is_cleaned_up(
    disks: Disks, victim: Path, path: str, *, expected: bool
) -> None:
    (disks.instances_path / "link").symlink_to(victim)
    assert disks.contains_file_of(UUID, disks.instances_path / path) is expected
