"""Checks of the whole plan before anything is done: whose guests these are, and what a guard holds."""

from collections.abc import Collection
from dataclasses import replace

from bringup.daemon.decisions.downtime import Downtime
from bringup.daemon.decisions.guards import held_together, quarantined
from bringup.daemon.decisions.instances import Instance
from bringup.daemon.decisions.policies import Guards
from bringup.daemon.decisions.resume_policy import Boot
from bringup.daemon.decisions.unknown_guests import are_accepted, refusal
from bringup.daemon.errors import SettingsError
from bringup.daemon.logs import get_logger
from bringup.daemon.recovery.load_records import HostRecords
from bringup.daemon.storage.alive import Alive
from bringup.daemon.storage.journal import Past

log = get_logger()

SHOWN = 5


def boot_of(past: Past, alive: Alive | None = None) -> Boot:
    """Return what is known of this boot: from the journal, with the downtime of the host before it."""
    downtime = None if alive is None else alive.downtime()
    if downtime is None:
        # Nothing was noted yet: the journal of an older version knows when it was last written.
        downtime = Downtime(exactly_s=past.downtime_s)
    return Boot(
        settled=past.boot_settled,
        resumed=past.resumed,
        held=past.held,
        memory_lost=past.memory_lost,
        asked=past.retried,
        downtime_s=downtime.exactly_s,
        at_most_s=downtime.at_most_s,
        waits_for_clock=downtime.waits_for_clock,
        booted_at=None if alive is None else alive.began_at(),
    )


def guarded(records: HostRecords, guards: Guards, past: Past, *, guests: int) -> HostRecords:
    """Hold what requires operator approval; ``guests``: how many guests this host has."""
    own = quarantined(records.own, guards, past.suspects, past.released)
    evacuated = quarantined(records.evacuated, guards, past.suspects, past.released)
    own, evacuated = held_together(own, evacuated, guards, guests=guests, released=past.released)
    held = [facts.instance.uuid for facts in (*own, *evacuated) if facts.hold is not None]
    if held:
        log.warning("run.held", count=len(held), first=held[:SHOWN])
    foreign = [replace(facts, fences_foreign=guards.powers_off_foreign) for facts in records.foreign]
    return replace(records, own=own, evacuated=evacuated, foreign=foreign)


def refuse_unknown_guests(host: str, accepted: Collection[str], local: frozenset[str], records: HostRecords) -> None:
    """Refuse a host whose guests nobody knows, or most of whose guests have records of another host.

    :raises SettingsError: nothing was touched.
    """
    foreign = [facts.instance for facts in records.foreign]
    text = refusal(local, _known(records), foreign, accepted, host)
    if text is not None:
        raise SettingsError([text])


def without_accepted(records: HostRecords, accepted: Collection[str]) -> HostRecords:
    """Leave out guests of other hosts' records that an operator has accepted."""
    return replace(records, foreign=[each for each in records.foreign if not are_accepted(each.instance, accepted)])


def log_unknown_guests(accepted: Collection[str], local: frozenset[str], records: HostRecords) -> None:
    """Name the guests here whose records are not this host's, or that have none."""
    foreign = [facts.instance for facts in records.foreign if not are_accepted(facts.instance, accepted)]
    if foreign:
        hosts = sorted({str(instance.host) for instance in foreign})
        first = [instance.uuid for instance in foreign][:SHOWN]
        log.warning("host.foreign_guests", count=len(foreign), hosts=hosts, first=first)
    left = [instance for instance in records.moved if not are_accepted(instance, accepted)]
    if left:
        hosts = sorted({str(instance.host) for instance in left})
        first = [instance.uuid for instance in left][:SHOWN]
        log.warning("host.guests_moved_away", count=len(left), hosts=hosts, first=first)
    known = {name for instance in (*_known(records), *foreign) for name in (instance.uuid, instance.name)}
    unknown = sorted(local - known - frozenset(accepted))
    if unknown:
        log.warning("host.guests_without_record", count=len(unknown), first=unknown[:SHOWN])


def _known(records: HostRecords) -> list[Instance]:
    return [*(facts.instance for facts in (*records.own, *records.evacuated)), *records.moved]
