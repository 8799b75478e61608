"""How Placement is reached: who we are, where it is, whom to trust."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
from pydantic import SecretStr

from bringup.daemon.credentials import clouds, nova_conf
from bringup.daemon.credentials.identities import identity_of
from bringup.daemon.errors import SettingsError
from bringup.daemon.settings import Settings, require_placement
from bringup.placement.auth import NoAuth
from bringup.placement.catalogue import Wanted
from bringup.placement.keystone import KeystoneAuth

NOWHERE = (
    'placement.auth = "keystone", and there are no credentials: give keystone.auth_url and what goes with it, '
    "keystone.cloud (clouds.yaml), keystone.nova_conf, or OS_CLOUD or OS_AUTH_URL in the environment"
)
NO_KEYSTONE = frozenset({"none", "noauth", "admin_token"})
"""keystoneauth's types for a Placement that asks no Keystone (``auth_strategy = noauth2``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What a client of Placement is made with."""

    url: str | None
    """None: it is in the catalogue."""
    auth: httpx.Auth | None
    wanted: Wanted
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None


def access_of(settings: Settings, environment: Mapping[str, str] = os.environ) -> Access:
    """Find out, from wherever the settings say; our own settings stand above what is found there.

    :raises SettingsError: something is missing or cannot be read.
    """
    require_placement(settings)
    placement, keystone = settings.placement, settings.keystone
    if placement.auth != "keystone":
        token = None if placement.token is None else placement.token.get_secret_value()
        auth = NoAuth(token) if placement.auth == "noauth" and token is not None else None
        return _with_own(settings, url=None, auth=auth)
    if keystone.nova_conf:
        return _from_nova_conf(settings)
    if keystone.auth_url is not None:
        options = {key: _plain(value) for key, value in keystone if not isinstance(value, tuple)}
        return _with_own(
            settings, url=None, auth=KeystoneAuth(identity_of(options, named=lambda key: f"keystone.{key}"))
        )
    if keystone.cloud is not None or clouds.is_in(environment):
        return _from_clouds(settings)
    raise SettingsError([NOWHERE])


def _plain(value: object) -> str | None:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return None if value is None else str(value)


def _from_nova_conf(settings: Settings) -> Access:
    found = nova_conf.read(settings.keystone.nova_conf)
    options = found.options
    url = options["endpoint_override"] or options["endpoint"]
    auth: httpx.Auth | None
    if options["auth_type"] in NO_KEYSTONE:
        auth = _without_keystone(options["token"])
    else:
        auth = KeystoneAuth(identity_of(options, named=found.named))
    return _with_own(
        settings,
        url=url,
        auth=auth,
        region=options["region_name"],
        interfaces=found.interfaces,
        files=(options["cafile"], options["certfile"], options["keyfile"]),
    )


def _from_clouds(settings: Settings) -> Access:
    found = clouds.read(settings.keystone.cloud)
    options = found.options
    auth: httpx.Auth | None
    if options["auth_type"] in NO_KEYSTONE:
        auth = _without_keystone(options.get("token"))
    else:
        auth = KeystoneAuth(identity_of(options, named=found.named))
    return _with_own(
        settings,
        url=found.endpoint,
        auth=auth,
        region=found.region,
        interfaces=() if found.interface is None else (found.interface,),
        files=(found.ca_file, found.cert_file, found.key_file),
    )


def _without_keystone(token: str | None) -> httpx.Auth | None:
    return None if token is None else NoAuth(token)


def _with_own(
    settings: Settings,
    *,
    url: str | None,
    auth: httpx.Auth | None,
    region: str | None = None,
    interfaces: Sequence[str] = (),
    files: Sequence[str | None] = (None, None, None),
) -> Access:
    """Put our own settings, where they are set, over what was found."""
    placement = settings.placement
    url = placement.url or url
    if url is None and not isinstance(auth, KeystoneAuth):
        raise SettingsError(["placement.url is missing, and without Keystone there is no catalogue to find it in"])
    set_here = settings.source_of("placement.interfaces") != "default"
    ca_file, cert_file, key_file = (None if name is None else Path(name) for name in files)
    return Access(
        url=url,
        auth=auth,
        wanted=Wanted(
            interfaces=placement.interfaces if set_here or not interfaces else tuple(interfaces),
            region=placement.region or region,
        ),
        ca_file=placement.ca_file or ca_file,
        cert_file=placement.cert_file or cert_file,
        key_file=placement.key_file if placement.cert_file else key_file,
    )
