"""Keeps the rules of guests in nftables: at once, or collected and applied as one transaction."""

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
    History,
    Replacement,
    devices_after,
    devices_in,
    has_table,
    instance_of,
    replacement,
    shape,
    transaction,
)
from bringup.drivers.network.rules.vifs import DeviceName

NETLINK_NETFILTER: Final = 12
GROUP: Final = 1 << 6
"""``NFNLGRP_NFTABLES`` is the seventh."""
SUBSYSTEM: Final = 10
"""``NFNL_SUBSYS_NFTABLES``."""
BRIDGE: Final = 7
"""``NFPROTO_BRIDGE``: tables of other families are nobody's business here, and some change all the time."""
HEADER: Final = struct.Struct("=IHHII")
MOST_BYTES: Final = 1 << 16


class RuleChanges:
    """What the kernel says of tables for bridges, from when it is opened on."""

    def __init__(self) -> None:
        """Open nothing yet."""
        self._socket: socket.socket | None = None

    def __enter__(self) -> Self:
        """Listen; where the kernel does not let us, there is nothing to hear."""
        with suppress(OSError):
            found = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
            self._socket = found
            found.settimeout(0)
            found.bind((0, GROUP))
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Listen no more."""
        if self._socket is not None:
            self._socket.close()

    async def one(self) -> None:
        """Return when a table for bridges was changed; never where nothing can be heard."""
        if self._socket is None:
            await anyio.sleep_forever()
            return
        while True:
            await anyio.wait_readable(self._socket)
            try:
                if _drained(self._socket):
                    return
            except OSError:
                # It says nothing any more; who is told looks once, and by his clock from now on.
                self._socket.close()
                self._socket = None
                return


def _drained(found: socket.socket) -> bool:
    """Read all that is there; tell whether something of it is about bridges."""
    heard = False
    while True:
        try:
            heard |= is_about_bridges(found.recv(MOST_BYTES))
        except BlockingIOError:
            return heard
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            # More than there was room for: nobody knows what.
            heard = True


def is_about_bridges(messages: bytes) -> bool:
    """Tell whether one of these messages is about a table for bridges."""
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
# It has no leave, or the kernel has no room: the rules are not to blame.
AWAY: Final = re.compile(
    r"Operation not permitted|Permission denied|cache initialization failed|Unable to initialize Netlink|"
    r"Cannot allocate memory|No buffer space|Resource temporarily unavailable|Protocol not supported"
)
TABLES = ("-j", "list", "tables")
LIST = ("-j", "list", "table", *TABLE.split())
AS_TEXT = ("--stateless", "list", "table", *TABLE.split())
APPLY = ("-f", "-")
LOOK_EVERY_S: Final = 60.0
"""The net below what the kernel says."""
FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 30.0


class Nftables:
    """Our table of this host, and nobody else's."""

    def __init__(self, *, deadline_s: float) -> None:
        """Take how long one transaction may take."""
        self._nft = Command(
            program="nft",
            package="nftables",
            deadline_s=deadline_s,
            service=NAME,
            away=AWAY,
            to_do="see what the kernel says (dmesg); nftables is one of its modules",
            to_let_in="give the daemon CAP_NET_ADMIN, as systemd/with-network/bringup.conf does",
        )
        self._gathering = Gathering[Replacement, None](self._apply, failure=DriverError, repeatable=True)
        self._devices: dict[str, frozenset[DeviceName]] = {}
        self._is_open = False
        self._changing = anyio.Lock()
        self._history = History()
        self._right: tuple[str, ...] | None = None
        """What the table looks like when it is right; None: there is none, or that is to be looked at."""
        self._seen: dict[str, frozenset[DeviceName]] = {}
        """Devices of each instance at the last look."""
        self._deferred: dict[str, Replacement] | None = None

    async def open(self) -> None:
        """Learn what earlier processes have left in the table; nothing is changed.

        :raises CommandUnavailable: nft is not there, or may not look.
        """
        tables = await self._nft.run(TABLES)
        if not self._is_open:
            if has_table(tables):
                self._devices = devices_in(await self._nft.run(LIST))
                self._history = History(found=await self._nft.run(AS_TEXT), had=self._devices)
            self._is_open = True

    async def look(self) -> Need:
        """Tell whether nft can be used; nothing is changed."""
        try:
            await self.open()
        except CommandUnavailable as error:
            return error.needs[0]
        return Need(kind=NeedKind.NETWORK, name=NAME, state=NeedState.MET)

    async def ensure(self, guest: Guest, *, at_once: bool = False) -> None:
        """Replace the rules of a guest; while deferred, at the end, unless they are wanted ``at_once``.

        A record without a single VIF changes nothing: a cache that was lost must not open a guest to the world.

        :raises DriverError: they could not be; those that it had are still in place.
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
        """Take away all that stands for a guest, and what was collected for it.

        :raises DriverError: it could not be.
        """
        if self._deferred is not None:
            self._deferred.pop(guest.uuid, None)
        await self._opened()
        if guest.uuid in self._devices:
            await self.put([Replacement(instance=instance_of(guest.uuid))])

    def defer(self) -> None:
        """Collect from now on."""
        if self._deferred is None:
            self._deferred = {}

    async def apply_deferred(self) -> None:
        """Apply what was collected as one transaction, and each at once from now on.

        :raises DriverError: it names the instances whose rules could not be put in place.
        """
        collected, self._deferred = self._deferred, None
        if collected:
            await self.put(list(collected.values()))

    async def put(self, replacements: Sequence[Replacement]) -> None:
        """Put rules in place, in one transaction with whatever else waits.

        :raises NeedNotMet: nft is away.
        :raises DriverError: it names the instances whose rules were refused; those of the others are in place.
        """
        errors = await self._gathering.submit_all(replacements)
        failed = [(one.instance, error) for one, error in zip(replacements, errors, strict=True) if error is not None]
        if failed:
            names = ", ".join(instance for instance, _ in failed)
            sentence = f"cannot put the packet filter of {names} in place"
            away = next((error for _, error in failed if isinstance(error, CommandUnavailable)), None)
            if away is not None:
                raise NeedNotMet(sentence, away.needs) from away
            raise DriverError(sentence) from failed[0][1]

    async def keep(self, told: Callable[[FilterChange], None]) -> NoReturn:
        """Look at the table when the kernel says that somebody changed it, and each minute; put back what is not right.

        Somebody who changes it again and again is answered more and more slowly.
        """
        pause_s, problem = FIRST_PAUSE_S, ""
        with RuleChanges() as changes:
            while True:
                try:
                    found, problem = await self.put_right(), ""
                    if found is not None:
                        told(FilterChange(what=found, put_back=True))
                    pause_s = FIRST_PAUSE_S if found is None else min(2 * pause_s, LONGEST_PAUSE_S)
                except DriverError as error:
                    # Told once: it is looked at again each minute.
                    if str(error) != problem:
                        what = f"cannot see whether the rules of guests are in place: {error}"
                        told(FilterChange(what=what, put_back=False))
                    problem = str(error)
                with anyio.move_on_after(LOOK_EVERY_S):
                    await changes.one()
                # What follows at once is one change with it.
                await anyio.sleep(pause_s)

    async def put_right(self) -> str | None:
        """Put our table back if somebody has changed it, in one transaction; say what was found, None: all was right.

        :raises DriverError: it could not be looked at, or not be put back.
        """
        async with self._changing:
            await self._opened()
            found = await self._shape()
            if self._right is None and found is not None and self._seen == self._devices:
                # After a change of our own: what stands for whom is right, so the rest is as we made it.
                self._right = found
            if found == self._right and (found is not None or not self._devices):
                return None
            await self._nft.run(APPLY, given=self._history.replay())
            self._right = await self._shape()
            self._devices = self._seen
        return f"the table {TABLE} {'was gone' if found is None else 'had been changed'}"

    async def _shape(self) -> tuple[str, ...] | None:
        """Look at our table; None: there is none."""
        if not has_table(await self._nft.run(TABLES)):
            self._seen = {}
            return None
        listing = await self._nft.run(LIST)
        self._seen = devices_in(listing)
        return shape(listing)

    async def _apply(self, replacements: Sequence[Replacement]) -> Sequence[Exception | None]:
        # The last word on an instance is the one that counts, and a transaction wants one word.
        latest = {one.instance: one for one in replacements}

        async def transact(some: Sequence[Replacement]) -> None:
            await self._nft.run(APPLY, given=transaction(some, self._devices))
            self._devices = devices_after(some, self._devices)
            self._right = None
            for one in some:
                self._history.add(one)

        async with self._changing:
            await self._opened()
            errors = await in_halves(list(latest.values()), transact, refused=CommandRefused)
        by_instance = dict(zip(latest, errors, strict=True))
        return [by_instance[one.instance] for one in replacements]

    async def _opened(self) -> None:
        if not self._is_open:
            await self.open()
