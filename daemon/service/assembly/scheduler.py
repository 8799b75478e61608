"""Transport of reports to the scheduler: HTTP, or nova-scheduler through RabbitMQ."""

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from bringup.daemon.errors import SettingsError
from bringup.daemon.liveness import Vitals
from bringup.daemon.service.assembly.messaging import opened_messaging
from bringup.daemon.settings import Settings
from bringup.daemon.storage.outbox.base import Transport
from bringup.daemon.storage.store.base import Store

if TYPE_CHECKING:
    from ssl import SSLContext

    from bringup.daemon.openstack.rpc.client import Rpc


def reports(settings: Settings) -> bool:
    """Check whether reports are sent (Nova's ``track_instance_changes``)."""
    return settings.scheduler.transport != "none" and settings.scheduler.track_instance_changes


@asynccontextmanager
async def opened_transport(settings: Settings, *, rpc: "Rpc | None" = None) -> AsyncIterator[Transport | None]:
    """Open the transport; None: none is set.  ``rpc`` is used if it is open already."""
    if not reports(settings):
        yield None
        return
    scheduler = settings.scheduler
    if scheduler.transport == "nova":
        from bringup.daemon.openstack.scheduler_nova import NovaTransport

        async with AsyncExitStack() as opened:
            caster = rpc or await opened.enter_async_context(opened_messaging(settings))
            yield None if caster is None else NovaTransport(caster, timeout_s=scheduler.timeout)
        return
    import httpx

    from bringup.daemon.openstack.scheduler_http import HttpTransport

    url = scheduler.url or ""
    token = None if scheduler.token is None else scheduler.token.get_secret_value()
    # As for Placement: the system's certificates, loaded only where they are needed; proxies are no settings of ours.
    verify = scheduler_tls(settings) if httpx.URL(url).scheme == "https" else False
    async with httpx.AsyncClient(verify=verify, trust_env=False) as client:
        yield HttpTransport(client, url, token=token, timeout_s=scheduler.timeout)


def scheduler_tls(settings: Settings) -> "SSLContext":
    """Return the context that verifies the scheduler's certificate.

    :raises SettingsError: the file cannot be used.
    """
    from bringup.placement.errors import NotUnderstood
    from bringup.placement.tls import Trust, context

    try:
        return context(Trust(ca_file=settings.scheduler.ca_file, ca_name="scheduler.ca_file"))
    except NotUnderstood as error:
        raise SettingsError([str(error)]) from None


def keeping_in_step(
    settings: Settings, transport: Transport | None, store: Store, vitals: Vitals
) -> Callable[[], Coroutine[Any, Any, NoReturn]] | None:
    """Return the task that periodically sends the instances of this host to nova-scheduler; None: not set."""
    every_s = settings.scheduler.sync_interval
    if transport is None or settings.scheduler.transport != "nova" or not every_s:
        return None
    from bringup.daemon.openstack.scheduler_nova import NovaTransport, sync_forever

    if not isinstance(transport, NovaTransport):
        return None
    limit_s = settings.messaging.deadline + settings.scheduler.timeout
    return partial(
        sync_forever,
        transport,
        store,
        settings.host.name,
        every_s=every_s,
        expecting=partial(vitals.expecting, "the sync with nova-scheduler", within_s=limit_s),
    )
