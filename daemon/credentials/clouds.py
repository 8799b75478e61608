"""The credentials of clouds.yaml, secure.yaml, ``OS_CLOUD`` and ``OS_*``.

Read by openstacksdk's own loader (extra ``clouds``): where the files are, profiles, regions and precedence are its
business.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bringup.daemon.errors import SettingsError

MISSING = "keystone.cloud, OS_CLOUD and OS_*: they are read with the extra bringup[clouds]; install it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What is said of one cloud."""

    name: str
    options: dict[str, str | None]
    region: str | None
    interface: str | None
    endpoint: str | None
    ca_file: str | None
    cert_file: str | None
    key_file: str | None

    def named(self, key: str) -> str:
        """Say where a key is to be set."""
        return f"cloud {self.name}: {key}"


def is_in(environment: Mapping[str, str]) -> bool:
    """Tell whether the environment names a cloud."""
    return bool(environment.get("OS_CLOUD") or environment.get("OS_AUTH_URL"))


def read(cloud: str | None) -> Found:
    """Read what is said of a cloud; None: the one of the environment.

    :raises SettingsError: it is not there, or cannot be read.
    """
    config = _config_of(cloud)
    said = config.config
    if said.get("verify") is False:
        raise SettingsError(
            [f"cloud {config.name}: verify is false, and certificates are always verified here; set cacert to the CA"]
        )
    auth: dict[str, Any] = dict(said.get("auth") or {})
    options = {key: str(value) for key, value in auth.items() if value is not None}
    region, interface = said.get("region_name"), said.get("interface")
    return Found(
        name=config.name,
        options={**options, "auth_type": str(said.get("auth_type") or "password")},
        region=str(region) if region else None,
        interface=str(interface) if interface else None,
        endpoint=said.get("placement_endpoint_override") or options.get("endpoint"),
        ca_file=said.get("cacert"),
        cert_file=said.get("cert"),
        key_file=said.get("key"),
    )


def _config_of(cloud: str | None) -> Any:
    try:
        with warnings.catch_warnings():
            # What the loader's own libraries deprecate is not ours to say.
            warnings.simplefilter("ignore")
            from openstack.config import OpenStackConfig
            from openstack.exceptions import ConfigException
            from yaml import YAMLError
    except ImportError as error:
        raise SettingsError([MISSING]) from error
    try:
        return OpenStackConfig().get_one(cloud=cloud, validate=False)
    except ConfigException as error:
        raise SettingsError([f"keystone.cloud: {error}"]) from error
    except (YAMLError, ValueError, TypeError, AttributeError, KeyError, OSError) as error:
        # A YAML error shows the line, and what is on it may be a password.
        raise SettingsError([f"clouds.yaml or secure.yaml cannot be read ({type(error).__name__})"]) from None
