"""Killed at any point, the end is the same.

A run over 200 instances, faults included, is killed (SIGKILL) at boundaries of its journal and at random moments, begun
again until it ends, and compared with one that nobody disturbed.  How much of it is run is said by CHAOS: a number of
kills of each sort, or ``full`` for every boundary and 500 moments (``make chaos``).
"""

import itertools
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.chaos import Runner, World, a_world, many_instances, moments

CHAOS = os.environ.get("CHAOS", "16")
SEED = 20261124
KILLED = -9
TEMPORARY = 75
MOST_STARTS = 12
# Where the record was put back before the process died, only the record can tell what came of it.
MAY_TELL = {"failed": {"failed", "initialized", "skipped"}}

pytestmark = pytest.mark.timeout(0 if CHAOS == "full" else 600)


class Undisturbed:
    """What a run comes to that nobody kills."""

    def __init__(self, directory: Path, runner: Runner) -> None:
        with the_world(directory) as world:
            began = time.monotonic()
            assert runner.run(world.config) == 0
            self.took_s = time.monotonic() - began
            self.end = world.end()
            self.kinds = world.kinds()
            self.done = world.done()
            self.boundaries = int((directory / "boundaries").read_text())


def the_world(directory: Path) -> Any:
    return a_world(directory, *many_instances())


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    running = Runner()
    yield running
    running.close()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, runner: Runner) -> Undisturbed:
    return Undisturbed(tmp_path_factory.mktemp("undisturbed"), runner)


def until_it_ends(world: World, runner: Runner) -> None:
    for _ in range(MOST_STARTS):
        # Killed after its very last word it has ended all the same: one more start would be another run.
        if world.has_ended() or runner.run(world.config) == 0:
            return
    raise AssertionError((world.directory / "log").read_text())


def assert_the_same(world: World, undisturbed: Undisturbed) -> None:
    found = world.end()
    for what, expected in undisturbed.end.items():
        assert found[what] == expected, what
    kinds = world.kinds()
    assert kinds.keys() == undisturbed.kinds.keys()
    for uuid, kind in undisturbed.kinds.items():
        assert kinds[uuid] in MAY_TELL.get(kind, {kind}), (uuid, world.directory)
    for what, count in world.done().items():
        assert count <= undisturbed.done.get(what, 0), what


def test_undisturbed_it_is_worth_the_trouble(undisturbed: Undisturbed) -> None:
    kinds = list(undisturbed.kinds.values())
    assert len(kinds) > 200
    assert {kinds.count("initialized") > 150, kinds.count("failed") > 6, kinds.count("skipped") > 6} == {True}
    assert max(undisturbed.done.values()) == 1
    assert {verb for verb, _ in undisturbed.done} == {"reboot", "resume_state_on_host_boot"}


def test_killed_at_a_boundary_of_the_journal_the_end_is_the_same(
    tmp_path: Path, runner: Runner, undisturbed: Undisturbed
) -> None:
    every = range(1, undisturbed.boundaries + 1)
    chosen = every if CHAOS == "full" else sorted(random.Random(SEED).sample(every, int(CHAOS)))  # noqa: S311 - no secret
    for kill_at in chosen:
        with the_world(tmp_path / str(kill_at)) as world:
            code = runner.run(world.config, kill_at=kill_at)
            assert code in (KILLED, 0)
            until_it_ends(world, runner)
            assert_the_same(world, undisturbed)


def test_killed_at_any_moment_the_end_is_the_same(tmp_path: Path, runner: Runner, undisturbed: Undisturbed) -> None:
    count = 500 if CHAOS == "full" else int(CHAOS)
    times = iter(moments(SEED, count, undisturbed.took_s))
    for number in itertools.count():
        # Several kills in one life: the one that goes on is killed too.
        kills = list(itertools.islice(times, 1 + number % 4))
        if not kills:
            return
        with the_world(tmp_path / str(number)) as world:
            for kill_after_s in kills:
                if world.has_ended():
                    break
                assert runner.run(world.config, kill_after_s=kill_after_s) in (KILLED, 0)
            until_it_ends(world, runner)
            assert_the_same(world, undisturbed)
