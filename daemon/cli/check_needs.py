"""What ``bringup check`` says of guests that would be deferred."""

from collections import Counter
from dataclasses import replace

import anyio

from bringup.daemon.cli.check_finding import Finding, Status
from bringup.daemon.decisions.describe import need_words
from bringup.daemon.decisions.from_needs import is_tried_again, starts
from bringup.daemon.decisions.resume_policy import Boot
from bringup.daemon.decisions.states import PowerState
from bringup.daemon.errors import BringupError
from bringup.daemon.recovery.guest_needs import unmet_needs
from bringup.daemon.recovery.init_instance import FULL_COURSE
from bringup.daemon.recovery.load_records import guests_of, load_records
from bringup.daemon.service import assembly
from bringup.daemon.settings import Settings
from bringup.drivers.needs import Need

SHOWN = 3


async def needs_finding(settings: Settings) -> Finding | None:
    """Ask what the guests lack that would be started after a power cut now; None where they lack nothing."""
    lacking: dict[str, tuple[Need, ...]] = {}
    driver, limit_s = assembly.make_driver(settings), settings.limits.host_deadline
    resuming = replace(assembly.resuming(settings), boot=Boot(downtime_s=0))
    try:
        local = await guests_of(driver, settings.host.name, deadline_s=limit_s)
        async with assembly.opened_store(settings, must_exist=True) as store:
            records = await load_records(store, settings.host.name, local=local, resuming=resuming, deadline_s=limit_s)
        # What is not asked by then is not told: the check is no run.
        ends_at = anyio.current_time() + limit_s
        for facts in records.own:
            if anyio.current_time() > ends_at:
                break
            if starts((), FULL_COURSE, replace(facts, look=PowerState.SHUTDOWN)):
                found = await unmet_needs(facts.instance, driver)
                lacking |= {facts.instance.uuid: found} if found else {}
    except BringupError:
        # The checks of the store and of the driver have said so.
        return None
    finally:
        await assembly.close_driver(driver)
    if not lacking:
        return None
    again = sum(is_tried_again(needs) for needs in lacking.values())
    kinds = Counter(need.kind.value for needs in lacking.values() for need in needs)
    first = [f"{uuid}: {'; '.join(need_words(need) for need in needs)}" for uuid, needs in lacking.items()][:SHOWN]
    count = len(lacking)
    guests, they = ("guest", "it") if count == 1 else ("guests", "they")
    message = (
        f"{count} {guests} would be deferred, were {they} started after a power cut now "
        f"({again} tried again by themselves): {' | '.join(first)}{' ...' if count > SHOWN else ''}; "
        "bringup plan has all of them"
    )
    told = {"deferred": count, "tried_again": again, "kinds": dict(kinds)}
    return Finding("needs", Status.WARNING, message, told)
