"""SIGHUP under systemd: what is changed while the daemon runs, what is not, and what wrong settings do."""

import io
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import anyio
import pytest
import structlog

from bringup.daemon import logs
from bringup.daemon.service.reload import Difference, Reloader, difference
from bringup.daemon.settings import Settings, load
from bringup.drivers.capacity import Capacity

pytestmark = pytest.mark.anyio


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    logs.configure(level="info", style="json", stream=stream)
    yield stream
    structlog.reset_defaults()


def settings_of(config: Path, text: str) -> Settings:
    config.write_text(text)
    return load(config, environment={}, overrides=())


def a_reloader(config: Path, text: str) -> tuple[Reloader, Capacity]:
    settings = settings_of(config, text)
    capacity = Capacity(settings.limits.concurrency, is_adaptive=settings.limits.pace == "adaptive")
    return Reloader(settings, partial(load, config, environment={}, overrides=()), capacity), capacity


def events(stream: io.StringIO) -> dict[str, dict[str, object]]:
    return {line["event"]: line for line in map(json.loads, stream.getvalue().splitlines())}


async def test_concurrency_and_level_are_changed_and_the_rest_is_named(tmp_path: Path, lines: io.StringIO) -> None:
    config = tmp_path / "bringup.toml"
    reloader, slots = a_reloader(config, "limits.concurrency = 2")
    config.write_text(
        'limits = {concurrency = 7, pace = "fixed", host_deadline = 9}\nlog.level = "debug"\nplacement.token = "s3cr3t"'
    )

    await reloader.reload()

    assert (slots.number, slots.is_adaptive) == (7, False)
    logs.get_logger().debug("now.seen")
    said = events(lines)
    assert said["settings.reloaded"]["changed"] == ["limits.concurrency", "limits.pace", "log.level"]
    assert said["settings.need_restart"]["keys"] == ["limits.host_deadline", "placement.token"]
    assert "now.seen" in said
    assert "s3cr3t" not in lines.getvalue()


async def test_wrong_settings_change_nothing_and_are_reported(tmp_path: Path, lines: io.StringIO) -> None:
    config = tmp_path / "bringup.toml"
    reloader, slots = a_reloader(config, "limits.concurrency = 2")
    config.write_text("limits = {concurrency = 3, colour = 1}")

    await reloader.reload()

    assert slots.number == 2
    assert "limits.colour" in str(events(lines)["settings.not_reloaded"]["problems"])


async def test_a_former_name_of_a_key_changes_nothing_and_is_reported(tmp_path: Path, lines: io.StringIO) -> None:
    config = tmp_path / "bringup.toml"
    reloader, slots = a_reloader(config, "limits.concurrency = 2")
    config.write_text("limits = {concurrency = 3, last_word_deadline = 5}")

    await reloader.reload()

    assert slots.number == 2
    assert "set limits.shutdown_report_deadline instead" in str(events(lines)["settings.not_reloaded"]["problems"])


async def test_what_needs_a_restart_is_named_again_until_there_is_one(tmp_path: Path, lines: io.StringIO) -> None:
    config = tmp_path / "bringup.toml"
    reloader, _ = a_reloader(config, "")
    config.write_text("limits = {host_deadline = 9, concurrency = 3}")
    await reloader.reload()
    lines.seek(0)
    lines.truncate()

    await reloader.reload()

    said = events(lines)
    assert said["settings.reloaded"]["changed"] == []
    assert said["settings.need_restart"]["keys"] == ["limits.host_deadline"]


def test_settings_do_not_differ_from_themselves(tmp_path: Path) -> None:
    same = [settings_of(tmp_path / "bringup.toml", "limits.concurrency = 2") for _ in range(2)]

    assert difference(*same) == Difference((), ())


async def test_asked_twice_at_once_it_reads_once(tmp_path: Path) -> None:
    reloader, _ = a_reloader(tmp_path / "bringup.toml", "")
    reloader.request()
    reloader.request()
    with anyio.fail_after(60):
        await reloader.requested()

    with anyio.move_on_after(0) as scope:
        await reloader.requested()
    assert scope.cancelled_caught
