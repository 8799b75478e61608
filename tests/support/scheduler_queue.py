"""The exchange of nova-scheduler in a virtual host of the tests' own, with and without a queue that listens."""

import functools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aio_pika
import anyio
from aio_pika.abc import AbstractChannel, AbstractQueue

from bringup.daemon.openstack.rpc.transport_url import Broker
from bringup.daemon.storage.outbox.base import NotAcknowledged, Transport
from bringup.daemon.storage.outbox.outbox import retries
from bringup.daemon.storage.outbox.report import Report
from support.rabbitmq import USER, RabbitMQ, the_rabbitmq

VIRTUAL_HOST = "scheduler-tests"
EXCHANGE = "scheduler_fanout"
OFTEN = retries(initial_s=0.01, max_s=0.1)
Heard = tuple[str, dict[str, Any]]


class Counting:
    """Sends by another transport, and notes what came of each attempt; ``expected`` failures are waited for."""

    def __init__(self, transport: Transport, *, expected: int = 1) -> None:
        self._transport = transport
        self._expected = expected
        self.sent: list[str] = []
        self.failures = 0
        self.failed = anyio.Event()

    async def send(self, report: Report) -> None:
        try:
            await self._transport.send(report)
        except NotAcknowledged:
            self.failures += 1
            if self.failures >= self._expected:
                self.failed.set()
            raise
        self.sent.append(report["report_id"])


class Exchange:
    """A channel on which the exchange and its queues are made and taken away."""

    def __init__(self, channel: AbstractChannel) -> None:
        self._channel = channel

    async def make(self) -> None:
        """Make the exchange as a nova-scheduler does, with nobody bound."""
        await self._channel.declare_exchange(EXCHANGE, aio_pika.ExchangeType.FANOUT, auto_delete=True)

    async def listen(self) -> "Listener":
        """Make the exchange, and bind a queue as a nova-scheduler does."""
        await self.make()
        queue = await self._channel.declare_queue(exclusive=True)
        await queue.bind(EXCHANGE)
        return Listener(queue)

    async def remove(self) -> None:
        """Remove the exchange, whether it is there or not."""
        await self._channel.exchange_delete(EXCHANGE)


class Listener:
    """A scheduler's queue."""

    def __init__(self, queue: AbstractQueue) -> None:
        self._queue = queue

    async def heard(self, count: int) -> list[Heard]:
        """Wait for that many casts; return the method and the arguments of each."""
        found: list[Heard] = []
        with anyio.fail_after(60):
            async with self._queue.iterator(no_ack=True) as messages:
                async for each in messages:
                    inner = json.loads(json.loads(each.body)["oslo.message"])
                    found.append((inner["method"], inner["args"]))
                    if len(found) == count:
                        break
        return found


@functools.cache
def _virtual_host() -> RabbitMQ:
    broker = the_rabbitmq()
    broker.ctl("add_vhost", VIRTUAL_HOST)
    broker.ctl("set_permissions", "-p", VIRTUAL_HOST, USER, ".*", ".*", ".*")
    return broker


def a_broker() -> Broker:
    """Return the broker as our client is told of it: nothing of a scheduler is there."""
    return _virtual_host().broker(virtual_host=VIRTUAL_HOST)


@asynccontextmanager
async def exchange_of(broker: RabbitMQ | None = None) -> AsyncIterator[Exchange]:
    """Yield the exchange of a broker of one's own, or that of :func:`a_broker`; it is gone before and after."""
    url = f"{_virtual_host().url}{VIRTUAL_HOST}" if broker is None else broker.url
    connection = await aio_pika.connect(url.replace("rabbit:", "amqp:"))
    async with connection:
        exchange = Exchange(await connection.channel())
        await exchange.remove()
        yield exchange
        await exchange.remove()
