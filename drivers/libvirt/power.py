"""Power of guests: verbs of Nova's libvirt driver, each a read of the state and then what is missing.

So a verb whose connection broke starts again with its read, and one that took effect meanwhile is not repeated.
Nothing here defines a guest again but :meth:`Power.keep_definition`, with the definition that it runs with.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import anyio
import structlog

from bringup.drivers.base import DriverError, InstanceNotFound, InstancePowerOffFailure, PowerState
from bringup.drivers.libvirt.binding import Connection, Domain
from bringup.drivers.libvirt.errors import (
    CallTimedOut,
    ConnectionLost,
    DiskFull,
    GuestBusy,
    NotAllowed,
    NotInThatState,
    is_kill_pending,
)
from bringup.drivers.libvirt.hypervisor import GuestState, Hypervisor
from bringup.drivers.libvirt.start import BOOTED_AFRESH, StartCall

log = structlog.get_logger()

RUNNING, PAUSED, SUSPENDED = PowerState.RUNNING, PowerState.PAUSED, PowerState.SUSPENDED
OFF: Final = (PowerState.SHUTDOWN, PowerState.CRASHED)
STAYS_ON_BOOT: Final = (RUNNING, PAUSED, SUSPENDED)
KILLS: Final = 6
"""How often a process that waits for storage is killed, as in Nova."""


Check = Callable[[], Awaitable[None]]
"""Raises if a guest cannot be started."""


@dataclass(slots=True)
class RebootProgress:
    """Progress of a hard reboot over its attempts."""

    was_off: bool = False


class Power:
    """Verbs on the power of guests, without a retry after a lost connection: the driver adds that."""

    def __init__(self, hypervisor: Hypervisor) -> None:
        """Store the hypervisor."""
        self._host = hypervisor

    async def start(self, uuid: str, check: Check, *, anew: bool = False) -> None:
        """Start a guest that is off, from its managed save image if it has one; ``anew`` discards that.

        The guest may have been started meanwhile.

        :raises NeedNotMet: ``check`` raised it, or libvirt refused since the host lacks something.
        """
        await check()
        starting = StartCall(self._host.libvirt, anew=anew)
        try:
            await self._host.do("start", uuid, starting.act)
        except (
            NotInThatState,
            InstanceNotFound,
            ConnectionLost,
            CallTimedOut,
            GuestBusy,
            DiskFull,
            NotAllowed,
        ) as error:
            if not isinstance(error, NotInThatState) or not (await self._host.read(uuid)).active:
                raise
        except DriverError as error:
            raise starting.meaning_of(error) from error.__cause__
        if starting.lost_memory:
            log.warning("libvirt.saved_memory_lost", instance=uuid, means=BOOTED_AFRESH)

    async def power_on(self, uuid: str, check: Check) -> None:
        """Ensure that a guest runs: one that sleeps is woken up, a paused or crashed one is started again."""
        state = await self._host.read(uuid)
        if state.state is RUNNING:
            return
        if state.state is SUSPENDED:
            await self._host.do("wake up", uuid, lambda domain: domain.pMWakeup())
            return
        if state.active:
            # A guest that cannot be started again is not stopped.
            await check()
            await self.power_off_now(uuid, state)
        await self.start(uuid, check)

    async def resume_on_boot(self, uuid: str, check: Check) -> None:
        """Start a guest that is off; one whose state is unknown stays as it is."""
        state = await self._host.read(uuid)
        if state.state in STAYS_ON_BOOT or state.state not in OFF:
            return
        if state.active:
            await check()
            await self.power_off_now(uuid, state)
        await self.start(uuid, check)

    async def hard_reboot(self, uuid: str, progress: RebootProgress, check: Check) -> None:
        """Power off and start; a later attempt continues where the first one was."""
        state = await self._host.read(uuid)
        if progress.was_off and state.state is RUNNING:
            return
        if state.active:
            await check()
            await self.power_off_now(uuid, state)
        progress.was_off = True
        await self.start(uuid, check, anew=True)

    async def request_shutdown(self, uuid: str, *, deadline: float, every_s: float) -> bool:
        """Request a shutdown, again each ``every_s``; return whether the guest is off before ``deadline``.

        ``deadline`` is a time of the clock of :func:`anyio.current_time`.
        """
        send_at = 0.0
        while True:
            state = await self._host.state(uuid)
            now = anyio.current_time()
            if state in OFF:
                return True
            # A guest that does not run cannot carry it out.
            if state is not RUNNING or now >= deadline:
                return False
            if now >= send_at:
                send_at = now + every_s
                try:
                    await self._host.do("shut down", uuid, lambda domain: domain.shutdown())
                except (NotInThatState, GuestBusy) as error:
                    log.debug("libvirt.shutdown_not_sent", instance=uuid, error=str(error.__cause__))
            await anyio.sleep(min(self._host.options.poll_s, max(0.0, deadline - now)))

    async def power_off_now(self, uuid: str, state: GuestState | None = None) -> None:
        """Power off a guest at once; it may be off already.

        :raises InstancePowerOffFailure: it still runs.
        """
        state = state or await self._host.read(uuid)
        if not state.active:
            return
        if not state.persistent:
            await self.keep_definition(uuid)
        for attempt in range(1, KILLS + 1):
            try:
                await self._host.do("stop", uuid, lambda domain: domain.destroy())
            except NotInThatState:
                pass
            except GuestBusy as error:
                raise InstancePowerOffFailure(
                    f"cannot stop {uuid}: another operation of libvirt works on it"
                ) from error
            except DriverError as error:
                cause = error.__cause__
                libvirt = self._host.libvirt
                slow = isinstance(cause, libvirt.libvirtError) and is_kill_pending(cause, libvirt)
                if not slow:
                    raise
                log.warning("libvirt.kill_pending", instance=uuid, attempt=attempt)
            if not (await self._host.read(uuid)).active:
                return
        raise InstancePowerOffFailure(f"cannot stop {uuid}: it still runs after it was killed {KILLS} times")

    async def keep_definition(self, uuid: str) -> None:
        """Define a guest as it runs: without a definition it would be lost when it stops.

        Nova's live snapshot deletes the definition for as long as it lasts.
        """
        flags = self._host.libvirt.VIR_DOMAIN_XML_INACTIVE | self._host.libvirt.VIR_DOMAIN_XML_SECURE

        def work(connection: Connection) -> None:
            domain = connection.lookupByUUIDString(uuid)
            if not domain.isPersistent():
                connection.defineXML(domain.XMLDesc(flags))

        await self._host.change(f"keep the definition of {uuid}", work)
        log.info("libvirt.definition_kept", instance=uuid)

    async def unpause(self, uuid: str) -> None:
        """Resume a paused guest, or wake up one that sleeps."""
        state = await self._host.state(uuid)
        if state is SUSPENDED:
            await self._host.do("wake up", uuid, lambda domain: domain.pMWakeup())
        elif state is not RUNNING:
            await self._host.do("unpause", uuid, lambda domain: domain.resume())

    async def undefine(self, uuid: str) -> None:
        """Stop a guest and delete its definition, with all that libvirt keeps of it but its disks."""
        try:
            state = await self._host.read(uuid)
            if state.active:
                # Its definition is not kept: it is to be deleted.
                await self._host.do("stop", uuid, lambda domain: domain.destroy())
        except InstanceNotFound:
            return
        except NotInThatState:
            pass
        try:
            await self._host.do("undefine", uuid, self._undefine)
        except InstanceNotFound:
            return

    def _undefine(self, domain: Domain) -> None:
        libvirt = self._host.libvirt
        names = ("MANAGED_SAVE", "SNAPSHOTS_METADATA", "NVRAM", "CHECKPOINTS_METADATA", "TPM")
        flags = [getattr(libvirt, f"VIR_DOMAIN_UNDEFINE_{name}", 0) for name in names]
        # An older libvirt refuses an unknown flag, and keeps nothing that such a flag would delete.
        for known in range(len(flags), 0, -1):
            try:
                domain.undefineFlags(sum(flags[:known]))
            except libvirt.libvirtError as error:
                if error.get_error_code() != libvirt.VIR_ERR_INVALID_ARG or known == 1:
                    raise
            else:
                return
