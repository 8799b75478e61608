"""RPC client: calls to nova-conductor and casts to other services, over a connection that is reopened where needed.

A call is retried until its deadline: at other hosts of the broker, or while a service restarts.  A call without a reply
is repeated only where that does no harm (``repeatable``); else the caller gets ``Unanswered``, and checks the outcome.

aio-pika runs on asyncio alone, and so does this client.
"""

import random
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
from tenacity import AsyncRetrying, retry_if_exception, wait_random_exponential

from bringup.daemon.errors import SettingsError, chain_of
from bringup.daemon.logs import get_logger
from bringup.daemon.openstack.rpc.connection import BrokerConnection
from bringup.daemon.openstack.rpc.errors import NoListener, RpcUnavailable, Unanswered
from bringup.daemon.openstack.rpc.transport_url import Broker
from bringup.placement.errors import NotUnderstood
from bringup.placement.tls import context

log = get_logger()

TOPIC = "conductor"
VERSION = "3.0"
"""Version of nova-conductor's API: the lowest with methods for objects."""
FIRST_SILENCE_S = 15.0
"""Time without a sign of life after which the first attempt is given up; doubled each time: a conductor may be busy."""
RETRYING = AsyncRetrying(wait=wait_random_exponential(multiplier=0.2, min=0.05, max=3), reraise=True)
"""Retries of a call, within its deadline."""


@dataclass(slots=True)
class _Trial:
    """Progress of a call."""

    method: str
    repeatable: bool
    until: float
    """Its deadline, on the event loop's clock."""
    attempt: int = 0
    is_out: bool = False
    """The last attempt was sent, or may have been."""
    problem: RpcUnavailable | None = None

    def may_try_again(self, error: BaseException) -> bool:
        """Check whether a retry does no harm after this error; store and log the error."""
        # A cancellation is passed too; it does not change what was sent.
        if not isinstance(error, RpcUnavailable):
            return False
        self.is_out = isinstance(error, Unanswered)
        if self.is_out and not self.repeatable:
            return False
        self.problem = error
        log.debug("rpc.retry", method=self.method, attempt=self.attempt, problem=chain_of(error))
        return True


class Rpc:
    """RPC client; opened by :func:`open_rpc`."""

    def __init__(self, broker: Broker, verify: ssl.SSLContext | None, *, in_flight: int, deadline_s: float) -> None:
        """Store the broker; ``in_flight`` bounds concurrent calls, ``deadline_s`` each call (seconds)."""
        self._endpoints = list(broker.endpoints)
        # The hosts of a site are spread over the hosts of the broker.
        random.shuffle(self._endpoints)
        self._broker = broker
        self._verify = verify
        self._slots = anyio.CapacityLimiter(in_flight)
        self._deadline_s = deadline_s
        self._connecting = anyio.Lock()
        self._link: BrokerConnection | None = None
        self.sent = 0
        """Number of messages that were sent or attempted, without replies."""

    @property
    def where(self) -> str:
        """The broker's hosts and ports, for messages."""
        return ", ".join(each.where for each in self._broker.endpoints)

    @property
    def unencrypted(self) -> str | None:
        """The warning for an unencrypted connection; None where there is nothing to warn of."""
        return self._broker.unencrypted

    async def close(self) -> None:
        """Close the connection; shielded from cancellation."""
        link, self._link = self._link, None
        if link is not None:
            await link.close()
            log.info("rpc.closed", broker=link.where, requests=self.sent)

    async def call(self, method: str, arguments: Mapping[str, Any], *, repeatable: bool) -> Any:
        """Call a method of nova-conductor and return its result.

        With ``repeatable`` it may be carried out twice where a reply is lost.  The deadline (seconds) counts from
        when one of the slots is free, and is never later than that of the caller (of anyio's cancel scopes).

        :raises RemoteError: the method raised.
        :raises Unanswered: it is unknown whether it was carried out; only if not ``repeatable``.
        :raises RpcUnavailable: there was no reply in time.
        :raises Unreadable: the reply is malformed.
        """
        limit_s = self._deadline_s
        async with self._slots:
            until = min(anyio.current_time() + limit_s, anyio.current_effective_deadline())
            trial = _Trial(method, repeatable, until)
            retrying = RETRYING.copy(retry=retry_if_exception(trial.may_try_again))
            with anyio.move_on_after(limit_s):
                return await retrying.wraps(self._try_call)(dict(arguments), trial)
        if trial.is_out and not repeatable:
            raise Unanswered(f"nova-conductor did not answer {method} within {limit_s:g} s")
        if not trial.is_out and not isinstance(trial.problem, Unanswered | NoListener):
            # RabbitMQ itself is unavailable: nova-conductor was not called.
            away = chain_of(trial.problem) if trial.problem else f"RabbitMQ at {self.where} does not answer"
            raise RpcUnavailable(f"{away}; tried for {limit_s:g} s")
        raise RpcUnavailable(f"nova-conductor did not answer {method} within {limit_s:g} s") from trial.problem

    async def _try_call(self, arguments: dict[str, Any], trial: _Trial) -> Any:
        trial.attempt += 1
        link = await self._connected()
        self.sent += 1
        trial.is_out = True
        silence_s = FIRST_SILENCE_S * 2 ** (trial.attempt - 1)
        left_s = trial.until - anyio.current_time()
        answer = await link.call(TOPIC, trial.method, arguments, version=VERSION, silence_s=silence_s, left_s=left_s)
        if answer.failure is not None:
            log.debug("rpc.remote_error", method=trial.method, error=str(answer.failure), traceback=answer.traceback)
            raise answer.failure
        return answer.result

    async def cast_fanout(self, topic: str, method: str, arguments: Mapping[str, Any], *, version: str) -> None:
        """Send to all services of a topic; on return the broker has routed it to a queue.

        Sent once: the caller keeps the message and retries.

        :raises NoListener: no service of that topic has a queue.
        :raises RpcUnavailable: the broker is unavailable, or did not confirm it.
        """
        link = await self._connected()
        self.sent += 1
        await link.cast_fanout(topic, method, dict(arguments), version=version)

    async def probe_fanout(self, topic: str) -> None:
        """Check whether services of a topic exist, without sending a message.

        :raises NoListener: there are none.
        :raises RpcUnavailable: the broker is unavailable.
        """
        await (await self._connected()).probe_fanout(topic)

    async def _connected(self) -> BrokerConnection:
        """Return the connection, reopened where it was lost: to the first of the broker's hosts that accepts it.

        :raises RpcUnavailable: none does.
        """
        async with self._connecting:
            if self._link is not None and not self._link.is_lost:
                return self._link
            if self._link is not None:
                log.warning("rpc.connection_lost", broker=self._link.where)
                lost, self._link = self._link, None
                await lost.close()
            problems = []
            for _ in self._endpoints:
                try:
                    self._link = await BrokerConnection.open(self._broker, self._endpoints[0], self._verify)
                except RpcUnavailable as error:
                    problems.append(chain_of(error))
                    self._endpoints.append(self._endpoints.pop(0))
                else:
                    log.debug("rpc.connected", broker=self._link.where)
                    return self._link
        raise RpcUnavailable("; ".join(problems))


@asynccontextmanager
async def open_rpc(broker: Broker, *, in_flight: int, deadline_s: float) -> AsyncIterator[Rpc]:
    """Open the RPC client, closed on exit; it connects at the first call.

    :raises SettingsError: a file for TLS cannot be used.
    """
    try:
        verify = None if broker.tls is None else context(broker.tls)
    except NotUnderstood as error:
        raise SettingsError([chain_of(error)]) from error
    rpc = Rpc(broker, verify, in_flight=in_flight, deadline_s=deadline_s)
    try:
        yield rpc
    finally:
        await rpc.close()
