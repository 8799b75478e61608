"""Messages of oslo.messaging's RPC over AMQP, encoded and parsed.  Pure.

Envelope 2.0: the message is a JSON text inside a JSON document.  A call names the queue for its reply; a
cast names none and has no reply.  https://docs.openstack.org/oslo.messaging/latest/admin/AMQP1.0.html describes
the roles; the keys are those that nova-conductor 34.0.0 and nova-scheduler 34.0.0 accept and send.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bringup.daemon.openstack.rpc.errors import RemoteError, Unreadable
from bringup.drivers.bounded_repr import bounded_repr

VERSION = "2.0"
LARGEST = 1 << 24
"""Bytes of a reply, the limit of RabbitMQ 4: empty lists take thirty times that in memory."""
LONGEST_TEXT = 4000
"""Characters of a failure's message."""
MOST_DIGITS = 100
"""Characters that are kept of a number with more digits than Python parses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyTo:
    """Queue for a reply, and the message ID that it must have."""

    queue: str
    message_id: str
    alive_every_s: int
    """Interval of the server's heartbeats, in seconds."""


@dataclass(frozen=True, slots=True)
class Reply:
    """Reply to a call, or a heartbeat."""

    message_id: str
    is_last: bool
    """False: a heartbeat, the call is in progress."""
    result: Any = None
    failure: RemoteError | None = None
    traceback: str = ""
    """The remote traceback; for the debug log only."""


def message(
    method: str,
    arguments: Mapping[str, Any],
    *,
    version: str,
    unique_id: str,
    reply_to: ReplyTo | None = None,
) -> bytes:
    """Encode a call, or a cast where there is no ``reply_to``.

    ``unique_id`` must be another one each time: a server forgets what it has seen.
    """
    inner: dict[str, Any] = {
        "method": method,
        "args": arguments,
        "version": version,
        "_unique_id": unique_id,
        "_context_is_admin": True,
        "_context_roles": ["admin"],
        "_context_read_deleted": "no",
        "_context_request_id": f"req-{unique_id}",
    }
    if reply_to is not None:
        inner |= {
            "_msg_id": reply_to.message_id,
            "_reply_q": reply_to.queue,
            "_timeout": reply_to.alive_every_s,
        }
    return json.dumps({"oslo.version": VERSION, "oslo.message": json.dumps(inner)}).encode()


def parse_reply(body: bytes) -> Reply:
    """Parse a message of the reply queue.

    :raises Unreadable: it is not a reply, or has another major version of the envelope.
    """
    if len(body) > LARGEST:
        raise Unreadable(f"a message in the queue of answers has {len(body)} bytes; at most {LARGEST} are read")
    try:
        outer = _read(body)
        version = outer["oslo.version"]
        if not version.startswith("2."):
            found = bounded_repr(version).strip("'")
            raise Unreadable(f"an answer has version {found} of oslo.messaging's envelope; this version reads 2.x")
        inner = _read(outer["oslo.message"])
        failure = inner.get("failure")
        error, traceback = _failure(failure) if failure else (None, "")
        return Reply(
            message_id=_text(inner["_msg_id"]),
            is_last=bool(inner.get("ending", True)),
            result=inner.get("result"),
            failure=error,
            traceback=traceback,
        )
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise Unreadable("a message in the queue of answers is no answer of oslo.messaging") from error


def _read(text: str | bytes) -> Any:
    """Parse JSON; a number of too many digits stays text, so that it invalidates its own row alone."""
    try:
        return json.loads(text)
    except ValueError:
        return json.loads(text, parse_int=_number)


def _number(digits: str) -> int | str:
    return int(digits) if len(digits) <= MOST_DIGITS else digits


def _failure(text: str) -> tuple[RemoteError, str]:
    failure = json.loads(text)
    message_text = _text(failure.get("message") or "")
    name = _text(failure["class"])
    if not name.strip():
        raise ValueError("the name of a class is wanted")
    return RemoteError(name, message_text), "".join(failure.get("tb") or ())


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("a text is wanted")
    return value[:LONGEST_TEXT]
