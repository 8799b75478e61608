"""A service manager that listens to what a service says of itself."""

import queue
import socket
import threading
from pathlib import Path

from support.process import ENVIRONMENT, PATIENCE_S


class Manager:
    """Receiver of notifications, in their order."""

    def __init__(self, path: Path) -> None:
        self.environment = ENVIRONMENT | {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "900000"}
        self.end = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.end.bind(str(path))
        self._messages: queue.SimpleQueue[list[str]] = queue.SimpleQueue()
        self._path = path
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()

    def _listen(self) -> None:
        while message := self.end.recv(4096):
            self._messages.put(message.decode().splitlines())

    def until(self, start: str) -> list[str]:
        """Wait for a message with a line that starts so; return all lines since the last that was waited for."""
        lines: list[str] = []
        while True:
            message = self._messages.get(timeout=PATIENCE_S)
            lines += message
            if any(line.startswith(start) for line in message):
                return lines

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.sendto(b"", str(self._path))
        self._listener.join(PATIENCE_S)
        self.end.close()
