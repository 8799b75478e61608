"""A Debian tree, made once a process and copied by whoever wants to change it."""

import atexit
import functools
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

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
    """Run a command; give what it wrote."""
    ended = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert ended.returncode == 0, f"{command}: {ended.returncode}\n{ended.stdout}\n{ended.stderr}"
    return str(ended.stdout)


def _forgotten() -> Path:
    """Make a folder that is gone when this process is."""
    directory = Path(tempfile.mkdtemp(prefix="bringup-debian-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory


def make_debian(tree: Path, packages: Sequence[str], *, release: str = RELEASE) -> None:
    """Make a Debian in a folder."""
    run("mmdebstrap", "--variant=minbase", f"--include={','.join(packages)}", release, tree)


@functools.cache
def wheels() -> Path:
    """Give a folder with the packages that pip would fetch for this one."""
    folder = _forgotten()
    extras = PROJECT["optional-dependencies"]
    # Placement's are for the host that serves its own.
    needed = [*PROJECT["dependencies"], *extras["postgresql"], *extras["network"], *extras["demo"]]
    chosen = ("--only-binary", ":all:", "--python-version", PYTHON, "--constraint", REPOSITORY / "constraints.txt")
    pip = (sys.executable, "-m", "pip", "--quiet", "download", "--dest", folder)
    run(*pip, *chosen, *SYSTEM["requires"], *needed)
    return folder
