"""A Debian tree, made once a run and copied by whoever changes it."""

import os
import sys
import tomllib
import zlib
from collections.abc import Sequence
from pathlib import Path

import pytest

from support.once import once
from support.programs import needs, run

REPOSITORY = Path(__file__).parents[2]
RELEASE, PYTHON = "bookworm", "3.11"
PYPROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
PROJECT, SYSTEM = PYPROJECT["project"], PYPROJECT["build-system"]
SMALL = ("python3", "python3-venv", "ca-certificates", "python3-libvirt")
MACHINE = (
    *("systemd", "systemd-sysv", "dbus", "procps", "iproute2", "nftables"),
    *("libvirt-daemon-system", "libvirt-clients", "qemu-system-x86"),
)
PACKED = "--numeric-owner --xattrs"
UNNEEDED = "--exclude=./var/cache/apt/* --exclude=./var/lib/apt/lists/*"


def require(what: str, *programs: str) -> None:
    """Skip tests that need root and programs where any of that is missing."""
    if os.geteuid() != 0:
        pytest.skip(f"{what} needs root")
    needs(*programs)


def make_debian(tree: Path, packages: Sequence[str], *, release: str) -> None:
    """Make a Debian in a folder."""
    name = f"debian-{release}-{zlib.crc32(repr(packages).encode()):x}"
    # In an archive: folders of which a machine has other users' files would be left behind.
    unpack(once(name, lambda path: run(*_mmdebstrap(packages, release), "--format=tar", path)), tree)


def small_debian() -> Path:
    """Return an archive with a Debian that has Python and libvirt's binding."""
    return _debians() / "small.tar"


def large_debian() -> Path:
    """Return an archive with the same Debian, and all that a machine needs which boots and runs guests."""
    return _debians() / "large.tar"


def _debians() -> Path:
    return once(f"debian-{RELEASE}", _make_both)


def _make_both(folder: Path) -> None:
    """Pack the small one while the large one is made: each package is unpacked once."""
    folder.mkdir(exist_ok=True)
    pack = f'tar --create {PACKED} --one-file-system {UNNEEDED} --file {folder}/small.tar --directory "$1" .'
    more = f'APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get --yes -oDPkg::Chroot-Directory="$1" install {" ".join(MACHINE)}'
    # 1: something has changed while it was packed, which is what is mounted there.
    hooks = (f"--customize-hook={each}" for each in (f"{pack} || test $? = 1", more))
    run(*_mmdebstrap(SMALL, RELEASE, *hooks), "--format=tar", folder / "large.tar")


def _mmdebstrap(packages: Sequence[str], release: str, *options: str) -> tuple[str, ...]:
    spared = "--dpkgopt=force-unsafe-io"
    return ("mmdebstrap", "--variant=minbase", spared, f"--include={','.join(packages)}", *options, release)


def unpack(packed: Path, tree: Path) -> None:
    """Unpack an archive into a new folder."""
    tree.mkdir()
    run("tar", "--extract", *PACKED.split(), "--xattrs-include=*", "--file", packed, "--directory", tree)


def wheels() -> Path:
    """Return a folder with the packages that pip would fetch for this one."""
    return once("wheels", _fetch)


def _fetch(folder: Path) -> None:
    extras = PROJECT["optional-dependencies"]
    # Placement's are for the host that serves its own.
    needed = [*PROJECT["dependencies"], *extras["postgresql"], *extras["network"], *extras["demo"]]
    chosen = ("--only-binary", ":all:", "--python-version", PYTHON, "--constraint", REPOSITORY / "constraints.txt")
    pip = (sys.executable, "-m", "pip", "--quiet", "download", "--dest", folder)
    run(*pip, *chosen, *SYSTEM["requires"], *needed)
