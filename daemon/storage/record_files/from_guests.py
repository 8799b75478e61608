"""Records built from the guests themselves, for a host without records of a control plane.

A guest that runs is ACTIVE, so that it is brought back with the host; one that is off is STOPPED.  A guest
that should run and is not back yet keeps its record.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final, Protocol

from bringup.daemon.decisions.instances import FROM_LIBVIRT, ORIGIN, Instance
from bringup.daemon.decisions.states import PowerState, VmState
from bringup.daemon.storage.journal.queries import NotBack
from bringup.daemon.storage.store.base import Records


class KnownGuest(Protocol):
    """Attributes of a guest that a record is built from."""

    @property
    def uuid(self) -> str:
        """Its UUID, lower case, with dashes."""

    @property
    def name(self) -> str:
        """The hypervisor's name for it."""

    @property
    def state(self) -> PowerState:
        """Its power state."""

    @property
    def saved(self) -> bool:
        """Whether it is off with its memory saved."""

    @property
    def persistent(self) -> bool:
        """Whether the hypervisor keeps its definition when it stops."""


VM_STATES: Final[Mapping[PowerState, VmState]] = MappingProxyType(
    {
        PowerState.NOSTATE: VmState.STOPPED,
        PowerState.RUNNING: VmState.ACTIVE,
        PowerState.PAUSED: VmState.PAUSED,
        PowerState.SHUTDOWN: VmState.STOPPED,
        PowerState.CRASHED: VmState.STOPPED,
        PowerState.SUSPENDED: VmState.SUSPENDED,
    }
)


SEEN_ON: Final = "bringup_seen_on_boot"
"""In system_metadata: the boot on which the guest matched its record."""


def records_of(guests: Iterable[KnownGuest], host: str, boot_id: str = "") -> Records:
    """Build a record of each guest of ``host``, as it is on this boot."""
    return Records(
        instances=tuple(
            Instance(
                uuid=guest.uuid,
                host=host,
                name=guest.name,
                display_name=guest.name,
                vm_state=VmState.SUSPENDED if guest.saved else VM_STATES[guest.state],
                power_state=guest.state,
                system_metadata={ORIGIN: FROM_LIBVIRT, SEEN_ON: boot_id},
            )
            for guest in guests
        )
    )


def keeping(found: Records, known: Mapping[str, Instance], pending: NotBack, boot_id: str) -> tuple[Records, int]:
    """Keep records of guests that should run and do not yet; return the records to store, and how many were kept.

    :param found: records of the guests as they are now
    :param known: by UUID, the records that are there
    """
    merged = [_merged(record, known.get(record.uuid), pending, boot_id) for record in found.instances]
    kept = sum(new is not old for new, old in zip(merged, found.instances, strict=True))
    return Records(instances=tuple(merged), migrations=found.migrations), kept


def _merged(found: Instance, known: Instance | None, pending: NotBack, boot_id: str) -> Instance:
    if known is None or known.host != found.host or found.vm_state in (VmState.ACTIVE, VmState.PAUSED):
        return found
    if known.vm_state is VmState.ERROR:
        # Only a start that failed here is tried again at the next boot; any other ERROR is left to an operator.
        return _to_be_started(known) if known.uuid in pending.failed_starts else known
    if pending.settled and known.uuid not in pending.not_back:
        return found
    if known.task_state is not None:
        return known
    seen_since_boot = bool(boot_id) and known.system_metadata.get(SEEN_ON) == boot_id
    return known if known.vm_state is VmState.ACTIVE and not seen_since_boot else found


def _to_be_started(known: Instance) -> Instance:
    return replace(known, vm_state=VmState.ACTIVE, power_state=PowerState.RUNNING, task_state=None)
