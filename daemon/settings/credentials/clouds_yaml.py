"""The credentials of clouds.yaml, secure.yaml, ``OS_CLOUD`` and ``OS_*``.

Read by openstacksdk's own loader (extra ``clouds``): where the files are, profiles, regions and precedence are its
business.  One default of it is not taken over: a compute host prefers internal endpoints, as Nova does, where nothing
is said.
"""

import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bringup.daemon.errors import SettingsError
from bringup.daemon.settings.credentials.keystone_identity import KEYS
from bringup.drivers.files import unreadable_reason

MISSING = (
    "keystone.cloud, OS_CLOUD and OS_*: they are read with the extra bringup[clouds]: in the checkout, "
    "/opt/bringup/bin/pip install '.[clouds]'"
)


FILES = ("OS_CLIENT_CONFIG_FILE", "OS_CLIENT_SECURE_FILE", "OS_CLIENT_VENDOR_FILE")
"""Variables of openstacksdk that name a file."""
NAMES_ONLY = ("Region ", "Cloud ", "Configuration file ", "interface should be ")
"""How what the loader says begins where nothing of what is in a cloud is shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudEntry:
    """What is said of one cloud."""

    name: str
    options: dict[str, str | None]
    region: str | None
    interfaces: tuple[str, ...]
    endpoint: str | None
    ca_file: str | None
    cert_file: str | None
    key_file: str | None

    def named(self, key: str) -> str:
        """Return where a key is to be set."""
        return f"cloud {self.name}: {key}"


def is_in(environment: Mapping[str, str]) -> bool:
    """Check whether the environment names a cloud."""
    return bool(environment.get("OS_CLOUD") or environment.get("OS_AUTH_URL"))


def read(cloud: str | None, *, region: str | None = None) -> CloudEntry:
    """Read what is said of a cloud, in this region where it has several; None: the one of the environment.

    :raises SettingsError: it is not there, or cannot be read.
    """
    with warnings.catch_warnings():
        # What the loader and its libraries deprecate is not ours to say.
        warnings.simplefilter("ignore")
        try:
            return _found(_config_of(cloud, region))
        except SettingsError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever the loader raises
            # The loader does not check what kinds of thing are in a file.
            kind = type(error).__name__
            raise SettingsError([f"{_setting(cloud)}: clouds.yaml or secure.yaml cannot be read ({kind})"]) from None


def _found(config: Any) -> CloudEntry:
    verify, cert = config.get_requests_verify_args()
    if verify is False:
        right = "certificates are always verified here; set cacert to the CA"
        raise SettingsError([f"cloud {config.name}: verify is false or insecure is true, and {right}"])
    # What is not in auth, as OS_* never is, stands beside it.
    said = {**config.config, **(config.config.get("auth") or {})}
    options = {key: _text(config.name, key, said[key]) for key in KEYS if said.get(key) is not None}
    interfaces = config.get_interface("placement") or ()
    cert_file, key_file = cert if isinstance(cert, tuple) else (cert, None)
    texts = {
        "auth_type": config.config.get("auth_type") or "password",
        "region_name": config.get_region_name("placement"),
        "placement_endpoint_override": config.get_endpoint("placement") or options.get("endpoint"),
        "cacert": verify if verify is not True else None,
        "cert": cert_file,
        "key": key_file,
    }
    checked = {key: None if value is None else _text(config.name, key, value) for key, value in texts.items()}
    several = (interfaces,) if isinstance(interfaces, str) else tuple(interfaces)
    return CloudEntry(
        name=config.name,
        options={**options, "auth_type": checked["auth_type"]},
        region=checked["region_name"] or None,
        interfaces=tuple(_text(config.name, "interface", each) for each in several),
        endpoint=checked["placement_endpoint_override"],
        ca_file=checked["cacert"],
        cert_file=checked["cert"],
        key_file=checked["key"],
    )


def _text(cloud: str, key: str, value: object) -> str:
    if not isinstance(value, str | int | float):
        raise SettingsError(
            [f"cloud {cloud}: {key} is {'a list' if isinstance(value, list) else 'no text'}: give text"]
        )
    return str(value)


def _config_of(cloud: str | None, region: str | None) -> Any:
    try:
        from openstack.config import OpenStackConfig
        from openstack.exceptions import ConfigException
    except ImportError as error:
        raise SettingsError([MISSING]) from error
    chosen: dict[str, Any] = {} if region is None else {"region_name": region}
    for name in FILES:
        if name in os.environ and (problem := unreadable_reason(Path(os.environ[name]))):
            raise SettingsError([f"{name}: {os.environ[name]}: {problem}; name a file"])
    try:
        with _nothing_skipped(_setting(cloud)):
            loader = OpenStackConfig(override_defaults={"interface": None})
        name = _must_be_there(loader, cloud)
        _check_regions(name, loader.cloud_config["clouds"][name])
        _refuse_what_is_fetched(loader, name)
        found = loader.get_one(cloud=cloud, validate=False, **chosen)
        dict(found.config.get("auth") or {})
    except ConfigException as error:
        raise SettingsError([f"{_setting(cloud)}: {_said(str(error))}"]) from None
    return found


def _said(text: str) -> str:
    """Return the loader's text if it names clouds, regions and files; other texts may show a password."""
    return text if text.startswith(NAMES_ONLY) else "openstacksdk does not take it: compare it with its manual"


def _check_regions(name: str, said: Mapping[str, Any]) -> None:
    """Make sure that each region has a name: the loader would show what it has instead, passwords too."""
    regions = said.get("regions") or []
    for index, region in enumerate(regions if isinstance(regions, list) else [None]):
        found = region.get("name") if isinstance(region, dict) else region
        if not isinstance(found, str) or not found:
            raise SettingsError([f"cloud {name}: regions[{index}] has no name: give it one"])
        if isinstance(region, dict) and (
            region.keys() - {"name", "values"} or not isinstance(region.get("values") or {}, dict)
        ):
            raise SettingsError([f"cloud {name}: regions[{index}] may have a name, and values, an object, and no more"])


def _refuse_what_is_fetched(loader: Any, name: str) -> None:
    """Refuse a profile that the loader would fetch: a host that boots may have no way there."""
    from openstack.config import vendors

    said = loader.cloud_config["clouds"][name]
    profile = said.get("profile") or said.get("cloud")
    _, own = loader._load_vendor_file()  # noqa: SLF001 - whose profiles stand above those of the library
    if not profile or profile in ((own or {}).get("public-clouds") or {}):
        return
    where = profile
    if profile in vendors.profiles():
        where = (vendors.get_profile(profile) or {}).get("profile") or ""
    if urlsplit(where).netloc:
        fetched = (
            f"cloud {name}: profile {profile} is fetched from {urlsplit(where).hostname} at each start, and a host "
            "that boots may have no way there: write its auth_url and region_name into the cloud, and leave it out"
        )
        raise SettingsError([fetched])


@contextmanager
def _nothing_skipped(setting: str) -> Iterator[None]:
    """Make an error of what the loader only warns of: a file that it cannot parse and ignores.

    Its warning holds what the parser says, and that may be a part of a password.

    :raises SettingsError: a file was skipped.
    """
    skipped: list[str] = []

    def note(record: logging.LogRecord) -> bool:
        match record.args:
            case (str() as path, Exception() as error):
                mark = getattr(error, "problem_mark", None)
                skipped.append(path if mark is None else f"{path}, line {mark.line + 1}")
        return False

    log = logging.getLogger("openstack.config")
    log.addFilter(note)
    try:
        yield
    finally:
        log.removeFilter(note)
    if skipped:
        raise SettingsError([f"{setting}: {skipped[0]}: this is not YAML"])


def _must_be_there(loader: Any, cloud: str | None) -> str:
    name: str = cloud or loader.default_cloud
    known = loader.cloud_config["clouds"]
    if name in known:
        return name
    if loader.config_filename is None:
        has = "no clouds.yaml that can be read is in this directory, ~/.config/openstack or /etc/openstack"
    else:
        has = f"{loader.config_filename} has {', '.join(sorted(known)) or 'none'}"
    raise SettingsError([f"{_setting(cloud)}: there is no cloud {name}; {has}"])


def _setting(cloud: str | None) -> str:
    return "OS_CLOUD or OS_*" if cloud is None else "keystone.cloud"
