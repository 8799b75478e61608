"""Keys without a default that only some commands need."""

from pathlib import Path

from bringup.daemon.errors import SettingsError
from bringup.daemon.settings.model import Settings


def require_placement(settings: Settings) -> None:
    """Make sure that there is a way to find Placement.

    :raises SettingsError: there is none (Nova's ``PlacementNotConfigured``).
    """
    if settings.placement.url is None and settings.placement.auth != "keystone":
        sentence = (
            "placement.url is missing, and this host may not start guests before Placement knows it: "
            'give an address such as "http://controller:8778", or the credentials for a cloud whose catalogue has it '
            "([keystone])"
        )
        raise SettingsError([sentence])


def require_scenario(settings: Settings) -> Path:
    """Return the scenario file of the simulated driver; raise ``SettingsError`` if none is set."""
    if settings.driver.scenario is None:
        name = settings.driver.name
        raise SettingsError(
            [
                (
                    f'driver.scenario is missing, and driver.name = "{name}" needs it: give the path of a file, or set '
                    'driver.name = "libvirt" for real guests'
                )
            ]
        )
    return settings.driver.scenario
