"""This host's resource provider in Placement: inventory, traits, allocations.

A failure here does not keep a guest from coming back, with one exception: where the settings require an update of the
inventory and it fails, Placement cannot rely on this host, and no instance is touched.
"""

from dataclasses import dataclass, field
from functools import partial

import anyio

from bringup.daemon.decisions.instances import Expected, Instance
from bringup.daemon.decisions.states import VmState
from bringup.daemon.errors import StoreError, Unavailable, chain_of
from bringup.daemon.logs import get_logger
from bringup.daemon.openstack.inventory_rules import InventoryRules
from bringup.daemon.storage.store.base import Store
from bringup.drivers.base import Driver
from bringup.placement.allocations import consumers_of, remove_allocation
from bringup.placement.client import PlacementClient
from bringup.placement.errors import PlacementError
from bringup.placement.inventories import DesiredInventory, differences, read_inventories, update_inventories
from bringup.placement.microversions import NEEDED, TRAITS
from bringup.placement.providers import ResourceProvider
from bringup.placement.traits import NODE_TRAITS, read_traits, update_traits
from bringup.placement.update_with_generation import update_with_generation

log = get_logger()

EVACUATED_FROM_HERE = ("done", "completed")
"""Statuses of an evacuation that is complete on the other host: its allocation here is orphaned."""
MIGRATING = ("accepted", "pre-migrating", "migrating", "post-migrating", "finished", "queued", "preparing", "running")
"""Statuses of a migration that may have the allocation of its source under its own UUID."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocations:
    """Result of the check of consumers that are not instances of this host."""

    removed: tuple[str, ...] = ()
    """Instances that were evacuated or deleted, and whose allocation was removed."""
    set_to_error: tuple[str, ...] = ()
    """Instances whose build was interrupted before they had a host (Nova bug 1833581)."""
    unknown: tuple[str, ...] = ()
    """Consumers without a record and a migration; they are not changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownInstances:
    """Instances that the run knows, by UUID."""

    own: frozenset[str]
    """Instances of this host, which keep their allocations."""
    still_here: frozenset[str] = frozenset()
    """Evacuated ones whose guest could not be destroyed: they still use their allocations."""
    deleted: frozenset[str] = frozenset()
    """Instances whose deletion this run has completed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostProvider:
    """This host's resource provider, once the gate was passed."""

    client: PlacementClient
    provider: ResourceProvider
    rules: InventoryRules = field(default_factory=InventoryRules)
    wait_s: float = 60.0

    async def differences(self, driver: Driver) -> list[str]:
        """Return what is wrong in Placement, a line each; change nothing.

        :raises PlacementError: it could not be read.
        """
        desired = await self._desired(driver)
        found = await read_inventories(self.client, self.provider.uuid)
        lines = differences(found, desired)
        if self._has_traits():
            there = (await read_traits(self.client, self.provider.uuid)).names
            lines += [f"trait {name}: missing" for name in sorted(await _traits(driver) - there)]
        return lines

    async def update(self, driver: Driver) -> None:
        """Update inventory and traits, where the settings require it.

        :raises Unavailable: the update failed.
        """
        if not self.rules.update:
            return
        try:
            desired = await self._desired(driver)
            for line in await update_inventories(self.client, self.provider.uuid, desired, wait_s=self.wait_s):
                log.info("inventory.updated", provider=self.provider.name, was=line)
            if self._has_traits():
                wanted = await _traits(driver)
                added = await update_traits(self.client, self.provider.uuid, wanted, wait_s=self.wait_s)
                if added:
                    log.info("traits.added", provider=self.provider.name, traits=added)
        except PlacementError as error:
            raise Unavailable(
                f"cannot update the inventory of {self.provider.name}; no instance was touched"
            ) from error

    async def _desired(self, driver: Driver) -> DesiredInventory:
        totals: dict[str, int] = {}
        try:
            has = await driver.get_available_resource()
        except NotImplementedError:
            log.debug("inventory.not_reported")
        else:
            totals = {"VCPU": has.vcpus, "MEMORY_MB": has.memory_mb}
            if has.local_gb is None:
                log.warning(
                    "inventory.disk_not_reported", error="the folder of disks is not there: DISK_GB stays as it is"
                )
            else:
                totals["DISK_GB"] = has.local_gb
        return DesiredInventory(totals=totals, reserved=self.rules.reserved, ratios=self.rules.ratios)

    def _has_traits(self) -> bool:
        return self.client.microversion is not None and self.client.microversion >= TRAITS

    async def check_allocations(
        self, host: str, known: KnownInstances, store: Store, *, deadline_s: float
    ) -> Allocations:
        """Check the consumers of this host that are not its instances, and clean up what Nova cleans up at a start.

        Every failure is logged and does not affect the guests.
        """
        if self.client.microversion is None or self.client.microversion < NEEDED:
            log.warning("allocations.not_checked", microversion=str(self.client.microversion), needed=str(NEEDED))
            return Allocations()
        try:
            with anyio.fail_after(deadline_s):
                # Half of it, so that there is time left to report the attempts.
                others = await self._consumers(wait_s=min(self.wait_s, deadline_s / 2)) - known.own - known.still_here
                return await self._clean_up(host, others, known.deleted, store) if others else Allocations()
        except (PlacementError, StoreError, TimeoutError) as error:
            log.warning("allocations.not_checked", error=chain_of(error) or "no response in time")
            return Allocations()

    async def _consumers(self, *, wait_s: float) -> frozenset[str]:
        ask = partial(consumers_of, self.client, self.provider.uuid)
        return await update_with_generation(f"read the consumers of {self.provider.name}", ask, wait_s=wait_s)

    async def _clean_up(self, host: str, others: frozenset[str], deleted: frozenset[str], store: Store) -> Allocations:
        records = {one.uuid: one for one in await store.load_instances_by_uuid(others)}
        migrations = await store.load_migrations(host, (*EVACUATED_FROM_HERE, *MIGRATING))
        last = {one.instance_uuid: one for one in migrations}
        evacuated = [
            uuid
            for uuid, record in records.items()
            if record.host != host
            and uuid in last
            and last[uuid].migration_type == "evacuation"
            and last[uuid].status in EVACUATED_FROM_HERE
        ]
        unclaimed = [one for one in records.values() if one.vm_state is VmState.BUILDING and one.host is None]
        unknown = sorted(others - deleted - records.keys() - {one.uuid for one in migrations})
        if unknown:
            log.warning("allocations.orphaned", provider=self.provider.name, count=len(unknown), consumers=unknown[:10])
        return Allocations(
            removed=tuple([uuid for uuid in sorted({*evacuated, *(others & deleted)}) if await self._remove(uuid)]),
            set_to_error=tuple([one.uuid for one in unclaimed if await _set_to_error(one, store)]),
            unknown=tuple(unknown),
        )

    async def _remove(self, uuid: str) -> bool:
        try:
            taken = await remove_allocation(self.client, uuid, self.provider.uuid, wait_s=self.wait_s)
        except PlacementError as error:
            # The next start finds it again.
            log.warning("allocation.not_removed", instance=uuid, error=str(error))
            return False
        if taken:
            log.info("allocation.removed", instance=uuid, provider=self.provider.name)
        return taken


async def _traits(driver: Driver) -> frozenset[str]:
    try:
        return NODE_TRAITS | await driver.capabilities_as_traits()
    except NotImplementedError:
        return NODE_TRAITS


async def _set_to_error(instance: Instance, store: Store) -> bool:
    """Set an instance to ERROR whose build was interrupted while it waited for its claim on this host."""
    expected = Expected((VmState.BUILDING,), (instance.task_state,))
    try:
        await store.save(instance.uuid, {"vm_state": VmState.ERROR, "task_state": None}, expected=expected)
    except StoreError as error:
        log.warning("instance.unclaimed_build_not_set_to_error", instance=instance.uuid, error=str(error))
        return False
    log.warning("instance.unclaimed_build", instance=instance.uuid, vm_state="error")
    return True
