"""A nova.conf in our settings: what of it concerns the host's start, key by key.

Only what differs from our defaults is given.  Secrets stay where they are: ``messaging.nova_conf`` and
``keystone.nova_conf`` refer to the files.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bringup.daemon.errors import SettingsError
from bringup.daemon.settings import Settings
from bringup.daemon.settings.credentials.nova_conf import parsed, value_of
from bringup.daemon.settings.credentials.placement_access import access_of, trusted
from bringup.daemon.settings.credentials.rabbitmq import RABBIT, broker_of
from bringup.daemon.settings.layers import Layers
from bringup.daemon.settings.loading import settings_of
from bringup.drivers.files import read_file
from bringup.drivers.identifiers import NAME_TEMPLATE, uuid_in_any_spelling

if TYPE_CHECKING:
    from oslo_config.cfg import ConfigOpts, Opt

KEY = "nova.conf"
STATE_PATH = "/var/lib/nova"
COMPUTE_ID = "compute_id"
# Nova's driver that there is one for here, by every name that Nova loads it by: from nova.virt, or from anywhere.
LIBVIRT = "libvirt.LibvirtDriver"
LIBVIRT_NAMES = frozenset(
    f"{package}libvirt.{module}LibvirtDriver" for package in ("", "nova.virt.") for module in ("", "driver.")
)
# libvirt's URI by [libvirt] virt_type.
URIS = {"lxc": "lxc:///", "parallels": "parallels:///system"}
NO_KEYSTONE = ("none", "noauth", "admin_token")
RESUMED_TWICE = (
    "[DEFAULT] resume_guests_state_on_host_boot = true: bringup starts the guests then (resume.guests); set it to "
    "false for nova-compute, which would start too what bringup holds back on purpose"
)
CORES = (
    "[libvirt] cpu_power_management = true: nova-compute puts all dedicated cores to sleep when it starts, and wakes "
    "only those of guests that it starts itself; guests that bringup has started would be left on sleeping cores"
)
DISKS = "[libvirt] images_type = rbd: other hosts see the disks too; set evacuated.shared_storage to shared"
PORT_BRIDGES = (
    "[os_vif_ovs] per_port_bridge = true: bringup plugs into the integration bridge, not into a bridge for each port; "
    'set network.plug_vifs = false and resume.guests = "never", so that nova-compute starts the guests'
)
OTHER_FILES = (
    "[DEFAULT] compute_driver is not set in {files}: taken to be "
    f"{LIBVIRT}; nova-compute reads more files then, and they count here too: name them all, "
    "as in bringup from-nova-conf {again}"
)
NO_URL = "placement.url: nova.conf does not say where Placement is; set it"


@dataclass(slots=True)
class Taken:
    """What was taken over."""

    sections: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    """Notes for the operator: options without a counterpart, or to be checked."""

    def put(self, section: str, key: str, value: object, default: object = None) -> None:
        """Store a value, unless it is our default."""
        if value is not None and value != default:
            self.sections.setdefault(section, {})[key] = value


def settings_from(paths: Sequence[Path], *, node_uuid: str | None = None) -> Taken:
    """Read the files of a nova-compute; ``node_uuid`` is its node's, where its file ``compute_id`` is not here.

    :raises SettingsError: they cannot be read, do not say what is needed, or say what would be no settings.
    """
    from oslo_config import cfg

    config = parsed(paths, KEY)
    # Others refer to it, and packages set it at build time.
    config.register_opt(cfg.StrOpt("state_path", default=STATE_PATH))
    taken = Taken()
    files = [str(path) for path in paths]
    _host(config, taken, node_uuid)
    taken.put("store", "url", "nova-conductor:")
    taken.put("store", "instance_name_template", _text(config, "instance_name_template"), NAME_TEMPLATE)
    taken.put("messaging", "nova_conf", files)
    taken.put("messaging", "deadline", _number(config, "rpc_response_timeout"), 60)
    _scheduler(config, taken)
    _placement(config, taken, files)
    _driver(config, taken, paths)
    if _flag(config, "resume_guests_state_on_host_boot"):
        taken.put("resume", "guests", "on_host_boot")
        taken.notes.append(RESUMED_TWICE)
    taken.put("guests", "shutdown_timeout", _number(config, "shutdown_timeout"), 60)
    taken.put("guests", "shutdown_retry_interval", _number(config, "shutdown_retry_interval", "compute"), 10)
    before = [
        cfg.DeprecatedOpt("passthrough_whitelist", group="pci"),
        cfg.DeprecatedOpt("pci_passthrough_whitelist", group="DEFAULT"),
    ]
    specs = _value(config, cfg.MultiStrOpt("device_spec", deprecated_opts=before, default=[]), "pci")
    taken.put("pci", "device_spec", specs, [])
    _check(taken, ", ".join(files))
    return taken


def _check(taken: Taken, named: str) -> None:
    """Make sure that what was taken over can be loaded: what is wrong is said now, not at the start of the host."""
    layers = Layers()
    for section, values in taken.sections.items():
        for key, value in values.items():
            layers.put(section, key, value, source=named)
    settings = settings_of(layers, environment={})
    taken.notes.extend(settings.warnings)
    problems: list[str] = []
    for opened in (_rabbitmq, _keystone):
        try:
            opened(settings)
        except SettingsError as error:
            problems.extend(error.problems)
    if problems:
        raise SettingsError(problems)


def _rabbitmq(settings: Settings) -> None:
    broker = broker_of(settings)
    if broker.tls is not None:
        trusted(
            replace(
                broker.tls,
                ca_name=f"[{RABBIT}] ssl_ca_file",
                cert_name=f"[{RABBIT}] ssl_cert_file",
                key_name=f"[{RABBIT}] ssl_key_file",
            )
        )


def _keystone(settings: Settings) -> None:
    if settings.placement.auth == "keystone":
        trusted(access_of(settings, environment={}).trust)


def _host(config: "ConfigOpts", taken: Taken, node_uuid: str | None) -> None:
    taken.put("host", "name", _text(config, "host"))
    if node_uuid is not None:
        taken.put("host", "node_uuid", node_uuid)
        return
    path = Path(_text(config, "state_path") or STATE_PATH) / COMPUTE_ID
    try:
        found = read_file(path).decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        missing = (
            f"host.node_uuid: {path} cannot be read, where nova-compute keeps the UUID of its node; let this user read "
            "it, or give --node-uuid UUID: it is in that file of nova-compute's container, and is the UUID of this "
            "host's resource provider (openstack resource provider list)"
        )
        raise SettingsError([missing]) from error
    try:
        taken.put("host", "node_uuid", uuid_in_any_spelling(found))
    except ValueError:
        raise SettingsError(
            [f"host.node_uuid: {path} holds no UUID; nova-compute keeps that of its node in it: give --node-uuid UUID"]
        ) from None


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
        if not (override or endpoint):
            taken.notes.append(NO_URL)
        taken.notes.append("[placement] auth_type: no Keystone is asked; set placement.token_file if a token is wanted")
    else:
        taken.put("placement", "auth", "keystone")
        taken.put("keystone", "nova_conf", files)
    taken.notes.append(
        "placement.resource_provider is taken to be host.name; nova-compute names it as the hypervisor names the host: "
        "bringup check finds it by host.node_uuid, and says what to set if it is called otherwise"
    )


def _driver(config: "ConfigOpts", taken: Taken, paths: Sequence[Path]) -> None:
    driver = _text(config, "compute_driver")
    if not driver:
        again = [*map(str, paths), *(str(other) for other in _beside(paths))]
        taken.notes.append(OTHER_FILES.format(files=" ".join(map(str, paths)), again=" ".join(again)))
    elif driver not in LIBVIRT_NAMES:
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
    if not _flag(config, "handle_virt_lifecycle_events", "workarounds", default=True):
        taken.put("driver", "handle_lifecycle_events", value=False)
    taken.put("libvirt", "wait_soft_reboot", _number(config, "wait_soft_reboot_seconds", "libvirt"), 120)
    if _text(config, "images_type", "libvirt") == "rbd":
        taken.notes.append(DISKS)
    if _flag(config, "cpu_power_management", "libvirt"):
        taken.notes.append(CORES)
    if _flag(config, "per_port_bridge", "os_vif_ovs"):
        taken.notes.append(PORT_BRIDGES)
    if _flag(config, "isolate_vif", "os_vif_ovs"):
        taken.put("network", "isolate_vifs", value=True)
    # os-vif's own default is TCP, which not every host has; where nothing is set, ovs-vsctl knows.
    taken.put("network", "ovsdb", _text(config, "ovsdb_connection", "os_vif_ovs"))
    taken.put("network", "integration_bridge", _text(config, "ovs_bridge", "neutron"), "br-int")


def _beside(paths: Sequence[Path]) -> list[Path]:
    """Return the file that packages have beside nova.conf: where it exists, else where it would be."""
    named = [path.parent / "nova-compute.conf" for path in paths if path.name == "nova.conf"]
    there = [path for path in named if path.exists()]
    return (there or named or [Path("/etc/nova/nova-compute.conf")])[:1]


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
