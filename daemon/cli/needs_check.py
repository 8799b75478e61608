"""What ``bringup check`` says of guests that would be deferred."""

from collections import Counter

import anyio

from bringup.daemon import wiring
from bringup.daemon.cli.checks import Finding, Status
from bringup.daemon.decisions.needs import is_tried_again
from bringup.daemon.errors import BringupError
from bringup.daemon.loading import guests_of
from bringup.daemon.needing import unmet_needs
from bringup.daemon.settings import Settings
from bringup.daemon.wording import need_words
from bringup.drivers.needs import Need

SHOWN = 3


async def needs_finding(settings: Settings) -> Finding | None:
    """Ask for each instance of this host what a start of its guest would lack; None where it would lack nothing."""
    lacking: dict[str, tuple[Need, ...]] = {}
    driver = wiring.make_driver(settings)
    try:
        await guests_of(driver, settings.host.name, deadline_s=settings.limits.host_deadline)
        async with wiring.opened_store(settings, must_exist=True) as store:
            # What is not asked by then is not told: the check is no run.
            ends_at = anyio.current_time() + settings.limits.host_deadline
            for instance in await store.load_instances(settings.host.name):
                if anyio.current_time() > ends_at:
                    break
                if found := await unmet_needs(instance, driver):
                    lacking[instance.uuid] = found
    except BringupError:
        # The checks of the store and of the driver have said so.
        return None
    finally:
        await wiring.close_driver(driver)
    if not lacking:
        return None
    again = sum(is_tried_again(needs) for needs in lacking.values())
    kinds = Counter(need.kind.value for needs in lacking.values() for need in needs)
    first = [f"{uuid}: {'; '.join(need_words(need) for need in needs)}" for uuid, needs in lacking.items()][:SHOWN]
    count = len(lacking)
    guests, they = ("guest", "it") if count == 1 else ("guests", "they")
    message = (
        f"{count} {guests} would be deferred, were {they} started now "
        f"({again} tried again by themselves): {' | '.join(first)}{' ...' if count > SHOWN else ''}; "
        "bringup plan has all of them"
    )
    facts = {"deferred": count, "tried_again": again, "kinds": dict(kinds)}
    return Finding("needs", Status.WARNING, message, facts)
