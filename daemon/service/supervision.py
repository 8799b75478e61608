"""The daemon under a service manager: what it reports, and the reload on SIGHUP."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

import anyio

from bringup.daemon.liveness import Vitals
from bringup.daemon.service.deadlines import extension_s, patience_s, stopping_s
from bringup.daemon.service.reload import Reloader
from bringup.daemon.settings import Settings
from bringup.daemon.status.endpoint.source import StatusSource
from bringup.daemon.status.systemd import Notifier, NotifierLoop
from bringup.daemon.status.systemd.messages import Rules


@dataclass(frozen=True, slots=True)
class Supervised:
    """State that the daemon reports to the service manager, and what may change in it."""

    vitals: Vitals
    notifier_loop: NotifierLoop
    stopping_s: float
    reloader: Reloader | None
    """None: SIGHUP stops the daemon."""

    async def run(self) -> None:
        """Notify systemd, and reload on request, until cancelled."""
        async with anyio.create_task_group() as group:
            group.start_soon(self.notifier_loop.run, name="notify")
            if self.reloader is not None:
                group.start_soon(self._reload, self.reloader, name="reload")

    async def _reload(self, reloader: Reloader) -> NoReturn:
        while True:
            await reloader.requested()
            with self.notifier_loop.reloading():
                await reloader.reload()

    @property
    def on_hangup(self) -> Callable[[], None] | None:
        """What SIGHUP does; None: it stops the daemon."""
        return None if self.reloader is None else self.reloader.request

    def stopping(self) -> None:
        """Notify systemd that the daemon stops."""
        self.notifier_loop.stopping(within_s=self.stopping_s)


def supervise(
    settings: Settings,
    source: StatusSource,
    notifier: Notifier | None,
    load: Callable[[], Settings] | None,
) -> Supervised:
    """Build it; without a ``notifier`` systemd is not notified, without ``load`` nothing is reloaded."""
    progress, vitals = source.progress, Vitals(slack_s=settings.limits.stuck_after)
    rules = Rules(
        patience_s=patience_s(settings),
        extension_s=extension_s(settings),
        watchdog_s=None if notifier is None else notifier.watchdog_s,
    )
    notifier_loop = NotifierLoop(notifier, progress.snapshot, vitals, rules)
    source.hanging = notifier_loop.why_stuck
    return Supervised(
        vitals=vitals,
        notifier_loop=notifier_loop,
        stopping_s=stopping_s(settings),
        reloader=None if load is None else Reloader(settings, load, source.capacity),
    )
