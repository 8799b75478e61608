"""A nova.conf in our settings: what of it concerns the host's start, key by key.

Only what differs from our defaults is given.  Secrets stay where they are: ``messaging.nova_conf`` and
``keystone.nova_conf`` refer to the files.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bringup.daemon.credentials.messaging import from_nova_conf
from bringup.daemon.credentials.nova_conf import parsed, value_of
from bringup.daemon.errors import SettingsError

if TYPE_CHECKING:
    from oslo_config.cfg import ConfigOpts, Opt

KEY = "nova.conf"
STATE_PATH = "/var/lib/nova"
COMPUTE_ID = "compute_id"
# Nova's drivers that there is one for here, and libvirt's URI by [libvirt] virt_type.
LIBVIRT = "libvirt.LibvirtDriver"
URIS = {"lxc": "lxc:///", "parallels": "parallels:///system"}
NO_KEYSTONE = ("none", "noauth", "admin_token")


@dataclass(slots=True)
class Taken:
    """What was taken over."""

    sections: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    """What an operator should know of: it has no place here, or must be looked at."""

    def put(self, section: str, key: str, value: object, default: object = None) -> None:
        """Take a value over, unless it is our default anyway."""
        if value is not None and value != default:
            self.sections.setdefault(section, {})[key] = value


def settings_from(paths: Sequence[Path]) -> Taken:
    """Read the files of a nova-compute.

    :raises SettingsError: they cannot be read, or do not say what is needed.
    """
    from oslo_config import cfg

    config = parsed(paths, KEY)
    # Others refer to it, and packages set it at build time.
    config.register_opt(cfg.StrOpt("state_path", default=STATE_PATH))
    taken = Taken()
    files = [str(path) for path in paths]
    _host(config, taken)
    taken.put("store", "url", "nova-conductor:")
    taken.put("store", "instance_name_template", _text(config, "instance_name_template"), "instance-%08x")
    # Read here so that what is wrong with it is said now.
    from_nova_conf(paths)
    taken.put("messaging", "nova_conf", files)
    taken.put("messaging", "deadline", _number(config, "rpc_response_timeout"), 60)
    _scheduler(config, taken)
    _placement(config, taken, files)
    _driver(config, taken)
    if _flag(config, "resume_guests_state_on_host_boot"):
        taken.put("resume", "guests", "on_host_boot")
    taken.put("guests", "shutdown_timeout", _number(config, "shutdown_timeout"), 60)
    taken.put("guests", "shutdown_retry_interval", _number(config, "shutdown_retry_interval", "compute"), 10)
    specs = _value(config, cfg.MultiStrOpt("device_spec", deprecated_name="passthrough_whitelist", default=[]), "pci")
    taken.put("pci", "device_spec", specs, [])
    return taken


def _host(config: "ConfigOpts", taken: Taken) -> None:
    taken.put("host", "name", _text(config, "host"))
    path = Path(_text(config, "state_path") or STATE_PATH) / COMPUTE_ID
    try:
        taken.put("host", "node_uuid", path.read_text(encoding="ascii").strip())
    except (OSError, UnicodeDecodeError) as error:
        missing = (
            f"host.node_uuid: {path} cannot be read, where nova-compute keeps the UUID of its node; let this user read "
            "it, or write the file with the UUID of this host's resource provider in it"
        )
        raise SettingsError([missing]) from error


def _scheduler(config: "ConfigOpts", taken: Taken) -> None:
    taken.put("scheduler", "transport", "nova")
    if not _flag(config, "track_instance_changes", "filter_scheduler", default=True):
        taken.put("scheduler", "track_instance_changes", value=False)
    every = _number(config, "scheduler_instance_sync_interval")
    # Nova's periodic tasks: 0 is once a minute, below 0 never.
    taken.put("scheduler", "sync_interval", {None: None, 0: 60}.get(every, max(every or 0, 0)), 120)


def _placement(config: "ConfigOpts", taken: Taken, files: list[str]) -> None:
    if _text(config, "auth_type", "placement") in NO_KEYSTONE:
        override, endpoint = (_text(config, key, "placement") for key in ("endpoint_override", "endpoint"))
        taken.put("placement", "url", override or endpoint)
        taken.notes.append("[placement] auth_type: no Keystone is asked; set placement.token_file if a token is wanted")
    else:
        taken.put("placement", "auth", "keystone")
        taken.put("keystone", "nova_conf", files)
    taken.notes.append(
        "placement.resource_provider is taken to be host.name; nova-compute names it as the hypervisor names the host "
        "(openstack resource provider list): set it if that is another name"
    )


def _driver(config: "ConfigOpts", taken: Taken) -> None:
    driver = _text(config, "compute_driver")
    if driver != LIBVIRT:
        taken.notes.append(
            f"[DEFAULT] compute_driver = {driver}: there is a driver for {LIBVIRT} only; set driver.name"
        )
        return
    taken.put("driver", "name", "libvirt")
    uri = _text(config, "connection_uri", "libvirt") or URIS.get(_text(config, "virt_type", "libvirt") or "")
    taken.put("libvirt", "uri", uri, "qemu:///system")
    state_path = _text(config, "state_path") or STATE_PATH
    taken.put(
        "libvirt",
        "instances_path",
        _text(config, "instances_path") or f"{state_path}/instances",
        "/var/lib/nova/instances",
    )
    taken.put("network", "integration_bridge", _text(config, "ovs_bridge", "neutron"), "br-int")


def _value(config: "ConfigOpts", option: "Opt", group: str) -> Any:
    return value_of(config, option, group)


def _text(config: "ConfigOpts", name: str, group: str = "DEFAULT") -> str | None:
    from oslo_config import cfg

    found = _value(config, cfg.StrOpt(name), group)
    return None if found is None else str(found)


def _number(config: "ConfigOpts", name: str, group: str = "DEFAULT") -> int | None:
    from oslo_config import cfg

    found = _value(config, cfg.IntOpt(name), group)
    return None if found is None else int(found)


def _flag(config: "ConfigOpts", name: str, group: str = "DEFAULT", *, default: bool = False) -> bool:
    from oslo_config import cfg

    return bool(_value(config, cfg.BoolOpt(name, default=default), group))
