"""SIGHUP under systemd: the settings are read again, and what can be changed while the daemon runs is changed.

Settings that are wrong change nothing: the daemon logs them and keeps those that it has.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from operator import attrgetter

import anyio
from anyio import to_thread

from bringup.daemon.errors import SettingsError
from bringup.daemon.logs import get_logger, set_level
from bringup.daemon.settings import Settings
from bringup.daemon.settings.keys import KEYS
from bringup.drivers.capacity import Capacity

log = get_logger()

RELOADABLE = ("limits.concurrency", "limits.pace", "log.level")


@dataclass(frozen=True, slots=True)
class Difference:
    """Keys whose values differ between two settings."""

    reloadable: tuple[str, ...]
    """Those that can be changed while the daemon runs."""
    needs_restart: tuple[str, ...]


def difference(old: Settings, new: Settings) -> Difference:
    """Return the keys whose values differ."""
    keys = tuple(key for key in KEYS if attrgetter(key)(old) != attrgetter(key)(new))
    return Difference(
        reloadable=tuple(key for key in keys if key in RELOADABLE),
        needs_restart=tuple(key for key in keys if key not in RELOADABLE),
    )


class Reloader:
    """Reload of the settings on request."""

    def __init__(self, settings: Settings, load: Callable[[], Settings], capacity: Capacity) -> None:
        """Store the settings that the daemon runs with, what reads new ones, and the slots whose number may change."""
        self._running = settings
        self._load = load
        self._capacity = capacity
        self._requested = anyio.Event()

    def request(self) -> None:
        """Request a reload; may be called at any time."""
        self._requested.set()

    async def requested(self) -> None:
        """Wait for a request."""
        await self._requested.wait()
        self._requested = anyio.Event()

    async def reload(self) -> None:
        """Read the settings, and apply what can change while the daemon runs."""
        try:
            # The settings may be on a disk that takes its time.
            new = await to_thread.run_sync(self._load)
        except SettingsError as error:
            log.error("settings.not_reloaded", problems=error.problems, means="the settings stay as they were")  # noqa: TRY400 - sentences, no traceback
            return
        found = difference(self._running, new)
        limits = new.limits
        self._capacity.resize(limits.concurrency, calls=new.calls, is_adaptive=limits.pace == "adaptive")
        set_level(new.log.level)
        self._running = replace(
            self._running,
            limits=replace(self._running.limits, concurrency=limits.concurrency, pace=limits.pace),
            log=replace(self._running.log, level=new.log.level),
        )
        log.info(
            "settings.reloaded",
            changed=found.reloadable,
            concurrency=limits.concurrency,
            pace=limits.pace,
            level=new.log.level,
        )
        if found.needs_restart:
            log.warning("settings.need_restart", keys=found.needs_restart)
