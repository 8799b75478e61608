"""A command on a terminal: a pseudo-terminal of a known size, what was written to it, and the keys of a person."""

import contextlib
import fcntl
import os
import pty
import re
import struct
import termios
import threading
from collections.abc import Iterator

from support.process import ENVIRONMENT, PATIENCE_S, started
from support.surroundings import Within, own_terminal

ROWS, COLUMNS = 50, 180
CTRL_C = b"\x03"
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07")


class Screen:
    """What a command writes to its terminal, without colours and movements."""

    def __init__(self, arguments: tuple[str, ...], *, afresh: bool = False) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        environment = ENVIRONMENT | {"TERM": "xterm-256color"}
        environment.pop("NO_COLOR", None)
        streams = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
        self.process = started(arguments, within=Within(own_terminal), afresh=afresh, env=environment, **streams)
        os.close(theirs)
        self._written = bytearray()
        self._changed = threading.Condition()
        self._over = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        # EIO: the last process that had the terminal has closed it.
        with contextlib.suppress(OSError):
            while written := os.read(self._ours, 65536):
                with self._changed:
                    self._written += written
                    self._changed.notify_all()
        with self._changed:
            self._over = True
            self._changed.notify_all()

    @property
    def text(self) -> str:
        """All that was written so far."""
        return _ESCAPES.sub("", self._written.decode("utf-8", "replace")).replace("\r", "")

    def until(self, pattern: str) -> str:
        """Wait until something is on the screen."""
        with self._changed:
            seen = self._changed.wait_for(lambda: re.search(pattern, self.text) or self._over, PATIENCE_S)
            found = re.search(pattern, self.text)
            assert found, f"{pattern} never came ({'it ended' if seen else 'in time'}): {self.text[-3000:]}"
            return found[0]

    def press(self, key: bytes) -> None:
        """Press a key."""
        os.write(self._ours, key)

    def end(self) -> int:
        """Wait for the end; return the exit code."""
        code = self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        return code

    def close(self) -> None:
        """Leave nothing behind."""
        self.process.kill()
        self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        os.close(self._ours)


@contextlib.contextmanager
def on_a_screen(*arguments: str, afresh: bool = False) -> Iterator[Screen]:
    """Run a command on a terminal, beside the block."""
    screen = Screen(arguments, afresh=afresh)
    try:
        yield screen
    finally:
        screen.close()
