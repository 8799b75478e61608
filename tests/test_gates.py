"""The gates of ``make check``, as one test: on a new machine they take a minute of one processor beside the others."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.programs import path_of

REPOSITORY = Path(__file__).parents[1]


@pytest.mark.timeout(600)
def test_every_gate_passes() -> None:
    environment = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MAKELEVEL"}}
    # The environment that runs the tests, as it is: make is not to install anything.
    command = [path_of("make"), "check", f"VENV={sys.prefix}", f"--assume-old={sys.prefix}/.dev"]

    gates = subprocess.run(
        command,
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )

    assert gates.returncode == 0, gates.stdout
