"""Keystone v3 as an ``httpx.Auth``: it says which requests to make, and the client makes them.

One token serves every request until shortly before it expires.  Whoever finds it stale renews it, the others wait for
that.  A 401 renews it once, for a token may be revoked at any time; a second 401 is the answer.
"""

import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NoReturn

import anyio
import httpx

from bringup.placement.answers import Answer, read_whole
from bringup.placement.auth import TOKEN_HEADER
from bringup.placement.catalogue import Endpoint, read_catalogue
from bringup.placement.credentials import GivenToken, Identity
from bringup.placement.errors import NotFound, NotUnderstood, PlacementError, Unauthorized
from bringup.placement.reactions import refusal_of

RENEW_BEFORE_S: Final = 30.0
"""So long before its end a token is renewed; a short-lived one when a quarter of its life is left."""
SUBJECT_HEADER: Final = "X-Subject-Token"
UNKNOWN_LIFE_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class Token:
    """A token, how long it may be used, and the catalogue that came with it."""

    value: str = field(repr=False)
    stale_at: float
    """By the monotonic clock: the wall clock of a host that boots may be wrong."""
    catalogue: tuple[Endpoint, ...] = field(repr=False)


class KeystoneAuth(httpx.Auth):
    """Logs in when it must, and puts the token on each request.  One for each client."""

    __slots__ = ("_asked_at", "_clock", "_lock", "_token", "asking", "identity", "logins")

    def __init__(self, identity: Identity, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Take who we are."""
        self.identity = identity
        self.asking = False
        """Whether Keystone is being asked, or was asked last and gave no token."""
        self.logins = 0
        """Tokens that were got."""
        self._clock = clock
        self._lock = anyio.Lock()
        self._token: Token | None = None
        self._asked_at = 0.0

    @property
    def what(self) -> str:
        """Say what is done when a token is asked for."""
        return f"get a token of Keystone at {self.identity.auth_url}"

    @property
    def catalogue(self) -> tuple[Endpoint, ...]:
        """What the last token told of where services are; empty before the first one."""
        return () if self._token is None else self._token.catalogue

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must be in no message."""
        return (self.identity.method.secret, *(() if self._token is None else (self._token.value,)))

    def __repr__(self) -> str:
        """Show who, never with what."""
        return f"<KeystoneAuth of {self.identity} at {self.identity.auth_url}>"

    def sync_auth_flow(self, request: httpx.Request) -> NoReturn:
        """Refuse: the lock is the event loop's."""
        raise RuntimeError(f"{self!r} is for an AsyncClient, and cannot sign {request.method} {request.url.path}")

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Put a token on a request, and once another one if it is refused.

        :raises PlacementError: there is no token to be had.
        """
        token = self._fresh()
        if token is None:
            async with self._lock:
                token = self._fresh()
                if token is None:
                    token = await self._taken((yield self._question(request)))
        request.headers[TOKEN_HEADER] = token.value
        response = yield request
        if response.status_code != httpx.codes.UNAUTHORIZED:
            return
        await read_whole(response, self.what)
        async with self._lock:
            # Somebody else may have renewed it while this request was under way.
            if self._token is token:
                self._token = None
            token = self._fresh()
            if token is None:
                token = await self._taken((yield self._question(request)))
        request.headers[TOKEN_HEADER] = token.value
        yield request

    def login(self) -> httpx.Auth:
        """Give an ``Auth`` that gets a token and sends nothing else, whatever request it is used with."""
        return _Login(self)

    async def _logging_in(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        async with self._lock:
            await self._taken((yield self._question(request)))

    def _fresh(self) -> Token | None:
        token = self._token
        return token if token is not None and self._clock() < token.stale_at else None

    def _question(self, request: httpx.Request) -> httpx.Request:
        # Until there is a token, every failure is one to get it.
        self.asking, self._asked_at = True, self._clock()
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        return httpx.Request(
            "POST",
            self.identity.token_url,
            json=self.identity.document(),
            headers=headers,
            # The timeouts of the client, which are not known here.
            extensions=request.extensions,
        )

    async def _taken(self, response: httpx.Response) -> Token:
        """Read what Keystone answered.

        :raises PlacementError: that was no token.
        """
        body = await read_whole(response, self.what)
        answer = Answer(
            what=self.what,
            status=response.status_code,
            headers=response.headers,
            body=body,
            named="auth_url names Keystone's v3 API",
        )
        if not httpx.codes.is_success(answer.status):
            raise self._refused(answer)
        self._token = self._read(answer)
        self.asking = False
        self.logins += 1
        return self._token

    def _read(self, answer: Answer) -> Token:
        value = answer.headers.get(SUBJECT_HEADER, "")
        match answer.json():
            case {"token": {"expires_at": str() as expires_at, **about}} if value:
                life_s = _life_s(about.get("issued_at"), expires_at)
                stale_at = self._asked_at + life_s - min(RENEW_BEFORE_S, life_s / 4)
                return Token(value, stale_at, read_catalogue(about.get("catalog")))
            case _:
                raise answer.not_understood(f"answered {answer.status} without a token")

    def _refused(self, answer: Answer) -> PlacementError:
        error = refusal_of(answer, secrets=self.secrets)
        if isinstance(error, NotFound) and isinstance(self.identity.method, GivenToken):
            # So Keystone calls a token that it cannot read.
            error = Unauthorized(self.what, error.why, status=error.status, request_id=error.request_id)
        # Keystone's own answers differ by the token; those of a service behind Keystone look the same and do not.
        is_keystone = "x-auth-token" in answer.headers.get("Vary", "").lower()
        must = self._advice() if is_keystone else f"check that {answer.named}, and {self._advice()}"
        advice = {
            Unauthorized: f"Keystone does not let {self.identity} in (answered {answer.status}); {must}",
            NotFound: f"there is no Keystone v3 API (answered {answer.status}); check auth_url",
        }.get(type(error))
        if advice is None:
            return error
        kind = NotUnderstood if isinstance(error, NotFound) else Unauthorized
        return kind(self.what, advice, status=error.status, request_id=error.request_id)

    def _advice(self) -> str:
        if isinstance(self.identity.method, GivenToken):
            return "give another token, for this one is expired or revoked, or what lasts: an application credential"
        return "check its name, its domain, its password or secret, and its role in that scope"


class _Login(httpx.Auth):
    """The part of a flow that gets a token; the request that it is used with is never sent."""

    def __init__(self, keystone: KeystoneAuth) -> None:
        self._keystone = keystone

    def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        return self._keystone._logging_in(request)  # noqa: SLF001 - its other half


def _life_s(issued_at: Any, expires_at: str) -> float:
    """Give the seconds that a token lives, all by Keystone's own clock."""
    try:
        issued, expires = (datetime.fromisoformat(str(text)) for text in (issued_at, expires_at))
        return max((expires - issued).total_seconds(), 0.0)
    except (ValueError, TypeError):
        return UNKNOWN_LIFE_S
