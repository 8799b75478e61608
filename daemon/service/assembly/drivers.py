"""The driver that is set: created, checked before anything is waited for, closed."""

from importlib.util import find_spec
from typing import TYPE_CHECKING

from bringup.daemon.errors import SettingsError
from bringup.daemon.settings import Settings, require_scenario
from bringup.drivers.base import Driver
from bringup.drivers.capacity import Capacity

if TYPE_CHECKING:
    from bringup.drivers.network.host import HostNetwork

NO_PYROUTE2 = (
    "network.plug_vifs = true needs the extra bringup[network]: in the checkout, /opt/bringup/bin/pip install "
    "'.[network]', or set it to false where something else makes the NICs of guests ready"
)


def check_driver(settings: Settings) -> None:
    """Check, before anything is waited for, whether the driver can be created.

    :raises SettingsError: it cannot.
    """
    if settings.driver.name == "libvirt":
        from bringup.daemon.service.assembly.libvirt import require_binding

        require_binding()
        make_network(settings)
        return
    scenario = require_scenario(settings)
    if not scenario.is_file():
        raise SettingsError([f"driver.scenario: {scenario} is not a file; name a scenario file"])


def has_driver(settings: Settings) -> bool:
    """Check whether a hypervisor is set: the simulated one, which is the default, needs a scenario."""
    return settings.driver.name != "simulated" or settings.driver.scenario is not None


def make_driver(settings: Settings, *, acting: bool = False, capacity: Capacity | None = None) -> Driver:
    """Create the driver that is set; it is not initialized yet.  Only one that is ``acting`` changes anything itself.

    :raises SettingsError: its own settings are wrong.
    """
    if settings.driver.name == "libvirt":
        from bringup.daemon.service.assembly.libvirt import make_libvirt_driver

        # A driver that only reads needs the network too: it reports what is missing.
        return make_libvirt_driver(settings, acting=acting, network=make_network(settings), capacity=capacity)
    from bringup.drivers.simulated import ScenarioError, SimulatedDriver

    try:
        return SimulatedDriver.from_file(require_scenario(settings), state_path=settings.driver.scenario_state)
    except ScenarioError as error:
        raise SettingsError([f"driver.scenario: {line}" for line in str(error).split("\n")]) from None


def make_network(settings: Settings) -> "HostNetwork":
    """Create the network part, which plugs and filters the NICs of guests; the driver opens it.

    :raises SettingsError: what it needs is not installed.
    """
    from bringup.drivers.network.host import make_host_network

    network = settings.network
    # Checked here, not when the first guest is plugged: all guests would be set to ERROR.
    if network.plug_vifs and find_spec("pyroute2") is None:
        raise SettingsError([NO_PYROUTE2])
    return make_host_network(
        plugs=network.plug_vifs,
        filters=network.filter == "nftables",
        ovs_bridge=network.integration_bridge,
        ovsdb=network.ovsdb,
        isolates_vifs=network.isolate_vifs,
        deadline_s=network.deadline,
    )
