"""Check of every request by its ``Host``, and headers that say what a browser may do with the answer.

Another page could make a browser connect to 127.0.0.1 by a name of its own (DNS rebinding): the ``Host`` shows it.
No CORS header is ever sent, so no other page may read an answer.
"""

from collections.abc import Sequence
from contextlib import suppress
from ipaddress import ip_address

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class Guarding:
    """ASGI application around another."""

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
