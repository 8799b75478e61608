"""Checks of keys that are valid alone and wrong together, and of keys without a default that some commands need."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bringup.daemon.decisions.policies import GuestShutdown, Limits
from bringup.daemon.errors import SettingsError
from bringup.daemon.settings.model import (
    DriverSettings,
    HostSettings,
    KeystoneSettings,
    MessagingSettings,
    PlacementSettings,
    SchedulerSettings,
    Settings,
    StoreSettings,
    keys_of,
)
from bringup.daemon.storage.store.database_url import parse_database_url
from bringup.drivers.libvirt_options import LibvirtSection
from bringup.placement.unencrypted import is_unencrypted

WAYS = ("nova_conf", "cloud", "auth_url")
"""Where the credentials of Keystone may be."""
MESSAGING_WAYS = ("nova_conf", "transport_url", "transport_url_file")
"""Where it may be said how RabbitMQ is reached."""
TLS_FILES = ("ca_file", "cert_file", "key_file")
CREDENTIALS = "CREDENTIALS_DIRECTORY"
COMPUTE_ID = (
    "it is in the file compute_id of nova-compute's state_path (/var/lib/nova/compute_id), and is the UUID of this "
    "host's resource provider"
)


def crossed(
    sections: Mapping[str, Any], sources: Mapping[str, str], *, problems: list[str], warnings: list[str]
) -> None:
    """Add a sentence for each pair of keys that does not go together; a section that is wrong by itself is ignored."""
    placement, scheduler = sections.get("placement"), sections.get("scheduler")
    limits, guests = sections.get("limits"), sections.get("guests")
    if isinstance(placement, PlacementSettings):
        problems.extend(_two_secrets("placement", placement, sources))
        problems.extend(_lonely_key("placement", placement, sources))
        if placement.auth == "none" and (placement.token or placement.token_file):
            warnings.append('placement.auth = "none": no token is sent; leave out placement.token and token_file')
    if isinstance(scheduler, SchedulerSettings):
        problems.extend(_two_secrets("scheduler", scheduler, sources))
        problems.extend(_scheduler(scheduler, sources))
        warnings.extend(_questionable_scheduler(scheduler))
    keystone = sections.get("keystone")
    if isinstance(keystone, KeystoneSettings):
        problems.extend(_keystone(keystone, sources))
        if isinstance(placement, PlacementSettings) and placement.auth != "keystone" and keystone != KeystoneSettings():
            warnings.append(f'placement.auth = "{placement.auth}": [keystone] is not used')
    problems.extend(_messaging(sections, sources))
    store = sections.get("store")
    if isinstance(store, StoreSettings):
        problems.extend(_store(store, sources))
        warnings.extend(_questionable_store(store, sources))
    driver, libvirt = sections.get("driver"), sections.get("libvirt")
    if isinstance(driver, DriverSettings) and driver.name != "libvirt" and libvirt not in (None, LibvirtSection()):
        warnings.append(f'driver.name = "{driver.name}": [libvirt] is not used')
    if isinstance(limits, Limits) and isinstance(guests, GuestShutdown):
        warnings.extend(_deadlines(limits, guests))
    messaging = sections.get("messaging")
    if isinstance(limits, Limits) and isinstance(store, StoreSettings) and store.is_nova_conductor:
        warnings.extend(_budget(limits, messaging) if isinstance(messaging, MessagingSettings) else ())


def _questionable_scheduler(scheduler: SchedulerSettings) -> list[str]:
    if not scheduler.url:
        return []
    if scheduler.transport == "none":
        return ['scheduler.url is not used: set scheduler.transport = "http" to report to it']
    if scheduler.transport == "http" and (scheduler.token or scheduler.token_file) and is_unencrypted(scheduler.url):
        return [f"scheduler.url = {scheduler.url}: the token goes there unencrypted; give an address with https://"]
    return []


def _two_secrets(name: str, section: Any, sources: Mapping[str, str], what: Sequence[str] = ("token",)) -> list[str]:
    return [
        f"{name}.{key} ({sources.get(f'{name}.{key}')}) and {name}.{key}_file ({sources.get(f'{name}.{key}_file')}) "
        "are both set: give one of them"
        for key in what
        if getattr(section, key) is not None and getattr(section, f"{key}_file") is not None
    ]


def _lonely_key(
    name: str, section: PlacementSettings | MessagingSettings | StoreSettings, sources: Mapping[str, str]
) -> list[str]:
    if section.key_file is None or section.cert_file is not None:
        return []
    source = sources.get(f"{name}.key_file")
    return [f"{name}.cert_file is missing, and {name}.key_file ({source}) is of no use without it"]


def _messaging(sections: Mapping[str, Any], sources: Mapping[str, str]) -> list[str]:
    messaging, host = sections.get("messaging"), sections.get("host")
    if not isinstance(messaging, MessagingSettings):
        return []
    problems = _lonely_key("messaging", messaging, sources)
    given = [
        f"messaging.{key} ({sources.get(f'messaging.{key}')})" for key in MESSAGING_WAYS if getattr(messaging, key)
    ]
    if len(given) > 1:
        problems.append(f"{' and '.join(given)} are set: RabbitMQ is found in one way; give one of them")
    store, scheduler = sections.get("store"), sections.get("scheduler")
    users = []
    if isinstance(store, StoreSettings) and store.is_nova_conductor:
        users.append(f'store.url = "{store.url}" ({sources.get("store.url")})')
        if isinstance(host, HostSettings) and host.node_uuid is None:
            problems.append(f"host.node_uuid is missing, and {users[0]} needs it: {COMPUTE_ID}")
    if isinstance(scheduler, SchedulerSettings) and scheduler.transport == "nova":
        users.append(f'scheduler.transport = "nova" ({sources.get("scheduler.transport")})')
    if users and not given:
        need = "need" if len(users) > 1 else "needs"
        problems.append(
            f"messaging.transport_url is missing, and {' and '.join(users)} {need} it: "
            "give messaging.transport_url_file, or messaging.nova_conf where this host has a nova.conf"
        )
    return problems


def _store(store: StoreSettings, sources: Mapping[str, str]) -> list[str]:
    if not store.is_postgresql:
        return []
    problems = [*_two_secrets("store", store, sources, ("password",)), *_lonely_key("store", store, sources)]
    files = [key for key in TLS_FILES if getattr(store, key) is not None]
    if store.tls == "off" and files:
        given = " and ".join(f"store.{key} ({sources.get(f'store.{key}')})" for key in files)
        problems.append(
            f'store.tls = "off" ({sources.get("store.tls")}) and {given} are set: leave out store.tls, or the files'
        )
    return problems


def _questionable_store(store: StoreSettings, sources: Mapping[str, str]) -> list[str]:
    if not store.is_postgresql:
        given = [key for key in ("password", "password_file", "tls", *TLS_FILES) if f"store.{key}" in sources]
        # A credential of systemd lies there whether it is used or not.
        named = [key for key in given if sources[f"store.{key}"] != CREDENTIALS]
        return [f'store.url = "{store.url}": store.{", store.".join(named)}: of PostgreSQL, not used'] if named else []
    away = [each.host for each in parse_database_url(store.url).endpoints if not each.is_local]
    if store.tls != "off" or not away:
        return []
    sentence = (
        f'store.tls = "off" ({sources.get("store.tls")}): who is between here and {", ".join(away)} can read and '
        "change the records that decide which guests are started and destroyed; leave it out, and set store.ca_file"
    )
    return [sentence]


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
    keys = [(key, sources.get(f"keystone.{key}")) for key, _ in keys_of(keystone) if key not in WAYS]
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


def _budget(limits: Limits, messaging: MessagingSettings) -> list[str]:
    if messaging.budget < limits.instance_deadline:
        return []
    sentence = (
        f"messaging.deadline = {messaging.deadline:g} s: one save may take three times that, {messaging.budget:g} s, "
        f"and limits.instance_deadline = {limits.instance_deadline:g} s ends it before; give less than a third of that"
    )
    return [sentence]


def _deadlines(limits: Limits, guests: GuestShutdown) -> list[str]:
    if guests.shutdown_timeout < limits.instance_deadline:
        return []
    sentence = (
        f"guests.shutdown_timeout = {guests.shutdown_timeout:g} s is not shorter than limits.instance_deadline = "
        f"{limits.instance_deadline:g} s: a guest that does not shut down by itself runs into its deadline"
    )
    return [sentence]


def require_placement(settings: Settings) -> None:
    """Make sure that there is a way to find Placement.

    :raises SettingsError: there is none (Nova's ``PlacementNotConfigured``).
    """
    if settings.placement.url is None and settings.placement.auth != "keystone":
        sentence = (
            "placement.url is missing, and this host may not start guests before Placement knows it: "
            'give an address such as "http://controller:8778", or the credentials for a cloud whose catalogue has it '
            "([keystone])"
        )
        raise SettingsError([sentence])


def require_scenario(settings: Settings) -> Path:
    """Return the scenario file of the simulated driver; raise ``SettingsError`` if none is set."""
    if settings.driver.scenario is None:
        name = settings.driver.name
        raise SettingsError(
            [
                (
                    f'driver.scenario is missing, and driver.name = "{name}" needs it: give the path of a file, or set '
                    'driver.name = "libvirt" for real guests'
                )
            ]
        )
    return settings.driver.scenario
