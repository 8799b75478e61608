"""The whole plan, looked at before anything is done: whose guests these are, and what a guard holds."""

from dataclasses import replace

from bringup.daemon.errors import SettingsError
from bringup.daemon.guards import Guards, held_together, quarantined
from bringup.daemon.host import Host
from bringup.daemon.journal import Past
from bringup.daemon.loading import Records
from bringup.daemon.logs import get_logger
from bringup.daemon.resuming import Boot
from bringup.daemon.strangers import refusal

log = get_logger()

SHOWN_STRANGERS = 5


def boot_of(past: Past, *, booted_at: float | None = None) -> Boot:
    """Give what the journal knows of this boot, and since when this host is up."""
    return Boot(
        settled=past.boot_settled,
        resumed=past.resumed,
        held=past.held,
        memory_lost=past.memory_lost,
        downtime_s=past.downtime_s,
        booted_at=booted_at,
    )


def guarded(records: Records, guards: Guards, past: Past, *, guests: int) -> Records:
    """Hold what wants an operator's word; ``guests``: how many guests this host has."""
    own = quarantined(records.own, guards, past.suspects, past.released)
    evacuated = quarantined(records.evacuated, guards, past.suspects, past.released)
    own, evacuated = held_together(own, evacuated, guards, guests=guests, released=past.released)
    held = [facts.instance.uuid for facts in (*own, *evacuated) if facts.hold is not None]
    if held:
        log.warning("run.held", count=len(held), first=held[:SHOWN_STRANGERS])
    return replace(records, own=own, evacuated=evacuated)


def refuse_strangers(host: Host, local: frozenset[str], records: Records) -> None:
    """Refuse a host whose guests nobody knows, or whose records are all another host's; name single strangers.

    :raises SettingsError: nothing was touched.
    """
    own = [facts.instance for facts in records.own]
    evacuated = [facts.instance for facts in records.evacuated]
    text = refusal(
        local,
        own,
        records.elsewhere,
        [instance.uuid for instance in evacuated],
        host.accepted_guests,
        host.name,
    )
    if text is not None:
        raise SettingsError([text])
    known = {name for instance in (*own, *evacuated) for name in (instance.uuid, instance.name)}
    strangers = sorted(local - known - host.accepted_guests)
    if strangers:
        log.warning("host.guests_without_record", count=len(strangers), first=strangers[:SHOWN_STRANGERS])
