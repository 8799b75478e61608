"""An operator's word: instances that a guard holds go on in the running daemon."""

import time
from dataclasses import replace

import anyio

from bringup.daemon.decisions import EVACUATED
from bringup.daemon.errors import JournalError
from bringup.daemon.guards import ALL
from bringup.daemon.init_host import Brought
from bringup.daemon.init_instance import FULL_COURSE
from bringup.daemon.loading import list_guests, load_records
from bringup.daemon.logs import get_logger
from bringup.daemon.outcomes import Kind, Outcome
from bringup.daemon.planned import boot_of
from bringup.daemon.settle import settle

log = get_logger()


def held_by(brought: Brought) -> frozenset[str]:
    """Give the UUIDs that wait for an operator's word."""
    return frozenset(outcome.uuid for outcome in brought.result.outcomes if outcome.kind is Kind.HELD)


async def let_go_on(brought: Brought, released: frozenset[str]) -> Brought:
    """Settle what is held and released, on fresh records; report, and give the run as it is then.

    :raises Temporary: the records could not be loaded; nothing was touched.
    :raises Unavailable: the hypervisor does not tell which guests it has.
    """
    wanted = {uuid for uuid in held_by(brought) if uuid in released or ALL in released}
    if not wanted:
        return brought
    began = time.monotonic()
    host = brought.host
    log.info("run.released", count=len(wanted))
    with anyio.fail_after(host.limits.host_deadline_s):
        local = await list_guests(host.driver)
    records = await load_records(
        host.executor.store,
        host.name,
        local=local,
        resuming=replace(host.resuming, boot=boot_of(brought.past)),
        deadline_s=host.limits.host_deadline_s,
        past=brought.past,
    )
    new: dict[str, Outcome] = {}
    await settle(host, [each for each in records.evacuated if each.instance.uuid in wanted], (EVACUATED,), new)
    own = [each for each in records.own if each.instance.uuid in wanted - new.keys()]
    await settle(host, own, FULL_COURSE, new)
    return await _reported(brought, new, wanted, time.monotonic() - began)


async def _reported(brought: Brought, new: dict[str, Outcome], wanted: set[str], took_s: float) -> Brought:
    result = brought.result
    # Its record has gone or moved to another host while it was held: there is nothing to do here any more.
    gone = {
        uuid: Outcome(uuid=uuid, kind=Kind.SUPERSEDED, because=("released",), took_s=0.0)
        for uuid in wanted - new.keys()
    }
    new |= gone
    result = replace(
        result,
        outcomes=(*(each for each in result.outcomes if each.uuid not in new), *new.values()),
        took_s=result.took_s + took_s,
        revision=result.revision + 1,
    )
    delivery = await brought.host.report(result)
    try:
        for outcome in gone.values():
            await brought.host.journal.settled(outcome)
        await brought.host.journal.end_run(result, delivery=delivery)
    except JournalError as error:
        log.error("release.not_written", error=str(error))  # noqa: TRY400 - a sentence, no traceback
    return replace(brought, result=result)
