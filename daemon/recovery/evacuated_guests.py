"""What is done with the guest of an evacuated instance that this hypervisor still has.

Disks are destroyed only where it is known that the other host does not use the same ones.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from bringup.daemon.decisions.instances import Instance
from bringup.daemon.errors import JournalError, RecordNotFound, StateConflict
from bringup.daemon.logs import get_logger
from bringup.daemon.recovery import operations
from bringup.daemon.recovery.guest_power import power_off_now
from bringup.daemon.recovery.working_copy import WorkingCopy
from bringup.daemon.storage.journal import Journal, KeptDisks
from bringup.daemon.storage.store.base import Store
from bringup.drivers.base import Driver, InstanceNotFound, SharedStorageProbe
from bringup.drivers.needs import NeedNotMet

log = get_logger()


class Witness(Protocol):
    """Source of the answer whether the host that an instance was evacuated to sees the mark on its disks."""

    async def sees(self, instance: Instance, probe: SharedStorageProbe) -> bool:
        """Check whether the other host sees it.

        :raises Exception: that is unknown; the disks are kept then.
        """


class CannotTell(Exception):
    """Nobody knows whether the disks are shared."""


class SettingWitness:
    """Answers from ``evacuated.shared_storage``: an operator knows what the instances path is mounted from.

    Nova asks the other host's nova-compute over RPC (and long asked itself, bug 2085975).
    """

    def __init__(self, shared_storage: str) -> None:
        """Store the answer: ``shared``, ``local`` or ``unknown``."""
        self._shared_storage = shared_storage

    async def sees(self, instance: Instance, probe: SharedStorageProbe) -> bool:
        """Answer for every instance alike."""
        if self._shared_storage == "unknown":
            raise CannotTell(
                f"evacuated.shared_storage is unknown: whether {probe.path} of {instance.uuid} is shared cannot be "
                "told; set it to shared or local"
            )
        return self._shared_storage == "shared"


async def power_off_foreign(record: WorkingCopy, driver: Driver, store: Store) -> None:
    """Power off at once a guest whose record still names another host, and on which nobody works.

    :raises StateConflict: it does not, or somebody does.
    """
    fresh = await store.get_instance(record.instance.uuid)
    if fresh.host != record.instance.host or fresh.task_state is not None:
        raise StateConflict(
            f"did not power off {fresh.uuid}: its record named {record.instance.host} and no task, and names "
            f"{fresh.host} and {'no task' if fresh.task_state is None else fresh.task_state.value} now"
        )
    await power_off_now(record, driver)


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskKeeper:
    """Sets the disks of destroyed guests aside for a while: the undo window of ``evacuated.keep_disks_for``."""

    journal: Journal
    keep_for_s: float
    """0: they are deleted with the guest."""
    now: Callable[[], datetime]

    async def keeps(self, record: WorkingCopy, driver: Driver) -> bool:
        """Set the disks of a guest aside and write down where; tell whether its destruction must leave them alone.

        The guest is there until both is done, so a host that dies in between does all of it again.
        """
        if not self.keep_for_s:
            return False
        await power_off_now(record, driver)
        try:
            where = await driver.keep_disks(record.instance)
        except NotImplementedError:
            log.warning("instance.disks_kept", error="this driver cannot set disks aside: they stay where they are")
            return True
        if where:
            kept_at = self.now()
            until = kept_at + timedelta(seconds=self.keep_for_s)
            await self.journal.kept(
                KeptDisks(uuid=record.instance.uuid, where=tuple(where), kept_at=kept_at, until=until)
            )
        return True


async def delete_kept_disks_that_are_due(journal: Journal, driver: Driver, now: Callable[[], datetime]) -> int:
    """Delete the disks whose time has come; give how many.  What cannot be deleted now is tried again later."""
    deleted = 0
    try:
        due = [disks for disks in await journal.kept_disks() if disks.until <= now()]
        for disks in due:
            try:
                await driver.delete_kept_disks(disks.uuid, disks.where)
            except Exception as error:  # noqa: BLE001 - whatever went wrong: those of others are still due
                log.warning("disks.not_deleted", instance=disks.uuid, error=f"{type(error).__name__}: {error}")
                continue
            await journal.disks_deleted(disks.uuid)
            deleted += 1
            log.info("disks.deleted", instance=disks.uuid, where=list(disks.where))
    except JournalError as error:
        log.warning("disks.unknown", error=str(error))
    return deleted


async def destroy_evacuated(
    record: WorkingCopy, driver: Driver, store: Store, witness: Witness, keeper: DiskKeeper | None = None
) -> None:
    """Destroy the guest, and its disks where they are not shared or its instance was deleted meanwhile.

    With a ``keeper`` disks that would be destroyed are set aside.  Of one whose row was deleted before this run nothing
    is known but its evacuation: its disks go only where they are known to be this host's alone.

    :raises StateConflict: its record is not what it was: another host has it, this one perhaps.
    :raises NeedNotMet: its disks cannot be seen: it was powered off, and is destroyed when they can be.
    """
    try:
        await _destroy_evacuated(record, driver, store, witness, keeper)
    except NeedNotMet:
        await power_off_now(record, driver)
        raise


async def _destroy_evacuated(
    record: WorkingCopy, driver: Driver, store: Store, witness: Witness, keeper: DiskKeeper | None
) -> None:
    try:
        fresh = await store.get_instance(record.instance.uuid)
        if fresh.host != record.instance.host:
            raise StateConflict(
                f"cannot destroy {fresh.uuid}: it was on {record.instance.host} and is on {fresh.host} now"
            )
        destroy_disks = not await _is_storage_shared(record.instance, driver, witness)
    except RecordNotFound:
        # Deleted after it was evacuated: its disks are not needed any more.
        destroy_disks = not record.deleted or not await _is_storage_shared(record.instance, driver, witness)
    if destroy_disks and keeper is not None and await keeper.keeps(record, driver):
        destroy_disks = False
    await operations.destroy_guest(record, driver, destroy_disks=destroy_disks)


async def _is_storage_shared(instance: Instance, driver: Driver, witness: Witness) -> bool:
    probe = None
    try:
        probe = await driver.check_instance_shared_storage_local(instance)
        return probe is None or await witness.sees(instance, probe)
    except NotImplementedError:
        return False
    except NeedNotMet:
        # Kept for ever they would be: a folder that is away is not one that is shared.
        raise
    except Exception as error:  # noqa: BLE001 - whatever went wrong, the answer is the one that keeps the disks
        log.warning("instance.disks_kept", error=f"{type(error).__name__}: {error}")
        return True
    finally:
        if probe is not None:
            # Gone already is clean; Nova takes it for an instance that was deleted, and destroys shared disks.
            with suppress(InstanceNotFound):
                await driver.check_instance_shared_storage_cleanup(probe)
