"""Policies that an operator sets: sections of the settings, as the parts take them.

Each field is a key of the section and has its name; durations are in seconds.  The settings validate by the kinds.
"""

from dataclasses import dataclass
from typing import Final, Literal

from bringup.daemon.decisions.pace_keys import PaceRules
from bringup.drivers.kinds import Concurrency, Count, Seconds, SecondsOrZero, Share

Guests = Literal["never", "on_host_boot", "on_every_start"]
Pace = Literal["adaptive", "fixed"]
InstancePolicy = Literal["ignored", "narrows", "decides"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """``[limits]``: how many at once, and how long."""

    concurrency: Concurrency
    """Its default depends on the machine and on the driver: the settings fill it in."""
    pace: Pace = "adaptive"
    """adaptive: as many at once as the host bears, ``concurrency`` at most."""
    instance_deadline: Seconds = 600.0
    host_deadline: Seconds = 120.0
    host_wait: SecondsOrZero = 60.0
    """How long each need that guests share is waited for before the first guest is touched."""
    shutdown_report_deadline: Seconds = 20.0
    stuck_after: Seconds = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumePolicy:
    """``[resume]``: what happens to guests that ran before the host went down."""

    guests: Guests = "never"
    max_downtime: SecondsOrZero = 0.0
    """0: no limit."""
    clock: Literal["synchronized", "trusted"] = "synchronized"
    wait_for_clock: SecondsOrZero = 30.0
    """How long a clock that is not set yet is waited for, where the downtime matters."""
    instance_policy: InstancePolicy = "narrows"
    wait_for_needs: SecondsOrZero = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PacePolicy:
    """``[pace]``: in which order guests are started, and when one that was started counts as ready."""

    instance_policy: Literal["ignored", "own_project", "decides"] = "own_project"
    hold: SecondsOrZero = 120.0
    """0: a slot is free as soon as the guest is started."""
    after_at_most: SecondsOrZero = 300.0
    rules: PaceRules = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyPolicy:
    """``[verify]``: whether guests that were started are reachable."""

    within: SecondsOrZero = 60.0
    """For so long a guest is watched after its boot; 0: not at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestShutdown:
    """``[guests]``: how a guest is asked to shut down; an image may ask for more time (``os_shutdown_timeout``)."""

    shutdown_timeout: SecondsOrZero = 60.0
    shutdown_retry_interval: Seconds = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Guards:
    """``[guards]``: what requires operator approval."""

    destroy_freely: Count = 2
    destroy_at_most: Count = 10
    destroy_share: Share = 0.5
    quarantine_after: Count = 2
    """0: never."""
    foreign_running: Literal["leave", "power_off"] = "leave"

    @property
    def powers_off_foreign(self) -> bool:
        """Whether a guest that runs here although its record names another host is powered off."""
        return self.foreign_running == "power_off"

    def forbids(self, destroyed: int, guests: int) -> bool:
        """Check whether so many of so many guests are too many to destroy without operator approval."""
        if destroyed <= self.destroy_freely:
            return False
        return destroyed > self.destroy_at_most or destroyed > self.destroy_share * guests


UNGUARDED: Final = Guards(destroy_freely=100_000, destroy_at_most=100_000, destroy_share=1.0, quarantine_after=0)
"""Guards that hold nothing."""
