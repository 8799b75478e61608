"""Rules of guests in nftables: applied at once, or collected and applied as one transaction; kept as they are.

Changes of other programs are reported by the kernel itself (nfnetlink's multicast group).  Not by ``nft monitor``: that
is another process for as long as the daemon lives, and its text is not for programs.  The change itself is not parsed:
the table is read again.
"""

import errno
import re
import socket
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Final, NoReturn, Self

import anyio

from bringup.drivers.base import DriverError, FilterChange, Guest
from bringup.drivers.batching import Gathering, in_halves
from bringup.drivers.needs import Need, NeedKind, NeedNotMet, NeedState
from bringup.drivers.network.commands import Command, CommandRefused, CommandUnavailable
from bringup.drivers.network.rules.ruleset import (
    TABLE,
    Replacement,
    RulesetHistory,
    comparable,
    devices_after,
    devices_in,
    has_table,
    instance_of,
    replacement,
    transaction,
)
from bringup.drivers.network.rules.vifs import DeviceName

NETLINK_NETFILTER: Final = 12
GROUP: Final = 1 << 6
"""``NFNLGRP_NFTABLES`` is the seventh."""
SUBSYSTEM: Final = 10
"""``NFNL_SUBSYS_NFTABLES``."""
BRIDGE: Final = 7
"""``NFPROTO_BRIDGE``: tables of other families do not matter here, and some change all the time."""
HEADER: Final = struct.Struct("=IHHII")
MOST_BYTES: Final = 1 << 16


class RuleChanges:
    """Notifications of the kernel about tables for bridges, from when it is opened on."""

    def __init__(self) -> None:
        """Open nothing yet."""
        self._socket: socket.socket | None = None

    def __enter__(self) -> Self:
        """Subscribe; if the kernel does not permit it, no change is ever reported."""
        with suppress(OSError):
            found = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
            self._socket = found
            found.settimeout(0)
            found.bind((0, GROUP))
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Unsubscribe."""
        if self._socket is not None:
            self._socket.close()

    async def wait_for_change(self) -> None:
        """Wait for a change of a table for bridges; for ever without a subscription."""
        if self._socket is None:
            await anyio.sleep_forever()
            return
        while True:
            await anyio.wait_readable(self._socket)
            try:
                if _drained(self._socket):
                    return
            except OSError:
                # It reports nothing any more: the caller checks once more, and periodically from now on.
                self._socket.close()
                self._socket = None
                return


def _drained(found: socket.socket) -> bool:
    """Read all messages that are there; return whether one is about bridges."""
    relevant = False
    while True:
        try:
            relevant |= is_about_bridges(found.recv(MOST_BYTES))
        except BlockingIOError:
            return relevant
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            # More than the buffer holds: some are lost.
            relevant = True


def is_about_bridges(messages: bytes) -> bool:
    """Check whether one of these messages is about a table for bridges."""
    at = 0
    while at + HEADER.size < len(messages):
        length, kind, *_ = HEADER.unpack_from(messages, at)
        if kind >> 8 == SUBSYSTEM and messages[at + HEADER.size] == BRIDGE:
            return True
        if length < HEADER.size:
            return False
        at += (length + 3) & ~3
    return False


NAME: Final = "nftables"
# It lacks a permission, or the kernel lacks memory: the rules are right.
UNAVAILABLE: Final = re.compile(
    r"Operation not permitted|Permission denied|cache initialization failed|Unable to initialize Netlink|"
    r"Cannot allocate memory|No buffer space|Resource temporarily unavailable|Protocol not supported"
)
TABLES = ("-j", "list", "tables")
LIST = ("-j", "list", "table", *TABLE.split())
AS_TEXT = ("--stateless", "list", "table", *TABLE.split())
APPLY = ("-f", "-")
CHECK_EVERY_S: Final = 60.0
"""In case a notification of the kernel is lost."""
FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 30.0


class Nftables:
    """Our table of this host; no other is touched."""

    def __init__(self, *, deadline_s: float) -> None:
        """Store the deadline of one transaction."""
        self._nft = Command(
            program="nft",
            package="nftables",
            deadline_s=deadline_s,
            service=NAME,
            unavailable_text=UNAVAILABLE,
            remedy="check the messages of the kernel (dmesg); nftables is one of its modules",
            remedy_access="give the daemon CAP_NET_ADMIN, as systemd/with-network/bringup.conf does",
        )
        self._gathering = Gathering[Replacement, None](self._apply, failure=DriverError, repeatable=True)
        self._devices: dict[str, frozenset[DeviceName]] = {}
        self._is_open = False
        self._changing = anyio.Lock()
        self._history = RulesetHistory()
        self._expected: tuple[str, ...] | None = None
        """The table as it should be, in comparable form; None: there is none, or it is to be read."""
        self._seen: dict[str, frozenset[DeviceName]] = {}
        """Devices of each instance when the table was last read."""
        self._deferred: dict[str, Replacement] | None = None

    async def open(self) -> None:
        """Read what earlier processes left in the table; nothing is changed.

        :raises CommandUnavailable: nft is missing, or may not read it.
        """
        tables = await self._nft.run(TABLES)
        if not self._is_open:
            if has_table(tables):
                self._devices = devices_in(await self._nft.run(LIST))
                self._history = RulesetHistory(found=await self._nft.run(AS_TEXT), had=self._devices)
            self._is_open = True

    async def check(self) -> Need:
        """Return whether nft can be used, as a need; nothing is changed."""
        try:
            await self.open()
        except CommandUnavailable as error:
            return error.needs[0]
        return Need(kind=NeedKind.NETWORK, name=NAME, state=NeedState.MET)

    async def ensure(self, guest: Guest, *, at_once: bool = False) -> None:
        """Replace the rules of a guest; while deferred, collect them, unless ``at_once``.

        A record without any VIF changes nothing: a lost cache must not open a guest to the world.

        :raises DriverError: that failed; the former rules are still in force.
        """
        one = replacement(guest)
        if not guest.network_info:
            return
        if self._deferred is not None and not at_once:
            self._deferred[guest.uuid] = one
            return
        if self._deferred is not None:
            self._deferred.pop(guest.uuid, None)
        await self.put([one])

    async def forget(self, guest: Guest) -> None:
        """Delete all rules of a guest, and those that were collected for it.

        :raises DriverError: that failed.
        """
        if self._deferred is not None:
            self._deferred.pop(guest.uuid, None)
        await self._require_open()
        if guest.uuid in self._devices:
            await self.put([Replacement(instance=instance_of(guest.uuid))])

    def defer(self) -> None:
        """Collect from now on."""
        if self._deferred is None:
            self._deferred = {}

    async def apply_deferred(self) -> None:
        """Apply what was collected as one transaction, and each at once from now on.

        :raises DriverError: it names the instances whose rules could not be applied.
        """
        collected, self._deferred = self._deferred, None
        if collected:
            await self.put(list(collected.values()))

    async def put(self, replacements: Sequence[Replacement]) -> None:
        """Apply rules, in one transaction with whatever else waits.

        :raises NeedNotMet: nft is unavailable.
        :raises DriverError: it names the instances whose rules were refused; those of the others are in force.
        """
        errors = await self._gathering.submit_all(replacements)
        failed = [(one.instance, error) for one, error in zip(replacements, errors, strict=True) if error is not None]
        if failed:
            names = ", ".join(instance for instance, _ in failed)
            sentence = f"cannot apply the packet filter of {names}"
            unavailable = next((error for _, error in failed if isinstance(error, CommandUnavailable)), None)
            if unavailable is not None:
                raise NeedNotMet(sentence, unavailable.needs) from unavailable
            raise DriverError(sentence) from failed[0][1]

    async def keep(self, notify: Callable[[FilterChange], None]) -> NoReturn:
        """Check the table when the kernel reports a change, and each minute; restore it if another program changed it.

        A program that changes it again and again is answered more and more slowly.
        """
        pause_s, problem = FIRST_PAUSE_S, ""
        with RuleChanges() as changes:
            while True:
                try:
                    found, problem = await self.restore(), ""
                    if found is not None:
                        notify(FilterChange(what=found, restored=True))
                    pause_s = FIRST_PAUSE_S if found is None else min(2 * pause_s, LONGEST_PAUSE_S)
                except DriverError as error:
                    # Reported once: it is checked again each minute.
                    if str(error) != problem:
                        what = f"cannot check whether the rules of guests are in force: {error}"
                        notify(FilterChange(what=what, restored=False))
                    problem = str(error)
                with anyio.move_on_after(CHECK_EVERY_S):
                    await changes.wait_for_change()
                # Changes that follow at once are part of the same one.
                await anyio.sleep(pause_s)

    async def restore(self) -> str | None:
        """Restore our table in one transaction if another program changed it; return what was found (None: no change).

        :raises DriverError: it could not be read, or not be restored.
        """
        async with self._changing:
            await self._require_open()
            found = await self._read_table()
            if self._expected is None and found is not None and self._seen == self._devices:
                # After a change of our own: the devices of each instance are right, so the rest is as we wrote it.
                self._expected = found
            if found == self._expected and (found is not None or not self._devices):
                return None
            await self._nft.run(APPLY, text=self._history.replay())
            self._expected = await self._read_table()
            self._devices = self._seen
        return f"the table {TABLE} {'was gone' if found is None else 'had been changed'}"

    async def _read_table(self) -> tuple[str, ...] | None:
        """Read our table in comparable form; None: there is none."""
        if not has_table(await self._nft.run(TABLES)):
            self._seen = {}
            return None
        listing = await self._nft.run(LIST)
        self._seen = devices_in(listing)
        return comparable(listing)

    async def _apply(self, replacements: Sequence[Replacement]) -> Sequence[Exception | None]:
        # The latest rules of an instance count, and a transaction takes one set.
        latest = {one.instance: one for one in replacements}

        async def transact(some: Sequence[Replacement]) -> None:
            await self._nft.run(APPLY, text=transaction(some, self._devices))
            self._devices = devices_after(some, self._devices)
            self._expected = None
            for one in some:
                self._history.add(one)

        async with self._changing:
            await self._require_open()
            errors = await in_halves(list(latest.values()), transact, refused=CommandRefused)
        by_instance = dict(zip(latest, errors, strict=True))
        return [by_instance[one.instance] for one in replacements]

    async def _require_open(self) -> None:
        if not self._is_open:
            await self.open()
