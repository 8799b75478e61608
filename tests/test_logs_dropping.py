"""A line that cannot be written is dropped: the work goes on without its log."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Literal, TextIO

import pytest
import structlog

from bringup.daemon.logs import configure, get_logger


@pytest.fixture(autouse=True)
def unconfigured() -> Iterator[None]:
    yield
    structlog.reset_defaults()


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def nobody_reads(opened: ExitStack) -> TextIO:
    """Return a pipe whose reader went away."""
    theirs, ours = os.pipe()
    os.close(theirs)
    opened.callback(os.close, ours)
    return os.fdopen(os.dup(ours), "w")


def full(opened: ExitStack) -> TextIO:
    del opened
    return Path("/dev/full").open("w")


def narrow(opened: ExitStack) -> TextIO:
    """Return a stream whose encoding has no word for what is written."""
    return opened.enter_context(Path(os.devnull).open("w", encoding="ascii"))


def drop(stream: TextIO) -> None:
    """Close a stream that cannot write what it holds."""
    try:
        stream.close()
    except OSError:
        assert stream.closed


@pytest.mark.parametrize("make", [nobody_reads, full, narrow], ids=lambda make: make.__name__)
@pytest.mark.parametrize("style", ["json", "console"])
def test_a_line_that_cannot_be_written_does_not_raise(
    opened: ExitStack, make: Callable[[ExitStack], TextIO], style: Literal["json", "console"]
) -> None:
    stream = make(opened)
    opened.callback(drop, stream)
    configure(level="debug", style=style, stream=stream)

    for _ in range(3):
        # Longer than any buffer.
        get_logger().info("something.happened", name="caf\u00e9 " * 20_000)


def test_a_stream_that_was_closed_does_not_raise(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as stream:
        configure(level="debug", style="json", stream=stream)
        get_logger().info("something.happened")

    get_logger().info("something.else_happened")

    assert "something.happened" in (tmp_path / "log").read_text()


def test_a_line_that_can_be_written_again_is_written(tmp_path: Path) -> None:
    class Sometimes:
        """A disk that is full once."""

        def __init__(self, inner: TextIO) -> None:
            self.inner = inner
            self.full = False

        def write(self, text: str) -> int:
            if self.full:
                raise OSError(28, "No space left on device")
            return self.inner.write(text)

        def flush(self) -> None:
            self.inner.flush()

        def isatty(self) -> bool:
            return False

    with (tmp_path / "log").open("w") as file:
        disk = Sometimes(file)
        configure(level="info", style="json", stream=disk)  # type: ignore[arg-type]
        for number in range(3):
            disk.full = number == 1
            get_logger().info("something.happened", number=number)

    lines = (tmp_path / "log").read_text().splitlines()
    assert [line.partition('"number": ')[2][:1] for line in lines] == ["0", "2"]


def test_what_is_no_matter_of_writing_is_raised() -> None:
    class Broken:
        def write(self, text: str) -> int:
            raise LookupError(text)

        def flush(self) -> None:
            raise LookupError

        def isatty(self) -> bool:
            return False

    configure(level="info", style="json", stream=Broken())  # type: ignore[arg-type]
    with pytest.raises(LookupError):
        get_logger().info("something.happened")
