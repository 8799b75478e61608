"""Transport of reports to nova-scheduler over RabbitMQ, as nova-compute sends them.

A cast has no reply.  Acknowledged means that the broker has confirmed each message *and* routed it to a queue; where no
scheduler listens, the report waits in the outbox.
"""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from random import uniform
from typing import TYPE_CHECKING, NoReturn

import anyio
import structlog

from bringup.daemon.errors import StoreError, chain_of
from bringup.daemon.openstack.rpc.errors import RpcError
from bringup.daemon.openstack.scheduler_nova_messages import TOPIC, VERSION, Cast, casts_of, sync
from bringup.daemon.storage.outbox.base import NotAcknowledged, Rejected
from bringup.daemon.storage.outbox.report import Report
from bringup.daemon.storage.store.base import Store

if TYPE_CHECKING:
    from bringup.daemon.openstack.rpc.client import Rpc

log = structlog.get_logger(__name__)


class NovaTransport:
    """A :class:`bringup.daemon.storage.outbox.base.Transport` to all nova-schedulers."""

    def __init__(self, rpc: "Rpc", *, timeout_s: float) -> None:
        """Store the connection, and how long one report may take (seconds)."""
        self._rpc = rpc
        self._timeout_s = timeout_s

    async def send(self, report: Report) -> None:
        """Send a report; after an interruption it is sent again as a whole, which does no harm.

        :raises NotAcknowledged: no scheduler listens, or the broker is unavailable.
        :raises Rejected: the report lacks a field of an instance; it would block those behind it for ever.
        """
        try:
            casts = casts_of(report)
        except LookupError as error:
            raise Rejected(f"an instance of report {report['report_id']} has no {error.args[0]}") from error
        try:
            await self._cast(casts)
        except (RpcError, TimeoutError) as error:
            raise NotAcknowledged(f"cannot send report {report['report_id']} to nova-scheduler") from error

    async def sync(self, host: str, uuids: list[str]) -> None:
        """Send the UUIDs of a host's instances.

        :raises RpcError: no scheduler listens, or the broker is unavailable.
        :raises TimeoutError: it took too long.
        """
        await self._cast([sync(host, uuids)])

    async def _cast(self, casts: Iterable[Cast]) -> None:
        with anyio.fail_after(self._timeout_s):
            for cast in casts:
                await self._rpc.cast_fanout(TOPIC, cast.method, cast.arguments, version=VERSION)


async def sync_forever(
    transport: NovaTransport,
    store: Store,
    host: str,
    *,
    every_s: float,
    expecting: Callable[[], AbstractContextManager[None]],
) -> NoReturn:
    """Send the UUIDs of this host's instances periodically (Nova's ``_sync_scheduler_instance_info``).

    The first time is random within one interval, so that the hosts of a site do not send at once.  A failed one is
    not repeated before the next.
    """
    failing = False
    await anyio.sleep(uniform(0, every_s))  # noqa: S311 - no secret
    while True:
        try:
            with expecting():
                # An empty list too, as Nova does: nothing else empties the scheduler's cache of a host.
                await transport.sync(host, await store.list_uuids(host))
        except (RpcError, StoreError, TimeoutError) as error:
            if not failing:
                log.warning("scheduler.sync_failed", host=host, problem=chain_of(error))
            failing = True
        else:
            if failing:
                log.info("scheduler.sync_recovered", host=host)
            failing = False
        await anyio.sleep(every_s)
