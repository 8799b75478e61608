"""Reports to nova-scheduler over a real RabbitMQ: when one is acknowledged, and when it is kept."""

import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from structlog.testing import capture_logs

from bringup.daemon.errors import chain_of
from bringup.daemon.openstack.rpc.client import open_rpc
from bringup.daemon.openstack.rpc.transport_url import Broker
from bringup.daemon.openstack.scheduler_nova import NovaTransport
from bringup.daemon.storage.outbox.base import NotAcknowledged, Rejected
from bringup.daemon.storage.outbox.outbox import Delivery, Outbox
from support.ports import free_ports
from support.rabbitmq import PASSWORD, a_rabbitmq
from support.scheduler import HOST, a_report, an_outcome, ids, reports, until_settled, uuid_of
from support.scheduler_queue import OFTEN, Counting, Exchange, a_broker, exchange_of

pytestmark = pytest.mark.anyio

TIMEOUT_S = 20.0


@pytest.fixture
def anyio_backend() -> str:
    """aio-pika knows asyncio alone."""
    return "asyncio"


@pytest.fixture
async def exchange() -> AsyncIterator[Exchange]:
    async with exchange_of() as exchange:
        yield exchange


@pytest.fixture
async def transport() -> AsyncIterator[NovaTransport]:
    async with open_rpc(a_broker(), in_flight=4, deadline_s=TIMEOUT_S) as rpc:
        yield NovaTransport(rpc, timeout_s=TIMEOUT_S)


def methods(heard: list[tuple[str, Any]]) -> list[str]:
    return [method for method, _ in heard]


async def test_a_report_is_received_by_every_scheduler_in_its_order(
    exchange: Exchange, transport: NovaTransport
) -> None:
    first, second = await exchange.listen(), await exchange.listen()

    await transport.send(a_report(an_outcome(1), an_outcome(2, deleted=True)))

    heard = await first.heard(3)
    assert heard == await second.heard(3)
    assert methods(heard) == ["delete_instance_info", "update_instance_info", "sync_instance_info"]
    assert heard[0][1] == {"host_name": HOST, "instance_uuid": uuid_of(2)}
    assert heard[2][1] == {"host_name": HOST, "instance_uuids": [uuid_of(1)]}


@pytest.mark.usefixtures("exchange")
async def test_without_the_exchange_of_a_scheduler_a_report_is_not_acknowledged(transport: NovaTransport) -> None:
    with pytest.raises(NotAcknowledged) as caught:
        await transport.send(a_report(an_outcome(1)))

    assert a_report(an_outcome(1))["report_id"] in chain_of(caught.value)
    assert "no scheduler service listens" in chain_of(caught.value)


async def test_where_nobody_is_bound_a_report_is_not_acknowledged(exchange: Exchange, transport: NovaTransport) -> None:
    await exchange.make()

    with pytest.raises(NotAcknowledged) as caught:
        await transport.send(a_report(an_outcome(1)))
    assert "no service listens" in chain_of(caught.value)

    listener = await exchange.listen()
    await transport.send(a_report(an_outcome(1)))
    assert methods(await listener.heard(2)) == ["update_instance_info", "sync_instance_info"]


async def test_without_a_broker_a_report_is_not_acknowledged_and_no_password_is_shown() -> None:
    broker = a_rabbitmq_that_is_gone()
    async with open_rpc(broker, in_flight=4, deadline_s=TIMEOUT_S) as rpc:
        with pytest.raises(NotAcknowledged) as caught:
            await NovaTransport(rpc, timeout_s=TIMEOUT_S).send(a_report(an_outcome(1)))

    assert "does not answer" in chain_of(caught.value)
    assert PASSWORD not in chain_of(caught.value)


def a_rabbitmq_that_is_gone() -> Broker:
    broker = a_broker()
    [port] = free_ports(1)
    return replace(broker, endpoints=(replace(broker.endpoints[0], port=port),))


async def test_a_report_that_takes_too_long_is_not_acknowledged(exchange: Exchange) -> None:
    await exchange.listen()
    async with open_rpc(a_broker(), in_flight=4, deadline_s=TIMEOUT_S) as rpc:
        with pytest.raises(NotAcknowledged) as caught:
            await NovaTransport(rpc, timeout_s=0).send(a_report(an_outcome(1)))
    assert isinstance(caught.value.__cause__, TimeoutError)


async def test_a_report_that_lacks_a_state_is_set_aside_and_holds_up_nobody(
    exchange: Exchange, transport: NovaTransport, tmp_path: Path
) -> None:
    listener = await exchange.listen()
    broken, whole = reports(2)
    del broken["instances"][0]["vm_state"]  # type: ignore[misc]  # as a file may be
    outbox = Outbox(tmp_path)
    await outbox.put(broken)
    await outbox.put(whole)

    assert await outbox.drain(transport, timeout_s=TIMEOUT_S) is None

    assert [outbox.delivery(each) for each in (broken, whole)] == [Delivery.REJECTED, Delivery.ACKNOWLEDGED]
    [(_, arguments), _] = await listener.heard(2)
    [instance] = arguments["instance_info"]["nova_object.data"]["objects"]
    assert instance["nova_object.data"]["uuid"] == uuid_of(1)


async def test_what_can_never_be_notified_is_rejected_by_name(transport: NovaTransport) -> None:
    report = a_report(an_outcome(1))
    del report["instances"][0]["vm_state"]  # type: ignore[misc]  # as a file may be
    with pytest.raises(Rejected, match=f"{report['report_id']} has no vm_state"):
        await transport.send(report)


async def test_reports_wait_in_the_outbox_until_a_scheduler_listens(
    exchange: Exchange, transport: NovaTransport, tmp_path: Path
) -> None:
    outbox, counting = Outbox(tmp_path), Counting(transport, expected=2)
    waiting = reports(3)
    for report in waiting:
        await outbox.put(report)

    with capture_logs(), anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: outbox.run_forever(counting, OFTEN))
            await counting.failed.wait()
            assert (await outbox.pending()).count == 3
            listener = await exchange.listen()
            await until_settled(outbox, *waiting)
            tasks.cancel_scope.cancel()

    assert counting.sent == ids(waiting)
    told = [arguments["instance_uuids"] for method, arguments in await listener.heard(6) if method[:4] == "sync"]
    assert told == [[uuid_of(number)] for number in range(3)]


async def test_reports_wait_while_the_broker_is_away_and_are_sent_when_it_is_back(tmp_path: Path) -> None:
    broker = await anyio.to_thread.run_sync(a_rabbitmq)
    outbox = Outbox(tmp_path)
    first, second = reports(2)
    async with open_rpc(broker.broker(), in_flight=4, deadline_s=TIMEOUT_S) as rpc:
        counting = Counting(NovaTransport(rpc, timeout_s=TIMEOUT_S))
        async with exchange_of(broker) as exchange:
            await exchange.listen()
            await outbox.put(first)
            assert await outbox.drain(counting, timeout_s=TIMEOUT_S) is None

        with capture_logs(), anyio.fail_after(150):
            await anyio.to_thread.run_sync(broker.stop, signal.SIGKILL)
            await outbox.put(second)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(lambda: outbox.run_forever(counting, OFTEN))
                await counting.failed.wait()
                await anyio.to_thread.run_sync(broker.start)
                async with exchange_of(broker) as exchange:
                    listener = await exchange.listen()
                    await until_settled(outbox, second)
                    [_, (method, arguments)] = await listener.heard(2)
                tasks.cancel_scope.cancel()

    assert counting.sent == ids([first, second])
    assert (method, arguments) == ("sync_instance_info", {"host_name": HOST, "instance_uuids": [uuid_of(1)]})
    assert (await Outbox(tmp_path).pending()).count == 0
    await anyio.to_thread.run_sync(broker.stop, signal.SIGKILL)
