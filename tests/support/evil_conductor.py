"""Attacker with the password of a cell's RabbitMQ, who answers for nova-conductor, in a virtual host of its own."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import aio_pika
import anyio
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from anyio.from_thread import start_blocking_portal

from bringup.daemon.openstack.rpc.objects import primitive
from support.rabbitmq import the_rabbitmq

Bodies = Sequence[bytes]


def envelope(message_id: Any, result: Any = None, **more: Any) -> bytes:
    """Write an answer as oslo.messaging does."""
    inner = {"_msg_id": message_id, "result": result, "failure": None, "ending": True, **more}
    return json.dumps({"oslo.version": "2.0", "oslo.message": json.dumps(inner)}).encode()


def fields_of(row: Any) -> dict[str, Any]:
    """Return those of an object that has any."""
    found = row.get("nova_object.data") if isinstance(row, dict) else None
    return found if isinstance(found, dict) else {}


@dataclass
class EvilConductor:
    """What it answers; rows are primitives of objects, or anything else."""

    host: str
    node: str
    rows: Sequence[Any] = ()
    devices: Sequence[Any] = ()
    moves: Sequence[Any] = ()
    uuids: Sequence[Any] | None = None
    """What the host's instances are said to be; without it those of the rows that name one."""
    spoil: Callable[[str, bytes, str], Bodies] | None = None
    """Takes method of the object, right answer and message ID; gives the bodies that are sent instead."""
    asked: list[str] = field(default_factory=list)
    acted: list[tuple[str, Any]] = field(default_factory=list)
    """Methods that write, and the UUIDs that they are of."""
    url: str = ""

    def _found(self, name: str, method: str, arguments: Mapping[str, Any]) -> Any:
        if name == "ComputeNode":
            return primitive("ComputeNode", "1.16", {"host": self.host, "uuid": self.node})
        if method == "get_uuids_by_host":
            return [fields_of(row).get("uuid") for row in self.rows] if self.uuids is None else list(self.uuids)
        if name == "InstanceList":
            is_other = any(arguments["kwargs"].get("filters", {}).get(key) for key in ("hidden", "deleted"))
            return primitive("InstanceList", "2.0", {"objects": [] if is_other else list(self.rows)})
        return primitive(name, "1.0", {"objects": list(self.devices if "Device" in name else self.moves)})

    def answers(self, body: bytes) -> tuple[str, Bodies]:
        """Return the queue and what goes there."""
        request = json.loads(json.loads(body)["oslo.message"])
        arguments = request["args"]
        if request["method"] == "object_action":
            data = arguments["objinst"]["nova_object.data"]
            method, result = arguments["objmethod"], None
            self.acted.append((method, data["uuid"]))
            for fields in map(fields_of, self.rows):
                if fields.get("uuid") == data["uuid"]:
                    fields.update(data)
        else:
            method = arguments["objmethod"]
            result = self._found(arguments["objname"], method, arguments)
        self.asked.append(method)
        right = envelope(request["_msg_id"], result)
        bodies = [right] if self.spoil is None else self.spoil(method, right, request["_msg_id"])
        return request["_reply_q"], bodies

    async def _take(self, channel: AbstractChannel, incoming: AbstractIncomingMessage) -> None:
        queue, bodies = self.answers(incoming.body)
        for body in bodies:
            await channel.default_exchange.publish(aio_pika.Message(body), queue)

    async def serve(self, *, task_status: anyio.abc.TaskStatus[anyio.CancelScope]) -> None:
        """Answer until the scope is cancelled, and then close the connection."""
        connection = await aio_pika.connect(self.url.replace("rabbit:", "amqp:"))
        async with connection:
            channel = await connection.channel()
            exchange = await channel.declare_exchange("nova", type="topic")
            queue = await channel.declare_queue("conductor")
            await queue.bind(exchange, "conductor")
            with anyio.CancelScope() as scope:
                async with queue.iterator(no_ack=True) as requests:
                    task_status.started(scope)
                    async for each in requests:
                        await self._take(channel, each)


@contextmanager
def answering(evil: EvilConductor) -> Iterator[EvilConductor]:
    """Run it beside the block."""
    broker = the_rabbitmq()
    evil.url = f"{broker.url}{broker.new_virtual_host()}"
    with start_blocking_portal("asyncio") as portal:
        served, scope = portal.start_task(evil.serve)
        try:
            yield evil
        finally:
            # Not cancelled from outside: a connection that the loop leaves open fails another test.
            portal.call(scope.cancel)
            served.result()
