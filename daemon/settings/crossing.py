"""What is right by itself and wrong together."""

from collections.abc import Mapping, Sequence

from bringup.daemon.settings.model import (
    DriverSettings,
    GuestSettings,
    KeystoneSettings,
    LibvirtSettings,
    LimitSettings,
    PlacementSettings,
    SchedulerSettings,
    Section,
)

WAYS = ("nova_conf", "cloud", "auth_url")
"""Where the credentials of Keystone may be."""


def crossed(
    sections: Mapping[str, Section], sources: Mapping[str, str], *, problems: list[str], warnings: list[str]
) -> None:
    """Add a sentence for each pair of keys that does not go together; a section that is wrong by itself is left out."""
    placement, scheduler = sections.get("placement"), sections.get("scheduler")
    limits, guests = sections.get("limits"), sections.get("guests")
    if isinstance(placement, PlacementSettings):
        problems.extend(_two_secrets("placement", placement, sources))
        if placement.key_file is not None and placement.cert_file is None:
            source = sources.get("placement.key_file")
            problems.append(
                f"placement.cert_file is missing, and placement.key_file ({source}) is of no use without it"
            )
        if placement.auth == "none" and (placement.token or placement.token_file):
            warnings.append('placement.auth = "none": no token is sent; leave out placement.token and token_file')
    if isinstance(scheduler, SchedulerSettings):
        problems.extend(_two_secrets("scheduler", scheduler, sources))
        problems.extend(_scheduler(scheduler, sources))
        if scheduler.transport == "none" and scheduler.url:
            warnings.append('scheduler.url is not used: set scheduler.transport = "http" to report to it')
    keystone = sections.get("keystone")
    if isinstance(keystone, KeystoneSettings):
        problems.extend(_keystone(keystone, sources))
        if isinstance(placement, PlacementSettings) and placement.auth != "keystone" and keystone != KeystoneSettings():
            warnings.append(f'placement.auth = "{placement.auth}": [keystone] is not used')
    driver, libvirt = sections.get("driver"), sections.get("libvirt")
    if isinstance(driver, DriverSettings) and driver.name != "libvirt" and libvirt not in (None, LibvirtSettings()):
        warnings.append(f'driver.name = "{driver.name}": [libvirt] is not used')
    if isinstance(limits, LimitSettings) and isinstance(guests, GuestSettings):
        warnings.extend(_deadlines(limits, guests))


def _two_secrets(
    name: str, section: Section, sources: Mapping[str, str], what: Sequence[str] = ("token",)
) -> list[str]:
    return [
        f"{name}.{key} ({sources.get(f'{name}.{key}')}) and {name}.{key}_file ({sources.get(f'{name}.{key}_file')}) "
        "are both set: give one of them"
        for key in what
        if getattr(section, key) is not None and getattr(section, f"{key}_file") is not None
    ]


def _keystone(keystone: KeystoneSettings, sources: Mapping[str, str]) -> list[str]:
    problems = _two_secrets("keystone", keystone, sources, ("password", "application_credential_secret", "token"))
    ways = [key for key in WAYS if getattr(keystone, key)]
    if len(ways) > 1:
        given = " and ".join(f"keystone.{key} ({sources.get(f'keystone.{key}')})" for key in ways)
        problems.append(f"{given} are set: the credentials come from one place; give one of them")
    others = [] if "auth_url" in ways else [f"keystone.{key} ({where})" for key, where in _beside(keystone, sources)]
    if ways and others:
        verb = "is" if len(others) == 1 else "are"
        problems.append(
            f"{' and '.join(others)} {verb} of no use beside keystone.{ways[0]}: the credentials come from one place"
        )
    return problems


def _beside(keystone: KeystoneSettings, sources: Mapping[str, str]) -> list[tuple[str, str]]:
    keys = [(key, sources.get(f"keystone.{key}")) for key, _ in keystone if key not in WAYS]
    return [(key, source) for key, source in keys if source is not None]


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
