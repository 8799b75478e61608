"""Bodies of foreign responses, read up to a limit and without decoding, and request ids made safe for messages."""

import re
from collections.abc import AsyncIterator, Collection
from typing import Final

import httpx

IDENTITY: Final = {"Accept-Encoding": "identity"}
"""No compression is requested: a few compressed megabytes can be gigabytes."""
ID_LIMIT: Final = 64
NOT_IN_IDS: Final = re.compile(r"[^0-9A-Za-z._:-]")
"""An id is written to log lines and messages, and searched in another log: no other characters are needed."""


class NotReadable(Exception):
    """The body of a response is too long or encoded; the message names which."""


async def read_bounded(response: httpx.Response, limit: int) -> bytes:
    """Read the body of a response that was opened as a stream, without decoding.

    :raises NotReadable: it is too long, or encoded although that was not requested.
    """
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding != "identity":
        raise NotReadable(f"the answer is encoded as {clean_id(encoding)}")
    length = response.headers.get("Content-Length", "")
    if length.isdecimal() and int(length) > limit:
        raise _too_long(limit)
    stream = response.stream
    if isinstance(stream, httpx.AsyncByteStream):
        response.stream = _Bounded(stream, limit)
    return await response.aread()


class _Bounded(httpx.AsyncByteStream):
    """Stream that raises where it is too long."""

    def __init__(self, stream: httpx.AsyncByteStream, limit: int) -> None:
        self._stream = stream
        self._limit = limit

    async def __aiter__(self) -> AsyncIterator[bytes]:
        length = 0
        async for chunk in self._stream:
            length += len(chunk)
            if length > self._limit:
                raise _too_long(self._limit)
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


def _too_long(limit: int) -> NotReadable:
    return NotReadable(f"the answer is longer than {limit} bytes")


def clean_id(text: str | None, *, secrets: Collection[str] = ()) -> str | None:
    """Return a foreign request id, reduced to safe characters; None where it is none, or contains a secret."""
    if text is None or any(secret in text for secret in secrets if secret):
        return None
    return NOT_IN_IDS.sub("", text[: 4 * ID_LIMIT])[:ID_LIMIT] or None
