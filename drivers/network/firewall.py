"""Keeps the rules of guests in nftables: at once, or collected and applied as one transaction."""

import re
from collections.abc import Sequence
from typing import Final

from bringup.drivers.base import DriverError, Guest
from bringup.drivers.needs import Need, NeedKind, NeedNotMet, NeedState
from bringup.drivers.network.commands import Command, CommandUnavailable
from bringup.drivers.network.gathering import Gathering, in_halves
from bringup.drivers.network.ruleset import (
    TABLE,
    Replacement,
    devices_after,
    devices_in,
    has_table,
    replacement,
    transaction,
)

NAME: Final = "nftables"
# It has no leave, or the kernel has no room: the rules are not to blame.
AWAY: Final = re.compile(
    r"Operation not permitted|Permission denied|cache initialization failed|Unable to initialize Netlink|"
    r"Cannot allocate memory|No buffer space|Resource temporarily unavailable|Protocol not supported"
)
TABLES = ("-j", "list", "tables")
LIST = ("-j", "list", "table", *TABLE.split())
APPLY = ("-f", "-")


class Nftables:
    """Our table of this host, and nobody else's."""

    def __init__(self, *, deadline_s: float) -> None:
        """Take how long one transaction may take."""
        self._nft = Command(program="nft", package="nftables", deadline_s=deadline_s, service=NAME, away=AWAY)
        self._gathering = Gathering(self._apply)
        self._devices: dict[str, frozenset[str]] = {}
        self._is_open = False
        self._deferred: dict[str, Replacement] | None = None

    async def open(self) -> None:
        """Learn what earlier processes have left in the table; nothing is changed.

        :raises CommandUnavailable: nft is not there, or may not look.
        """
        tables = await self._nft.run(TABLES)
        if not self._is_open:
            self._devices = devices_in(await self._nft.run(LIST)) if has_table(tables) else {}
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
            await self.put([Replacement(instance=guest.uuid)])

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
        errors = await self._gathering.do_all(replacements)
        failed = [(one.instance, error) for one, error in zip(replacements, errors, strict=True) if error is not None]
        if failed:
            names = ", ".join(instance for instance, _ in failed)
            sentence = f"cannot put the packet filter of {names} in place"
            away = next((error for _, error in failed if isinstance(error, CommandUnavailable)), None)
            if away is not None:
                raise NeedNotMet(sentence, away.needs) from away
            raise DriverError(sentence) from failed[0][1]

    async def _apply(self, replacements: Sequence[Replacement]) -> Sequence[Exception | None]:
        await self._opened()
        # The last word on an instance is the one that counts, and a transaction wants one word.
        latest = {one.instance: one for one in replacements}

        async def transact(some: Sequence[Replacement]) -> None:
            await self._nft.run(APPLY, given=transaction(some, self._devices))
            self._devices = devices_after(some, self._devices)

        errors = await in_halves(list(latest.values()), transact)
        by_instance = dict(zip(latest, errors, strict=True))
        return [by_instance[one.instance] for one in replacements]

    async def _opened(self) -> None:
        if not self._is_open:
            await self.open()
