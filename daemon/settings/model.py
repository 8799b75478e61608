"""Every key that an operator may set, with its default; ``docs/settings.md`` and ``example.toml`` explain them."""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from bringup.daemon.settings.values import (
    NOVA_CONDUCTOR,
    SQLITE,
    Amount,
    Concurrency,
    Count,
    DeviceName,
    DeviceSpecs,
    FilePath,
    FilePaths,
    FolderPath,
    HostNames,
    Interfaces,
    LibvirtUri,
    ListenAddress,
    MountPoint,
    Name,
    NameTemplate,
    OvsdbAddress,
    Ratio,
    Right,
    Seconds,
    SecondsOrZero,
    Secret,
    Share,
    SocketMode,
    StoreUrl,
    Token,
    Uuid,
    WebAddress,
    Words,
)
from bringup.daemon.storage.store.database_url import POSTGRESQL
from bringup.drivers.identifiers import NAME_TEMPLATE

STATE_DIRECTORY = Path("/var/lib/bringup")
STORE_FILE = "instances.sqlite"
STATUS_SOCKET = "status.sock"
MOST_BY_DEFAULT = 8


def sqlite_url(state_directory: Path) -> str:
    """Give the URL of the store in a state directory."""
    return f"{SQLITE}{(state_directory / STORE_FILE).absolute()}"


def _concurrency() -> int:
    return max(2, min(len(os.sched_getaffinity(0)), MOST_BY_DEFAULT))


class Section(BaseModel):
    """A table of the settings file.

    Strict: a number in quotes is a mistake, not a number.  ``hide_input``: an inner error must not show a token.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)


class HostSettings(Section):
    """This compute host."""

    name: Name = Field(default_factory=socket.gethostname)
    state_directory: FolderPath = STATE_DIRECTORY
    node_uuid: Uuid | None = None
    machine_id: FilePath = Path("/etc/machine-id")
    boot_id: FilePath = Path("/proc/sys/kernel/random/boot_id")


class LimitSettings(Section):
    """How many at once, and how long."""

    concurrency: Concurrency = Field(default_factory=_concurrency)
    instance_deadline: Seconds = 600.0
    host_deadline: Seconds = 120.0
    host_wait: SecondsOrZero = 60.0
    shutdown_report_deadline: Seconds = 20.0
    stuck_after: Seconds = 60.0


class PlacementSettings(Section):
    """The Placement API."""

    url: WebAddress | None = None
    auth: Literal["noauth", "none", "keystone"] = "noauth"
    token: Token | None = None
    token_file: FilePath | None = None
    region: Words | None = None
    interfaces: Interfaces = ("internal", "public")
    ca_file: FilePath | None = None
    cert_file: FilePath | None = None
    key_file: FilePath | None = None
    resource_provider: Name = Field(default_factory=socket.gethostname)
    create_resource_provider: bool = False
    allow_http_endpoint: bool = False
    wait: SecondsOrZero = 60.0
    connect_timeout: Seconds = 5.0
    read_timeout: Seconds = 10.0


class KeystoneSettings(Section):
    """Who this host is to Keystone; the names are those of keystoneauth's options."""

    nova_conf: FilePaths = ()
    cloud: Words | None = None
    auth_url: WebAddress | None = None
    auth_type: Literal["password", "application_credential", "token"] = "password"
    username: Words | None = None
    user_id: Words | None = None
    user_domain_name: Words | None = None
    user_domain_id: Words | None = None
    password: Secret | None = None
    password_file: FilePath | None = None
    project_name: Words | None = None
    project_id: Words | None = None
    project_domain_name: Words | None = None
    project_domain_id: Words | None = None
    system_scope: Literal["all"] | None = None
    application_credential_id: Words | None = None
    application_credential_name: Words | None = None
    application_credential_secret: Secret | None = None
    application_credential_secret_file: FilePath | None = None
    token: Secret | None = None
    token_file: FilePath | None = None


class InventorySettings(Section):
    """What this host has, in Placement."""

    update: bool = False
    reserved_host_cpus: Amount | None = None
    reserved_host_memory_mb: Amount | None = None
    reserved_host_disk_mb: Amount | None = None
    cpu_allocation_ratio: Ratio | None = None
    ram_allocation_ratio: Ratio | None = None
    disk_allocation_ratio: Ratio | None = None


class StoreSettings(Section):
    """Where the records of the instances are."""

    url: StoreUrl = sqlite_url(STATE_DIRECTORY)
    password: Secret | None = None
    password_file: FilePath | None = None
    tls: Literal["verify-full", "verify-ca", "off"] | None = None
    ca_file: FilePath | None = None
    cert_file: FilePath | None = None
    key_file: FilePath | None = None
    busy_timeout: Seconds = 5.0
    wait: SecondsOrZero = 20.0
    lease: Seconds = 30.0
    instance_name_template: NameTemplate = NAME_TEMPLATE

    @property
    def path(self) -> Path | None:
        """The SQLite file; None where it is something else."""
        return Path(self.url.removeprefix(SQLITE)) if self.url.startswith(SQLITE) else None

    @property
    def is_postgresql(self) -> bool:
        """Whether it is a PostgreSQL database."""
        return self.url.startswith(POSTGRESQL)

    @property
    def is_nova_conductor(self) -> bool:
        """Whether the records are Nova's own."""
        return self.url == NOVA_CONDUCTOR


class MessagingSettings(Section):
    """RabbitMQ, through which Nova's services are spoken to; the names are those of oslo.messaging's options."""

    nova_conf: FilePaths = ()
    transport_url: Secret | None = None
    transport_url_file: FilePath | None = None
    ca_file: FilePath | None = None
    cert_file: FilePath | None = None
    key_file: FilePath | None = None
    control_exchange: Name = "nova"
    requests: Concurrency = 16
    deadline: Seconds = 60.0

    @property
    def budget(self) -> float:
        """How long one operation on a record may take, in seconds: with its repeats, and the reads between them."""
        return 3 * self.deadline


class ServiceSettings(Section):
    """The life of the process."""

    after_init: Literal["stay", "stop"] = "stay"


class DriverSettings(Section):
    """The hypervisor."""

    name: Literal["simulated", "libvirt"] = "simulated"
    scenario: FilePath | None = None
    scenario_state: FilePath | None = None
    defer_iptables_apply: bool = False
    handle_lifecycle_events: bool = True


class LibvirtSettings(Section):
    """The hypervisor, where ``driver.name`` is libvirt."""

    uri: LibvirtUri = "qemu:///system"
    autostart: Literal["refuse", "warn", "take_over"] = "refuse"
    instances_path: FolderPath = Path("/var/lib/nova/instances")
    instances_mount: MountPoint = "auto"
    connections: Concurrency | None = None
    call_deadline: Seconds = 30.0
    start_deadline: Seconds = 300.0
    reconnect: Seconds = 30.0
    keepalive_interval: Annotated[int, Field(ge=1, le=3600), Right("a whole number of seconds from 1 to 3600")] = 5
    wait_soft_reboot: Seconds = 120.0
    daemon_config: FilePath | None = None


class NetworkSettings(Section):
    """NICs of guests, and what they may send and receive; for drivers of real hypervisors."""

    plug_vifs: bool = True
    filter: Literal["none", "nftables"] = "none"
    integration_bridge: DeviceName = "br-int"
    ovsdb: OvsdbAddress | None = None
    isolate_vifs: bool = False
    deadline: Seconds = 30.0


class ResumeSettings(Section):
    """What happens to guests that ran before the host went down."""

    guests: Literal["never", "on_host_boot", "on_every_start"] = "never"
    max_downtime: SecondsOrZero = 0.0
    clock: Literal["synchronized", "trusted"] = "synchronized"
    wait_for_clock: SecondsOrZero = 30.0
    instance_policy: Literal["ignored", "narrows", "decides"] = "narrows"
    wait_for_needs: SecondsOrZero = 600.0


class GuestSettings(Section):
    """How a guest is asked to shut down."""

    shutdown_timeout: SecondsOrZero = 60.0
    shutdown_retry_interval: Seconds = 10.0


class DeletionSettings(Section):
    """Deletions that were cut short."""

    finished_by: Literal["auto", "bringup", "nova"] = "auto"


class EvacuatedSettings(Section):
    """Instances that were rebuilt on another host while this one was down."""

    shared_storage: Literal["unknown", "shared", "local"] = "unknown"
    keep_disks_for: SecondsOrZero = 0.0


class GuardSettings(Section):
    """When an operator's word is wanted before anything is done."""

    destroy_freely: Count = 2
    destroy_at_most: Count = 10
    destroy_share: Share = 0.5
    quarantine_after: Count = 2
    foreign_running: Literal["leave", "power_off"] = "leave"


class JournalSettings(Section):
    """What was done and is being done."""

    keep_runs: Annotated[int, Field(ge=1, le=10000), Right("a whole number from 1 to 10000")] = 50
    keep_days: Annotated[int, Field(ge=1, le=3650), Right("a whole number from 1 to 3650")] = 90


class SchedulerSettings(Section):
    """Who is told what became of the instances."""

    transport: Literal["none", "http", "nova"] = "none"
    url: WebAddress | None = None
    token: Token | None = None
    token_file: FilePath | None = None
    ca_file: FilePath | None = None
    timeout: Seconds = 10.0
    retry_initial: Seconds = 1.0
    retry_max: Seconds = 60.0
    track_instance_changes: bool = True
    sync_interval: SecondsOrZero = 120.0


class PciSettings(Section):
    """Devices that guests may be given."""

    device_spec: DeviceSpecs = ()


class StatusSettings(Section):
    """Who may ask how far it is, and where."""

    enabled: bool = True
    socket: FilePath = STATE_DIRECTORY / STATUS_SOCKET
    socket_mode: SocketMode = "0660"
    listen: ListenAddress | None = None
    host_names: HostNames = ()


class LogSettings(Section):
    """What is logged, and how it looks."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console", "journal"] = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings, valid as a whole; ``load`` makes them."""

    host: HostSettings = field(default_factory=HostSettings)
    limits: LimitSettings = field(default_factory=LimitSettings)
    placement: PlacementSettings = field(default_factory=PlacementSettings)
    keystone: KeystoneSettings = field(default_factory=KeystoneSettings)
    inventory: InventorySettings = field(default_factory=InventorySettings)
    store: StoreSettings = field(default_factory=StoreSettings)
    messaging: MessagingSettings = field(default_factory=MessagingSettings)
    driver: DriverSettings = field(default_factory=DriverSettings)
    libvirt: LibvirtSettings = field(default_factory=LibvirtSettings)
    network: NetworkSettings = field(default_factory=NetworkSettings)
    resume: ResumeSettings = field(default_factory=ResumeSettings)
    guests: GuestSettings = field(default_factory=GuestSettings)
    deletion: DeletionSettings = field(default_factory=DeletionSettings)
    evacuated: EvacuatedSettings = field(default_factory=EvacuatedSettings)
    guards: GuardSettings = field(default_factory=GuardSettings)
    journal: JournalSettings = field(default_factory=JournalSettings)
    scheduler: SchedulerSettings = field(default_factory=SchedulerSettings)
    pci: PciSettings = field(default_factory=PciSettings)
    service: ServiceSettings = field(default_factory=ServiceSettings)
    status: StatusSettings = field(default_factory=StatusSettings)
    log: LogSettings = field(default_factory=LogSettings)
    warnings: tuple[str, ...] = ()
    """Sentences on what is allowed and probably not meant."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """Where a key such as ``limits.concurrency`` was set; a default is not in it."""

    def source_of(self, key: str) -> str:
        """Say where the value of a key such as ``limits.concurrency`` comes from."""
        return self.sources.get(key, "default")


SECTIONS: Mapping[str, type[Section]] = {
    "host": HostSettings,
    "limits": LimitSettings,
    "placement": PlacementSettings,
    "keystone": KeystoneSettings,
    "inventory": InventorySettings,
    "store": StoreSettings,
    "messaging": MessagingSettings,
    "driver": DriverSettings,
    "libvirt": LibvirtSettings,
    "network": NetworkSettings,
    "resume": ResumeSettings,
    "guests": GuestSettings,
    "deletion": DeletionSettings,
    "evacuated": EvacuatedSettings,
    "guards": GuardSettings,
    "journal": JournalSettings,
    "scheduler": SchedulerSettings,
    "pci": PciSettings,
    "service": ServiceSettings,
    "status": StatusSettings,
    "log": LogSettings,
}
