"""A Debian tree, made once a run and copied by whoever changes it."""

import os
import subprocess
import sys
import tomllib
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from support.once import once
from support.programs import needs

REPOSITORY = Path(__file__).parents[2]
RELEASE, PYTHON = "bookworm", "3.11"
PYPROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
PROJECT, SYSTEM = PYPROJECT["project"], PYPROJECT["build-system"]
PYTHON_ALONE = ("python3", "python3-venv", "ca-certificates")


def require(what: str, *programs: str) -> None:
    """Skip tests that need root and programs where any of that is missing."""
    if os.geteuid() != 0:
        pytest.skip(f"{what} needs root")
    needs(*programs)


def run(*command: str | Path, **options: Any) -> str:
    """Run a command; return what it wrote."""
    ended = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert ended.returncode == 0, f"{command}: {ended.returncode}\n{ended.stdout}\n{ended.stderr}"
    return str(ended.stdout)


def make_debian(tree: Path, packages: Sequence[str], *, release: str = RELEASE) -> None:
    """Make a Debian in a folder, or in an archive where the path ends with ``.tar``."""
    command = ("mmdebstrap", "--variant=minbase", f"--include={','.join(packages)}", release)
    if tree.suffix == ".tar":
        run(*command, tree)
        return
    name = f"debian-{release}-{zlib.crc32(repr(packages).encode()):x}"
    # In an archive: folders of which a machine has other users' files would be left behind.
    packed = once(name, lambda path: run(*command, "--format=tar", path))
    tree.mkdir()
    run("tar", "--extract", "--numeric-owner", "--xattrs", "--xattrs-include=*", "--file", packed, "--directory", tree)


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
