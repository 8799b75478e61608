"""Every key that an operator may set, with its default; ``docs/settings.md`` and ``example.toml`` explain them.

A section is a frozen dataclass that the parts take as it is: each field is a key, its type says what the value may be.
Sections that parts outside ``service`` take are declared where those are: ``decisions/policies.py``,
``openstack/inventory_rules.py``, ``drivers/libvirt_options.py``.
"""

import os
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_type_hints

from annotated_types import Ge, Le

from bringup.daemon.decisions.policies import Guards, GuestShutdown, Limits, PacePolicy, ResumePolicy, VerifyPolicy
from bringup.daemon.openstack.inventory_rules import InventoryRules
from bringup.daemon.settings.values import (
    NOVA_CONDUCTOR,
    SQLITE,
    DeviceName,
    DeviceSpecs,
    FilePath,
    FilePaths,
    FolderPath,
    HostNames,
    Interfaces,
    ListenAddress,
    Name,
    NameTemplate,
    OvsdbAddress,
    Secret,
    SocketMode,
    StoreUrl,
    Token,
    Uuid,
    WebAddress,
    Words,
)
from bringup.daemon.storage.store.database_url import POSTGRESQL
from bringup.drivers.identifiers import NAME_TEMPLATE
from bringup.drivers.kinds import Concurrency, Right, Seconds, SecondsOrZero
from bringup.drivers.libvirt_options import LibvirtSection

STATE_DIRECTORY = Path("/var/lib/bringup")
STORE_FILE = "instances.sqlite"
STATUS_SOCKET = "status.sock"
MOST_BY_DEFAULT = 8
# A start waits for storage more than for a CPU (measured: docs/performance.md); four looks beside it make libvirt's
# 20 workers.
LIBVIRT_CALLS = 16
# On 64 CPUs and more as many boots at once were the best of all limits (simulated: docs/pace.md).
MOST_BOOTS = 64


def sqlite_url(state_directory: Path) -> str:
    """Return the URL of the store in a state directory."""
    return f"{SQLITE}{(state_directory / STORE_FILE).absolute()}"


def default_concurrency() -> int:
    """Return how many instances are worked on at once where nothing is set: one per CPU, within bounds."""
    return max(2, min(len(os.sched_getaffinity(0)), MOST_BY_DEFAULT))


def libvirt_concurrency(cpus: int, *, is_adaptive: bool) -> int:
    """Return the same for libvirt: the adaptive pace uses as many of them as the host bears."""
    return max(LIBVIRT_CALLS, min(cpus, MOST_BOOTS)) if is_adaptive else LIBVIRT_CALLS


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSettings:
    """This compute host."""

    name: Name = field(default_factory=socket.gethostname)
    state_directory: FolderPath = STATE_DIRECTORY
    node_uuid: Uuid | None = None
    machine_id: FilePath = Path("/etc/machine-id")
    boot_id: FilePath = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementSettings:
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
    resource_provider: Name = field(default_factory=socket.gethostname)
    create_resource_provider: bool = False
    allow_http_endpoint: bool = False
    wait: SecondsOrZero = 60.0
    connect_timeout: Seconds = 5.0
    read_timeout: Seconds = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class KeystoneSettings:
    """Identity of this host in Keystone; the names are those of keystoneauth's options."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """Where the records of the instances are."""

    url: StoreUrl = field(default_factory=partial(sqlite_url, STATE_DIRECTORY))
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


@dataclass(frozen=True, slots=True, kw_only=True)
class MessagingSettings:
    """RabbitMQ, through which Nova's services are called; the names are those of oslo.messaging's options."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSettings:
    """The life of the process."""

    after_init: Literal["stay", "stop"] = "stay"


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverSettings:
    """The hypervisor."""

    name: Literal["simulated", "libvirt"] = "simulated"
    scenario: FilePath | None = None
    scenario_state: FilePath | None = None
    defer_iptables_apply: bool = False
    handle_lifecycle_events: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSettings:
    """NICs of guests, and what they may send and receive; for drivers of real hypervisors."""

    plug_vifs: bool = True
    filter: Literal["none", "nftables"] = "none"
    integration_bridge: DeviceName = "br-int"
    ovsdb: OvsdbAddress | None = None
    isolate_vifs: bool = False
    deadline: Seconds = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletionSettings:
    """Deletions that were cut short."""

    finished_by: Literal["auto", "bringup", "nova"] = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class EvacuatedSettings:
    """Instances that were rebuilt on another host while this one was down."""

    shared_storage: Literal["unknown", "shared", "local"] = "unknown"
    keep_disks_for: SecondsOrZero = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalSettings:
    """Record of what was done and is being done."""

    keep_runs: Annotated[int, Ge(1), Le(10000), Right("a whole number from 1 to 10000")] = 50
    keep_days: Annotated[int, Ge(1), Le(3650), Right("a whole number from 1 to 3650")] = 90


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerSettings:
    """The scheduler, which receives the reports."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class PciSettings:
    """Devices that guests may be given."""

    device_spec: DeviceSpecs = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusSettings:
    """The status endpoint."""

    enabled: bool = True
    socket: FilePath = STATE_DIRECTORY / STATUS_SOCKET
    socket_mode: SocketMode = "0660"
    listen: ListenAddress | None = None
    host_names: HostNames = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """What is logged, and how it looks."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console", "journal"] = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings, valid as a whole; ``load`` makes them."""

    host: HostSettings = field(default_factory=HostSettings)
    limits: Limits = field(default_factory=lambda: Limits(concurrency=default_concurrency()))
    placement: PlacementSettings = field(default_factory=PlacementSettings)
    keystone: KeystoneSettings = field(default_factory=KeystoneSettings)
    inventory: InventoryRules = field(default_factory=InventoryRules)
    store: StoreSettings = field(default_factory=StoreSettings)
    messaging: MessagingSettings = field(default_factory=MessagingSettings)
    driver: DriverSettings = field(default_factory=DriverSettings)
    libvirt: LibvirtSection = field(default_factory=LibvirtSection)
    network: NetworkSettings = field(default_factory=NetworkSettings)
    resume: ResumePolicy = field(default_factory=ResumePolicy)
    pace: PacePolicy = field(default_factory=PacePolicy)
    verify: VerifyPolicy = field(default_factory=VerifyPolicy)
    guests: GuestShutdown = field(default_factory=GuestShutdown)
    deletion: DeletionSettings = field(default_factory=DeletionSettings)
    evacuated: EvacuatedSettings = field(default_factory=EvacuatedSettings)
    guards: Guards = field(default_factory=Guards)
    journal: JournalSettings = field(default_factory=JournalSettings)
    scheduler: SchedulerSettings = field(default_factory=SchedulerSettings)
    pci: PciSettings = field(default_factory=PciSettings)
    service: ServiceSettings = field(default_factory=ServiceSettings)
    status: StatusSettings = field(default_factory=StatusSettings)
    log: LogSettings = field(default_factory=LogSettings)
    warnings: tuple[str, ...] = ()
    """Sentences on what is accepted but probably unintended."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """Where each key such as ``limits.concurrency`` was set; defaults are not in it."""

    def source_of(self, key: str) -> str:
        """Return where the value of a key such as ``limits.concurrency`` comes from."""
        return self.sources.get(key, "default")

    @property
    def calls(self) -> int:
        """How many instances may call the hypervisor at once: on a large host most slots are of guests that boot."""
        number = self.limits.concurrency
        return number if "limits.concurrency" in self.sources else min(number, LIBVIRT_CALLS)


def keys_of(section: Any) -> Iterator[tuple[str, Any]]:
    """Return the keys of a section with their values."""
    return ((key.name, getattr(section, key.name)) for key in fields(section))


SECTIONS: Final[Mapping[str, type[Any]]] = {
    name: kind for name, kind in get_type_hints(Settings).items() if isinstance(kind, type) and is_dataclass(kind)
}
"""The sections by name."""
