"""Restores records that a failure of ours has changed, mostly to ERROR: on request, while they are as it left them."""

from collections.abc import Collection

from bringup.daemon.decisions.instances import Expected
from bringup.daemon.decisions.states import UnknownState
from bringup.daemon.errors import StateConflict
from bringup.daemon.logs import get_logger
from bringup.daemon.recovery.context import Host
from bringup.daemon.storage.journal import Left

log = get_logger()


async def restore_records(host: Host, wanted: Collection[str]) -> frozenset[str]:
    """Restore the records that a failure of ours has changed; return their UUIDs.

    Only a record that is still as the failure left it; the journal knows how it was.

    :raises JournalError: the journal cannot be read.
    :raises StoreError: the records cannot be read or written.
    """
    if not wanted:
        return frozenset()
    failures = await host.journal.failures()
    known = {uuid: failures[uuid] for uuid in wanted if uuid in failures}
    if not known:
        return frozenset()
    store, done = host.executor.store, set[str]()
    for record in await store.load_instances_by_uuid(known):
        failure = known[record.uuid]
        if record.host != host.name or Left.of(record) != failure.left:
            continue
        vm_state, task_state = failure.was.states()
        if isinstance(vm_state, UnknownState) or isinstance(task_state, UnknownState):
            continue
        expected = Expected((record.vm_state,), (record.task_state,))
        try:
            await store.save(record.uuid, {"vm_state": vm_state, "task_state": task_state}, expected=expected)
        except StateConflict as error:
            log.warning("retry.superseded", instance=record.uuid, error=str(error))
            continue
        log.info("retry.restored", instance=record.uuid, vm_state=failure.was.vm_state)
        done.add(record.uuid)
    return frozenset(done)
