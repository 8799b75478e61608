"""Keystone v3: one token for all requests, requested when it is needed, and not while Keystone has a queue.

A token is used until shortly before it expires.  The first task that finds it stale renews it, the others wait.  A 401
renews it once, since a token may be revoked at any time; a second 401 is the response.

A login costs Keystone a fifth of a second of CPU time, since passwords are hashed slowly on purpose, and it works on
each request that was sent, also on an abandoned one.  A region that powers on has more hosts than it can serve.  So
each login is preceded by a probe of the version document (``GET /v3``: less than a millisecond, no token): the time
that it took is the length of the queue.  The longer it took, the fewer hosts log in now (:func:`may_log_in`); the
others wait and probe again.  No host needs to know how many there are.  A login that was sent is waited for as long as
Keystone works on it.  A process that is started again continues with the token of the one before (``kept_login``).
"""

import random
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from datetime import datetime
from typing import Any, Final, NoReturn

import anyio
import httpx
import structlog

from bringup.placement.auth import TOKEN_HEADER
from bringup.placement.bounded_body import IDENTITY
from bringup.placement.catalogue import Endpoint, read_catalogue
from bringup.placement.credentials import GivenToken, Login
from bringup.placement.error_mapping import BY_EXCEPTION, error_class_of, error_from_exception, error_from_response
from bringup.placement.errors import KeystoneWait, NotFound, NotUnderstood, PlacementError, Unauthorized, Unreachable
from bringup.placement.kept_login import KeptLogin, LoginState, Token
from bringup.placement.response import Response, drain, read_body, request_id_of
from bringup.placement.server_timing import ServerTiming

log = structlog.get_logger()

RENEW_BEFORE_S: Final = 30.0
"""Time before its expiry at which a token is renewed; a short-lived one when a quarter of its life is left."""
SUBJECT_HEADER: Final = "X-Subject-Token"
UNKNOWN_LIFE_S: Final = 300.0
LOGIN_S: Final = 120.0
"""Time limit of a login.  A machine that is gone is detected before (``client.KEEPALIVE``)."""
HEADERS: Final = {"Accept": "application/json", **IDENTITY}
BUSY: Final = "it is busy"
TOO_LONG_S: Final = 1.0
"""Length of the queue, in seconds, from which no host logs in."""
AT_ONCE_S: Final = 0.1
"""A response within this time was not queued behind a login: a single host never waits."""
STEEPNESS: Final = 6


class KeystoneAuth(httpx.Auth):
    """Authentication by Keystone: logs in when needed, adds the token to each request.  One for each client."""

    __slots__ = (
        "_asked_at",
        "_clock",
        "_draw",
        "_is_restored",
        "_kept",
        "_lock",
        "_state",
        "asking",
        "identity",
        "logins",
        "probes",
    )

    def __init__(
        self,
        identity: Login,
        *,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """Store the identity; ``draw`` returns random numbers from 0 to 1 (excluded)."""
        self.identity = identity
        self.asking = False
        """Whether a login is in progress, or the last one failed."""
        self.probes = 0
        """Number of probes."""
        self.logins = 0
        """Number of token requests."""
        self._clock = clock
        self._draw = draw
        self._lock = anyio.Lock()
        self._state = LoginState()
        self._kept: KeptLogin | None = None
        self._is_restored = False
        """Whether the token is one that an earlier process left."""
        self._asked_at = 0.0

    def keep(self, kept: KeptLogin) -> None:
        """Continue with what an earlier process left there, and leave there what a later one needs."""
        self._kept = kept
        self._state = kept.load(now=self._clock())
        self._is_restored = self._state.token is not None

    @property
    def what(self) -> str:
        """The token request, for messages."""
        return f"get a token of Keystone at {self.identity.auth_url}"

    @property
    def catalogue(self) -> tuple[Endpoint, ...]:
        """Catalogue of the last token; empty before the first one."""
        return () if self._state.token is None else self._state.token.catalogue

    @property
    def secrets(self) -> tuple[str, ...]:
        """Texts that no message may contain."""
        return (self.identity.method.secret, *(() if self._state.token is None else (self._state.token.value,)))

    def __repr__(self) -> str:
        """Return a text with the identity, without secrets."""
        return f"<KeystoneAuth of {self.identity} at {self.identity.auth_url}>"

    def sync_auth_flow(self, request: httpx.Request) -> NoReturn:
        """Raise ``RuntimeError``: the lock belongs to the event loop."""
        raise RuntimeError(f"{self!r} is for an AsyncClient, and cannot sign {request.method} {request.url.path}")

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Add the token of :meth:`log_in` to a request."""
        if self._state.token is None:
            raise RuntimeError(f"{self!r} has not logged in")
        request.headers[TOKEN_HEADER] = self._state.token.value
        yield request

    def refused(self, token: str) -> None:
        """Drop a token that was not accepted; another task may have renewed it meanwhile."""
        if self._state.token is not None and self._state.token.value == token:
            self._set(replace(self._state, token=None))

    def forget_restored(self) -> bool:
        """Drop a token that an earlier process left; return whether there was one."""
        was_restored = self._is_restored
        if was_restored:
            self._set(replace(self._state, token=None))
        return was_restored

    def _set(self, state: LoginState) -> None:
        self._state = state
        self._is_restored = False
        if self._kept is not None:
            self._kept.save(state)

    async def log_in(self, http: httpx.AsyncClient, *, insists: bool = False) -> None:
        """Ensure that there is a token: at once where there is a fresh one, else by a probe and a login.

        ``insists``: log in also while Keystone has a queue; for a command that makes one attempt.

        :raises Unreachable: Keystone is busy or unavailable.
        :raises PlacementError: the login failed.
        """
        if self._fresh_token() is not None:
            return
        async with self._lock:
            if self._fresh_token() is not None:
                return
            # Until there is a token, every failure is one of the login.
            self.asking, began_s = True, self._clock()
            try:
                await self._probe(http, insists=insists)
                self._asked_at = self._clock()
                self._store_token(await self._request_token(http))
            except tuple(BY_EXCEPTION) as error:
                # Not chained: the text of the original may contain what was sent.
                raise self._noted(error_from_exception(error, self.what), began_s) from None
            except PlacementError as error:
                raise self._noted(error, began_s) from error.__cause__

    def _noted(self, error: PlacementError, began_s: float) -> PlacementError:
        """Note a failed login, and how long to wait after it."""
        if isinstance(error, Unreachable):
            now = self._clock()
            state = self._state.after_failure(is_queued=error.is_late, now=now)
            self._set(state)
            queued_s = None if state.queued_since is None else now - state.queued_since
            took_s = now - began_s if error.took_s is None else error.took_s
            error.of_keystone = KeystoneWait(failures=state.failures, queued_s=queued_s, took_s=took_s)
        return error

    async def _probe(self, http: httpx.AsyncClient, *, insists: bool) -> None:
        """Request the version document, which costs Keystone nothing.

        :raises Unreachable: Keystone is busy, or answers with a transient error.
        """
        self.probes += 1
        timing = ServerTiming()
        request = http.build_request(
            "GET", self.identity.version_url, headers=HEADERS, extensions={"trace": timing.trace}
        )
        with anyio.fail_after(_deadline_s(http.timeout)):
            response = await http.send(request, auth=None, stream=True)
            took_s = timing.took_s(response)
            log.debug("keystone.probed", status=response.status_code, took_s=round(took_s, 4))
            if error_class_of(response.status_code) is Unreachable:
                raise error_from_response(await self._read_response(response), secrets=self.secrets)
            if not insists and not may_log_in(took_s, draw=self._draw()):
                # Unread, so that the connection is closed: a waiting host holds none.
                await response.aclose()
                busy = Unreachable(self.what, BUSY, request_id=request_id_of(response.headers))
                busy.is_late, busy.took_s = True, took_s
                raise busy
            # Any other status is left to the login.
            await drain(response)

    async def _request_token(self, http: httpx.AsyncClient) -> Response:
        document = self.identity.document()
        usual = http.timeout
        read_s = None if usual.read is None else max(LOGIN_S, usual.read)
        patient = httpx.Timeout(connect=usual.connect, read=read_s, write=usual.write, pool=usual.pool)
        # The connection is not needed again until the token expires.
        headers = {**HEADERS, "Connection": "close"}
        request = http.build_request("POST", self.identity.token_url, json=document, headers=headers, timeout=patient)
        self.logins += 1
        with anyio.fail_after(_deadline_s(patient)):
            return await self._read_response(await http.send(request, auth=None, stream=True))

    async def _read_response(self, response: httpx.Response) -> Response:
        try:
            body = await read_body(response, self.what)
        finally:
            await response.aclose()
        return Response(
            what=self.what,
            status=response.status_code,
            headers=response.headers,
            body=body,
            named="auth_url names Keystone's v3 API",
            secrets=self.secrets,
        )

    def _fresh_token(self) -> Token | None:
        token = self._state.token
        return token if token is not None and self._clock() < token.stale_at else None

    def _store_token(self, answer: Response) -> None:
        """Store the token of a response.

        :raises PlacementError: it has none.
        """
        if not httpx.codes.is_success(answer.status):
            raise self._refusal_error(answer)
        self._set(LoginState(token=self._read(answer)))
        self.asking = False

    def _read(self, answer: Response) -> Token:
        value = answer.headers.get(SUBJECT_HEADER, "")
        match answer.json():
            case {"token": {"expires_at": str() as expires_at, **about}} if value:
                life_s = _life_s(about.get("issued_at"), expires_at)
                stale_at = self._asked_at + life_s - min(RENEW_BEFORE_S, life_s / 4)
                return Token(value, stale_at, read_catalogue(about.get("catalog")))
            case _:
                raise answer.not_understood(f"answered {answer.status} without a token")

    def _refusal_error(self, answer: Response) -> PlacementError:
        error = error_from_response(answer, secrets=self.secrets)
        if isinstance(error, NotFound) and isinstance(self.identity.method, GivenToken):
            # Keystone answers so to a token that it cannot read.
            error = Unauthorized(self.what, error.why, status=error.status, request_id=error.request_id)
        # Keystone's own responses vary by the token; those of a service behind Keystone look the same and do not.
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


def _deadline_s(timeout: httpx.Timeout) -> float | None:
    """Return the time limit of a whole request, in seconds; None for no limit."""
    return None if timeout.connect is None or timeout.read is None else timeout.connect + timeout.read


def _life_s(issued_at: Any, expires_at: str) -> float:
    """Return the lifetime of a token in seconds, by Keystone's clock."""
    try:
        issued, expires = (datetime.fromisoformat(str(text)) for text in (issued_at, expires_at))
        return max((expires - issued).total_seconds(), 0.0)
    except (ValueError, TypeError):
        return UNKNOWN_LIFE_S


def may_log_in(took_s: float, *, draw: float) -> bool:
    """Check whether to log in after a probe of that duration; ``draw`` is random, from 0 to 1 (excluded).

    The probability is (1 - took / 1 s) ** 6; with a smaller exponent too many of ten thousand hosts enter at once.
    """
    if took_s <= AT_ONCE_S:
        return True
    return took_s < TOO_LONG_S and draw < (1 - took_s / TOO_LONG_S) ** STEEPNESS
