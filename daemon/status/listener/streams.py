"""Answers in pieces: the events, and the timeline of a large host.

A piece that is not read within a deadline ends the answer: a client that does not read must not hold resources.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing

import anyio
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from bringup.daemon.status.endpoint.event_feed import TooManyListeners, encoded
from bringup.daemon.status.endpoint.source import State, StatusSource
from bringup.daemon.status.listener import documents

SEND_S = 30.0
BARS_A_PIECE = 500
RETRY_MS = 2000
"""How long a browser waits before it reconnects."""


class _Pieces:
    """ASGI application that sends the pieces until its client disconnects."""

    media_type: str

    def __init__(self, source: StatusSource, *, send_s: float) -> None:
        self._source = source
        self._send_s = send_s

    def _pieces(self, request: Request) -> AsyncGenerator[str, None]:
        raise NotImplementedError

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["method"] not in ("GET", "HEAD"):
            refusal = JSONResponse({"error": "Method Not Allowed"}, status_code=405, headers={"allow": "GET, HEAD"})
            await refusal(scope, receive, send)
            return
        pieces = self._pieces(Request(scope))
        try:
            first = await anext(pieces)
        except TooManyListeners:
            refusal = JSONResponse({"error": "too many clients already"}, status_code=503, headers={"retry-after": "5"})
            await refusal(scope, receive, send)
            return
        async with anyio.create_task_group() as group:
            group.start_soon(_until_gone, receive, group.cancel_scope, name="client")
            try:
                await self._send(send, first, pieces, is_head=scope["method"] == "HEAD")
            finally:
                with anyio.CancelScope(shield=True):
                    await pieces.aclose()
                group.cancel_scope.cancel()

    async def _send(self, send: Send, first: str, pieces: AsyncGenerator[str, None], *, is_head: bool) -> None:
        headers = [(b"content-type", self.media_type.encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if is_head:
            await send({"type": "http.response.body", "body": b""})
            return
        piece = first
        while True:
            with anyio.move_on_after(self._send_s) as scope:
                await send({"type": "http.response.body", "body": piece.encode(), "more_body": True})
            if scope.cancelled_caught:
                self._source.recorder.feed.dropped += 1
                return
            try:
                piece = await anext(pieces)
            except StopAsyncIteration:
                break
        await send({"type": "http.response.body", "body": b""})


async def _until_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


class EventStream(_Pieces):
    """``/events``."""

    media_type = "text/event-stream; charset=utf-8"

    async def _pieces(self, request: Request) -> AsyncGenerator[str, None]:
        source = self._source
        await source.fresh()

        def beat() -> str:
            return f"event: progress\ndata: {encoded(documents.head(source, source.progress.snapshot()))}\n\n"

        def busy() -> bool:
            return source.state() is State.INITIALIZING or bool(source.progress.running)

        before = f"retry: {RETRY_MS}\n\n"
        # A browser cannot set the header before it has received an event.
        last_id = request.headers.get("last-event-id") or request.query_params.get("after")
        async with aclosing(source.recorder.feed.listen(last_id, beat, busy)) as heard:
            async for piece in heard:
                yield before + piece
                before = ""


class TimelineStream(_Pieces):
    """``/timeline``."""

    media_type = "application/json"

    async def _pieces(self, request: Request) -> AsyncGenerator[str, None]:
        del request
        await self._source.fresh()
        yield encoded(documents.timeline_head(self._source))[:-1] + ',"bars":['
        separator, piece = "", []
        for bar in self._source.recorder.bars():
            piece.append(separator + bar)
            separator = ","
            if len(piece) == BARS_A_PIECE:
                yield "".join(piece)
                piece = []
        yield "".join(piece) + "]}"
