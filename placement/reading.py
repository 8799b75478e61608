"""Reading answers of others: so much and no more, as it came, and what they call a request in words that are safe."""

import re
from collections.abc import AsyncIterator, Collection
from typing import Final

import httpx

IDENTITY: Final = {"Accept-Encoding": "identity"}
"""A few megabytes that were compressed can be gigabytes: nobody asks for that."""
ID_LIMIT: Final = 64
NOT_IN_IDS: Final = re.compile(r"[^0-9A-Za-z._:-]")
"""An id goes into log lines and error messages, and is looked for in another log: nothing else is of use there."""


class NotReadable(Exception):
    """The body of an answer is longer than it may be, or encoded; the text says which."""


async def read_bounded(response: httpx.Response, limit: int) -> bytes:
    """Read an answer that was opened as a stream, as it came: no encoding is undone.

    :raises NotReadable: it is too long, or encoded though nobody asked for that.
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
    """A stream that ends in an error where it is too long."""

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
    """Give what somebody else calls a request, as far as it can be an id; None where it is none, or holds a secret."""
    if text is None or any(secret in text for secret in secrets if secret):
        return None
    return NOT_IN_IDS.sub("", text[: 4 * ID_LIMIT])[:ID_LIMIT] or None
