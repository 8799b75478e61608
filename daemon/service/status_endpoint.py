"""The endpoint of one process, from its first line to its last."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import anyio
from anyio.lowlevel import current_token

from bringup import __version__
from bringup.daemon.errors import SettingsError
from bringup.daemon.logs import get_logger
from bringup.daemon.recovery.pause import shown_times
from bringup.daemon.service.assembly import JOURNAL, utc_now
from bringup.daemon.service.deadlines import AT_MOST
from bringup.daemon.settings import Settings
from bringup.daemon.status.endpoint import sockets
from bringup.daemon.status.endpoint.channel import Channels
from bringup.daemon.status.endpoint.listeners import Listener, supervised
from bringup.daemon.status.endpoint.recorder import Recorder
from bringup.daemon.status.endpoint.source import StatusSource
from bringup.daemon.tasks import background
from bringup.drivers.capacity import Capacity

log = get_logger()


def source_of(settings: Settings, *, boot_id: str) -> StatusSource:
    """Make what the endpoint tells of."""
    limits = settings.limits
    pace = settings.pace
    waits = (limits.instance_deadline, limits.host_deadline, settings.store.wait, pace.hold, pace.after_at_most)
    longest_s = max(waits)
    return StatusSource(
        host=settings.host.name,
        version=__version__,
        boot_id=boot_id,
        capacity=Capacity(limits.concurrency, calls=settings.calls, is_adaptive=limits.pace == "adaptive"),
        stuck_after_s=longest_s + limits.stuck_after,
        gate_s=settings.placement.wait,
        host_s=AT_MOST * limits.host_wait,
        # Who listens does so in another process.
        recorder=Recorder(utc_now, keep=0),
    )


@dataclass(slots=True)
class Listening:
    """Where the endpoint listens."""

    addresses: dict[str, str] = field(default_factory=dict)
    problem: str | None = None
    """Why it does not listen at its UNIX socket."""

    def say(self) -> None:
        """Log it."""
        for name, address in self.addresses.items():
            log.info("status.listens", **{name: address})
        if self.problem is not None:
            log.warning("status.not_served", error=self.problem)


@asynccontextmanager
async def open_endpoint(settings: Settings, source: StatusSource) -> AsyncIterator[Listening]:
    """Answer who asks, for as long as the block lasts.

    :raises SettingsError: the TCP address cannot be listened at.  A UNIX socket that cannot be made is a sentence in
        the log: a host comes back on a full disk too.
    """
    listening = Listening()
    async with AsyncExitStack() as stack:
        if settings.status.enabled:
            channels = Channels(source)
            if settings.status.listen is not None:
                await _open_tcp(stack, settings, channels, listening)
            await _open_unix(stack, settings, channels, listening)
            beside = await stack.enter_async_context(background())
            beside.start_soon(channels.send_when_back, name="status")
            # Clients of the event stream are closed before the processes wait for their responses to end.
            stack.callback(channels.close)
        yield listening


async def _open_tcp(stack: AsyncExitStack, settings: Settings, channels: Channels, listening: Listening) -> None:
    address = settings.status.listen or ""
    if not _on_asyncio():
        raise SettingsError([f'status.listen = "{address}": only the asyncio backend can serve it; leave it out'])
    # No requests of operators: a process that listens on TCP cannot change anything.
    listener = Listener(
        name=address,
        socket=sockets.listen_tcp(address),
        host_names=(settings.host.name, *settings.status.host_names),
    )
    await stack.enter_async_context(supervised(listener, channels))
    listening.addresses["address"] = address


async def _open_unix(stack: AsyncExitStack, settings: Settings, channels: Channels, listening: Listening) -> None:
    path, mode = settings.status.socket, int(settings.status.socket_mode, 8)
    if not _on_asyncio():
        listening.problem = f"cannot listen at {path}: only the asyncio backend can serve it"
        return
    try:
        listener = sockets.listen_unix(path, mode)
    except OSError as error:
        listening.problem = f"cannot listen at {path}: {error.strerror}"
        return
    stack.callback(sockets.remove, path)
    boot_id = channels.source.boot_id
    requests = {
        "release": partial(_release, settings),
        "retry": partial(_retry, settings, boot_id),
        "pause": partial(_pause, settings),
        "resume": partial(_resume, settings),
    }
    # Behind a tunnel (ssh -L) a browser asks the socket too, and a page of somebody else could have it ask.
    names = (sockets.CLIENT, settings.host.name, *settings.status.host_names)
    supervised_there = supervised(
        Listener(name=str(path), socket=listener, host_names=names, requests=requests), channels
    )
    await stack.enter_async_context(supervised_there)
    listening.addresses["socket"] = str(path)


def _on_asyncio() -> bool:
    return "asyncio" in type(current_token().native_token).__module__


async def _release(settings: Settings, uuids: Sequence[str]) -> list[str]:
    from bringup.daemon.service.journal_requests import release

    with anyio.fail_after(settings.limits.host_deadline):
        released = await release(settings.host.state_directory / JOURNAL, uuids)
    log.info("status.released", count=len(released))
    return released


async def _retry(settings: Settings, boot_id: str, uuids: Sequence[str]) -> list[str]:
    from bringup.daemon.service.journal_requests import retry

    with anyio.fail_after(settings.limits.host_deadline):
        retried = await retry(settings.host.state_directory / JOURNAL, boot_id, uuids)
    log.info("status.retried", count=len(retried))
    return retried


async def _pause(settings: Settings, arguments: Sequence[str]) -> list[str]:
    from bringup.daemon.service.journal_requests import pause, time_span

    with anyio.fail_after(settings.limits.host_deadline):
        paused = await pause(settings.host.state_directory / JOURNAL, time_span(*arguments[:1]))
    since, until = shown_times(paused)
    log.info("status.paused", until=until)
    return [since, until]


async def _resume(settings: Settings, _arguments: Sequence[str]) -> list[str]:
    from bringup.daemon.service.journal_requests import resume

    with anyio.fail_after(settings.limits.host_deadline):
        paused = await resume(settings.host.state_directory / JOURNAL)
    log.info("status.resumed", was_paused=paused is not None)
    return shown_times(paused)
