"""The process may open as many files as its hard limit lets it, within reason."""

import subprocess
import sys

import pytest

from support.process import ENVIRONMENT

SHOW = """
import resource
from bringup.daemon.service.file_descriptors import raise_limit
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
print(raise_limit(2048), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(
    ("soft", "hard", "found"),
    [(256, 1024, "1024 1024 1024"), (256, 4096, "2048 2048 4096"), (4000, 4096, "4000 4000 4096")],
)
def test_the_limit_is_raised_and_never_lowered(soft: int, hard: int, found: str) -> None:
    script = SHOW.format(soft=soft, hard=hard)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=ENVIRONMENT, check=True)

    assert done.stdout.strip() == found
