"""The gate that a host passes before it touches an instance.

A host that cannot give its resources to Placement must not run.  Placement has to answer, to let us in, to speak a
microversion that we know, and to have this host's resource provider.  What may pass is tried again inside a budget;
what an operator has to mend ends it at once.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

import anyio
import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt

from bringup.placement.backoff import RETRYING
from bringup.placement.client import PlacementClient
from bringup.placement.errors import GateClosed, NotUnderstood, Unreachable
from bringup.placement.microversions import NEEDED, OLDEST, Microversion, negotiate
from bringup.placement.nodes import find_node, make_node
from bringup.placement.providers import ResourceProvider

log = structlog.get_logger()

WHERE_TO_LOOK: Final = "check that it runs, that placement.url is right, and that this host can reach it"
ITS_LOG: Final = "check the log of Placement, and that its database and Keystone are there"
WHERE_TO_LOOK_FOR_KEYSTONE: Final = "check that Keystone runs, that auth_url is right, and that this host can reach it"
LOG_OF_KEYSTONE: Final = "check the log of Keystone, and that its database is there"
SAID_AGAIN_S: Final = 15.0
"""How long the same cause is not logged again, attempt after attempt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What is known of Placement once it let this host through."""

    provider: ResourceProvider
    created: bool
    """Whether the provider was made just now."""
    client: PlacementClient
    """Speaks the microversion that was agreed on."""

    @property
    def microversion(self) -> Microversion:
        """What both sides speak."""
        return self.client.microversion or OLDEST


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """One attempt failed and another follows."""

    attempt: int
    """Which one failed, from 1."""
    wait_s: float
    """How long until the next."""
    error: Unreachable

    def __str__(self) -> str:
        """Say it in the words of a progress line."""
        if self.error.of_keystone:
            return f"waiting for Keystone: {self.error.why}, next attempt in {self.wait_s:.0f} s"
        return f"waiting for Placement, attempt {self.attempt}, last: {self.error.why}"


@dataclass(slots=True, kw_only=True)
class _Knocking:
    """The attempts of one start."""

    client: PlacementClient
    provider: str
    create: bool
    uuid: str | None
    patient: bool
    on_wait: Callable[[Waiting], None]
    attempts: int = 0
    last: Unreachable | None = None
    said: str = ""
    """What was logged last of why it waits."""
    said_at: float = 0.0
    began: float = field(default_factory=time.monotonic)

    async def knock(self) -> Gate:
        self.attempts += 1
        return await probe(self.client, provider=self.provider, create=self.create, uuid=self.uuid)

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
        if error.why != self.said or now - self.said_at >= SAID_AGAIN_S:
            self.said, self.said_at = error.why, now
            log.warning(
                "placement.waiting",
                attempt=self.attempts,
                wait_s=round(wait_s, 3),
                why=error.why,
                request_id=error.request_id,
            )
        self.on_wait(Waiting(attempt=self.attempts, wait_s=wait_s, error=error))

    def closed(self) -> GateClosed:
        """Say in one sentence what was tried, what came of it, and where to look."""
        took = f"{time.monotonic() - self.began:.3g} s"
        tries = "1 attempt" if self.attempts == 1 else f"{self.attempts} attempts"
        last = self.last
        why = "no answer yet" if last is None else last.why
        places = (WHERE_TO_LOOK, ITS_LOG)
        login = self.client.login_under_way
        if login is not None:
            why, places = f"cannot {login}: {why}", (WHERE_TO_LOOK_FOR_KEYSTONE, LOG_OF_KEYSTONE)
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
    """Wait until Placement lets this host through, ``wait_s`` at most; 0 makes one attempt.

    ``provider`` is the name or the UUID of the resource provider, ``uuid`` the UUID of the node, which counts more than
    a name.  With ``create`` it is made if it is missing.

    ``on_wait`` hears of each attempt that failed and will be followed by another.

    :raises GateClosed: what may pass did not pass in time.
    :raises PlacementError: an operator has to mend something.
    """
    knocking = _Knocking(
        client=client if wait_s > 0 else client.insisting(),
        provider=provider,
        create=create,
        uuid=uuid,
        patient=wait_s > 0,
        on_wait=on_wait,
    )
    retrying = policy.copy(
        retry=retry_if_exception(knocking.is_transient),
        stop=policy.stop if wait_s > 0 else stop_after_attempt(1),
        before_sleep=knocking.before_wait,
    )
    # Stops the waits, and the request that hangs too.
    with anyio.move_on_after(wait_s or None):
        try:
            gate = await retrying.wraps(knocking.knock)()
        except Unreachable as error:
            raise knocking.closed() from error
        log.info(
            "placement.passed",
            provider=gate.provider.name,
            uuid=gate.provider.uuid,
            created=gate.created,
            microversion=str(gate.microversion),
            attempts=knocking.attempts,
            request_id=gate.provider.request_id,
        )
        return gate
    raise knocking.closed() from knocking.last


async def probe(client: PlacementClient, *, provider: str, create: bool = False, uuid: str | None = None) -> Gate:
    """Try once to pass the gate.

    :raises PlacementError: it did not let this host through.
    """
    speaking = client.at(NEEDED)
    # One request asks everything: whether Placement is there, lets us in, understands us, and knows this host.
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
        found = await make_node(speaking, provider, create=create, uuid=uuid)
    return Gate(provider=found, created=created, client=speaking)


def _common(error: NotUnderstood) -> Microversion:
    try:
        return negotiate(error.offers)
    except ValueError as nothing:
        raise NotUnderstood(error.what, str(nothing), status=error.status, request_id=error.request_id) from error
