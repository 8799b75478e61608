"""Killed at any point, the end is the same.

A run over 200 instances, faults included, is killed (SIGKILL) at boundaries of its journal and at random moments, begun
again until it ends, and compared with one that nobody disturbed.  How much of it is run is said by CHAOS: a number of
kills of each sort, or ``full`` for every boundary and 500 moments (``make chaos``).
"""

import itertools
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from support.chaos import Clock, Runner, World, a_world, many_instances, moments
from support.postgresql import PASSWORD, Server, a_server
from support.programs import path_of
from support.surroundings import Within, at_most

CHAOS = os.environ.get("CHAOS", "16")
SEED = 20261124
KILLED = -9
TEMPORARY = 75
DAY_S = 86400
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


def the_world(directory: Path, **sections: dict[str, Any]) -> AbstractContextManager[World]:
    records, scenario = many_instances()
    return a_world(directory, records, scenario, **sections)


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


def differing(found: Any, expected: Any) -> Any:
    """Pick what differs of two mappings, so that a failure can be read."""
    if not isinstance(found, dict):
        return found
    return {key: (found.get(key), expected.get(key)) for key in found | expected if found.get(key) != expected.get(key)}


def assert_the_same(world: World, undisturbed: Undisturbed) -> None:
    found = world.end()
    for what, expected in undisturbed.end.items():
        assert found[what] == expected, (what, differing(found[what], expected))
    kinds = world.kinds()
    assert kinds.keys() == undisturbed.kinds.keys()
    for uuid, kind in undisturbed.kinds.items():
        assert kinds[uuid] in MAY_TELL.get(kind, {kind}), (uuid, world.directory)
    for once, count in world.done().items():
        assert count <= undisturbed.done.get(once, 0), once


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


def test_told_to_stop_at_any_moment_the_end_is_the_same(
    tmp_path: Path, runner: Runner, undisturbed: Undisturbed
) -> None:
    count = 100 if CHAOS == "full" else 4
    for number, after_s in enumerate(moments(SEED + 1, count, undisturbed.took_s)):
        with the_world(tmp_path / str(number)) as world:
            code = runner.run(world.config, kill_after_s=after_s, number=signal.SIGTERM)
            assert code in (0, TEMPORARY, -signal.SIGTERM)
            until_it_ends(world, runner)
            assert_the_same(world, undisturbed)


def test_with_a_clock_that_jumps_the_end_is_the_same(tmp_path: Path, undisturbed: Undisturbed) -> None:
    clock = Clock(tmp_path, path_of("gcc"))
    runner = Runner(clock.environment)
    draw = random.Random(SEED + 2)  # noqa: S311 - no secret
    try:
        for number in range(100 if CHAOS == "full" else 4):
            with the_world(tmp_path / str(number)) as world:
                # Longer than all jumps together: disks that are set aside go by the wall clock.
                world.computer.having(evacuated={"shared_storage": "local", "keep_disks_for": "6d"})
                for after_s in moments(SEED + number, 3, undisturbed.took_s):
                    clock.is_off(draw.randint(-2 * DAY_S, 2 * DAY_S))
                    jump = threading.Timer(after_s / 2, clock.is_off, (draw.randint(-2 * DAY_S, 2 * DAY_S),))
                    jump.start()
                    try:
                        assert runner.run(world.config, kill_after_s=after_s) in (KILLED, 0)
                    finally:
                        jump.cancel()
                        jump.join()
                    if world.has_ended():
                        break
                until_it_ends(world, runner)
                assert_the_same(world, undisturbed)
    finally:
        runner.close()


def test_with_a_store_that_goes_and_comes_back_the_end_is_the_same(
    tmp_path: Path, runner: Runner, undisturbed: Undisturbed
) -> None:
    server = a_server()
    (tmp_path / "password").write_text(PASSWORD)
    (tmp_path / "password").chmod(0o600)
    try:
        for number, how in enumerate((signal.SIGINT, signal.SIGQUIT) * (10 if CHAOS == "full" else 1)):
            store = {"url": server.new_database(), "password_file": str(tmp_path / "password"), "wait": 30}
            with the_world(tmp_path / str(number), store=store) as world:
                away = threading.Thread(target=goes_and_comes, args=(world, server, how))
                away.start()
                assert runner.run(world.config) == 0, (world.directory / "log").read_text()
                away.join()
                assert "store.unavailable" in (world.directory / "log").read_text()
                assert_the_same(world, undisturbed)
    finally:
        server.stop()


def goes_and_comes(world: World, server: Server, how: signal.Signals) -> None:
    """Stop the server when the run is in its middle; start it again."""
    while not world.settled():
        assert not world.has_ended()
    server.stop(how)
    server.start()


@pytest.mark.parametrize("room", [256, 1024], ids=lambda room: f"{room} KiB")
def test_with_a_disk_that_is_full_for_a_while_the_guests_are_the_same(
    tmp_path: Path, runner: Runner, undisturbed: Undisturbed, room: int
) -> None:
    """The limit on the size of files stands for the disk; the next start has room again."""
    with the_world(tmp_path) as world:
        ended = world.computer.run(within=Within(at_most, room * 1024))
        assert ended.code in (0, TEMPORARY), ended.err
        # What could not be written was told as failed or held, and nothing was done without a trace: it is done now.
        assert runner.run(world.config) == 0

        assert {uuid: one.power_state for uuid, one in world.driver.guests.items()} == undisturbed.end["guests"]
        for once, count in world.done().items():
            assert count <= undisturbed.done.get(once, 0), once
