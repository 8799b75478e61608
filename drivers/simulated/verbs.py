"""Names that a scenario may use: verbs of a driver, and errors that one raises."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, Literal, get_args

from bringup.drivers import base
from bringup.drivers.needs import Need, NeedKind, NeedNotMet, NeedState

HostVerb = Literal[
    "init_host",
    "close",
    "list_instance_uuids",
    "list_instances",
    "get_available_resource",
    "capabilities_as_traits",
    "host_needs",
    "keep_filtering_rules",
    "boot_signs",
    "vital_signs",
    "filter_defer_apply_on",
    "filter_defer_apply_off",
]
GuestVerb = Literal[
    "get_info",
    "needs",
    "plug_vifs",
    "ensure_filtering_rules_for_instance",
    "power_on",
    "power_off",
    "reboot",
    "unpause",
    "resume_state_on_host_boot",
    "destroy",
    "keep_disks",
    "delete_kept_disks",
    "finish_revert_migration",
    "live_migration_abort",
    "post_interrupted_snapshot_cleanup",
    "check_instance_shared_storage_local",
    "check_instance_shared_storage_cleanup",
]
Verb = Literal[HostVerb, GuestVerb]
LatencyKey = Literal["default", HostVerb, GuestVerb]
ErrorName = Literal[
    "DriverError",
    "InstanceNotFound",
    "InstancePowerOffFailure",
    "NeedNotMet",
    "PciDeviceNotFound",
    "VirtualInterfacePlugError",
    "NotImplementedError",
    "OSError",
    "RuntimeError",
    "TimeoutError",
]

HOST_VERBS: Final = frozenset[str](get_args(HostVerb))
VERBS: Final = frozenset[str](get_args(Verb))
# These work for a guest that the hypervisor does not have.
NEED_NO_GUEST: Final = frozenset[str](
    {"needs", "plug_vifs", "destroy", "keep_disks", "delete_kept_disks", "check_instance_shared_storage_cleanup"}
)
# A read does not exclude other verbs.
READS: Final = frozenset[str]({"get_info", "needs"})
# Nova's verbs have the default latency; reading needs or signs has none unless a scenario sets it.
NO_DEFAULT_LATENCY: Final = frozenset[str]({"boot_signs", "needs", "vital_signs"})


def _need_not_met(message: str) -> NeedNotMet:
    # A verb that fails for it shows that it is absent, whatever was reported before.
    return NeedNotMet(
        message,
        [Need(kind=NeedKind.DISK, name="scenario", state=NeedState.ABSENT, why="the scenario has a fault for it")],
    )


ERRORS: Final[Mapping[ErrorName, Callable[[str], Exception]]] = MappingProxyType(
    {
        "DriverError": base.DriverError,
        "InstanceNotFound": base.InstanceNotFound,
        "InstancePowerOffFailure": base.InstancePowerOffFailure,
        "NeedNotMet": _need_not_met,
        "PciDeviceNotFound": base.PciDeviceNotFound,
        "VirtualInterfacePlugError": base.VirtualInterfacePlugError,
        "NotImplementedError": NotImplementedError,
        "OSError": OSError,
        "RuntimeError": RuntimeError,
        "TimeoutError": TimeoutError,
    }
)
