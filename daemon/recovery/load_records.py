"""What a host has: the guests of its hypervisor, and all its records in a few queries; nothing is touched."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import anyio

from bringup.daemon.decisions.actions import DestroyEvacuated
from bringup.daemon.decisions.from_evacuation import EVACUATED
from bringup.daemon.decisions.from_record import EVACUATION_STATUSES
from bringup.daemon.decisions.instances import UNREADABLE, Instance, Migration, UnreadableInstance
from bringup.daemon.decisions.migrating import AWAY_STATUSES, EVACUATION, LIVE_MIGRATION, leaving
from bringup.daemon.decisions.outcomes import Kind
from bringup.daemon.decisions.resume_policy import Resuming
from bringup.daemon.decisions.rules import Facts, Withheld, decide
from bringup.daemon.decisions.states import VmState
from bringup.daemon.errors import Refused, StoreError, Temporary, Unavailable
from bringup.daemon.logs import get_logger
from bringup.daemon.storage.journal import InFlight, Past
from bringup.daemon.storage.store.base import Store
from bringup.drivers.base import AutostartConflict, Driver, DriverError, EventListener

log = get_logger()

LIVE_MIGRATION_RUNNING = "running"


@dataclass(frozen=True, slots=True)
class HostRecords:
    """The instances that a run is about, with what else is known of each."""

    own: Sequence[Facts]
    """Those whose record names this host."""
    evacuated: Sequence[Facts]
    """Those that were evacuated from this host and whose guests its hypervisor still has."""
    foreign: Sequence[Facts] = ()
    """Those whose guests are here although their records name other hosts, and nothing says why."""
    moved: Sequence[Instance] = ()
    """Records of other hosts whose guests are here still, where a migration says why."""

    def uuids(self) -> list[str]:
        """Return the UUIDs of all instances that will have an outcome."""
        return list(dict.fromkeys(facts.instance.uuid for facts in (*self.evacuated, *self.foreign, *self.own)))


async def start_driver(
    driver: Driver, host: str, *, deadline_s: float, on_event: EventListener | None = None
) -> frozenset[str]:
    """Initialize the driver of a host and register a listener for its lifecycle events; return what guests it has.

    :raises Unavailable: the hypervisor cannot be initialized, or does not list its guests.
    :raises Refused: something else starts its guests too.
    """
    try:
        with anyio.fail_after(deadline_s):
            await driver.init_host(host)
            if on_event is not None:
                driver.register_event_listener(on_event)
            return await list_guests(driver)
    except AutostartConflict as error:
        raise Refused(f"did not touch an instance of {host}") from error
    except (DriverError, OSError, TimeoutError) as error:
        raise Unavailable(
            f"cannot initialize the hypervisor of {host}; no instance was touched; check that it runs"
        ) from error
    except Exception as error:
        log.exception("host.driver_failed")
        raise Unavailable(
            f"cannot initialize the driver of {host}; no instance was touched; this is a bug in bringup: report it "
            "with the traceback in the log (host.driver_failed)"
        ) from error


async def list_guests(driver: Driver) -> frozenset[str]:
    """Return the UUIDs of the guests that the hypervisor has, or names where it has no UUIDs."""
    try:
        return frozenset(await driver.list_instance_uuids())
    except NotImplementedError:
        return frozenset(await driver.list_instances())


async def load_records(  # noqa: PLR0913 - what is known of a host has many sides
    store: Store,
    host: str,
    *,
    local: frozenset[str] | None,
    resuming: Resuming,
    deadline_s: float,
    past: Past | None = None,
    owes_elsewhere: bool = False,
) -> HostRecords:
    """Load the records of a host, and of the guests here that were evacuated.

    ``local`` is what the hypervisor lists; None: nobody was asked, and any evacuated guest may be there.
    ``past`` is what the journal knows of the last run; ``owes_elsewhere``: ports and volumes are other services'.

    :raises Temporary: the store could not be read.
    """
    begun = {} if past is None else past.in_flight
    try:
        with anyio.fail_after(deadline_s):
            found = await _read(store, host, local, begun)
    except (StoreError, TimeoutError) as error:
        raise Temporary(f"cannot load the records of {host}; no instance was touched") from error

    evacuations = found.evacuations
    live = latest(found.migrations, LIVE_MIGRATION, (LIVE_MIGRATION_RUNNING,))
    moves = by_instance(each for each in leaving(found.migrations, host) if _is_a_move(each))
    deleted = {instance.uuid for instance in found.gone}
    is_continued = past is not None and past.attempt > 1

    spoiled = {each.instance_uuid for each in found.migrations if each.migration_type == UNREADABLE}

    def facts(instance: Instance) -> Facts:
        if instance.uuid in spoiled:
            instance = UnreadableInstance(
                uuid=instance.uuid,
                host=instance.host,
                name=instance.name,
                vm_state=instance.vm_state,
                why="a migration of it cannot be read",
            )
        doing = begun.get(instance.uuid) if is_continued else None
        resume_guests, withheld = resuming.of(instance.uuid, instance.metadata)
        return Facts(
            instance=instance,
            host=host,
            resume_guests=resume_guests,
            withheld=withheld,
            wrong_metadata=resuming.problem_with(instance.metadata) if withheld is Withheld.METADATA else "",
            begun=frozenset() if doing is None else frozenset((*doing.begun, *doing.done)),
            done=frozenset() if doing is None else frozenset(doing.done),
            owes_elsewhere=owes_elsewhere,
            guest_gone=not _is_among(instance, local),
            deleted=instance.uuid in deleted,
            evacuation=evacuations.get(instance.uuid),
            live_migration=live.get(instance.uuid),
            moves=tuple(moves.get(instance.uuid, ())),
            booted_at=resuming.boot.booted_at,
        )

    evacuated = []
    for instance in sorted((*found.others, *found.own, *found.gone), key=lambda each: each.uuid):
        if instance.uuid not in evacuations:
            continue
        if _is_among(instance, local) or _was_being_destroyed(begun.get(instance.uuid)):
            evacuated.append(facts(instance))
    elsewhere = [instance for instance in found.others if instance.uuid not in evacuations]
    # One that has come back since is an instance of this host like any other: its evacuation asks for nothing.
    return HostRecords(
        [facts(instance) for instance in found.own],
        [each for each in evacuated if is_for_the_evacuated(each)],
        [replace(facts(each), is_foreign=True) for each in elsewhere if each.uuid not in found.explained],
        [each for each in elsewhere if each.uuid in found.explained],
    )


def is_for_the_evacuated(facts: Facts) -> bool:
    """Check whether the table of evacuated instances settles this one."""
    plan = decide(EVACUATED, facts)
    return bool(plan.steps) or (plan.kind is Kind.FAILED and facts.instance.host != facts.host)


@dataclass(frozen=True, slots=True)
class _Found:
    """What the store has of a host and of the guests that are on it."""

    own: Sequence[Instance]
    migrations: Sequence[Migration]
    evacuations: Mapping[str, Migration]
    """The last one of each instance, by its UUID."""
    others: Sequence[Instance]
    """Records of other hosts: of guests here, and of what was evacuated."""
    gone: Sequence[Instance]
    """What was evacuated, is here, and has no row any more."""
    explained: Collection[str]
    """UUIDs of those of ``others`` that a migration has to do with."""


async def _read(store: Store, host: str, local: frozenset[str] | None, begun: Mapping[str, InFlight]) -> _Found:
    own = await store.load_instances(host)
    migrations = await store.load_migrations(host, (*{*EVACUATION_STATUSES, *AWAY_STATUSES},))
    evacuations = latest(migrations, EVACUATION, EVACUATION_STATUSES)
    wanted = {*evacuations, *(local or ())} - {instance.uuid for instance in own}
    others = await store.load_instances_by_uuid(wanted) if wanted else []
    unnamed = evacuations.keys() - {instance.uuid for instance in (*own, *others)}
    gone = [uuid for uuid in unnamed if local is None or uuid in local or _was_being_destroyed(begun.get(uuid))]
    elsewhere = [each.uuid for each in others if each.uuid not in evacuations]
    return _Found(
        own,
        migrations,
        evacuations,
        others,
        await _deleted(store, {uuid: evacuations[uuid] for uuid in gone}),
        {each.instance_uuid for each in await store.load_migrations_of(host, elsewhere)} if elsewhere else (),
    )


async def _deleted(store: Store, evacuations: Mapping[str, Migration]) -> list[Instance]:
    """Return what is known of evacuated instances without a row: the deleted one or, without that, next to nothing."""
    deleted = {each.uuid: each for each in await store.load_deleted(evacuations)} if evacuations else {}
    return [
        deleted.get(uuid) or Instance(uuid=uuid, host=evacuation.dest_compute, vm_state=VmState.DELETED)
        for uuid, evacuation in evacuations.items()
    ]


def _is_among(instance: Instance, local: frozenset[str] | None) -> bool:
    return local is None or instance.uuid in local or (instance.name != "" and instance.name in local)


def _was_being_destroyed(begun: InFlight | None) -> bool:
    return begun is not None and DestroyEvacuated.verb in (*begun.begun, *begun.done)


def _is_a_move(migration: Migration) -> bool:
    return migration.migration_type != EVACUATION and migration.status in AWAY_STATUSES


def by_instance(migrations: Iterable[Migration]) -> dict[str, list[Migration]]:
    """Sort migrations by the UUID of their instance, in their order."""
    found: dict[str, list[Migration]] = {}
    for each in migrations:
        found.setdefault(each.instance_uuid, []).append(each)
    return found


def latest(migrations: Sequence[Migration], kind: str, statuses: Sequence[str]) -> dict[str, Migration]:
    """Return the last migration of a type and of these statuses, by the UUID of its instance."""
    return {m.instance_uuid: m for m in migrations if m.migration_type == kind and m.status in statuses}
