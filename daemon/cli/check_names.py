"""Whose the guests of this host are, as far as the records say: the check that a run makes before it touches one."""

from bringup.daemon.cli.check_finding import Finding, Status
from bringup.daemon.recovery.load_records import load_records
from bringup.daemon.recovery.plan_checks import refuse_strangers, without_accepted
from bringup.daemon.service import assembly
from bringup.daemon.settings import Settings
from bringup.daemon.storage import identity


async def names_finding(settings: Settings, guests: frozenset[str]) -> Finding | None:
    """Name the hosts that the records of guests here name, where nothing says why; None: there are none.

    :raises BringupError: a run would be refused, or the records cannot be read.
    """
    known = identity.remembered(settings.host.state_directory)
    accepted = frozenset() if known is None else known.accepted_guests
    async with assembly.opened_store(settings, must_exist=True) as store:
        records = await load_records(
            store,
            settings.host.name,
            local=guests,
            resuming=assembly.resuming(settings),
            deadline_s=settings.limits.host_deadline,
        )
    refuse_strangers(settings.host.name, accepted, guests, records)
    foreign = [facts.instance for facts in without_accepted(records, accepted).foreign]
    if not foreign:
        return None
    hosts = sorted({str(instance.host) for instance in foreign})
    are = "guest here has a record that names" if len(foreign) == 1 else "guests here have records that name"
    message = (
        f"{len(foreign)} {are} {', '.join(hosts)} and not {settings.host.name}, and no evacuation or migration says "
        f"why: they are left alone ({foreign[0].uuid}{', ...' if len(foreign) > 1 else ''}); if {hosts[0]} is this "
        "machine, it has two names in Nova: set host.name to the right one"
    )
    return Finding("names", Status.WARNING, message, {"foreign": len(foreign), "hosts": hosts})
