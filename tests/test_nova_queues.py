"""Deployments that make RabbitMQ's queues in other ways: nothing that we send or listen to depends on it."""

import pytest

from bringup.daemon.decisions.states import TaskState, VmState
from bringup.daemon.openstack.conductor import NovaConductorStore
from bringup.daemon.openstack.rpc.client import open_rpc
from bringup.daemon.openstack.scheduler_nova import NovaTransport
from bringup.daemon.storage.store.base import Claimant
from support.nova import a_nova
from support.openstack import uuid_of
from support.rabbitmq import the_rabbitmq
from support.records import expected

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

# Options of oslo.messaging, and what RabbitMQ says then of nova-conductor's queue: type, durable, auto_delete.
DEPLOYMENTS: dict[str, tuple[list[str], list[str]]] = {
    "quorum queues": (
        ["rabbit_quorum_queue", "rabbit_transient_quorum_queue", "use_queue_manager"],
        ["quorum", "true", "false"],
    ),
    "durable queues": (["amqp_durable_queues"], ["classic", "true", "false"]),
}


@pytest.fixture
def anyio_backend() -> str:
    """aio-pika knows asyncio alone."""
    return "asyncio"


@pytest.mark.parametrize(("options", "queue"), DEPLOYMENTS.values(), ids=DEPLOYMENTS)
async def test_calls_are_answered_and_casts_arrive(options: list[str], queue: list[str]) -> None:
    broker = the_rabbitmq()
    virtual_host = broker.new_virtual_host()
    more = "\n".join(["[oslo_messaging_rabbit]", *(f"{option} = true" for option in options)])
    nova = a_nova(broker, virtual_host=virtual_host, more=more)
    host, node = nova.a_host()
    uuid = uuid_of(host, 1)
    nova.make({"uuid": uuid, "host": host, "vm_state": "active"})
    nova.scheduler.start()
    async with open_rpc(nova.broker_settings(), in_flight=4, deadline_s=60) as rpc:
        store = NovaConductorStore(rpc)

        await store.take_lease(Claimant(host, node), for_s=1)
        await store.save(uuid, {"task_state": TaskState.REBOOTING}, expected=expected(VmState.ACTIVE))
        [found] = await store.load_instances(host)
        await NovaTransport(rpc, timeout_s=60).sync(host, [uuid])

        await store.close()
    assert found.task_state is TaskState.REBOOTING
    nova.scheduler.until(f"Successfully synced instances from host '{host}'")
    queues = broker.ctl("list_queues", "--vhost", virtual_host, "name", "type", "durable", "auto_delete").splitlines()
    assert "\t".join(["conductor", *queue]) in queues
    nova.close()
