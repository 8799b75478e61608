"""Lifecycle events of one hypervisor, for as long as the driver is open, also if libvirt was unavailable in between.

A thread of its own passes them from libvirt's event loop to ours.  A stop is delayed for a while, as in Nova: a start
that follows makes it a reboot.  After a lost connection the guests are read, and changes since then are reported.
"""

import heapq
import itertools
import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeAlias, TypeVar

import anyio.from_thread
import anyio.lowlevel
import structlog

from bringup.drivers.base import (
    POWER_AFTER,
    DriverError,
    EventListener,
    GuestSign,
    LifecycleEvent,
    PowerState,
    SignListener,
    Transition,
)
from bringup.drivers.libvirt.binding import Connection, Domain
from bringup.drivers.libvirt.connections import KEEPALIVE_COUNT
from bringup.drivers.libvirt.guest_needs.rules.verdicts import LibvirtObject
from bringup.drivers.libvirt.hypervisor import power_state
from bringup.drivers.libvirt.object_events import ObjectEvents
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
# The transition to report for a guest whose state differs from the last read.
TRANSITION_TO: Final = {
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

RECONNECT_EVERY_S: Final = 1.0
CHECKS_AFTER_S: Final = (1.0, 5.0, 20.0)
"""When the guests are read after a reconnect: libvirtd reports one that died meanwhile as running until it has tried to
reach it, and sends no event when that fails."""
T = TypeVar("T")
OFF: Final = (PowerState.SHUTDOWN, PowerState.CRASHED)
LOST: Final = "lost"
CLOSE: Final = "close"
FOLLOW: Final = "follow"

_Item: TypeAlias = LifecycleEvent | GuestSign | LibvirtObject | str

OnChange = Callable[[LibvirtObject | DriverError | None], None]
"""Called with what libvirt has started; None: anything may have started, before it was followed or while libvirt was
away.  With an error if libvirt refuses to report what is followed."""


@dataclass(frozen=True, slots=True)
class Listeners:
    """Functions that are called in the event loop; more may be added at any time."""

    events: list[EventListener] = field(default_factory=list)
    signs: list[SignListener] = field(default_factory=list)
    """Of what is no lifecycle event."""


class EventWatcher:
    """Source of lifecycle events of the guests of one hypervisor."""

    def __init__(self, options: LibvirtOptions, libvirt: Any, listeners: Listeners) -> None:
        """Store the options; nothing is opened yet."""
        self._options = options
        self._libvirt = libvirt
        self._inbox: queue.SimpleQueue[_Item] = queue.SimpleQueue()
        self._listeners = listeners
        self._is_closed = False
        self._waiting_signs: set[GuestSign] = set()
        self._objects = ObjectEvents(libvirt, self._inbox.put)
        self._kinds: frozenset[str] = frozenset()
        self._on_change: list[OnChange] = []
        self._connection: Connection | None = None
        self._numbers: list[int] = []
        self._known: dict[str, PowerState] | None = None
        """Last known state of each guest; None: none was read yet."""
        self._stops: list[tuple[float, int, LifecycleEvent]] = []
        self._order = itertools.count()
        self._checks_due: list[float] = []
        self._token = anyio.lowlevel.current_token()

    def follow(self, kinds: frozenset[str], on_change: OnChange) -> None:
        """Call ``on_change``, in the event loop, for objects of these kinds that libvirt starts from now on."""
        self._kinds = kinds
        self._on_change[:] = [on_change]
        self._inbox.put(FOLLOW)

    def leave(self, on_change: OnChange) -> None:
        """Do not call it any more; another one that follows stays."""
        if self._on_change == [on_change]:
            self._kinds = frozenset()
            self._on_change.clear()
            self._inbox.put(FOLLOW)

    def open(self) -> None:
        """Connect and start; blocks.

        :raises libvirtError: there is no connection.
        """
        self._connect()
        threading.Thread(target=self._run, name="libvirt-watch", daemon=True).start()

    def close(self) -> None:
        """Stop; no listener is called any more."""
        self._is_closed = True
        self._inbox.put(CLOSE)

    def _connect(self) -> list[LifecycleEvent]:
        """Connect, and return what changed since the last read."""
        connection: Connection = self._libvirt.open(self._options.uri)
        with suppress(self._libvirt.libvirtError):  # a hypervisor in this process has nothing to keep alive
            connection.setKeepAlive(self._options.keepalive_interval, KEEPALIVE_COUNT)
        with suppress(self._libvirt.libvirtError):
            connection.registerCloseCallback(self._on_close, None)
        lifecycle = self._libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE
        self._numbers = [connection.domainEventRegisterAny(None, lifecycle, self._on_event, None)]
        signs: tuple[tuple[str, Callable[..., None]], ...] = (
            ("AGENT_LIFECYCLE", self._on_agent),
            ("IO_ERROR_REASON", self._on_io_error),
            ("REBOOT", self._on_reboot),
        )
        for name, callback in signs:
            # A hypervisor need not have all of these: what they report is then polled alone.
            with suppress(self._libvirt.libvirtError):
                number = getattr(self._libvirt, f"VIR_DOMAIN_EVENT_ID_{name}")
                self._numbers.append(connection.domainEventRegisterAny(None, number, callback, None))
        self._connection = connection
        return self._read_changes(connection)

    def _read_changes(self, connection: Connection) -> list[LifecycleEvent]:
        """Read the guests; return changes since the last read for which no event arrived."""
        first = self._known is None
        known = self._known = self._known or {}
        changed = []
        for domain in connection.listAllDomains():
            with suppress(self._libvirt.libvirtError):  # it is gone by now
                uuid, state = domain.UUIDString(), power_state(domain.state()[0])
                if not first and state in TRANSITION_TO and known.get(uuid) is not state:
                    changed.append(LifecycleEvent(uuid, TRANSITION_TO[state]))
                known[uuid] = state
        return changed

    def _on_event(self, _connection: Connection, domain: Domain, event: int, detail: int, _opaque: object) -> None:
        transition = transition_of(event, detail, self._libvirt)
        if transition is not None:
            self._inbox.put(LifecycleEvent(domain.UUIDString(), transition))

    def _on_agent(self, _connection: Connection, domain: Domain, state: int, _reason: int, _opaque: object) -> None:
        if state == self._libvirt.VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_STATE_CONNECTED:
            self._put(GuestSign(domain.UUIDString(), "agent_connected"))

    def _on_io_error(
        self, _connection: Connection, domain: Domain, path: str, disk: str, _action: int, reason: str, _opaque: object
    ) -> None:
        what = "no space left" if reason == "enospc" else "I/O error"
        self._put(GuestSign(domain.UUIDString(), "io_error", what, disk or path or "of unknown name"))

    def _on_reboot(self, _connection: Connection, domain: Domain, _opaque: object) -> None:
        self._put(GuestSign(domain.UUIDString(), "rebooted"))

    def _put(self, sign: GuestSign) -> None:
        # A guest may fail thousands of requests in a second: one that waits stands for all that are the same.
        if sign not in self._waiting_signs:
            self._waiting_signs.add(sign)
            self._inbox.put(sign)

    def _on_close(self, _connection: Connection, _reason: int, _opaque: object) -> None:
        self._inbox.put(LOST)

    def _run(self) -> None:
        """Process events until closed."""
        lost = False
        while True:
            try:
                item = self._inbox.get(timeout=self._timeout_s(lost=lost))
            except queue.Empty:
                item = None
            if item == CLOSE:
                self._disconnect()
                return
            if item == LOST:
                lost = True
                self._disconnect()
            elif item is not None:
                self._pass_on(item)
            self._notify_due_stops()
            if lost:
                lost = not self._reconnect()
            elif self._checks_due and self._checks_due[0] <= time.monotonic():
                self._checks_due.pop(0)
                self._check_again()

    def _pass_on(self, item: _Item) -> None:
        match item:
            case LifecycleEvent():
                self._process(item)
            case GuestSign():
                self._waiting_signs.discard(item)
                self._call(self._listeners.signs, item)
            case LibvirtObject():
                self._call(self._on_change, item)
            case _:
                self._follow_objects()

    def _follow_objects(self) -> None:
        """Register for what is followed; what has started before may have been missed."""
        if self._connection is None:
            return
        try:
            self._objects.follow(self._connection, self._kinds)
        except self._libvirt.libvirtError as error:
            self._call(self._on_change, DriverError(f"libvirt does not report what it starts: {error}"))
        else:
            self._call(self._on_change, None)

    def _timeout_s(self, *, lost: bool) -> float | None:
        """Return how long to wait for the next event; None: for ever."""
        at = [due for due, _, _ in self._stops[:1]] + ([] if lost else self._checks_due[:1])
        waits = [max(0.0, due - time.monotonic()) for due in at]
        return min([*waits, RECONNECT_EVERY_S] if lost else waits, default=None)

    def _reconnect(self) -> bool:
        try:
            changed = self._connect()
        except self._libvirt.libvirtError:
            return False
        log.info("libvirt.events_resumed", changed=len(changed))
        self._checks_due = [time.monotonic() + after_s for after_s in CHECKS_AFTER_S]
        for event in changed:
            self._process(event)
        self._follow_objects()
        return True

    def _check_again(self) -> None:
        """Report changes of guests for which no event arrived."""
        if self._connection is not None:
            with suppress(self._libvirt.libvirtError):
                for event in self._read_changes(self._connection):
                    self._process(event)

    def _process(self, event: LifecycleEvent) -> None:
        if self._known is not None:
            if event.transition is Transition.RESUMED and self._known.get(event.uuid) in OFF:
                # A start is two events, and this is the first: the next one reports it.
                return
            self._known[event.uuid] = POWER_AFTER[event.transition]
        if event.transition is Transition.STARTED:
            self._stops = [each for each in self._stops if each[2].uuid != event.uuid]
            heapq.heapify(self._stops)
        if event.transition is Transition.STOPPED:
            due = time.monotonic() + self._options.stopped_delay_s
            heapq.heappush(self._stops, (due, next(self._order), event))
        else:
            self._notify(event)

    def _notify_due_stops(self) -> None:
        while self._stops and self._stops[0][0] <= time.monotonic():
            self._notify(heapq.heappop(self._stops)[2])

    def _notify(self, event: LifecycleEvent) -> None:
        self._call(self._listeners.events, event)

    def _call(self, listeners: Sequence[Callable[[T], None]], what: T) -> None:
        def call() -> None:
            for listener in () if self._is_closed else listeners:
                try:
                    listener(what)
                except Exception:
                    # The other listeners, and later events, do not depend on it.
                    log.exception("libvirt.listener_failed")

        with suppress(RuntimeError):  # the event loop has ended: no listener is left
            anyio.from_thread.run_sync(call, token=self._token)

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        self._objects.lost()
        if connection is None:
            return
        undo: tuple[Callable[[], int], ...] = (
            *(partial(connection.domainEventDeregisterAny, number) for number in self._numbers),
            connection.unregisterCloseCallback,
            connection.close,
        )
        for each in undo:
            with suppress(self._libvirt.libvirtError):
                each()
