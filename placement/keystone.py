"""Keystone v3: one token for every request, got when it must be, and not while Keystone has a queue.

One token serves until shortly before it expires.  Whoever finds it stale renews it, the others wait for that.  A 401
renews it once, for a token may be revoked at any time; a second 401 is the answer.

Before each login comes a knock (:mod:`bringup.placement.knocking`).  A login that was sent is waited for as long as
Keystone works on it: whoever gives up and asks again has Keystone do the same work twice.
"""

import random
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NoReturn

import anyio
import httpx
import structlog

from bringup.placement.answers import Answer, drain, read_whole, request_id_of
from bringup.placement.auth import TOKEN_HEADER
from bringup.placement.catalogue import Endpoint, read_catalogue
from bringup.placement.credentials import GivenToken, Identity
from bringup.placement.errors import NotFound, NotUnderstood, PlacementError, Unauthorized, Unreachable
from bringup.placement.knocking import may_log_in
from bringup.placement.reactions import BY_EXCEPTION, failure_of, reaction_to, refusal_of
from bringup.placement.reading import IDENTITY
from bringup.placement.stopwatch import Stopwatch

log = structlog.get_logger()

RENEW_BEFORE_S: Final = 30.0
"""So long before its end a token is renewed; a short-lived one when a quarter of its life is left."""
SUBJECT_HEADER: Final = "X-Subject-Token"
UNKNOWN_LIFE_S: Final = 300.0
LOGIN_S: Final = 120.0
"""How long Keystone may work on one login.  That its machine is gone is noticed before that (``client.KEEPALIVE``)."""
HEADERS: Final = {"Accept": "application/json", **IDENTITY}
BUSY: Final = "it is busy"


@dataclass(frozen=True, slots=True)
class Token:
    """A token, how long it may be used, and the catalogue that came with it."""

    value: str = field(repr=False)
    stale_at: float
    """By the monotonic clock: the wall clock of a host that boots may be wrong."""
    catalogue: tuple[Endpoint, ...] = field(repr=False)


class KeystoneAuth(httpx.Auth):
    """Logs in when it must, and puts the token on each request.  One for each client."""

    __slots__ = ("_asked_at", "_clock", "_draw", "_lock", "_token", "asking", "identity", "knocks", "logins")

    def __init__(
        self,
        identity: Identity,
        *,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """Take who we are; ``draw`` gives random numbers from 0 to 1 (excluded)."""
        self.identity = identity
        self.asking = False
        """Whether Keystone is being asked, or was asked last and gave no token."""
        self.knocks = 0
        """Questions before a login."""
        self.logins = 0
        """Requests for a token."""
        self._clock = clock
        self._draw = draw
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
        """Put the token on a request that needs one; :meth:`log_in` got it."""
        if self._token is None:
            raise RuntimeError(f"{self!r} has not logged in")
        request.headers[TOKEN_HEADER] = self._token.value
        yield request

    def refused(self, token: str) -> None:
        """Take note that a token is not accepted; somebody else may have renewed it meanwhile."""
        if self._token is not None and self._token.value == token:
            self._token = None

    async def log_in(self, http: httpx.AsyncClient, *, insists: bool = False) -> None:
        """See to it that there is a token: at once where there is one, else after a knock and a login.

        ``insists``: a Keystone that has a queue is asked all the same; for who asks once and does not wait.

        :raises Unreachable: Keystone is busy, or away.
        :raises PlacementError: there is no token to be had.
        """
        if self._fresh() is not None:
            return
        async with self._lock:
            if self._fresh() is not None:
                return
            # Until there is a token, every failure is one to get it.
            self.asking = True
            try:
                await self._knock(http, insists=insists)
                self._asked_at = self._clock()
                self._taken(await self._asked(http))
            except tuple(BY_EXCEPTION) as error:
                # What is said below is all; its own words may hold what was sent.
                raise _of_keystone(failure_of(error, self.what)) from None
            except PlacementError as error:
                raise _of_keystone(error) from error.__cause__

    async def _knock(self, http: httpx.AsyncClient, *, insists: bool) -> None:
        """Ask for the version document, which costs Keystone nothing.

        :raises Unreachable: it is busy, or says "not now".
        """
        self.knocks += 1
        watch = Stopwatch()
        request = http.build_request(
            "GET", self.identity.version_url, headers=HEADERS, extensions={"trace": watch.note}
        )
        with anyio.fail_after(_deadline_s(http.timeout)):
            response = await http.send(request, auth=None, stream=True)
            took_s = watch.took_s(response)
            log.debug("keystone.knocked", status=response.status_code, took_s=round(took_s, 4))
            if reaction_to(response.status_code) is Unreachable:
                raise refusal_of(await self._whole(response), secrets=self.secrets)
            if not insists and not may_log_in(took_s, draw=self._draw()):
                # Unread, so that the connection ends: those who wait hold none.
                await response.aclose()
                raise Unreachable(self.what, BUSY, request_id=request_id_of(response.headers))
            # Whatever else it answers, the login will tell.
            await drain(response)

    async def _asked(self, http: httpx.AsyncClient) -> Answer:
        document = self.identity.document()
        usual = http.timeout
        read_s = None if usual.read is None else max(LOGIN_S, usual.read)
        patient = httpx.Timeout(connect=usual.connect, read=read_s, write=usual.write, pool=usual.pool)
        # The connection is of no more use until the token ends.
        headers = {**HEADERS, "Connection": "close"}
        request = http.build_request("POST", self.identity.token_url, json=document, headers=headers, timeout=patient)
        self.logins += 1
        with anyio.fail_after(_deadline_s(patient)):
            return await self._whole(await http.send(request, auth=None, stream=True))

    async def _whole(self, response: httpx.Response) -> Answer:
        try:
            body = await read_whole(response, self.what)
        finally:
            await response.aclose()
        return Answer(
            what=self.what,
            status=response.status_code,
            headers=response.headers,
            body=body,
            named="auth_url names Keystone's v3 API",
            secrets=self.secrets,
        )

    def _fresh(self) -> Token | None:
        token = self._token
        return token if token is not None and self._clock() < token.stale_at else None

    def _taken(self, answer: Answer) -> None:
        """Read what Keystone answered.

        :raises PlacementError: that was no token.
        """
        if not httpx.codes.is_success(answer.status):
            raise self._refused(answer)
        self._token = self._read(answer)
        self.asking = False

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


def _of_keystone(error: PlacementError) -> PlacementError:
    if isinstance(error, Unreachable):
        error.of_keystone = True
    return error


def _deadline_s(timeout: httpx.Timeout) -> float | None:
    """Give how long a request may take all in all; None where nothing bounds it."""
    return None if timeout.connect is None or timeout.read is None else timeout.connect + timeout.read


def _life_s(issued_at: Any, expires_at: str) -> float:
    """Give the seconds that a token lives, all by Keystone's own clock."""
    try:
        issued, expires = (datetime.fromisoformat(str(text)) for text in (issued_at, expires_at))
        return max((expires - issued).total_seconds(), 0.0)
    except (ValueError, TypeError):
        return UNKNOWN_LIFE_S
