"""What is none of Nova's at each name below ``instances_path``, with each verb: nothing of others is touched."""

import os
import socket
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest

from bringup.drivers.base import DriverError
from bringup.drivers.libvirt.disks import DEFINITION, KEPT, SNAPSHOTS, Disks
from support.records import uuid_of

UUID: Final = uuid_of(1)
OWN: Final = (UUID, f"{UUID}_resize")
NAMES: Final = (
    *(*OWN, f"{UUID}_del", KEPT, f"{KEPT}/{UUID}.1", f"{UUID}/{DEFINITION}", f"{UUID}/disk"),
    *(SNAPSHOTS, f"{SNAPSHOTS}/copy", "_base", "locks"),
)


def remove_copies(disks: Disks) -> None:
    for name in NAMES:
        # Of a folder no file is removed.
        with suppress(OSError):
            disks.remove_copy(UUID, disks.instances_path / name)


VERBS: Final[dict[str, Callable[[Disks], object]]] = {
    "delete": lambda disks: disks.delete(UUID),
    "keep": lambda disks: disks.keep(UUID),
    "delete kept": lambda disks: disks.delete_kept(UUID, [str(disks.instances_path / KEPT / f"{UUID}.1")]),
    "take back": lambda disks: disks.restore_before_resize(UUID),
    "read the definition": lambda disks: disks.definition(UUID),
    "mark": lambda disks: disks.mark(UUID),
    "remove a copy": remove_copies,
}


def a_socket(path: Path, _: Path) -> None:
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            # A path has 107 bytes at most.
            made.bind(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)


def a_huge_file(path: Path, _: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


def a_device(path: Path, _: Path) -> None:
    try:
        # What /dev/zero is: reading it has no end.
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("only root may make a device")


ODD: Final[dict[str, Callable[[Path, Path], None]]] = {
    "a link to a folder of others": lambda path, victim: path.symlink_to(victim),
    "a link to a file of others": lambda path, victim: path.symlink_to(victim / "disk"),
    "a link to nothing": lambda path, _: path.symlink_to("nowhere"),
    "a link to itself": lambda path, _: path.symlink_to(path),
    "a link upwards": lambda path, _: path.symlink_to(".."),
    "a link to a device": lambda path, _: path.symlink_to("/dev/zero"),
    "a FIFO": lambda path, _: os.mkfifo(path),
    "a socket": a_socket,
    "a device": a_device,
    "a file": lambda path, _: path.touch(),
    "a huge file": a_huge_file,
}


def a_host(directory: Path, name: str, odd: str) -> tuple[Disks, Path]:
    """Make the folders of an instance, with something odd at one name, and a folder that is somebody else's."""
    victim, instances = directory / "victim", directory / "instances"
    for folder in (victim, *(instances / own for own in OWN if own != name)):
        folder.mkdir(parents=True)
        (folder / "disk").write_text("theirs" if folder == victim else "ours")
    path = instances / name
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    ODD[odd](path, victim)
    return Disks(instances), victim


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_ends_in_a_result_or_a_sentence_and_touches_nothing_else(odd: str, verb: str, tmp_path: Path) -> None:
    for number, name in enumerate(NAMES):
        disks, victim = a_host(tmp_path / str(number), name, odd)
        # An OSError is a sentence to whoever asked for it.
        with suppress(DriverError, OSError):
            VERBS[verb](disks)
        assert [(each.name, each.read_text()) for each in victim.iterdir()] == [("disk", "theirs")], name
        assert {each.name for each in victim.parent.iterdir()} == {"victim", "instances"}, name


@pytest.mark.parametrize("odd", ODD)
def test_obstacles_do_not_stop_a_deletion(odd: str, tmp_path: Path) -> None:
    disks, _ = a_host(tmp_path, f"{UUID}_del", odd)
    disks.delete(UUID)
    assert list(disks.instances_path.iterdir()) == []


@pytest.mark.parametrize("odd", ODD)
def test_obstacles_do_not_stop_a_restore_of_disks(odd: str, tmp_path: Path) -> None:
    disks, _ = a_host(tmp_path, f"{UUID}_del", odd)
    assert disks.restore_before_resize(UUID)
    assert [each.name for each in disks.instances_path.iterdir()] == [UUID]


@pytest.mark.parametrize("odd", ODD)
def test_a_folder_of_disks_is_not_lost_to_a_file_of_its_name(odd: str, tmp_path: Path) -> None:
    disks, _ = a_host(tmp_path, UUID, odd)
    with suppress(DriverError, OSError):
        disks.restore_before_resize(UUID)
    assert any((disks.instances_path / own / "disk").is_file() for own in OWN)


def make_shallow(folder: Path) -> None:
    """Unnest the folders: the clean-up after the tests has a stack of normal size."""
    while (folder / "d").exists():
        inner = (folder / "d").rename(folder.with_name("inner"))
        folder.rmdir()
        inner.rename(folder)


def test_folders_nested_too_deeply_are_an_error_sentence(tmp_path: Path) -> None:
    disks, _ = a_host(tmp_path, "_base", "a file")
    folder = os.open(disks.folder_of(UUID), os.O_RDONLY)
    for _ in range(sys.getrecursionlimit() + 50):
        os.mkdir("d", dir_fd=folder)
        inner = os.open("d", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.close(folder)
    try:
        disks.delete(UUID)
    except DriverError as error:
        # Newer Pythons have no bound, and delete it.
        assert "delete it by hand" in str(error)  # noqa: PT017 - it may do without
    finally:
        for left in disks.instances_path.glob(f"{UUID}*/d"):
            make_shallow(left)
