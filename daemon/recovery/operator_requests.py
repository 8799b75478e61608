"""Requests of an operator to the running daemon: release what a guard holds, retry what failed or was deferred."""

import anyio

from bringup.daemon.decisions.guards import ALL
from bringup.daemon.decisions.instances import Instance
from bringup.daemon.decisions.outcomes import Kind
from bringup.daemon.logs import get_logger
from bringup.daemon.recovery.init_host import Brought
from bringup.daemon.recovery.restore_records import restore_records
from bringup.daemon.recovery.settle_again import Again, reported, settle_again
from bringup.daemon.storage.journal import Left

log = get_logger()


def held_by(brought: Brought) -> frozenset[str]:
    """Return the UUIDs that wait for operator approval."""
    return frozenset(outcome.uuid for outcome in brought.result.outcomes if outcome.kind is Kind.HELD)


def may_change(brought: Brought) -> bool:
    """Check whether anything of a run may still be released or tried again."""
    return any(outcome.kind not in (Kind.INITIALIZED, Kind.SKIPPED) for outcome in brought.result.outcomes) or any(
        "in_error" in outcome.because for outcome in brought.result.outcomes
    )


async def release_held(brought: Brought, released: frozenset[str]) -> Brought:
    """Settle what is held and released, on fresh records; report, and give the run as it is then.

    :raises Temporary: the records could not be loaded; nothing was touched.
    :raises Unavailable: the hypervisor does not tell which guests it has.
    """
    wanted = {uuid for uuid in held_by(brought) if uuid in released or ALL in released}
    if not wanted:
        return brought
    log.info("run.released", count=len(wanted))
    began = anyio.current_time()
    again = Again(wanted=wanted, because="released", may=lambda _record: True, guards=False, asked=True)
    new = await settle_again(brought.host, brought.past, again)
    return await reported(brought, new, took_s=anyio.current_time() - began)


async def try_again(brought: Brought, retried: frozenset[str]) -> Brought:
    """Settle once more what an operator names; a record that a failure of ours has set to ERROR is restored first.

    :raises JournalError: what failed cannot be read.
    :raises StoreError: the records cannot be read or written.
    :raises Temporary: the records could not be loaded; nothing was touched.
    :raises Unavailable: the hypervisor does not tell which guests it has.
    """
    log.info("run.retried", count=len(retried))
    began = anyio.current_time()
    restored = await restore_records(brought.host, retried)
    known = {outcome.uuid: outcome for outcome in brought.result.outcomes}
    left = {uuid: Left.of(outcome.instance) for uuid, outcome in known.items() if outcome.instance is not None}

    def may(record: Instance) -> bool:
        """Check that nobody works on it: its task state is as we left it."""
        before = left.get(record.uuid)
        return record.task_state is None or record.uuid in restored or before is None or Left.of(record) == before

    again = Again(wanted=retried, because="retried", may=may, known=known, asked=True)
    new = await settle_again(brought.host, brought.past, again)
    return await reported(brought, new, took_s=anyio.current_time() - began)
