"""The credentials that a nova-compute on this host has already: ``[placement]`` of its nova.conf.

Read by oslo.config itself (extra ``nova-conf``): substitution, several files, directories and the names that options
had earlier are its business.  Only what is registered here is read, and only in the files that were named: what
nova-compute has in its environment is not in ours.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bringup.daemon.errors import SettingsError
from bringup.drivers.files import unreadable_reason

if TYPE_CHECKING:
    from oslo_config.cfg import ConfigOpts, Opt

KEY = "keystone.nova_conf"
MISSING = (
    "{key}: nova.conf is read with the extra bringup[nova-conf]: in the checkout, /opt/bringup/bin/pip install "
    "'.[nova-conf]'"
)
SECTIONS = ("placement", "keystone_authtoken")
"""Where keystoneauth's options may be; the first section that has an ``auth_type`` or ``auth_url``."""
NEAR = ("auth_section", "endpoint_override", "region_name", "cafile", "certfile", "keyfile")
"""Where Placement is, and whom to trust there: in the section itself, also where ``auth_section`` leads elsewhere."""
DEEPEST_REFERENCE = 10
UNSET = "\0"
# Option and the names that it had, as keystoneauth registers them.
OPTIONS = {
    "auth_type": ("auth_plugin",),
    "auth_section": (),
    "auth_url": (),
    "username": ("user-name", "user_name"),
    "user_id": (),
    "user_domain_name": (),
    "user_domain_id": (),
    "password": (),
    "project_name": ("tenant-name", "tenant_name"),
    "project_id": ("tenant-id", "tenant_id"),
    "project_domain_name": (),
    "project_domain_id": (),
    "default_domain_name": (),
    "default_domain_id": (),
    "system_scope": (),
    "application_credential_id": (),
    "application_credential_name": (),
    "application_credential_secret": (),
    "token": (),
    "endpoint": (),
    "endpoint_override": (),
    "region_name": ("os_region_name",),
    "cafile": (),
    "certfile": (),
    "keyfile": (),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfSection:
    """What a section says."""

    section: str
    """The first section that was read."""
    auth_section: str
    """The one that has the credentials."""
    options: dict[str, str | None]
    interfaces: tuple[str, ...]
    insecure: bool

    def named(self, key: str) -> str:
        """Return where a key is to be set."""
        return f"[{self.section if key in NEAR else self.auth_section}] {key}"


def read(paths: Sequence[Path]) -> ConfSection:
    """Read the section of Placement.

    :raises SettingsError: a file cannot be read, or no section has credentials.
    """
    config = parsed(paths)
    for section in SECTIONS:
        found = _read(config, section)
        if found.options["auth_type"] or found.options["auth_url"]:
            break
    else:
        names = " nor ".join(f"[{name}]" for name in SECTIONS)
        raise SettingsError([f"keystone.nova_conf = {_named(paths)}: neither {names} has an auth_type or auth_url"])
    if found.insecure:
        raise SettingsError(
            [f"[{found.section}] insecure = true: certificates are always verified here; set cafile to the CA instead"]
        )
    return found


def parsed(paths: Sequence[Path], key: str = KEY) -> "ConfigOpts":
    """Read files; ``key`` is the setting that named them.

    :raises SettingsError: one of them cannot be read.
    """
    try:
        from oslo_config import cfg
    except ImportError as error:
        raise SettingsError([MISSING.format(key=key)]) from error
    for path in paths:
        _check_given(path, key)
    config = cfg.ConfigOpts()
    try:
        config(
            [],
            project="nova",
            default_config_files=[str(path) for path in paths if not path.is_dir()],
            default_config_dirs=[str(path) for path in paths if path.is_dir()],
            use_env=False,
        )
    except cfg.ConfigFileParseError as error:
        # The error itself shows the line, and what is on it may be a password.
        raise SettingsError([f"{key}: {error.config_file} is not a configuration file of OpenStack"]) from None
    except cfg.ConfigFilesPermissionDeniedError as error:
        names = ", ".join(error.config_files)
        raise SettingsError([f"{key}: {names} cannot be read by this user; let it read them"]) from None
    except cfg.Error as error:
        raise SettingsError([f"{key}: {error}"]) from None
    except UnicodeDecodeError:
        raise SettingsError([f"{key} = {_named(paths)}: this is not UTF-8"]) from None
    except OSError as error:
        raise SettingsError([f"{key} = {_named(paths)}: cannot be read ({error.strerror})"]) from None
    return config


def _check_given(path: Path, key: str) -> None:
    """Make sure that oslo.config comes to the end of a file, or of each file of a folder.  Raises ``SettingsError``."""
    try:
        if not path.exists():
            raise SettingsError([f"{key}: {path} is not there; name the nova.conf of this host"])
        files = sorted(path.glob("*.conf")) if path.is_dir() else [path]
    except PermissionError:
        raise
    except OSError as error:
        raise SettingsError(
            [f"{key}: {path} cannot be read ({error.strerror}); name the nova.conf of this host"]
        ) from None
    for file in files:
        if problem := unreadable_reason(file):
            raise SettingsError([f"{key}: {file}: {problem}; name the nova.conf of this host"])


def _named(paths: Sequence[Path]) -> str:
    return ", ".join(map(str, paths))


def _read(config: "ConfigOpts", section: str) -> ConfSection:
    from oslo_config import cfg

    auth_section = _text(config, "auth_section", section) or section
    for group in {section, auth_section}:
        # All of them, before one is read: they may refer to each other.
        for name in OPTIONS:
            config.register_opt(_option(name, group), group)
    interfaces = value_of(config, cfg.ListOpt("valid_interfaces", default=[]), section)
    return ConfSection(
        section=section,
        auth_section=auth_section,
        options={name: _text(config, name, section if name in NEAR else auth_section) for name in OPTIONS},
        interfaces=tuple(interfaces) if isinstance(interfaces, list) else (),
        insecure=bool(value_of(config, cfg.BoolOpt("insecure", default=False), section)),
    )


def _option(name: str, group: str) -> "Opt":
    from oslo_config import cfg

    return cfg.StrOpt(name, deprecated_opts=[cfg.DeprecatedOpt(old, group=group) for old in OPTIONS[name]])


def _text(config: "ConfigOpts", name: str, group: str) -> str | None:
    found = value_of(config, _option(name, group), group)
    return None if found is None else str(found)


def value_of(config: "ConfigOpts", option: "Opt", group: str) -> object:
    """Read one option; what it refers to (``$my_ip``) is an option of Nova's and not known before.

    :raises SettingsError: it is not what it must be; its value is not shown, for it may be a password.
    """
    from oslo_config import cfg

    config.register_opt(option, group)
    why = "it refers to an option that is not set there; a $ that is meant is written $$"
    for _ in range(DEEPEST_REFERENCE):
        try:
            found: object = config[group][option.dest]
        except cfg.NoSuchOptError as error:
            with suppress(cfg.Error, ValueError):  # what it refers to cannot be an option of Nova's at all
                config.register_opt(cfg.StrOpt(error.opt_name, default=UNSET))
                continue
            break
        except (cfg.Error, ValueError, RecursionError):
            why = "it is not what nova-compute takes"
            break
        else:
            if not isinstance(found, str) or UNSET not in found:
                return found
            break
    raise SettingsError([f"[{group}] {option.name} cannot be read: {why}"])
