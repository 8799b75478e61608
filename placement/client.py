"""HTTP client of Placement: each request returns a response or raises an error of ``placement/errors.py``."""

import socket
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import anyio
import httpx
import structlog

from bringup.placement.auth import TOKEN_HEADER, NoAuth
from bringup.placement.bounded_body import IDENTITY
from bringup.placement.catalogue import NotInCatalogue, WantedEndpoint, find
from bringup.placement.error_mapping import BY_EXCEPTION, error_from_exception, error_from_response
from bringup.placement.errors import NotUnderstood, PlacementError, Unreachable
from bringup.placement.keystone import KeystoneAuth
from bringup.placement.microversions import Microversion
from bringup.placement.response import Response, read_body, request_id_of
from bringup.placement.tls import Trust, context
from bringup.placement.unencrypted import downgrades_to_http, is_unencrypted, without_secrets

log = structlog.get_logger()

SYSTEM: Final = Trust()
POOL: Final = httpx.Limits(max_connections=8, max_keepalive_connections=4, keepalive_expiry=30)
MOST_PATIENCE: Final = 8.0
KEEPALIVE: Final = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)
"""A server whose machine is gone is detected within half a minute, however long a request may take."""


@dataclass(slots=True, kw_only=True)
class Address:
    """Address of Placement: from the settings, or from the catalogue of a token."""

    url: httpx.URL | None
    wanted: WantedEndpoint
    is_found: bool = False
    """Whether it came from a catalogue."""

    def __str__(self) -> str:
        """Return the address, or a text for one that is not known yet."""
        return "the endpoint of the catalogue" if self.url is None else str(self.url).rstrip("/")

    def find(self, keystone: KeystoneAuth) -> httpx.URL:
        """Return the address; needs a token.

        :raises NotUnderstood: the catalogue has none that may be used.
        """
        if self.url is None:
            what = f"find Placement in the catalogue of Keystone at {keystone.identity.auth_url}"
            try:
                found = find(keystone.catalogue, self.wanted)
            except NotInCatalogue as error:
                raise NotUnderstood(what, str(error)) from None
            url = _base_url(found, f"use the endpoint {without_secrets(found)!r} of the catalogue")
            if downgrades_to_http(keystone.identity.auth_url, str(url)) and not self.wanted.allow_http:
                raise NotUnderstood(
                    what,
                    f"its endpoint {found} is not https, as Keystone is: the token would go there unencrypted; have "
                    "the endpoint changed, or set placement.interfaces or placement.url to one that is, or "
                    "placement.allow_http_endpoint = true",
                )
            self.url, self.is_found = url, True
        return self.url

    def forget(self) -> None:
        """Drop what came from a catalogue."""
        if self.is_found:
            self.url, self.is_found = None, False


class PlacementClient:
    """Connections to Placement, and the microversion of requests once it is known."""

    __slots__ = ("_address", "_deadline_s", "_http", "_insists", "_patience", "microversion")

    def __init__(
        self,
        http: httpx.AsyncClient,
        address: Address,
        *,
        deadline_s: float = 60,
        microversion: Microversion | None = None,
        insists: bool = False,
        patience: float = 1.0,
    ) -> None:
        """Store an HTTP client and the address; ``deadline_s`` bounds one whole request, without a login.

        ``insists``: log in also while Keystone is busy.  ``patience``: factor on the time that a response may take.
        """
        self._http = http
        self._insists = insists
        self._patience = patience
        self._address = address
        self._deadline_s = deadline_s
        self.microversion = microversion

    @property
    def url(self) -> str:
        """The address of Placement, without a slash at the end."""
        return str(self._address)

    @property
    def unencrypted(self) -> list[str]:
        """Secrets that are sent unencrypted, a sentence each with what to change."""
        auth, url = self._http.auth, self.url
        found = []
        if isinstance(auth, KeystoneAuth) and is_unencrypted(auth.identity.auth_url):
            found.append(f"what we log in with goes to Keystone at {auth.identity.auth_url} unencrypted: use https://")
        is_secret = isinstance(auth, KeystoneAuth) or (isinstance(auth, NoAuth) and not auth.is_public)
        if is_secret and is_unencrypted(url):
            found.append(f"the token goes to Placement at {url} unencrypted: use https://")
        return found

    @property
    def pending_login(self) -> str | None:
        """The login that is in progress or failed last, for messages; None where Placement itself is queried."""
        auth = self._http.auth
        return auth.what if isinstance(auth, KeystoneAuth) and auth.asking else None

    def __repr__(self) -> str:
        """Return a text with the address."""
        return f"<PlacementClient of {self.url}>"

    def at(self, microversion: Microversion) -> "PlacementClient":
        """Return a client over the same connections for this microversion."""
        return self._with(microversion, insists=self._insists, patience=self._patience)

    def insisting(self) -> "PlacementClient":
        """Return a client over the same connections that logs in also while Keystone is busy."""
        return self._with(self.microversion, insists=True, patience=self._patience)

    def more_patient(self) -> "PlacementClient":
        """Return a client over the same connections that waits twice as long for a response, within bounds.

        For the attempt after a timeout: a busy server still works on the abandoned request, and a repeat after the same
        time adds to its queue for ever.
        """
        patience = min(2 * self._patience, MOST_PATIENCE)
        return self._with(self.microversion, insists=self._insists, patience=patience)

    def forget_restored_token(self, error: PlacementError) -> bool:
        """Drop a token that an earlier process left, and the address of its catalogue; return whether there was one.

        A Placement that is unavailable at an address that was set says nothing about the token, which is kept.
        """
        auth = self._http.auth
        if isinstance(error, Unreachable) and not self._address.is_found:
            return False
        if not isinstance(auth, KeystoneAuth) or not auth.forget_restored():
            return False
        self._address.forget()
        return True

    def _with(self, microversion: Microversion | None, *, insists: bool, patience: float) -> "PlacementClient":
        return PlacementClient(
            self._http,
            self._address,
            deadline_s=self._deadline_s,
            microversion=microversion,
            insists=insists,
            patience=patience,
        )

    async def request(
        self, method: str, path: str, *, params: Mapping[str, str] | None = None, json: Any = None
    ) -> Response:
        """Send a request and return its response, a 2xx; a 401 renews the token once.

        :raises PlacementError: there was no such response.
        """
        facts: dict[str, Any] = {"method": method, "path": path, "params": dict(params or {})}
        auth = self._http.auth
        answer, token = await self._once(method, path, facts, params, json)
        if answer.status == httpx.codes.UNAUTHORIZED and isinstance(auth, KeystoneAuth):
            auth.refused(token)
            answer, token = await self._once(method, path, facts, params, json)
        if httpx.codes.is_success(answer.status):
            return answer
        raise error_from_response(answer, secrets=[token])

    async def _once(
        self, method: str, path: str, facts: Mapping[str, Any], params: Mapping[str, str] | None, json: Any
    ) -> tuple[Response, str]:
        """Send a request once; return the response and the token that was sent.

        :raises PlacementError: there was no response.
        """
        began = time.monotonic()
        response: httpx.Response | None = None
        try:
            # Outside the deadline: a login may take longer than a response of Placement.
            base = await self._base()
            request = self._http.build_request(
                method,
                f"{str(base).rstrip('/')}{path}",
                params=params,
                json=json,
                headers=self._headers(),
                timeout=self._timeout(),
            )
            with anyio.fail_after(self._deadline_s * self._patience):
                response = await self._http.send(request, stream=True)
                what = self._what(method, path)
                try:
                    body = await read_body(response, what)
                finally:
                    await response.aclose()
        except PlacementError as error:
            self._log(facts, began, error=error.why, request_id=error.request_id)
            raise
        except tuple(BY_EXCEPTION) as error:
            failure = error_from_exception(
                error,
                self._what(method, path),
                request_id=None
                if response is None
                else request_id_of(response.headers, secrets=[request.headers.get(TOKEN_HEADER, "")]),
            )
            self._log(facts, began, error=failure.why, request_id=failure.request_id)
            # Not chained: the text of the original may contain what was sent.
            raise failure from None
        token = request.headers.get(TOKEN_HEADER, "")
        answer = Response(what=what, status=response.status_code, headers=response.headers, body=body, secrets=(token,))
        self._log(facts, began, status=answer.status, request_id=answer.request_id)
        return answer, token

    def _timeout(self) -> httpx.Timeout:
        usual = self._http.timeout
        read_s = None if usual.read is None else usual.read * self._patience
        return httpx.Timeout(connect=usual.connect, read=read_s, write=usual.write, pool=usual.pool)

    async def _base(self) -> httpx.URL:
        """Return the address of Placement; log in where a token is needed."""
        auth = self._http.auth
        if isinstance(auth, KeystoneAuth):
            await auth.log_in(self._http, insists=self._insists)
            return self._address.find(auth)
        if self._address.url is None:
            raise NotUnderstood("find Placement", "there is neither an address nor a catalogue; set placement.url")
        return self._address.url

    def _what(self, method: str, path: str) -> str:
        return f"{method} {path} of Placement at {self.url}"

    def _headers(self) -> dict[str, str]:
        # Without the header every version is answered for "/"; an unknown version is a 406.
        headers = {"Accept": "application/json", **IDENTITY}
        if self.microversion is not None:
            headers["OpenStack-API-Version"] = f"placement {self.microversion}"
        return headers

    @staticmethod
    def _log(facts: Mapping[str, Any], began: float, **outcome: Any) -> None:
        log.debug("placement.request", **facts, **outcome, took_s=round(time.monotonic() - began, 4))


@asynccontextmanager
async def connect(
    url: str | None,
    *,
    auth: httpx.Auth | None,
    wanted: WantedEndpoint | None = None,
    connect_timeout_s: float = 5,
    read_timeout_s: float = 10,
    verify: ssl.SSLContext | bool = True,
) -> AsyncIterator[PlacementClient]:
    """Open a client for ``http(s)://host[:port][/path]``; nothing is sent yet.

    Without ``url`` the address is the one that ``wanted`` finds in Keystone's catalogue.  ``read_timeout_s`` is for
    each part of a response, and should be above 4: Placement waits that long for Keystone before it reports that
    Keystone is down.  ``verify`` True means the certificates that the system trusts.

    :raises NotUnderstood: the URL cannot be used.
    """
    base_url = None if url is None else _base_url(url)
    if verify is True:
        # Loading the certificates takes time, and plain HTTP needs none.
        known = [base_url] if base_url is not None else []
        if isinstance(auth, KeystoneAuth):
            known.append(httpx.URL(auth.identity.auth_url))
        is_plain = base_url is not None and all(one.scheme == "http" for one in known)
        verify = False if is_plain else context(SYSTEM)
    timeout = httpx.Timeout(read_timeout_s, connect=connect_timeout_s)
    address = Address(url=base_url, wanted=wanted or WantedEndpoint())
    # trust_env: proxies of the environment are not settings of the daemon.
    transport = httpx.AsyncHTTPTransport(verify=verify, limits=POOL, trust_env=False, socket_options=KEEPALIVE)
    async with httpx.AsyncClient(auth=auth, transport=transport, timeout=timeout, trust_env=False) as http:
        yield PlacementClient(http, address, deadline_s=connect_timeout_s + read_timeout_s)


def _base_url(url: str, what: str = "use placement.url") -> httpx.URL:
    try:
        parsed = httpx.URL(url)
        # Decodes an international name, which may be invalid.
        host = parsed.host
    except (httpx.InvalidURL, UnicodeError):
        # The inner error may show a password.
        raise NotUnderstood(what, "it is not a URL; must be like http://placement.example:8778") from None
    if parsed.userinfo:
        raise NotUnderstood(what, "it holds credentials; they belong in the settings of the authentication")
    if parsed.scheme not in {"http", "https"} or not host or parsed.query or parsed.fragment:
        raise NotUnderstood(
            what, f"{without_secrets(url)!r} must be like http://placement.example:8778 or https://example/placement"
        )
    return parsed
