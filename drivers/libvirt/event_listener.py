"""Lifecycle events of one hypervisor, for as long as the driver is open, also when libvirt was away in between.

A thread of its own takes them from libvirt's event loop and hands them to ours.  A stop is held back for a while, as
in Nova: a start that follows makes it a reboot.  After a lost connection the guests are looked at, and what changed
meanwhile is told.
"""

import heapq
import itertools
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import anyio.from_thread
import anyio.lowlevel
import structlog

from bringup.drivers.base import POWER_AFTER, EventListener, LifecycleEvent, PowerState, Transition
from bringup.drivers.libvirt.binding import Connection, Domain
from bringup.drivers.libvirt.connections import KEEPALIVE_COUNT
from bringup.drivers.libvirt.hypervisor import power_state
from bringup.drivers.libvirt_options import LibvirtOptions

# By the names of libvirt's constants.
_MEANS: Final = {
    "STARTED": Transition.STARTED,
    "SUSPENDED": Transition.PAUSED,
    "RESUMED": Transition.RESUMED,
    "STOPPED": Transition.STOPPED,
    "CRASHED": Transition.CRASHED,
    "PMSUSPENDED": Transition.SUSPENDED,
}
_MIGRATION: Final = {
    "STOPPED": ("STOPPED_MIGRATED",),
    "SUSPENDED": ("SUSPENDED_MIGRATED", "SUSPENDED_POSTCOPY", "SUSPENDED_POSTCOPY_FAILED"),
}
# What is said of a guest that is in another state than when it was last seen.
NOW: Final = {
    PowerState.RUNNING: Transition.STARTED,
    PowerState.PAUSED: Transition.PAUSED,
    PowerState.SHUTDOWN: Transition.STOPPED,
    PowerState.CRASHED: Transition.CRASHED,
    PowerState.SUSPENDED: Transition.SUSPENDED,
}


def transition_of(event: int, detail: int, libvirt: Any) -> Transition | None:
    """Return the transition of an event; None: nothing that a record should follow."""
    for name, transition in _MEANS.items():
        if event == getattr(libvirt, f"VIR_DOMAIN_EVENT_{name}", None):
            migration = (getattr(libvirt, f"VIR_DOMAIN_EVENT_{each}", None) for each in _MIGRATION.get(name, ()))
            return None if detail in migration else transition
    return None


log = structlog.get_logger()

AGAIN_S: Final = 1.0
LOOKS_AFTER_S: Final = (1.0, 5.0, 20.0)
"""When the guests are looked at after libvirt came back: one that died meanwhile is called running until libvirtd has
tried to speak to it, and no event is sent when that fails."""
LOST: Final = "lost"
CLOSE: Final = "close"


class Watch:
    """Watches the guests of one hypervisor."""

    def __init__(self, options: LibvirtOptions, libvirt: Any) -> None:
        """Watch nothing yet."""
        self._options = options
        self._libvirt = libvirt
        self._inbox: queue.SimpleQueue[LifecycleEvent | str] = queue.SimpleQueue()
        self._listeners: list[EventListener] = []
        self._connection: Connection | None = None
        self._number = -1
        self._known: dict[str, PowerState] | None = None
        """What each guest was last seen as; None: nobody has looked yet."""
        self._stops: list[tuple[float, int, LifecycleEvent]] = []
        self._order = itertools.count()
        self._looks_at: list[float] = []
        self._token = anyio.lowlevel.current_token()

    def listen(self, listener: EventListener) -> None:
        """Tell ``listener`` from now on, in the event loop."""
        self._listeners.append(listener)

    def open(self) -> None:
        """Begin; blocks.

        :raises libvirtError: there is no connection.
        """
        self._connect()
        threading.Thread(target=self._run, name="libvirt-watch", daemon=True).start()

    def close(self) -> None:
        """End; nothing is told any more."""
        self._listeners.clear()
        self._inbox.put(CLOSE)

    def _connect(self) -> list[LifecycleEvent]:
        """Connect and look; give what changed since the last look."""
        connection: Connection = self._libvirt.open(self._options.uri)
        with suppress(self._libvirt.libvirtError):  # a hypervisor in this process has nothing to keep alive
            connection.setKeepAlive(self._options.keepalive_interval, KEEPALIVE_COUNT)
        with suppress(self._libvirt.libvirtError):
            connection.registerCloseCallback(self._on_close, None)
        self._number = connection.domainEventRegisterAny(
            None, self._libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._on_event, None
        )
        self._connection = connection
        return self._look(connection)

    def _look(self, connection: Connection) -> list[LifecycleEvent]:
        """Look at the guests; give what changed since the last look, which nobody has told."""
        first = self._known is None
        known = self._known = self._known or {}
        changed = []
        for domain in connection.listAllDomains():
            with suppress(self._libvirt.libvirtError):  # it is gone by now
                uuid, state = domain.UUIDString(), power_state(domain.state()[0])
                if not first and state in NOW and known.get(uuid) is not state:
                    changed.append(LifecycleEvent(uuid, NOW[state]))
                known[uuid] = state
        return changed

    def _on_event(self, _connection: Connection, domain: Domain, event: int, detail: int, _opaque: object) -> None:
        transition = transition_of(event, detail, self._libvirt)
        if transition is not None:
            self._inbox.put(LifecycleEvent(domain.UUIDString(), transition))

    def _on_close(self, _connection: Connection, _reason: int, _opaque: object) -> None:
        self._inbox.put(LOST)

    def _run(self) -> None:
        """Hand on what comes until closed."""
        lost = False
        while True:
            try:
                item = self._inbox.get(timeout=self._patience_s(lost=lost))
            except queue.Empty:
                item = None
            if item == CLOSE:
                self._let_go()
                return
            if item == LOST:
                lost = True
                self._let_go()
            elif isinstance(item, LifecycleEvent):
                self._take(item)
            self._tell_stops()
            if lost:
                lost = not self._reconnect()
            elif self._looks_at and self._looks_at[0] <= time.monotonic():
                self._looks_at.pop(0)
                self._look_again()

    def _patience_s(self, *, lost: bool) -> float | None:
        """Return how long there is nothing to do but to wait for what comes."""
        at = [due for due, _, _ in self._stops[:1]] + ([] if lost else self._looks_at[:1])
        waits = [max(0.0, due - time.monotonic()) for due in at]
        return min([*waits, AGAIN_S] if lost else waits, default=None)

    def _reconnect(self) -> bool:
        try:
            changed = self._connect()
        except self._libvirt.libvirtError:
            return False
        log.info("libvirt.events_resumed", changed=len(changed))
        self._looks_at = [time.monotonic() + after_s for after_s in LOOKS_AFTER_S]
        for event in changed:
            self._take(event)
        return True

    def _look_again(self) -> None:
        """Return what became of guests without an event."""
        if self._connection is not None:
            with suppress(self._libvirt.libvirtError):
                for event in self._look(self._connection):
                    self._take(event)

    def _take(self, event: LifecycleEvent) -> None:
        if self._known is not None:
            self._known[event.uuid] = POWER_AFTER[event.transition]
        if event.transition is Transition.STARTED:
            self._stops = [each for each in self._stops if each[2].uuid != event.uuid]
            heapq.heapify(self._stops)
        if event.transition is Transition.STOPPED:
            due = time.monotonic() + self._options.stopped_delay_s
            heapq.heappush(self._stops, (due, next(self._order), event))
        else:
            self._tell(event)

    def _tell_stops(self) -> None:
        while self._stops and self._stops[0][0] <= time.monotonic():
            self._tell(heapq.heappop(self._stops)[2])

    def _tell(self, event: LifecycleEvent) -> None:
        def tell() -> None:
            for listener in self._listeners:
                listener(event)

        with suppress(RuntimeError):  # the event loop has ended: nobody is left to be told
            anyio.from_thread.run_sync(tell, token=self._token)

    def _let_go(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        undo: tuple[Callable[[], int], ...] = (
            lambda: connection.domainEventDeregisterAny(self._number),
            connection.unregisterCloseCallback,
            connection.close,
        )
        for each in undo:
            with suppress(self._libvirt.libvirtError):
                each()
