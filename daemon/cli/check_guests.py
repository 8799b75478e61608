"""Checks of the guests of this host against its records, made by the code that a run uses."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import anyio

from bringup.daemon.cli.check_finding import Finding, Status
from bringup.daemon.decisions.describe import need_words
from bringup.daemon.decisions.from_needs import is_tried_again, starts
from bringup.daemon.decisions.resume_policy import Boot, Resuming
from bringup.daemon.decisions.states import PowerState
from bringup.daemon.decisions.table_order import OWN_TABLES
from bringup.daemon.errors import BringupError, SettingsError, Unavailable
from bringup.daemon.recovery.guest_needs import unmet_needs
from bringup.daemon.recovery.host_gates import concerned, needs_of_the_host, sentence_of
from bringup.daemon.recovery.load_records import load_records, start_driver
from bringup.daemon.recovery.plan_checks import refuse_unknown_guests, without_accepted
from bringup.daemon.service import assembly
from bringup.daemon.settings import Settings
from bringup.daemon.storage import identity
from bringup.daemon.text import labelled
from bringup.drivers.needs import Need, NeedState

SHOWN = 3


async def names_finding(settings: Settings, guests: frozenset[str]) -> Finding | None:
    """Check for guests whose records name another host for no known reason; None if there are none.

    :raises BringupError: a run would be refused, or the records cannot be read.
    """
    known = identity.read_identity(settings.host.state_directory)
    accepted = frozenset() if known is None else known.accepted_guests
    async with assembly.opened_store(settings, must_exist=True) as store:
        records = await load_records(
            store,
            settings.host.name,
            local=guests,
            resuming=Resuming(settings.resume),
            deadline_s=settings.limits.host_deadline,
        )
    refuse_unknown_guests(settings.host.name, accepted, guests, records)
    foreign = [facts.instance for facts in without_accepted(records, accepted).foreign]
    if not foreign:
        return None
    hosts = sorted({str(instance.host) for instance in foreign})
    are = "guest here has a record that names" if len(foreign) == 1 else "guests here have records that name"
    first = labelled(foreign[0].uuid, foreign[0].shown_name)
    message = (
        f"{len(foreign)} {are} {', '.join(hosts)} instead of {settings.host.name}, and no evacuation or migration "
        f"explains it: a run does not touch them ({first}{', ...' if len(foreign) > 1 else ''}); if {hosts[0]} is "
        "this machine, it has two names in Nova: set host.name to the right one"
    )
    return Finding("names", Status.WARNING, message, {"foreign": len(foreign), "hosts": hosts})


async def needs_finding(settings: Settings) -> Finding | None:
    """Check for guests that would be deferred if they were started after a power cut now; None if there are none."""
    lacking: dict[str, tuple[Need, ...]] = {}
    driver, limit_s = assembly.make_driver(settings), settings.limits.host_deadline
    resuming = Resuming(settings.resume, Boot(downtime_s=0))
    try:
        local = await start_driver(driver, settings.host.name, deadline_s=limit_s)
        async with assembly.opened_store(settings, must_exist=True) as store:
            records = await load_records(store, settings.host.name, local=local, resuming=resuming, deadline_s=limit_s)
        # What is not checked in this time is not reported: the check is no run.
        ends_at = anyio.current_time() + limit_s
        for facts in records.own:
            if anyio.current_time() > ends_at:
                break
            if starts((), OWN_TABLES, replace(facts, look=PowerState.SHUTDOWN)):
                found = await unmet_needs(facts.instance, driver)
                label = labelled(facts.instance.uuid, facts.instance.shown_name)
                lacking |= {label: found} if found else {}
    except BringupError:
        # The checks of the store and of the driver report this error.
        return None
    finally:
        await assembly.close_driver(driver)
    if not lacking:
        return None
    again = sum(is_tried_again(needs) for needs in lacking.values())
    kinds = Counter(need.kind.value for needs in lacking.values() for need in needs)
    first = [f"{label}: {'; '.join(need_words(need) for need in needs)}" for label, needs in lacking.items()][:SHOWN]
    count = len(lacking)
    guests, they = ("guest", "it") if count == 1 else ("guests", "they")
    message = (
        f"{count} {guests} would be deferred if {they} were started after a power cut now "
        f"({again} retried automatically): {' | '.join(first)}{' ...' if count > SHOWN else ''}; "
        "bringup plan lists all of them"
    )
    facts_of_all = {"deferred": count, "tried_again": again, "kinds": dict(kinds)}
    return Finding("needs", Status.WARNING, message, facts_of_all)


async def host_findings(settings: Settings) -> Sequence[Finding]:
    """Check what the guests need together, one finding for each need, as a run does before the first instance."""
    deadline_s, name = settings.limits.host_deadline, settings.host.name
    driver = assembly.make_driver(settings)
    try:
        local = await start_driver(driver, name, deadline_s=deadline_s)
        async with (
            assembly.opened_messaging(settings) as rpc,
            assembly.opened_store(settings, must_exist=True, rpc=rpc) as store,
        ):
            records = await load_records(store, name, local=local, resuming=Resuming(), deadline_s=deadline_s)
        guests = concerned(records, frozenset())
        needs = await needs_of_the_host(driver, guests, deadline_s=deadline_s) if guests else []
    except SettingsError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            # No records yet: the check of the store reports it.
            return []
        raise
    finally:
        await assembly.close_driver(driver)
    return [_need_finding(need) for need in needs]


def _need_finding(need: Need) -> Finding:
    facts = {"need": need.name, "state": need.state.value}
    if need.state is NeedState.MET:
        return Finding("host", Status.OK, f"{need.name}, which guests of this host need, is available", facts)
    message = f"a run would touch no instance: {sentence_of([need])}"
    return Finding("host", Status.FAILED, message, facts, exit_code=Unavailable.exit_code)
