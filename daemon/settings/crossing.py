"""What is right by itself and wrong together."""

from collections.abc import Mapping

from bringup.daemon.settings.model import (
    GuestSettings,
    LimitSettings,
    PlacementSettings,
    SchedulerSettings,
    Section,
)


def crossed(
    sections: Mapping[str, Section], sources: Mapping[str, str], *, problems: list[str], warnings: list[str]
) -> None:
    """Add a sentence for each pair of keys that does not go together; a section that is wrong by itself is left out."""
    placement, scheduler = sections.get("placement"), sections.get("scheduler")
    limits, guests = sections.get("limits"), sections.get("guests")
    if isinstance(placement, PlacementSettings):
        problems.extend(_two_tokens("placement", placement, sources))
        if placement.auth == "none" and (placement.token or placement.token_file):
            warnings.append('placement.auth = "none": no token is sent; leave out placement.token and token_file')
    if isinstance(scheduler, SchedulerSettings):
        problems.extend(_two_tokens("scheduler", scheduler, sources))
        problems.extend(_scheduler(scheduler, sources))
        if scheduler.transport == "none" and scheduler.url:
            warnings.append('scheduler.url is not used: set scheduler.transport = "http" to report to it')
    if isinstance(limits, LimitSettings) and isinstance(guests, GuestSettings):
        warnings.extend(_deadlines(limits, guests))


def _two_tokens(name: str, section: PlacementSettings | SchedulerSettings, sources: Mapping[str, str]) -> list[str]:
    if section.token is None or section.token_file is None:
        return []
    one, other = sources.get(f"{name}.token"), sources.get(f"{name}.token_file")
    return [f"{name}.token ({one}) and {name}.token_file ({other}) are both set: give one of them"]


def _scheduler(scheduler: SchedulerSettings, sources: Mapping[str, str]) -> list[str]:
    problems = []
    if scheduler.transport == "http" and scheduler.url is None:
        source = sources.get("scheduler.transport")
        problems.append(
            f'scheduler.url is missing, and scheduler.transport = "http" ({source}) needs it: '
            'give an address such as "http://controller:8790", or scheduler.transport = "none"'
        )
    if scheduler.retry_max < scheduler.retry_initial:
        source = sources.get("scheduler.retry_max") or sources.get("scheduler.retry_initial")
        problems.append(
            f"scheduler.retry_max = {scheduler.retry_max:g} s ({source}): "
            f"give at least scheduler.retry_initial, which is {scheduler.retry_initial:g} s"
        )
    return problems


def _deadlines(limits: LimitSettings, guests: GuestSettings) -> list[str]:
    if guests.shutdown_timeout < limits.instance_deadline:
        return []
    sentence = (
        f"guests.shutdown_timeout = {guests.shutdown_timeout:g} s is not shorter than limits.instance_deadline = "
        f"{limits.instance_deadline:g} s: a guest that does not shut down by itself runs into its deadline"
    )
    return [sentence]
