"""The gates of ``make check``, as one test: on a new machine they take a minute of one processor beside the others."""

import os
import sys
from pathlib import Path

import pytest

from support.programs import path_of, run

REPOSITORY = Path(__file__).parents[1]


@pytest.mark.timeout(600)
def test_every_gate_passes() -> None:
    environment = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MAKELEVEL"}}
    # The environment that runs the tests, as it is: make is not to install anything.
    assumed = (f"VENV={sys.prefix}", f"--assume-old={sys.prefix}/.dev")

    run(path_of("make"), "check", *assumed, cwd=REPOSITORY, env=environment)
