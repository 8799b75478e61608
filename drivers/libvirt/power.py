"""Power of guests: Nova's libvirt driver's verbs, each a look and then what is missing.

So a verb whose connection broke is begun again from its look, and one that was done meanwhile is not done twice.
Nothing here defines a guest anew but :meth:`Power.keep_definition`, with the definition that it runs with.
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
from bringup.drivers.libvirt.hypervisor import Hypervisor, Look
from bringup.drivers.libvirt.start import BOOTED_AFRESH, Start

log = structlog.get_logger()

RUNNING, PAUSED, SUSPENDED = PowerState.RUNNING, PowerState.PAUSED, PowerState.SUSPENDED
OFF: Final = (PowerState.SHUTDOWN, PowerState.CRASHED)
STAYS_ON_BOOT: Final = (RUNNING, PAUSED, SUSPENDED)
KILLS: Final = 6
"""So often a process is killed that waits for storage, as in Nova."""


Check = Callable[[], Awaitable[None]]
"""Raises what keeps a guest from being started."""


@dataclass(slots=True)
class RebootProgress:
    """How far a hard reboot is."""

    was_off: bool = False


class Power:
    """The verbs, without a second try after a lost connection: the driver adds that."""

    def __init__(self, hypervisor: Hypervisor) -> None:
        """Work on the guests of ``hypervisor``."""
        self._host = hypervisor

    async def start(self, uuid: str, check: Check, *, anew: bool = False) -> None:
        """Start a guest that is off, from its managed save image if it has one; ``anew`` throws that away.

        One that somebody else has started meanwhile is fine.

        :raises NeedNotMet: ``check`` has raised it, or libvirt refused for want of something.
        """
        await check()
        starting = Start(self._host.libvirt, anew=anew)
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
            if not isinstance(error, NotInThatState) or not (await self._host.look(uuid)).active:
                raise
        except DriverError as error:
            raise starting.meaning_of(error) from error.__cause__
        if starting.lost_memory:
            log.warning("libvirt.saved_memory_lost", instance=uuid, means=BOOTED_AFRESH)

    async def power_on(self, uuid: str, check: Check) -> None:
        """Have a guest run: woken up where it sleeps, started anew where it is paused or crashed."""
        look = await self._host.look(uuid)
        if look.state is RUNNING:
            return
        if look.state is SUSPENDED:
            await self._host.do("wake up", uuid, lambda domain: domain.pMWakeup())
            return
        if look.active:
            # One that cannot be started again is not stopped.
            await check()
            await self.power_off_now(uuid, look)
        await self.start(uuid, check)

    async def resume_on_boot(self, uuid: str, check: Check) -> None:
        """Start a guest that is off; one whose state is not known stays as it is."""
        look = await self._host.look(uuid)
        if look.state in STAYS_ON_BOOT or look.state not in OFF:
            return
        if look.active:
            await check()
            await self.power_off_now(uuid, look)
        await self.start(uuid, check)

    async def hard_reboot(self, uuid: str, course: RebootProgress, check: Check) -> None:
        """Pull the plug and start; an attempt after the first goes on where that one was."""
        look = await self._host.look(uuid)
        if course.was_off and look.state is RUNNING:
            return
        if look.active:
            await check()
            await self.power_off_now(uuid, look)
        course.was_off = True
        await self.start(uuid, check, anew=True)

    async def request_shutdown(self, uuid: str, *, deadline: float, every_s: float) -> bool:
        """Ask a guest to shut down, again each ``every_s``; tell whether it did before ``deadline``.

        ``deadline`` is of the clock of :func:`anyio.current_time`.
        """
        ask_at = 0.0
        while True:
            state = await self._host.state(uuid)
            now = anyio.current_time()
            if state in OFF:
                return True
            # One that does not run cannot follow.
            if state is not RUNNING or now >= deadline:
                return False
            if now >= ask_at:
                ask_at = now + every_s
                try:
                    await self._host.do("shut down", uuid, lambda domain: domain.shutdown())
                except (NotInThatState, GuestBusy) as error:
                    log.debug("libvirt.shutdown_not_sent", instance=uuid, error=str(error.__cause__))
            await anyio.sleep(min(self._host.options.poll_s, max(0.0, deadline - now)))

    async def power_off_now(self, uuid: str, look: Look | None = None) -> None:
        """Stop a guest at once; one that is off is fine.

        :raises InstancePowerOffFailure: it is still there.
        """
        look = look or await self._host.look(uuid)
        if not look.active:
            return
        if not look.persistent:
            await self.keep_definition(uuid)
        for attempt in range(1, KILLS + 1):
            try:
                await self._host.do("stop", uuid, lambda domain: domain.destroy())
            except NotInThatState:
                pass
            except GuestBusy as error:
                raise InstancePowerOffFailure(f"cannot stop {uuid}: something else works on it") from error
            except DriverError as error:
                cause = error.__cause__
                libvirt = self._host.libvirt
                slow = isinstance(cause, libvirt.libvirtError) and is_kill_pending(cause, libvirt)
                if not slow:
                    raise
                log.warning("libvirt.kill_pending", instance=uuid, attempt=attempt)
            if not (await self._host.look(uuid)).active:
                return
        raise InstancePowerOffFailure(f"cannot stop {uuid}: it is still there after it was killed {KILLS} times")

    async def keep_definition(self, uuid: str) -> None:
        """Define a guest as it runs: one without a definition is gone when it stops.

        Nova's live snapshot takes the definition away for as long as it lasts.
        """
        flags = self._host.libvirt.VIR_DOMAIN_XML_INACTIVE | self._host.libvirt.VIR_DOMAIN_XML_SECURE

        def work(connection: Connection) -> None:
            domain = connection.lookupByUUIDString(uuid)
            if not domain.isPersistent():
                connection.defineXML(domain.XMLDesc(flags))

        await self._host.change(f"keep the definition of {uuid}", work)
        log.info("libvirt.definition_kept", instance=uuid)

    async def unpause(self, uuid: str) -> None:
        """Let a frozen guest go on, or one that sleeps."""
        state = await self._host.state(uuid)
        if state is SUSPENDED:
            await self._host.do("wake up", uuid, lambda domain: domain.pMWakeup())
        elif state is not RUNNING:
            await self._host.do("unpause", uuid, lambda domain: domain.resume())

    async def undefine(self, uuid: str) -> None:
        """Stop a guest and take its definition away, with all that libvirt keeps of it but its disks."""
        try:
            look = await self._host.look(uuid)
            if look.active:
                # Not kept first: it is to be gone.
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
        # An older libvirt refuses a flag that it does not know: what it does not know it does not keep either.
        for known in range(len(flags), 0, -1):
            try:
                domain.undefineFlags(sum(flags[:known]))
            except libvirt.libvirtError as error:
                if error.get_error_code() != libvirt.VIR_ERR_INVALID_ARG or known == 1:
                    raise
            else:
                return
