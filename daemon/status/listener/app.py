"""ASGI application of the endpoint.  See docs/status.md.

It only reads; requests of operators (``POST``) it has on the UNIX socket alone.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from ipaddress import ip_address
from types import MappingProxyType
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bringup.daemon.errors import BringupError, chain_of
from bringup.daemon.status.endpoint.source import RequestHandler, StatusSource
from bringup.daemon.status.listener import documents, metrics
from bringup.daemon.status.listener.page import page
from bringup.daemon.status.listener.streams import SEND_S, EventStream, TimelineStream

LONGEST_BODY = 1 << 20
DIGITS = 18
"""No valid number has more."""
LONGEST_SPAN = 100
BODY_S = 10.0


HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class Guarding:
    """ASGI application around another that checks the ``Host`` of each request.

    Another page could make a browser connect to 127.0.0.1 by a name of its own (DNS rebinding): the ``Host`` shows it.
    No CORS header is ever sent, so no other page may read an answer.
    """

    def __init__(self, app: ASGIApp, *, host_names: Sequence[str] | None) -> None:
        """Allow requests with one of these names, ``localhost`` or an IP address; all for None."""
        self._app = app
        self._names = None if host_names is None else {"localhost", *(name.lower() for name in host_names)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        if scope["type"] == "http" and not self._is_known(Headers(scope=scope).get("host", "")):
            refusal = PlainTextResponse("Host is no name of this host; see status.host_names\n", status_code=421)
            await refusal(scope, receive, send_with_headers)
            return
        # A client that ends its own request, or sends what is not HTTP in it, is not a bug of ours.
        with suppress(ClientDisconnect):
            await self._app(scope, receive, send_with_headers)

    def _is_known(self, host: str) -> bool:
        if self._names is None:
            return True
        name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
        if name.lower() in self._names:
            return True
        try:
            ip_address(name.removeprefix("[").removesuffix("]"))
        except ValueError:
            return False
        return True


def make_app(
    source: StatusSource,
    requests: Mapping[str, RequestHandler] = MappingProxyType({}),
    *,
    host_names: Sequence[str] | None = None,
    send_s: float = SEND_S,
) -> Guarding:
    """Build the application; with ``host_names`` it answers only to a ``Host`` that is one of them, or an IP address.

    A piece of an answer that its client does not read within ``send_s`` is the last.  ``requests`` are the requests
    of operators that are accepted, by names of :data:`REQUESTS`.
    """
    answers = _Answers(source)
    routes = [
        Route("/", _page),
        Route("/livez", answers.livez),
        Route("/readyz", answers.readyz),
        Route("/status", answers.status),
        Route("/timeline", TimelineStream(source, send_s=send_s)),
        Route("/events", EventStream(source, send_s=send_s)),
        Route("/metrics", answers.metrics),
    ]
    routes += [
        Route(f"/{name}", _RequestRoute(name, handler).answer, methods=["POST"]) for name, handler in requests.items()
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: _refused})
    return Guarding(app, host_names=host_names)


class _Answers:
    """Answers made of the source."""

    def __init__(self, source: StatusSource) -> None:
        self._source = source

    async def livez(self, _request: Request) -> Response:
        """Check whether the work proceeds, and whether the daemon's event loop does."""
        silent = await self._source.fresh()
        if silent is not None:
            return PlainTextResponse(f"stuck: {silent}\n", status_code=503)
        stuck_s = self._source.stuck_for_s(self._source.progress.snapshot())
        hanging = self._source.hanging()
        if hanging is not None:
            return PlainTextResponse(f"stuck: {hanging}\n", status_code=503)
        if stuck_s is None:
            return PlainTextResponse("ok\n")
        return PlainTextResponse(f"stuck: nothing has ended for {stuck_s:.0f} s\n", status_code=503)

    async def readyz(self, _request: Request) -> Response:
        reason = await self._source.fresh() or self._source.reason(self._source.progress.snapshot())
        if reason is None:
            return PlainTextResponse("ok\n")
        return PlainTextResponse(f"{reason}\n", status_code=503)

    async def status(self, _request: Request) -> Response:
        await self._source.fresh()
        return JSONResponse(documents.status(self._source, await self._source.reports()))

    async def metrics(self, _request: Request) -> Response:
        await self._source.fresh()
        text = metrics.text_of(self._source, await self._source.reports())
        return Response(text, media_type=metrics.CONTENT_TYPE_LATEST)


async def _page(_request: Request) -> Response:
    text, policy = page()
    return Response(text, media_type="text/html", headers={"content-security-policy": policy})


class _RequestRoute:
    """Handler of an operator request."""

    def __init__(self, name: str, handler: RequestHandler) -> None:
        self._name, self._handler = name, handler
        self._done, self._arguments = REQUESTS[name]

    async def answer(self, request: Request) -> Response:
        # A browser behind a forwarded port must not do it for another page: a POST of a page has its origin.
        if "origin" in request.headers:
            raise HTTPException(403, f"a browser may not {self._name}; use bringup {self._name}")
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            raise HTTPException(415, "send application/json")
        arguments = self._arguments(await _body(request))
        try:
            done = await self._handler(arguments)
        except BringupError as error:
            return JSONResponse({"error": chain_of(error), "exit_code": error.exit_code}, status_code=409)
        return JSONResponse({self._done: done})


async def _body(request: Request) -> bytes:
    too_long = HTTPException(413, f"the body is longer than {LONGEST_BODY} bytes")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and (len(length) > DIGITS or int(length) > LONGEST_BODY):
        raise too_long
    body = b""
    with anyio.move_on_after(BODY_S) as scope:
        async with aclosing(request.stream()) as chunks:
            async for chunk in chunks:
                body += chunk
                if len(body) > LONGEST_BODY:
                    raise too_long
    if scope.cancelled_caught:
        raise HTTPException(408, f"the body did not arrive within {BODY_S:g} s")
    return body


def _json(body: bytes, right: str) -> dict[str, Any]:
    try:
        found: Any = json.loads(body)
    except (ValueError, RecursionError):
        raise HTTPException(400, f"the body is not JSON: {right}") from None
    if not isinstance(found, dict):
        raise HTTPException(400, right)
    return found


def _uuids(body: bytes) -> list[str]:
    right = 'send {"uuids": ["..."]}, or {"uuids": []} for all'
    uuids = _json(body, right).get("uuids")
    if not isinstance(uuids, list) or not all(isinstance(uuid, str) and uuid.isprintable() for uuid in uuids):
        raise HTTPException(400, right)
    return uuids


def _time_span(body: bytes) -> list[str]:
    right = 'send {"for": "30min"}, or {} for the default'
    span = _json(body, right).get("for")
    if span is not None and not (isinstance(span, str) and span.isprintable() and len(span) <= LONGEST_SPAN):
        raise HTTPException(400, right)
    return [] if span is None else [span]


def _nothing(body: bytes) -> list[str]:
    _json(body, "send {}")
    return []


REQUESTS: Mapping[str, tuple[str, Callable[[bytes], list[str]]]] = {
    "release": ("released", _uuids),
    "retry": ("retried", _uuids),
    "pause": ("paused", _time_span),
    "resume": ("resumed", _nothing),
}
"""By name: the key of what was done in the answer, and how the arguments are read from the body."""


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - it is registered for nothing else
    return JSONResponse({"error": error.detail}, status_code=error.status_code, headers=error.headers)
