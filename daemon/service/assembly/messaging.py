"""Connection to RabbitMQ, for records or reports that use it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from bringup.daemon.errors import SettingsError
from bringup.daemon.logs import get_logger
from bringup.daemon.settings import Settings

if TYPE_CHECKING:
    from bringup.daemon.openstack.rpc.client import Rpc

log = get_logger()

NO_AIO_PIKA = (
    'store.url = "nova-conductor:" and scheduler.transport = "nova" need the extra bringup[openstack]: in the '
    "checkout, /opt/bringup/bin/pip install '.[openstack]'"
)


@asynccontextmanager
async def opened_messaging(settings: Settings) -> AsyncIterator["Rpc | None"]:
    """Open the RPC client, and close it on exit; None: no setting needs it.

    :raises SettingsError: the [messaging] settings are invalid, or aio-pika is not installed.
    """
    if not settings.store.is_nova_conductor and settings.scheduler.transport != "nova":
        yield None
        return
    from bringup.daemon.settings.credentials.rabbitmq import broker_of

    try:
        from bringup.daemon.openstack.rpc.client import open_rpc
    except ImportError as error:
        raise SettingsError([NO_AIO_PIKA]) from error
    messaging = settings.messaging
    async with open_rpc(broker_of(settings), in_flight=messaging.requests, deadline_s=messaging.deadline) as rpc:
        if rpc.unencrypted:
            log.warning("rpc.unencrypted", message=rpc.unencrypted)
        yield rpc
