"""What a run that was cut short leaves to the one that continues it: what stays settled, what is decided again.

An instance stays settled as long as its record is as the run left it; one that was changed since is decided
again.  An instance is settled too whose row was deleted, or whose evacuation was completed, while its end was being
written.
"""

from collections.abc import Collection
from dataclasses import replace

from bringup.daemon.decisions.actions import CompletePartialDeletion, Delete, DestroyEvacuated, DestroyGuest
from bringup.daemon.decisions.instances import Instance
from bringup.daemon.decisions.outcomes import Did, Kind, Outcome
from bringup.daemon.errors import StoreError, Temporary
from bringup.daemon.recovery.load_records import HostRecords
from bringup.daemon.storage.journal import InFlight, Left, Past, Settled
from bringup.daemon.storage.store.base import Store

DELETIONS = {Delete.verb, DestroyGuest.verb, CompletePartialDeletion.verb}


async def settled_before(past: Past, records: HostRecords, store: Store) -> dict[str, Outcome]:
    """Return the outcomes that stand, by UUID.

    :raises Temporary: the records that they are compared with could not be read.
    """
    if not past.settled and not past.in_flight:
        return {}
    found = {facts.instance.uuid: facts.instance for facts in (*records.own, *records.foreign, *records.evacuated)}
    missing = (past.settled.keys() | past.in_flight.keys()) - found.keys()
    try:
        found |= {each.uuid: each for each in await store.load_instances_by_uuid(missing)} if missing else {}
    except StoreError as error:
        raise Temporary("cannot load the records that the last run has settled; no instance was touched") from error
    outcomes = {}
    for uuid, settled in past.settled.items():
        outcome = _still(settled, found.get(uuid))
        if outcome is not None:
            outcomes[uuid] = outcome
    to_be_decided = set(records.uuids())
    for uuid in past.in_flight.keys() - to_be_decided:
        begun, record = past.in_flight[uuid], found.get(uuid)
        if _is_over(begun, record):
            outcomes[uuid] = Outcome(
                uuid=uuid,
                kind=Kind.INITIALIZED,
                did=_did(begun, record),
                because=begun.because,
                took_s=0.0,
                name="" if record is None else record.shown_name,
                project_id=None if record is None else record.project_id,
                instance=record,
                deleted=record is None,
            )
    return outcomes


def _still(settled: Settled, record: Instance | None) -> Outcome | None:
    """Return an outcome with its record, None where the record is not as the run left it."""
    if record is None:
        return replace(settled.outcome, deleted=True)
    if settled.left is None or Left.of(record) != settled.left:
        return None
    return replace(settled.outcome, instance=record)


def _is_over(begun: InFlight, record: Instance | None) -> bool:
    """Check whether the last thing that was to be done with an instance is done, and only its end was not written."""
    verbs = {*begun.begun, *begun.done}
    # The migration of one that was evacuated is completed last: it is not among the evacuations any more.
    return bool(verbs & DELETIONS) if record is None else DestroyEvacuated.verb in verbs


def _did(begun: InFlight, record: Instance | None) -> Did:
    """Return what was done to an instance that is settled because nothing is left to be done."""
    if record is None and {Delete.verb, CompletePartialDeletion.verb} & {*begun.begun, *begun.done}:
        return Did.DELETED
    return Did.DESTROYED if {DestroyGuest.verb, DestroyEvacuated.verb} & {*begun.done} else Did.UNKNOWN


def all_uuids(records: HostRecords, settled: Collection[str]) -> list[str]:
    """Return the UUIDs of all instances that have an outcome or will have one."""
    return list(dict.fromkeys((*records.uuids(), *settled)))
