"""Calls on guests: one call on one guest at a time, started again with a fresh read after a lost connection."""

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
from bringup.drivers.libvirt.connections import ConnectionPool
from bringup.drivers.libvirt.errors import ConnectionLost, HypervisorUnavailable, NotConnected
from bringup.drivers.libvirt.threads import Abandoned
from bringup.drivers.libvirt_options import LibvirtOptions

log = structlog.get_logger()

T = TypeVar("T")

RETRYING: Final = AsyncRetrying(wait=wait_random_exponential(multiplier=0.1, min=0.05, max=5), reraise=True)
"""Jittered: all of a host's guests wait for one libvirt, and must not come back in one moment."""
READ_CONNECTIONS: Final = 4
"""Connections for reads: one takes a millisecond."""
LOOK_CONNECTIONS: Final = 3
"""Connections for reading guests that run, which may wait for a QEMU that hangs: nothing else may wait for these."""
LOSSES: Final = 5
"""How often a connection may break during one verb."""
NO_ID: Final = -1
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
        raise NotBegun(f"did not call libvirt: {error}") from None


def power_state(number: int) -> PowerState:
    """Return Nova's power state for a ``virDomainState``; one that this version does not know is NOSTATE."""
    return POWER_STATES[number] if 0 <= number < len(POWER_STATES) else PowerState.NOSTATE


def is_active(domain: Domain) -> bool:
    """Check whether a guest had a process when it was looked up."""
    return domain.ID() != NO_ID


@dataclass(frozen=True, slots=True)
class GuestState:
    """State of a guest when it was read."""

    state: PowerState
    active: bool
    """It has a process: also if it is paused, suspended to memory, or crashed and kept."""
    persistent: bool


class Hypervisor:
    """Calls on the guests of one hypervisor."""

    def __init__(self, options: LibvirtOptions, libvirt: Any, connections: int) -> None:
        """Allow ``connections`` verbs at once; nothing is opened yet."""
        self.options = options
        self.libvirt = libvirt
        # Reads must not wait for starts.
        self._reads = ConnectionPool(options, libvirt, count=min(READ_CONNECTIONS, connections))
        self._verbs = ConnectionPool(options, libvirt, count=connections)
        self._looks = ConnectionPool(options, libvirt, count=LOOK_CONNECTIONS)

    def resize(self, connections: int) -> None:
        """Allow ``connections`` verbs at once from now on."""
        self._reads.resize(min(READ_CONNECTIONS, connections))
        self._verbs.resize(connections)

    async def read(self, uuid: str) -> GuestState:
        """Read the state of a guest.

        :raises InstanceNotFound: there is none.
        """

        def work(connection: Connection, _abandoned: Abandoned) -> GuestState:
            domain = _domain(connection, uuid)
            active = is_active(domain)
            # One that is off and has no definition does not exist.
            persistent = not active or bool(domain.isPersistent())
            return GuestState(power_state(domain.state()[0]), active=active, persistent=persistent)

        return await self._reads.call(f"read the state of {uuid}", work, deadline_s=self.options.call_deadline)

    async def state(self, uuid: str) -> PowerState:
        """Return the power state of a guest alone: half the requests of :meth:`read`.

        :raises InstanceNotFound: there is none.
        """
        what = f"read the state of {uuid}"
        return await self.query(what, lambda connection: power_state(_domain(connection, uuid).state()[0]))

    async def query(self, what: str, work: Callable[[Connection], T]) -> T:
        """Run ``work``, which changes nothing."""
        return await self._reads.call(
            what, lambda connection, _abandoned: work(connection), deadline_s=self.options.call_deadline
        )

    async def look(self, what: str, work: Callable[[Connection], T]) -> T:
        """Run ``work``, which changes nothing, and may wait for the QEMU of a guest."""
        return await self._looks.call(
            what, lambda connection, _abandoned: work(connection), deadline_s=self.options.call_deadline
        )

    async def do(self, what: str, uuid: str, act: Callable[[Domain], T]) -> T:
        """Run ``act`` on a guest; not if the caller gave up while the guest was still being looked up.

        :raises InstanceNotFound: there is none.
        """
        sentence = f"{what} {uuid}"

        def work(connection: Connection, abandoned: Abandoned) -> T:
            domain = _domain(connection, uuid)
            if abandoned.yes:
                raise DriverError(f"did not {sentence}: its caller does not wait any more")
            return act(domain)

        return await self._verbs.call(sentence, work, deadline_s=self.options.start_deadline)

    async def change(self, what: str, work: Callable[[Connection], T]) -> T:
        """Run ``work``, which changes something other than one guest."""
        return await self._verbs.call(
            what, lambda connection, _abandoned: work(connection), deadline_s=self.options.call_deadline
        )

    async def retry(self, what: str, attempt: Callable[[], Awaitable[T]]) -> T:
        """Run ``attempt``, and again from its start if the connection was lost.

        :raises HypervisorUnavailable: libvirt was not available again within ``reconnect``.
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

        try:
            return await attempt()
        except ConnectionLost as error:
            lost: ConnectionLost | None = error

        async def once() -> T:
            nonlocal lost
            if lost is not None:
                # The attempt above, which nearly always is the only one, was the first.
                error, lost = lost, None
                raise error
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
        self._reads.close()
        self._verbs.close()
        self._looks.close()
