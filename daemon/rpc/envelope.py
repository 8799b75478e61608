"""The messages of oslo.messaging's RPC over AMQP, to bytes and back.  Pure.

Envelope 2.0: the message is a JSON text inside a JSON document.  A call names the queue that its answer goes to; a
cast names none and has no answer.  https://docs.openstack.org/oslo.messaging/latest/admin/AMQP1.0.html tells the
roles; the keys are those that nova-conductor 34.0.0 and nova-scheduler 34.0.0 were seen to accept and to send.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bringup.daemon.rpc.errors import RemoteError, Unreadable

VERSION = "2.0"
LONGEST_TEXT = 4000
"""Characters of what a failure says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyTo:
    """Where an answer goes, and what it must name."""

    queue: str
    message_id: str
    alive_every_s: int
    """The server says at least this often that it still works on it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for one call."""

    message_id: str
    is_last: bool
    """False: it is still being worked on."""
    result: Any = None
    failure: RemoteError | None = None
    traceback: str = ""
    """The remote one; for a debug log only."""


def message(
    method: str,
    arguments: Mapping[str, Any],
    *,
    version: str,
    unique_id: str,
    reply_to: ReplyTo | None = None,
) -> bytes:
    """Write a call, or where nobody waits for an answer a cast.

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


def parse_answer(body: bytes) -> Answer:
    """Read what came to the queue of answers.

    :raises Unreadable: it is not an answer, or of another major version of the envelope.
    """
    try:
        outer = json.loads(body)
        version = outer["oslo.version"]
        if not version.startswith("2."):
            raise Unreadable(f"an answer has version {version} of oslo.messaging's envelope; this version reads 2.x")
        inner = json.loads(outer["oslo.message"])
        failure = inner.get("failure")
        error, traceback = _failure(failure) if failure else (None, "")
        return Answer(
            message_id=_text(inner["_msg_id"]),
            is_last=bool(inner.get("ending", True)),
            result=inner.get("result"),
            failure=error,
            traceback=traceback,
        )
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise Unreadable("a message in the queue of answers is no answer of oslo.messaging") from error


def _failure(text: str) -> tuple[RemoteError, str]:
    failure = json.loads(text)
    said = _text(failure.get("message") or "")
    name = _text(failure["class"])
    if not name.strip():
        raise ValueError("the name of a class is wanted")
    return RemoteError(name, said), "".join(failure.get("tb") or ())


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("a text is wanted")
    return value[:LONGEST_TEXT]
