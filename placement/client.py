"""Requests to Placement, and what came of them: an answer, or one of ``placement/errors.py``."""

import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio
import httpx
import structlog

from bringup.placement.answers import Answer, request_id_of
from bringup.placement.auth import TOKEN_HEADER
from bringup.placement.errors import NotUnderstood
from bringup.placement.microversions import Microversion
from bringup.placement.reactions import BY_EXCEPTION, failure_of, refusal_of

log = structlog.get_logger()

BODY_LIMIT: Final = 32 * 1024 * 1024
"""Bytes of one answer; the allocations of a host with 10 000 instances are about 2 MB."""
POOL: Final = httpx.Limits(max_connections=8, max_keepalive_connections=4, keepalive_expiry=30)


class PlacementClient:
    """Holds the connections, and the microversion that is spoken over them once it is known."""

    __slots__ = ("_deadline_s", "_http", "microversion")

    def __init__(
        self, http: httpx.AsyncClient, *, deadline_s: float = 60, microversion: Microversion | None = None
    ) -> None:
        """Take a client with a base URL; ``deadline_s`` is for one request, all in all."""
        self._http = http
        self._deadline_s = deadline_s
        self.microversion = microversion

    @property
    def url(self) -> str:
        """Where Placement is, without a slash at the end."""
        return str(self._http.base_url).rstrip("/")

    def __repr__(self) -> str:
        """Show the address."""
        return f"<PlacementClient of {self.url}>"

    def at(self, microversion: Microversion) -> "PlacementClient":
        """Give a client over the same connections that speaks this microversion."""
        return PlacementClient(self._http, deadline_s=self._deadline_s, microversion=microversion)

    async def request(
        self, method: str, path: str, *, params: Mapping[str, str] | None = None, json: Any = None
    ) -> Answer:
        """Make one request and give its answer, a 2xx.

        :raises PlacementError: there was none.
        """
        what = f"{method} {path} of Placement at {self.url}"
        facts: dict[str, Any] = {"method": method, "path": path, "params": dict(params or {})}
        began = time.monotonic()
        response: httpx.Response | None = None
        try:
            request = self._http.build_request(method, path, params=params, json=json, headers=self._headers())
            with anyio.fail_after(self._deadline_s):
                response = await self._http.send(request, stream=True)
                answer = Answer(
                    what=what, status=response.status_code, headers=response.headers, body=await _read(response, what)
                )
        except tuple(BY_EXCEPTION) as error:
            failure = failure_of(error, what, request_id=None if response is None else request_id_of(response.headers))
            self._log(facts, began, error=failure.why, request_id=failure.request_id)
            raise failure from error
        self._log(facts, began, status=answer.status, request_id=answer.request_id)
        if httpx.codes.is_success(answer.status):
            return answer
        raise refusal_of(answer, secret=request.headers.get(TOKEN_HEADER))

    def _headers(self) -> dict[str, str]:
        # Without the header "/" answers for every version; with one that it does not have, 406.
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        if self.microversion is not None:
            headers["OpenStack-API-Version"] = f"placement {self.microversion}"
        return headers

    @staticmethod
    def _log(facts: Mapping[str, Any], began: float, **outcome: Any) -> None:
        log.debug("placement.request", **facts, **outcome, took_s=round(time.monotonic() - began, 4))


async def _read(response: httpx.Response, what: str) -> bytes:
    body = bytearray()
    try:
        length = response.headers.get("Content-Length", "")
        if length.isdecimal() and int(length) > BODY_LIMIT:
            raise _too_long(response, what)
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > BODY_LIMIT:
                raise _too_long(response, what)
    finally:
        await response.aclose()
    return bytes(body)


def _too_long(response: httpx.Response, what: str) -> NotUnderstood:
    why = f"the answer is longer than {BODY_LIMIT} bytes"
    return NotUnderstood(what, why, status=response.status_code, request_id=request_id_of(response.headers))


@asynccontextmanager
async def connect(
    url: str,
    *,
    auth: httpx.Auth | None,
    connect_timeout_s: float = 5,
    read_timeout_s: float = 10,
    verify: ssl.SSLContext | bool = True,
) -> AsyncIterator[PlacementClient]:
    """Open a client for ``http(s)://host[:port][/path]``; nothing is sent yet.

    ``read_timeout_s`` is for each part of an answer, and should be above 4: that long Placement waits for Keystone
    before it says that Keystone is down.  ``verify`` True means the certificates that the system trusts.

    :raises NotUnderstood: the URL cannot be used.
    """
    base_url = _base_url(url)
    if verify is True:
        # Loading the certificates takes time that a start over plain HTTP need not spend.
        verify = ssl.create_default_context() if base_url.scheme == "https" else False
    timeout = httpx.Timeout(read_timeout_s, connect=connect_timeout_s)
    # trust_env: proxies of whoever starts the daemon are no settings of it.
    async with httpx.AsyncClient(
        base_url=base_url, auth=auth, verify=verify, timeout=timeout, limits=POOL, trust_env=False
    ) as http:
        yield PlacementClient(http, deadline_s=connect_timeout_s + read_timeout_s)


def _base_url(url: str) -> httpx.URL:
    what = "use placement.url"
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, UnicodeError):
        # The inner error may show a password.
        raise NotUnderstood(what, "it is not a URL; must be like http://placement.example:8778") from None
    if parsed.userinfo:
        raise NotUnderstood(what, "it holds credentials; they belong into the settings of the authentication")
    if parsed.scheme not in {"http", "https"} or not parsed.host or parsed.query or parsed.fragment:
        raise NotUnderstood(what, f"{url!r} must be like http://placement.example:8778 or https://example/placement")
    return parsed
