"""All records of a host in a few queries, before the first instance is touched."""

from collections.abc import Sequence
from dataclasses import dataclass

import anyio

from bringup.daemon.decisions import EVACUATED, EVACUATION_STATUSES, Facts, decide
from bringup.daemon.errors import StoreError, Temporary
from bringup.daemon.host import Host
from bringup.daemon.instances import Instance, Migration

LIVE_MIGRATION_RUNNING = "running"


@dataclass(frozen=True, slots=True)
class Records:
    """The instances that a run is about, with what else is known of each."""

    own: Sequence[Facts]
    """Those whose record names this host."""
    evacuated: Sequence[Facts]
    """Those that were evacuated from this host and whose guests its hypervisor still has."""

    def uuids(self) -> list[str]:
        """Give the UUIDs of all instances that will have an outcome."""
        return list(dict.fromkeys(facts.instance.uuid for facts in (*self.evacuated, *self.own)))


async def load_records(host: Host, local: frozenset[str]) -> Records:
    """Load the records of this host, and of the guests here that were evacuated.

    ``local`` has the UUIDs of the guests that the hypervisor has, or their names where it cannot tell UUIDs.

    :raises Temporary: the store could not be read.
    """
    store = host.executor.store
    try:
        with anyio.fail_after(host.limits.host_deadline_s):
            instances = await store.load_instances(host.name)
            migrations = await store.load_migrations(host.name, (*EVACUATION_STATUSES, LIVE_MIGRATION_RUNNING))
            evacuations = {m.instance_uuid: m for m in migrations if m.migration_type == "evacuation"}
            leaving = {m.instance_uuid: m for m in migrations if m.migration_type == "live-migration"}
            elsewhere = await store.load_instances_by_uuid(evacuations) if evacuations else []
    except (StoreError, TimeoutError) as error:
        raise Temporary(f"cannot load the records of {host.name}; no instance was touched") from error

    def facts(instance: Instance) -> Facts:
        return Facts(
            instance=instance,
            host=host.name,
            resume_guests=host.resume_guests,
            evacuation=_if_status(evacuations.get(instance.uuid), EVACUATION_STATUSES),
            live_migration=_if_status(leaving.get(instance.uuid), (LIVE_MIGRATION_RUNNING,)),
        )

    here = [instance for instance in elsewhere if instance.uuid in local or (instance.name and instance.name in local)]
    evacuated = [facts(instance) for instance in here]
    # One that has come back since is an instance of this host like any other: its evacuation asks for nothing.
    return Records(
        [facts(instance) for instance in instances],
        [each for each in evacuated if decide(EVACUATED, each).steps],
    )


def _if_status(migration: Migration | None, statuses: Sequence[str]) -> Migration | None:
    return migration if migration is not None and migration.status in statuses else None
