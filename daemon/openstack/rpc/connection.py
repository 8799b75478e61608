"""Connection to a broker: a reply queue, calls that wait for their reply, and casts.  Over aio-pika.

A lost connection is not reopened; :class:`bringup.daemon.openstack.rpc.client.Rpc` opens another.  Nothing shared is
declared: the exchanges belong to the services, durability and queue types to the deployment.  The reply queue belongs
to this connection; it outlives the process for a while, since a server whose reply finds no queue retries for a minute
and replies to no other client meanwhile (``kombu_missing_consumer_retry_timeout``).
"""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import aio_pika
import anyio
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractExchange, AbstractIncomingMessage
from aio_pika.exceptions import (
    CONNECTION_EXCEPTIONS,
    ChannelNotFoundEntity,
    InvalidFrameError,
    ProbableAuthenticationError,
    PublishError,
)

from bringup.daemon import closing
from bringup.daemon.errors import chain_of
from bringup.daemon.logs import get_logger
from bringup.daemon.openstack.rpc.envelope import Reply, ReplyTo, message, parse_reply
from bringup.daemon.openstack.rpc.errors import NoListener, RpcUnavailable, Unanswered, Unreadable
from bringup.daemon.openstack.rpc.transport_url import Broker, BrokerAddress

log = get_logger()

CONNECT_S = 10.0
CONFIRM_S = 10.0
CLOSE_S = closing.MESSAGING_S
REPLIES_KEPT_MS = 300_000
"""Lifetime of the reply queue after its connection; longer than a server retries a reply."""
LEAST_S = 0.001
"""The broker counts in milliseconds; with 0 it would drop a message that no service takes at once."""
ALIVE_EVERY_S = 10
"""A server that works on a call sends a heartbeat twice in this time (oslo.messaging's call monitor)."""

LOST = (*CONNECTION_EXCEPTIONS, TimeoutError)


@dataclass(slots=True, eq=False)
class _PendingCall:
    """A call without a reply so far."""

    answer: Reply | None = None
    is_alive: bool = False
    """The server has sent a heartbeat."""
    woken: anyio.Event = field(default_factory=anyio.Event)


class BrokerConnection:
    """Connection that is open or lost."""

    def __init__(self, connection: AbstractConnection, exchange: str, where: str) -> None:
        """Store a connection of aio-pika; :meth:`open` sets it up."""
        self._connection = connection
        self._exchange_name = exchange
        self.where = where
        """The broker's host and port."""
        self._replies = f"reply_bringup_{uuid4().hex}"
        self._waiting: dict[str, _PendingCall] = {}
        self._exchange: AbstractExchange
        self._channel: AbstractChannel
        self.is_lost = False
        connection.close_callbacks.add(self._on_close)

    @classmethod
    async def open(cls, broker: Broker, endpoint: BrokerAddress, context: ssl.SSLContext | None) -> "BrokerConnection":
        """Connect to one of the broker's hosts.

        :raises RpcUnavailable: it does not respond, or refuses this user.
        """
        where = endpoint.where
        try:
            with anyio.fail_after(CONNECT_S):
                connection = await aio_pika.connect(
                    host=endpoint.host,
                    port=endpoint.port,
                    login=endpoint.username,
                    password=endpoint.password,
                    virtualhost=broker.virtual_host,
                    ssl=context is not None,
                    ssl_context=context,
                    client_properties={"connection_name": "bringup"},
                    heartbeat=broker.heartbeat_s,
                )
        except ProbableAuthenticationError as error:
            raise RpcUnavailable(
                f"RabbitMQ at {where} does not let user {endpoint.username} into virtual host {broker.virtual_host}"
            ) from error
        except InvalidFrameError as error:
            # The broker closes the connection while aiormq waits for it to be opened.
            raise RpcUnavailable(
                f"RabbitMQ at {where} has no virtual host {broker.virtual_host} that user {endpoint.username} may use"
            ) from error
        except LOST as error:
            raise RpcUnavailable(f"RabbitMQ at {where} does not answer") from error
        link = cls(connection, broker.exchange, where)
        try:
            with anyio.fail_after(CONNECT_S):
                await link._listen()
        except BaseException as error:
            await link.close()
            if isinstance(error, LOST):
                raise RpcUnavailable(f"RabbitMQ at {where} does not give a queue for answers") from error
            raise
        return link

    async def _listen(self) -> None:
        self._channel = await self._connection.channel(publisher_confirms=True, on_return_raises=True)
        self._channel.close_callbacks.add(self._on_close)
        queue = await self._channel.declare_queue(self._replies, durable=True, arguments={"x-expires": REPLIES_KEPT_MS})
        await queue.consume(self._on_reply, no_ack=True)
        # Not verified: it may be created while we are connected.
        self._exchange = await self._channel.get_exchange(self._exchange_name, ensure=False)

    async def close(self) -> None:
        """Close the connection; shielded from cancellation."""
        with anyio.move_on_after(CLOSE_S, shield=True):
            try:
                await self._connection.close()
            except LOST as error:
                log.debug("rpc.not_closed", broker=self.where, error=chain_of(error))
        self._mark_lost()

    def _on_close(self, *_: object) -> None:
        self._mark_lost()

    def _mark_lost(self) -> None:
        self.is_lost = True
        for waiting in self._waiting.values():
            waiting.woken.set()

    async def _on_reply(self, incoming: AbstractIncomingMessage) -> None:
        try:
            answer = parse_reply(incoming.body)
        except Unreadable as error:
            log.warning("rpc.reply_unreadable", broker=self.where, error=str(error))
            return
        waiting = self._waiting.get(answer.message_id)
        if waiting is None:
            log.debug("rpc.reply_late", broker=self.where)
            return
        waiting.is_alive = True
        if answer.is_last:
            waiting.answer = answer
        waiting.woken.set()

    async def call(
        self, topic: str, method: str, arguments: dict[str, Any], *, version: str, silence_s: float, left_s: float
    ) -> Reply:
        """Send a call and wait for its reply; ``silence_s`` bounds the time without a sign of life.

        ``left_s`` is the time until the deadline.  The broker drops a call that no service has taken by then or within
        ``silence_s``: no caller waits for its result.

        :raises NoListener: it was not sent.
        :raises Unanswered: it may have been sent.
        """
        reply_to = ReplyTo(queue=self._replies, message_id=uuid4().hex, alive_every_s=ALIVE_EVERY_S)
        body = message(method, arguments, version=version, unique_id=uuid4().hex, reply_to=reply_to)
        waiting = self._waiting[reply_to.message_id] = _PendingCall()
        try:
            await self._publish(self._exchange, topic, body, expires_after_s=max(min(silence_s, left_s), LEAST_S))
            return await self._answer_of(waiting, method, silence_s)
        finally:
            del self._waiting[reply_to.message_id]

    async def _answer_of(self, waiting: _PendingCall, method: str, silence_s: float) -> Reply:
        while waiting.answer is None:
            if self.is_lost:
                raise Unanswered(f"the connection to RabbitMQ at {self.where} was lost before {method} was answered")
            waiting.woken = anyio.Event()
            with anyio.move_on_after(ALIVE_EVERY_S if waiting.is_alive else silence_s):
                await waiting.woken.wait()
                continue
            raise Unanswered(f"{method} was not answered")
        return waiting.answer

    async def cast_fanout(self, topic: str, method: str, arguments: dict[str, Any], *, version: str) -> None:
        """Send to all services of a topic, and wait until the broker has confirmed it.

        :raises NoListener: none of them has bound a queue; nothing was sent.
        :raises RpcUnavailable: the broker did not confirm it.
        """
        body = message(method, arguments, version=version, unique_id=uuid4().hex)
        async with self._fanout(topic, method) as exchange:
            await self._publish(exchange, "", body)

    async def probe_fanout(self, topic: str) -> None:
        """Check whether services of a topic have declared their exchange; it is deleted with the last of them.

        :raises NoListener: they have not.
        :raises RpcUnavailable: the broker did not respond.
        """
        async with self._fanout(topic, "a question"):
            pass

    @asynccontextmanager
    async def _fanout(self, topic: str, what: str) -> AsyncIterator[AbstractExchange]:
        name = f"{topic}_fanout"
        try:
            # A separate channel: the broker closes the channel that requests a missing exchange.
            async with self._connection.channel(publisher_confirms=True, on_return_raises=True) as channel:
                with anyio.fail_after(CONFIRM_S):
                    exchange = await channel.get_exchange(name, ensure=True)
                yield exchange
        except ChannelNotFoundEntity as error:
            raise NoListener(f"no {topic} service listens: RabbitMQ at {self.where} has no exchange {name}") from error
        except LOST as error:
            raise RpcUnavailable(f"RabbitMQ at {self.where} went away before it had {what}") from error

    async def _publish(
        self, exchange: AbstractExchange, routing_key: str, body: bytes, *, expires_after_s: float | None = None
    ) -> None:
        sent = aio_pika.Message(
            body,
            content_type="application/json",
            content_encoding="utf-8",
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            priority=0,
            # As oslo.messaging does with the timeout of a call; a cast does not expire.
            expiration=expires_after_s,
        )
        try:
            with anyio.fail_after(CONFIRM_S):
                await exchange.publish(sent, routing_key, mandatory=True)
        except PublishError as error:
            raise NoListener(
                f"no service listens: RabbitMQ at {self.where} has no queue for {routing_key or exchange.name}"
            ) from error
        except ChannelNotFoundEntity as error:
            raise NoListener(f"no service listens: RabbitMQ at {self.where} has no exchange {exchange.name}") from error
        except LOST as error:
            raise Unanswered(f"RabbitMQ at {self.where} went away while a message was handed to it") from error
