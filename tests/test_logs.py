"""Log lines: JSON or readable, from a level on, with no secret in them."""

import io
import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Literal

import pytest
import structlog

from bringup.daemon.journald import SOCKET
from bringup.daemon.logs import configure, get_logger


class Stream(io.StringIO):
    """A stream that is a terminal, or is not."""

    def __init__(self, *, terminal: bool = False) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.getvalue().splitlines()]


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    before = structlog.get_config()
    yield
    structlog.configure(**before)


def test_a_line_of_json_has_event_level_time_and_facts() -> None:
    stream = Stream()
    configure(level="info", style="json", stream=stream)

    get_logger().info("instance.initialized", took_s=0.25, because=["vifs", "runs"])

    [line] = stream.lines()
    assert datetime.fromisoformat(line.pop("timestamp")).tzinfo is not None
    assert line == {
        "event": "instance.initialized",
        "level": "info",
        "took_s": 0.25,
        "because": ["vifs", "runs"],
    }


def test_a_line_names_the_instance_that_it_is_about() -> None:
    stream = Stream()
    configure(level="info", style="json", stream=stream)

    with structlog.contextvars.bound_contextvars(instance="an-instance"):
        get_logger().info("instance.skipped")
    get_logger().info("run.ended")

    assert [line.get("instance") for line in stream.lines()] == ["an-instance", None]


@pytest.mark.parametrize(
    ("level", "written"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_what_is_below_the_level_is_not_written(level: str, written: list[str]) -> None:
    stream = Stream()
    configure(level=level, style="json", stream=stream)
    log = get_logger()

    for method in (log.debug, log.info, log.warning, log.error):
        method("noun.verb")

    assert [line["level"] for line in stream.lines()] == written


@pytest.mark.parametrize(
    ("style", "terminal", "is_json"),
    [
        ("auto", False, True),
        ("auto", True, False),
        ("json", True, True),
        ("console", False, False),
        # There is no journal where the tests run.
        pytest.param("journal", False, True, marks=pytest.mark.skipif(SOCKET.exists(), reason="systemd runs here")),
    ],
)
def test_auto_is_json_unless_somebody_watches(
    *, style: Literal["auto", "json", "console", "journal"], terminal: bool, is_json: bool
) -> None:
    stream = Stream(terminal=terminal)
    configure(level="info", style=style, stream=stream)

    get_logger().info("noun.verb", key="value")

    assert "noun.verb" in stream.getvalue()
    assert stream.getvalue().startswith("{") is is_json


def test_a_line_that_nobody_watches_has_no_colours() -> None:
    stream = Stream()
    configure(level="info", style="console", stream=stream)

    get_logger().info("noun.verb", key="value")

    assert "\x1b" not in stream.getvalue()


def test_an_error_is_written_with_its_traceback_on_its_one_line() -> None:
    stream = Stream()
    configure(level="info", style="json", stream=stream)

    try:
        int("forty")
    except ValueError:
        get_logger().exception("noun.failed")

    [line] = stream.lines()
    assert line["exception"].startswith("Traceback")
    assert line["exception"].endswith("ValueError: invalid literal for int() with base 10: 'forty'")


@pytest.mark.parametrize("style", ["json", "console"])
@pytest.mark.parametrize(
    "facts",
    [
        {"password": "hunter2"},
        {"token": "hunter2"},
        {"secret": "hunter2"},
        {"Authorization": "Bearer hunter2"},
        {"headers": {"X-Auth-Token": "hunter2"}},
        {"headers": {"x-subject-token": "hunter2"}},
    ],
    ids=lambda facts: next(iter(facts)),
)
def test_a_secret_is_not_written(style: Literal["json", "console"], facts: dict[str, object]) -> None:
    stream = Stream()
    configure(level="info", style=style, stream=stream)

    get_logger().info("noun.verb", host="compute-1", **facts)

    assert "hunter2" not in stream.getvalue()
    assert "***" in stream.getvalue()
    assert "compute-1" in stream.getvalue()


def test_hiding_leaves_the_mapping_of_the_caller_alone() -> None:
    headers = {"X-Auth-Token": "hunter2", "Accept": "application/json"}
    stream = Stream()
    configure(level="info", style="json", stream=stream)

    get_logger().info("noun.verb", headers=headers)

    assert stream.lines()[0]["headers"] == {"X-Auth-Token": "***", "Accept": "application/json"}
    assert headers["X-Auth-Token"] == "hunter2"


def test_a_logger_made_before_the_settings_were_read_follows_them() -> None:
    log = get_logger()
    stream = Stream()
    configure(level="info", style="json", stream=stream)

    log.info("noun.verb")

    assert [line["event"] for line in stream.lines()] == ["noun.verb"]
