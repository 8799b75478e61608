"""Calls and casts over a real RabbitMQ, to a real nova-conductor and to nobody."""

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aio_pika
import anyio
import anyio.to_thread
import pytest
import structlog.testing

from bringup.daemon.errors import SettingsError, chain_of
from bringup.daemon.openstack.conductor.decoding import VERSIONS
from bringup.daemon.openstack.rpc.client import Rpc, open_rpc
from bringup.daemon.openstack.rpc.errors import NoListener, RemoteError, RpcUnavailable, Unanswered
from bringup.daemon.openstack.rpc.transport_url import TRUST, Broker, BrokerAddress
from support.certificates import Ca
from support.nova import a_nova_to_break, the_nova
from support.ports import free_ports
from support.rabbitmq import PASSWORD, RabbitMQ, a_rabbitmq, the_rabbitmq

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """aio-pika knows asyncio alone."""
    return "asyncio"


@asynccontextmanager
async def calling(broker: Broker, *, in_flight: int = 4, deadline_s: float = 20) -> AsyncIterator[Rpc]:
    async with open_rpc(broker, in_flight=in_flight, deadline_s=deadline_s) as rpc:
        yield rpc


async def uuids_of(rpc: Rpc, host: str = "nobody") -> Any:
    arguments = {
        "objname": "InstanceList",
        "objmethod": "get_uuids_by_host",
        "object_versions": dict(VERSIONS),
        "args": [host],
        "kwargs": {},
    }
    return await rpc.call("object_class_action_versions", arguments, repeatable=True)


async def refused(broker: Broker) -> str:
    async with calling(broker, deadline_s=1) as rpc:
        with pytest.raises(RpcUnavailable) as caught:
            await uuids_of(rpc)
    assert PASSWORD not in chain_of(caught.value)
    return chain_of(caught.value)


async def test_many_calls_share_one_connection_and_each_has_its_own_answer() -> None:
    nova = the_nova()
    hosts = [nova.a_host()[0] for _ in range(5)]
    for number, host in enumerate(hosts):
        nova.make(*({"host": host, "vm_state": "active"} for _ in range(number)))
    counts: dict[str, int] = {}

    async with calling(nova.broker.broker()) as rpc:

        async def count(host: str) -> None:
            counts[host] = len(await uuids_of(rpc, host))

        async with anyio.create_task_group() as tasks:
            for host in hosts:
                tasks.start_soon(count, host)
        connections = nova.broker.ctl("list_connections", "client_properties").splitlines()

    assert list(map(counts.get, hosts)) == [0, 1, 2, 3, 4]
    assert sum("bringup" in line for line in connections) == 1


async def test_what_fails_there_is_an_error_with_its_class_and_no_traceback_above_debug() -> None:
    nova = the_nova()
    with structlog.testing.capture_logs() as logged:
        async with calling(nova.broker.broker()) as rpc:
            with pytest.raises(RemoteError) as caught:
                await rpc.call("no_such_method", {}, repeatable=True)
    assert caught.value.remote_class == "NoSuchMethod"
    assert "Traceback" not in str(caught.value)
    assert {line["log_level"] for line in logged if line["event"] != "rpc.closed"} == {"debug"}


async def test_no_more_calls_are_under_way_than_are_allowed() -> None:
    nova = the_nova()
    async with calling(nova.broker.broker(), in_flight=2) as rpc:
        async with anyio.create_task_group() as tasks:
            for _ in range(6):
                tasks.start_soon(uuids_of, rpc)
            await anyio.wait_all_tasks_blocked()
            assert rpc.sent <= 6
        assert rpc.sent == 6


async def test_a_cancelled_caller_leaves_a_connection_that_continues() -> None:
    nova = the_nova()
    async with calling(nova.broker.broker()) as rpc:
        await uuids_of(rpc)
        for _ in range(20):
            with anyio.CancelScope() as scope:
                scope.cancel()
                await uuids_of(rpc)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(uuids_of, rpc)
                await anyio.lowlevel.checkpoint()
                tasks.cancel_scope.cancel()
        assert await uuids_of(rpc) == []


async def test_without_nova_conductor_nothing_was_sent_and_it_is_reported() -> None:
    rabbitmq = the_rabbitmq()
    broker = rabbitmq.broker(virtual_host=(virtual_host := rabbitmq.new_virtual_host()))
    assert "has no exchange nova" in await refused(broker)
    connection = await aio_pika.connect(rabbitmq.url.replace("rabbit:", "amqp:") + virtual_host)
    async with connection:
        channel = await connection.channel()
        await channel.declare_exchange("nova", type="topic")
        assert "has no queue for conductor" in await refused(broker)
        async with calling(broker, deadline_s=1) as rpc:
            # Not even where it must not be repeated is it doubtful.
            with pytest.raises(RpcUnavailable) as caught:
                await rpc.call("object_action", {}, repeatable=False)
            assert not isinstance(caught.value, Unanswered)
    # As one that was stopped.
    [nobody], [endpoint] = free_ports(1), broker.endpoints
    stopped = replace(broker, endpoints=(replace(endpoint, port=nobody),))
    assert f"RabbitMQ at 127.0.0.1:{nobody} does not answer" in await refused(stopped)


async def test_a_call_that_nobody_waits_for_any_more_is_worked_on_by_nobody_and_a_cast_is() -> None:
    broker = the_rabbitmq()
    connection = await aio_pika.connect(broker.url.replace("rabbit:", "amqp:"))
    expiring = replace(broker.broker(), exchange="expiring")
    async with connection, calling(expiring, deadline_s=0.3) as rpc:
        channel = await connection.channel()
        topic = await channel.declare_exchange("expiring", type="topic", auto_delete=True)
        fanout = await channel.declare_exchange("expiring_fanout", type="fanout", auto_delete=True)
        conductor = await channel.declare_queue(exclusive=True)
        await conductor.bind(topic, "conductor")
        scheduler = await channel.declare_queue(exclusive=True)
        await scheduler.bind(fanout)
        for repeatable in (True, False):
            with pytest.raises(RpcUnavailable, match=r"within 0\.3 s"):
                await rpc.call("object_action", {}, repeatable=repeatable)
        await rpc.cast_fanout("expiring", "sync_instance_info", {}, version="4.0")

        # A service that starts now takes what is in its queue.
        waiting = {name: await queue.get(fail=False) for name, queue in (("c", conductor), ("s", scheduler))}

        expirations = []
        # By the deadline of the call, and by that of whoever waits for it.
        for own_s, callers_s in ((5.0, None), (20.0, 5.0)):
            async with calling(expiring, deadline_s=own_s) as waiting_rpc, anyio.create_task_group() as tasks:
                tasks.start_soon(_refused_after, waiting_rpc, callers_s)
                expirations.append((await _next_of(conductor)).expiration)
                tasks.cancel_scope.cancel()

    assert waiting["c"] is None
    assert waiting["s"] is not None
    assert waiting["s"].expiration is None
    for expiration in expirations:
        assert isinstance(expiration, int | float)
        assert 4 < expiration <= 5


async def _refused_after(rpc: Rpc, callers_s: float | None) -> None:
    with anyio.move_on_after(callers_s):
        await rpc.call("object_action", {}, repeatable=True)


async def _next_of(queue: aio_pika.abc.AbstractQueue) -> aio_pika.abc.AbstractIncomingMessage:
    async with queue.iterator(no_ack=True) as messages:
        return await anext(aiter(messages))


async def test_a_conductor_that_hangs_is_waited_for_and_one_that_is_gone_is_asked_again_when_it_is_back() -> None:
    nova = a_nova_to_break()
    broker = nova.broker.broker()
    async with calling(broker, deadline_s=60) as rpc, calling(broker, deadline_s=0.5) as impatient:
        assert await uuids_of(impatient) == []
        nova.conductor.stop(signal.SIGSTOP)
        with pytest.raises(Unanswered, match=r"nova-conductor did not answer object_action within 0\.5 s"):
            await impatient.call("object_action", {}, repeatable=False)
        with pytest.raises(RpcUnavailable, match=r"did not answer object_class_action_versions within 0\.5 s"):
            await uuids_of(impatient)
        nova.conductor.stop(signal.SIGCONT)
        assert await uuids_of(rpc) == []

        nova.broker.stop(signal.SIGKILL)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(uuids_of, rpc)
            await anyio.to_thread.run_sync(nova.broker.start)
        with pytest.raises(RemoteError):
            await rpc.call("no_such_method", {}, repeatable=False)


async def test_a_cast_needs_an_exchange_and_a_queue() -> None:
    broker = the_rabbitmq()
    async with calling(broker.broker()) as rpc:
        with pytest.raises(NoListener, match="has no exchange lonely_fanout"):
            await rpc.cast_fanout("lonely", "sync", {}, version="1.0")
        with pytest.raises(NoListener, match="has no exchange lonely_fanout"):
            await rpc.probe_fanout("lonely")

        connection = await aio_pika.connect(broker.url.replace("rabbit:", "amqp:"))
        async with connection:
            channel = await connection.channel()
            exchange = await channel.declare_exchange("lonely_fanout", type="fanout", auto_delete=True)
            await rpc.probe_fanout("lonely")
            with pytest.raises(NoListener, match="has no queue for lonely_fanout"):
                await rpc.cast_fanout("lonely", "sync", {}, version="1.0")

            queue = await channel.declare_queue(exclusive=True)
            await queue.bind(exchange)
            await rpc.cast_fanout("lonely", "sync", {"a": 1}, version="1.0")
            got = await queue.get()
            assert got is not None
            assert (got.content_type, got.content_encoding, got.delivery_mode, got.priority) == (
                "application/json",
                "utf-8",
                aio_pika.DeliveryMode.PERSISTENT,
                0,
            )
            assert b'\\"method\\": \\"sync\\"' in got.body


async def test_the_queue_of_answers_outlives_the_client_but_not_for_long() -> None:
    broker = the_rabbitmq()
    async with calling(broker.broker()) as rpc:
        with pytest.raises(NoListener):
            await rpc.probe_fanout("lonely_too")
    queues = [line for line in broker.ctl("list_queues", "name", "arguments").splitlines() if "reply_bringup_" in line]
    assert queues
    assert all('"x-expires",300000' in line for line in queues)


async def test_wrong_credentials_are_reported_without_the_password() -> None:
    broker = the_rabbitmq()
    right = broker.broker()
    [endpoint] = right.endpoints
    said = await refused(replace(right, endpoints=(replace(endpoint, password="wr0ng"),)))
    assert f"RabbitMQ at 127.0.0.1:{broker.port} does not let user nova into virtual host /" in said
    assert "wr0ng" not in said
    assert "has no virtual host nowhere that user nova may use" in await refused(replace(right, virtual_host="nowhere"))


async def test_of_several_hosts_the_next_is_taken_where_one_is_dead() -> None:
    nova = the_nova()
    alive = nova.broker.broker()
    [dead_port] = free_ports(1)
    dead = BrokerAddress(host="127.0.0.1", port=dead_port, username="nova", password=PASSWORD)
    for endpoints in ((dead, *alive.endpoints), (*alive.endpoints, dead)):
        async with calling(replace(alive, endpoints=endpoints)) as rpc:
            assert await uuids_of(rpc) == []
            assert rpc.where.count(":") == 2


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> tuple[RabbitMQ, Ca]:
    ca = Ca(tmp_path_factory.mktemp("ca"))
    return a_rabbitmq(authority=ca), ca


async def test_over_tls_the_broker_must_be_who_it_says(secured: tuple[RabbitMQ, Ca], tmp_path: Path) -> None:
    broker, ca = secured
    trusted = broker.broker(tls=replace(TRUST, ca_file=ca.file))
    async with calling(trusted) as rpc:
        with pytest.raises(NoListener):
            await rpc.probe_fanout("scheduler")

    stranger = Ca(tmp_path, name="stranger")
    assert "does not answer" in await refused(replace(trusted, tls=replace(TRUST, ca_file=stranger.file)))
    [endpoint] = trusted.endpoints
    elsewhere = replace(endpoint, host="127.0.0.1")
    assert "does not answer" in await refused(replace(trusted, endpoints=(elsewhere,)))
    certificate, key = ca.client()
    async with calling(
        replace(trusted, tls=replace(TRUST, ca_file=ca.file, cert_file=certificate, key_file=key))
    ) as rpc:
        with pytest.raises(NoListener):
            await rpc.probe_fanout("scheduler")


async def test_a_file_for_tls_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "ca.pem"
    broker = Broker(
        endpoints=(BrokerAddress(host="localhost", port=1, username="a", password="b"),),
        tls=replace(TRUST, ca_file=missing),
    )
    with pytest.raises(SettingsError, match=f"messaging.ca_file {missing}"):
        async with calling(broker):
            pass
