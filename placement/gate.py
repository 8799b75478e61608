"""Gate that a host passes before it touches an instance.

A host that cannot report its resources to Placement must not run.  Placement must respond, accept the token, offer a
known microversion, and have this host's resource provider.  Transient errors are retried within a budget; an error that
an operator must correct ends it at once.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import Final

import anyio
import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt

from bringup.placement.backoff import RETRYING
from bringup.placement.client import PlacementClient
from bringup.placement.errors import GateClosed, NotUnderstood, PlacementError, Unreachable
from bringup.placement.microversions import NEEDED, OLDEST, Microversion, negotiate
from bringup.placement.nodes import create_node_provider, find_node
from bringup.placement.providers import ResourceProvider

log = structlog.get_logger()

CHECK_PLACEMENT: Final = "check that it runs, that placement.url is right, and that this host can reach it"
CHECK_ITS_LOG: Final = "check the log of Placement, and that its database and Keystone are there"
CHECK_KEYSTONE: Final = "check that Keystone runs, that auth_url is right, and that this host can reach it"
CHECK_LOG_OF_KEYSTONE: Final = "check the log of Keystone, and that its database is there"
LOG_AGAIN_S: Final = 15.0
"""Interval at which the same cause is logged again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What is known of Placement once the gate was passed."""

    provider: ResourceProvider
    created: bool
    """Whether the provider was created by this start."""
    client: PlacementClient
    """Uses the negotiated microversion."""

    @property
    def microversion(self) -> Microversion:
        """The negotiated microversion."""
        return self.client.microversion or OLDEST


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """One attempt failed and another follows."""

    attempt: int
    """Number of the failed attempt, from 1."""
    wait_s: float
    """Seconds until the next attempt."""
    error: Unreachable

    def __str__(self) -> str:
        """Return the text of a progress line."""
        if self.error.of_keystone:
            return f"waiting for Keystone: {self.error.why}, next attempt in {self.wait_s:.0f} s"
        return f"waiting for Placement, attempt {self.attempt}, last: {self.error.why}"


@dataclass(slots=True, kw_only=True)
class _Attempts:
    """Attempts of one start: how many, the last error, what was logged."""

    client: PlacementClient
    provider: str
    create: bool
    uuid: str | None
    patient: bool
    on_wait: Callable[[Waiting], None]
    attempts: int = 0
    last: Unreachable | None = None
    logged: str = ""
    """The cause that was logged last."""
    logged_at: float = 0.0
    began: float = field(default_factory=time.monotonic)

    async def probe(self) -> Gate:
        self.attempts += 1
        once = partial(probe, self.client, provider=self.provider, create=self.create, uuid=self.uuid)
        try:
            return await once()
        except PlacementError as error:
            # The catalogue of an earlier process may be wrong by now, and its roles may be.
            if not self.client.forget_restored_token(error):
                raise
            return await once()

    def is_transient(self, error: BaseException) -> bool:
        if not isinstance(error, Unreachable):
            return False
        self.last = error
        if self.patient and error.is_late and not error.of_keystone:
            self.client = self.client.more_patient()
        return True

    def before_wait(self, state: RetryCallState) -> None:
        """Announce the wait before the next attempt."""
        error, wait_s = self.last, state.upcoming_sleep
        if error is None:
            return
        now = time.monotonic()
        if error.why != self.logged or now - self.logged_at >= LOG_AGAIN_S:
            self.logged, self.logged_at = error.why, now
            log.warning(
                "placement.waiting",
                attempt=self.attempts,
                wait_s=round(wait_s, 3),
                why=error.why,
                request_id=error.request_id,
            )
        self.on_wait(Waiting(attempt=self.attempts, wait_s=wait_s, error=error))

    def closed_error(self) -> GateClosed:
        """Return the error of a spent budget: attempts, last cause, what to check."""
        took = f"{time.monotonic() - self.began:.3g} s"
        tries = "1 attempt" if self.attempts == 1 else f"{self.attempts} attempts"
        last = self.last
        why = "no answer yet" if last is None else last.why
        places = (CHECK_PLACEMENT, CHECK_ITS_LOG)
        login = self.client.pending_login
        if login is not None:
            why, places = f"cannot {login}: {why}", (CHECK_KEYSTONE, CHECK_LOG_OF_KEYSTONE)
        advice = places[last is not None and last.status is not None]
        return GateClosed(
            f"start without Placement at {self.client.url}",
            f"it was not ready in {took} ({tries}, last: {why}); {advice}",
            status=None if last is None else last.status,
            request_id=None if last is None else last.request_id,
        )


async def pass_gate(  # noqa: PLR0913 - a policy to be handed in
    client: PlacementClient,
    *,
    provider: str,
    wait_s: float,
    create: bool = False,
    uuid: str | None = None,
    on_wait: Callable[[Waiting], None] = lambda _: None,
    policy: AsyncRetrying = RETRYING,
) -> Gate:
    """Wait until the gate is passed, for ``wait_s`` seconds at most; 0 makes one attempt.

    ``provider`` is the name or the UUID of the resource provider, ``uuid`` the UUID of the node, which counts more than
    a name.  With ``create`` a missing one is created.  ``on_wait`` is called before the wait after each failed attempt.

    :raises GateClosed: a transient error lasted longer than ``wait_s``.
    :raises PlacementError: an operator must correct something.
    """
    attempts = _Attempts(
        client=client if wait_s > 0 else client.insisting(),
        provider=provider,
        create=create,
        uuid=uuid,
        patient=wait_s > 0,
        on_wait=on_wait,
    )
    retrying = policy.copy(
        retry=retry_if_exception(attempts.is_transient),
        stop=policy.stop if wait_s > 0 else stop_after_attempt(1),
        before_sleep=attempts.before_wait,
    )
    # Ends waits and hanging requests.
    with anyio.move_on_after(wait_s or None):
        try:
            gate = await retrying.wraps(attempts.probe)()
        except Unreachable as error:
            raise attempts.closed_error() from error
        log.info(
            "placement.passed",
            provider=gate.provider.name,
            uuid=gate.provider.uuid,
            created=gate.created,
            microversion=str(gate.microversion),
            attempts=attempts.attempts,
            request_id=gate.provider.request_id,
        )
        return gate
    raise attempts.closed_error() from attempts.last


async def probe(client: PlacementClient, *, provider: str, create: bool = False, uuid: str | None = None) -> Gate:
    """Make one attempt to pass the gate.

    :raises PlacementError: it was not passed.
    """
    speaking = client.at(NEEDED)
    # One request shows whether Placement responds, accepts the token and the microversion, and has this host.
    try:
        found, version = await find_node(speaking, provider, uuid)
    except NotUnderstood as error:
        if error.status != HTTPStatus.NOT_ACCEPTABLE or not error.offers:
            raise
        speaking = client.at(_common(error))
        found, version = await find_node(speaking, provider, uuid)
    speaking = client.at(version or OLDEST)
    created = found is None and create
    if found is None:
        found = await create_node_provider(speaking, provider, create=create, uuid=uuid)
    return Gate(provider=found, created=created, client=speaking)


def _common(error: NotUnderstood) -> Microversion:
    try:
        return negotiate(error.offers)
    except ValueError as nothing:
        raise NotUnderstood(error.what, str(nothing), status=error.status, request_id=error.request_id) from error
