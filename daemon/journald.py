"""Log entries straight to systemd's journal, every fact a field of its own.

The native protocol (https://systemd.io/JOURNAL_NATIVE_PROTOCOL/): one datagram an entry, or a sealed memfd where the
entry is too large for one.  The journal stamps time and sender itself, so that neither is in the message.
"""

import fcntl
import json
import os
import re
import socket
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

from structlog.typing import WrappedLogger

SOCKET = Path("/run/systemd/journal/socket")
IDENTIFIER = "bringup"
SEND_S = 0.25
"""How long the journal may take an entry; one that is stuck must not stop the host from coming back."""
PRIORITY = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
"""syslog(3)'s words for the levels."""
OWN_NAMES = {"instance": "INSTANCE_UUID", "event": "BRINGUP_EVENT", "exception": "BRINGUP_EXCEPTION"}
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
_LONGEST_NAME = 64


def is_stream_of(environment: Mapping[str, str], descriptor: int) -> bool:
    """Check whether a descriptor is connected to the journal, by systemd's ``JOURNAL_STREAM`` (systemd.exec(5))."""
    device, _, inode = environment.get("JOURNAL_STREAM", "").partition(":")
    try:
        found = os.fstat(descriptor)
    except OSError:
        return False
    return (device, inode) == (str(found.st_dev), str(found.st_ino))


def entry(_logger: WrappedLogger, _method: str, event: MutableMapping[str, Any]) -> bytes:
    """Turn an event into an entry of the journal; the last processor of structlog."""
    event.pop("timestamp", None)
    level = event.pop("level", "info")
    fields = [
        ("MESSAGE", _message(event)),
        ("PRIORITY", str(PRIORITY.get(level, 6))),
        ("SYSLOG_IDENTIFIER", IDENTIFIER),
        *((_name(key), _text(value)) for key, value in event.items() if value is not None),
    ]
    return b"".join(_field(name, value.encode("utf-8", "backslashreplace")) for name, value in fields)


def _message(event: Mapping[str, Any]) -> str:
    """Return the text of a message: the event, then its facts, then a traceback."""
    facts = [
        f"{key}={_quoted(_words(value))}"
        for key, value in event.items()
        if key not in ("event", "exception") and value is not None
    ]
    line = " ".join([str(event.get("event", "")), *facts])
    return f"{line}\n{event['exception']}" if "exception" in event else line


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False) if not text or set(text) & set(' "=\n') else text


def _words(value: Any) -> str:
    """Return a list of plain words as text; the field has it as JSON."""
    plain = isinstance(value, list) and value and all(isinstance(word, str) and word.isidentifier() for word in value)
    return ">".join(value) if plain else _text(value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)


def _name(key: str) -> str:
    return OWN_NAMES.get(key) or f"BRINGUP_{re.sub('[^A-Z0-9_]', '_', key.upper())}"[:_LONGEST_NAME]


def _field(name: str, value: bytes) -> bytes:
    if b"\n" not in value:
        return b"%s=%s\n" % (name.encode(), value)
    return b"%s\n%s%s\n" % (name.encode(), len(value).to_bytes(8, "little"), value)


class JournalSender:
    """Sends entries; what cannot be sent is counted and said with the next that can be."""

    def __init__(self, path: Path = SOCKET) -> None:
        """Connect to the journal.

        :raises OSError: there is none.
        """
        self._path = path
        self._dropped = 0
        self._socket: socket.socket | None = self._connected()

    def _connected(self) -> socket.socket:
        sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        sender.settimeout(SEND_S)
        try:
            sender.connect(str(self._path))
        except OSError:
            sender.close()
            raise
        return sender

    def msg(self, payload: bytes) -> None:
        """Send an entry, or drop it."""
        if self._dropped:
            payload += b"BRINGUP_DROPPED=%d\n" % self._dropped
        try:
            self._send(payload)
        except OSError:
            self._dropped += 1
        else:
            self._dropped = 0

    debug = info = warning = error = critical = exception = msg

    def _send(self, payload: bytes) -> None:
        try:
            _send(self._socket or self._connect_again(), payload)
        except ConnectionError:  # the journal was started anew
            self.close()
            _send(self._connect_again(), payload)

    def _connect_again(self) -> socket.socket:
        self._socket = self._connected()
        return self._socket

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _send(sender: socket.socket, payload: bytes) -> None:
    try:
        sender.send(payload)
    except (TimeoutError, ConnectionError):
        raise
    except OSError:  # EMSGSIZE, ENOBUFS: it is too large for a datagram
        _send_sealed(sender, payload)


def _send_sealed(sender: socket.socket, payload: bytes) -> None:
    with os.fdopen(os.memfd_create("journal-entry", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING), "wb") as file:
        file.write(payload)
        file.flush()
        fcntl.fcntl(file.fileno(), fcntl.F_ADD_SEALS, _SEALS)
        socket.send_fds(sender, [b""], [file.fileno()])
