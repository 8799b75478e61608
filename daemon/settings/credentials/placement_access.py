"""How Placement is reached: who we are, where it is, whom to trust."""

import os
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
from pydantic import SecretStr

from bringup.daemon.errors import SettingsError
from bringup.daemon.settings import Settings, require_placement
from bringup.daemon.settings.credentials import clouds_yaml, nova_conf
from bringup.daemon.settings.credentials.keystone_identity import Options, identity_of
from bringup.daemon.settings.model import keys_of
from bringup.daemon.settings.values import ADDRESS, web_address
from bringup.placement.auth import NoAuth
from bringup.placement.catalogue import WantedEndpoint
from bringup.placement.errors import NotUnderstood
from bringup.placement.keystone import KeystoneAuth
from bringup.placement.tls import Trust, context

NOWHERE = (
    'placement.auth = "keystone", and there are no credentials: give keystone.auth_url and what goes with it, '
    "keystone.cloud (clouds.yaml), keystone.nova_conf, or OS_CLOUD or OS_AUTH_URL in the environment"
)
NO_KEYSTONE = frozenset({"none", "noauth", "admin_token"})
"""keystoneauth's types for a Placement that asks no Keystone (``auth_strategy = noauth2``)."""
SYSTEM = Trust()


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What a client of Placement is made with."""

    url: str | None
    """None: it is in the catalogue."""
    auth: httpx.Auth | None
    wanted: WantedEndpoint
    trust: Trust = SYSTEM


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
        options = {key: _plain(value) for key, value in keys_of(keystone) if not isinstance(value, tuple)}
        return _with_own(
            settings, url=None, auth=KeystoneAuth(identity_of(options, named=lambda key: f"keystone.{key}"))
        )
    given = [key for key in sorted(settings.sources) if key.startswith("keystone.") and key != "keystone.cloud"]
    if given:
        raise SettingsError([f"keystone.auth_url is missing, and {', '.join(given)} is of no use without it"])
    if keystone.cloud is not None or clouds_yaml.is_in(environment):
        return _from_clouds(settings)
    raise SettingsError([NOWHERE])


def trusted(trust: Trust) -> ssl.SSLContext | bool:
    """Return the context that verifies certificates; a file that cannot be used is a wrong setting.

    :raises SettingsError: it cannot be.
    """
    if trust.is_default:
        return True
    try:
        return context(trust)
    except NotUnderstood as error:
        raise SettingsError([str(error)]) from None


def _plain(value: object) -> str | None:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return None if value is None else str(value)


def _from_nova_conf(settings: Settings) -> Access:
    found = nova_conf.read(settings.keystone.nova_conf)
    options = found.options
    url = options["endpoint_override"] or options["endpoint"]
    return _with_own(
        settings,
        url=_checked(url, named=found.named("endpoint_override" if options["endpoint_override"] else "endpoint")),
        auth=_auth_of(options, named=found.named),
        region=options["region_name"],
        interfaces=found.interfaces,
        trust=_trust(
            *(options[key] for key in ("cafile", "certfile", "keyfile")),
            names=("cafile", "certfile", "keyfile"),
            named=found.named,
        ),
    )


def _from_clouds(settings: Settings) -> Access:
    found = clouds_yaml.read(settings.keystone.cloud, region=settings.placement.region)
    return _with_own(
        settings,
        url=_checked(found.endpoint, named=found.named("placement_endpoint_override")),
        auth=_auth_of(found.options, named=found.named),
        region=found.region,
        interfaces=found.interfaces,
        trust=_trust(
            found.ca_file, found.cert_file, found.key_file, names=("cacert", "cert", "key"), named=found.named
        ),
    )


def _auth_of(options: Options, *, named: Callable[[str], str]) -> httpx.Auth | None:
    if options.get("auth_type") not in NO_KEYSTONE:
        return KeystoneAuth(identity_of(options, named=named))
    token = options.get("token")
    return None if token is None else NoAuth(token)


def _checked(url: str | None, *, named: str) -> str | None:
    if not url:
        return None
    try:
        return web_address(url)
    except ValueError:
        # What is wrong with it may be a password.
        raise SettingsError([f"{named} is not an address: give {ADDRESS}"]) from None


def _trust(
    ca_file: str | None,
    cert_file: str | None,
    key_file: str | None,
    *,
    names: tuple[str, str, str],
    named: Callable[[str], str],
) -> Trust:
    ca_name, cert_name, key_name = map(named, names)
    paths = [Path(name) if name else None for name in (ca_file, cert_file, key_file)]
    return Trust(
        ca_file=paths[0],
        cert_file=paths[1],
        key_file=paths[2],
        ca_name=ca_name,
        cert_name=cert_name,
        key_name=key_name,
    )


def _with_own(
    settings: Settings,
    *,
    url: str | None,
    auth: httpx.Auth | None,
    region: str | None = None,
    interfaces: Sequence[str] = (),
    trust: Trust = SYSTEM,
) -> Access:
    """Put our own settings, where they are set, over what was found."""
    placement = settings.placement
    url = placement.url or url
    if url is None and not isinstance(auth, KeystoneAuth):
        raise SettingsError(["placement.url is missing, and without Keystone there is no catalogue to find it in"])
    set_here = settings.source_of("placement.interfaces") != "default"
    if placement.ca_file is not None:
        trust = replace(trust, ca_file=placement.ca_file, ca_name="placement.ca_file")
    if placement.cert_file is not None:
        own = Trust(cert_file=placement.cert_file, key_file=placement.key_file)
        trust = replace(own, ca_file=trust.ca_file, ca_name=trust.ca_name)
    return Access(
        url=url,
        auth=auth,
        wanted=WantedEndpoint(
            interfaces=placement.interfaces if set_here or not interfaces else tuple(interfaces),
            region=placement.region or region or None,
            allow_http=placement.allow_http_endpoint,
        ),
        trust=trust,
    )
