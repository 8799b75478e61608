"""The hypervisor as the verbs see it: one call on one guest at a time, each looked at again after a lost connection."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from math import inf
from typing import Any, Final, TypeVar

import anyio
import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_random_exponential

from bringup.drivers.base import DriverError, NotBegun, PowerState
from bringup.drivers.identifiers import canonical_uuid
from bringup.drivers.libvirt.binding import Connection, Domain
from bringup.drivers.libvirt.connections import Lines
from bringup.drivers.libvirt.errors import ConnectionLost, HypervisorUnavailable, NotConnected
from bringup.drivers.libvirt.threads import Abandoned
from bringup.drivers.libvirt_options import LibvirtOptions

log = structlog.get_logger()

T = TypeVar("T")

RETRYING: Final = AsyncRetrying(wait=wait_random_exponential(multiplier=0.1, min=0.05, max=5), reraise=True)
"""Jittered: all of a host's guests wait for one libvirt, and must not come back in one moment."""
LOOKS: Final = 4
"""Connections for looks: one takes a millisecond."""
LOSSES: Final = 5
"""So often a connection may break under one verb."""
# virDomainState to Nova's power state (its LIBVIRT_POWER_STATE): blocked waits for a resource and runs; one that is
# being shut down is called shut down.
POWER_STATES: Final = (
    PowerState.NOSTATE,
    PowerState.RUNNING,
    PowerState.RUNNING,
    PowerState.PAUSED,
    PowerState.SHUTDOWN,
    PowerState.SHUTDOWN,
    PowerState.CRASHED,
    PowerState.SUSPENDED,
)


def _domain(connection: Connection, uuid: str) -> Domain:
    try:
        return connection.lookupByUUIDString(canonical_uuid(uuid))
    except ValueError as error:
        raise NotBegun(f"did not ask libvirt: {error}") from None


def power_state(number: int) -> PowerState:
    """Return Nova's power state for a ``virDomainState``; one that this version does not know is NOSTATE."""
    return POWER_STATES[number] if 0 <= number < len(POWER_STATES) else PowerState.NOSTATE


@dataclass(frozen=True, slots=True)
class Look:
    """What a guest is."""

    state: PowerState
    active: bool
    """It has a process: also where it is paused, suspended to memory, or crashed and kept."""
    persistent: bool
    saved: bool
    """It has a managed save image: a start goes on from it."""


class Hypervisor:
    """Calls on guests."""

    def __init__(self, options: LibvirtOptions, libvirt: Any, connections: int) -> None:
        """Allow ``connections`` verbs at once; nothing is opened yet."""
        self.options = options
        self.libvirt = libvirt
        # Looks must not wait behind starts.
        self._looks = Lines(options, libvirt, count=min(LOOKS, connections))
        self._verbs = Lines(options, libvirt, count=connections)

    def resize(self, connections: int) -> None:
        """Have so many connections from now on."""
        self._looks.resize(min(LOOKS, connections))
        self._verbs.resize(connections)

    async def look(self, uuid: str) -> Look:
        """Look at a guest.

        :raises InstanceNotFound: there is none.
        """

        def work(connection: Connection, _abandoned: Abandoned) -> Look:
            domain = _domain(connection, uuid)
            return Look(
                power_state(domain.state()[0]),
                active=bool(domain.isActive()),
                persistent=bool(domain.isPersistent()),
                saved=bool(domain.hasManagedSaveImage()),
            )

        return await self._looks.call(f"look at {uuid}", work, deadline_s=self.options.call_deadline)

    async def state(self, uuid: str) -> PowerState:
        """Return the power state of a guest alone: half the requests of a look.

        :raises InstanceNotFound: there is none.
        """
        ask = f"look at {uuid}"
        return await self.ask(ask, lambda connection: power_state(_domain(connection, uuid).state()[0]))

    async def ask(self, what: str, work: Callable[[Connection], T]) -> T:
        """Ask something that changes nothing."""
        return await self._looks.call(
            what, lambda connection, _abandoned: work(connection), deadline_s=self.options.call_deadline
        )

    async def do(self, what: str, uuid: str, act: Callable[[Domain], T]) -> T:
        """Do one thing to a guest.

        Given up while the guest was still being looked for, it is not done.

        :raises InstanceNotFound: there is none.
        """
        sentence = f"{what} {uuid}"

        def work(connection: Connection, abandoned: Abandoned) -> T:
            domain = _domain(connection, uuid)
            if abandoned.yes:
                raise DriverError(f"did not {sentence}: nobody waits for it any more")
            return act(domain)

        return await self._verbs.call(sentence, work, deadline_s=self.options.start_deadline)

    async def change(self, what: str, work: Callable[[Connection], T]) -> T:
        """Change something that is not of one guest's domain."""
        return await self._verbs.call(
            what, lambda connection, _abandoned: work(connection), deadline_s=self.options.call_deadline
        )

    async def again(self, what: str, attempt: Callable[[], Awaitable[T]]) -> T:
        """Do ``attempt``; again from its first look on where the connection was lost.

        :raises HypervisorUnavailable: libvirt did not come back in ``reconnect``.
        """
        deadline, losses = inf, 0

        def may_return(error: BaseException) -> bool:
            nonlocal deadline, losses
            if not isinstance(error, ConnectionLost):
                return False
            if losses == 0 or not isinstance(error, NotConnected):
                log.warning(
                    "libvirt.connection_lost",
                    what=what,
                    error=str(error.__cause__ or error),
                    wait_s=self.options.reconnect,
                )
                deadline, losses = anyio.current_time() + self.options.reconnect, losses + 1
            return losses <= LOSSES

        def is_over(state: RetryCallState) -> bool:
            return anyio.current_time() + state.upcoming_sleep > deadline

        async def once() -> T:
            return await attempt()

        try:
            return await RETRYING.copy(retry=retry_if_exception(may_return), stop=is_over).wraps(once)()
        except ConnectionLost as error:
            raise HypervisorUnavailable(
                f"cannot {what}: no connection to {self.options.uri} in {self.options.reconnect:g} s; "
                "check that libvirtd (or virtqemud) runs"
            ) from error

    def close(self) -> None:
        """Close the connections; blocks."""
        self._looks.close()
        self._verbs.close()
