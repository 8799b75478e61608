"""Costly files that all workers of a run share: the first who needs them makes them, the run removes them at its end.

A pytest plugin: the process that starts the workers chooses the folder, and hands it to each.
"""

import atexit
import fcntl
import functools
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

KEY = "shared_directory"
NEW = "no_test_was_collected_before"
_given: list[Path] = []


@functools.cache
def _directory() -> Path:
    """Return the folder of the run; outside one, a folder of this process."""
    if _given:
        return _given[0]
    directory = Path(tempfile.mkdtemp(prefix="bringup-shared-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory


def once(name: str, make: Callable[[Path], object]) -> Path:
    """Return a path of that name, which is made where it is not yet; others wait as long."""
    made = _directory() / name
    with made.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            unfinished = made.with_suffix(".unfinished")
            make(unfinished)
            unfinished.rename(made)
    return made


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Hand the folder to a worker."""
    node.workerinput[KEY] = str(_directory())
    node.workerinput[NEW] = _is_new(node.config.rootpath / "tests")


@functools.cache
def _is_new(tests: Path) -> bool:
    """Check whether pytest has still to rewrite the assertions of these tests, as in a fresh clone."""
    return not any(tests.glob(f"__pycache__/test_*.{sys.implementation.cache_tag}-pytest-*.pyc"))


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Collect new tests in one worker before the others, which read what it rewrote: it is most of the work."""
    if getattr(session.config, "workerinput", {}).get(NEW):
        with (_directory() / "collected").open("a") as first:
            fcntl.flock(first, fcntl.LOCK_EX)
            if first.seek(0, os.SEEK_END) == 0:
                collected = yield
                first.write("once")
                return collected
    return (yield)


def pytest_configure(config: pytest.Config) -> None:
    """Use the folder that the run has."""
    given: dict[str, str] = getattr(config, "workerinput", {})
    if KEY in given:
        _given.append(Path(given[KEY]))
