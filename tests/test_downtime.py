"""How long a host was away: from when it was last known to be up, by clocks that were set."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bringup.daemon.decisions.downtime import Downtime
from bringup.daemon.decisions.policies import ResumePolicy
from bringup.daemon.decisions.resume_policy import Boot as Known
from bringup.daemon.decisions.resume_policy import Resuming
from bringup.daemon.decisions.rules import Withheld
from bringup.daemon.storage.alive import FILE, TOUCHED, Alive
from bringup.daemon.storage.boot import CurrentBoot, derive_boot_id

DAY_S = 86_400.0
KERNELS = "b1b1b1b1-0000-4000-8000-000000000001"


@dataclass
class Host:
    """A host over its boots: true time continues, its clock is off by some seconds."""

    directory: Path
    true: float = 1_800_000_000.0
    off: float = 0.0
    is_set: bool = True
    boots: int = 1
    booted: float = field(default=1_800_000_000.0)
    trusts: bool = False

    def alive(self) -> Alive:
        return Alive(
            directory=self.directory,
            boot=CurrentBoot(boot_id=f"boot-{self.boots}"),
            is_clock_set=lambda: self.is_set,
            trusts_clock=self.trusts,
            now=lambda: self.true + self.off,
            boot_s=lambda: self.true - self.booted,
        )

    def runs(self, *, stays: bool = True) -> Downtime | None:
        """Start a run; the daemon stays for a minute, or not."""
        found = self.alive().downtime()
        self.alive().write(is_kept=stays)
        return found

    def is_up(self, seconds: float, *, noted: bool = True) -> None:
        self.true += seconds
        if noted:
            self.alive().write(is_kept=True)

    def restart(self, seconds: float, *, off: float = 0.0, is_set: bool = True) -> None:
        """Restart the host, with a clock that is off."""
        self.true += seconds
        self.off, self.is_set = off, is_set
        self.boots += 1
        self.booted = self.true


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_the_first_boot_that_is_noted_knows_nothing(host: Host) -> None:
    assert host.runs() is None
    assert host.runs() is None


@pytest.mark.parametrize("away_s", [0.0, 61.0, 40 * DAY_S])
def test_it_is_the_time_from_the_last_note_to_the_first_run(host: Host, away_s: float) -> None:
    host.runs()
    host.is_up(30 * DAY_S)
    host.restart(away_s)
    assert host.runs() == Downtime(exactly_s=away_s, at_most_s=away_s)
    host.is_up(3 * DAY_S)
    assert host.runs() == Downtime(exactly_s=away_s, at_most_s=away_s), "the same at each start of a boot"


def test_where_nobody_has_noted_it_after_the_run_the_downtime_is_unknown_but_bounded(host: Host) -> None:
    """Up for a month with --once: the month is no time away."""
    host.runs(stays=False)
    host.is_up(30 * DAY_S, noted=False)
    host.restart(60)
    assert host.runs() == Downtime(at_most_s=30 * DAY_S + 60)


def test_what_a_timer_touches_counts_as_noted(host: Host) -> None:
    host.runs(stays=False)
    host.is_up(30 * DAY_S, noted=False)
    touched = host.directory / TOUCHED
    touched.touch()
    os.utime(touched, (host.true, host.true))
    host.restart(60)

    assert host.runs() == Downtime(exactly_s=60.0, at_most_s=60.0)
    # The timer continues on this boot: what was before it is known by then.
    os.utime(touched, (host.true + 600, host.true + 600))
    assert host.runs() == Downtime(exactly_s=60.0, at_most_s=60.0)


@pytest.mark.parametrize("off", [-2 * 3600.0, 2 * 3600.0, 14 * 365 * DAY_S, -50 * 365 * DAY_S])
def test_a_boot_with_a_wrong_clock_is_not_judged_before_it_is_set_and_then_rightly(host: Host, off: float) -> None:
    host.runs()
    host.is_up(DAY_S)
    host.restart(600, off=off, is_set=False)

    assert host.runs() == Downtime(waits_for_clock=True)
    host.is_up(300)
    host.off, host.is_set = 0.0, True
    assert host.runs() == Downtime(exactly_s=600.0, at_most_s=600.0)


@pytest.mark.parametrize("off", [-2 * 3600.0, 14 * 365 * DAY_S])
def test_one_boot_with_a_wrong_clock_spoils_no_later_one(host: Host, off: float) -> None:
    host.runs()
    host.is_up(DAY_S)
    host.restart(600, off=off, is_set=False)
    host.runs()
    host.is_up(DAY_S)

    # What was noted by that clock says nothing; the boot before it bounds the time.
    host.restart(60)
    assert host.runs() == Downtime(at_most_s=600 + DAY_S + 60)
    host.is_up(DAY_S)
    host.restart(61)
    assert host.runs() == Downtime(exactly_s=61.0, at_most_s=61.0)


def test_a_dead_real_time_clock_that_continues_from_the_last_shutdown_proves_nothing(host: Host) -> None:
    host.runs()
    host.is_up(DAY_S)
    host.restart(34 * DAY_S, off=2 - 34 * DAY_S, is_set=False)
    assert host.runs() == Downtime(waits_for_clock=True)


def test_a_host_that_has_no_time_service_uses_the_clock_that_it_has(host: Host) -> None:
    host.is_set = False
    host.runs()
    host.is_up(DAY_S)
    host.restart(60, is_set=False)
    assert host.runs() == Downtime(exactly_s=60.0, at_most_s=60.0)


def test_a_clock_that_is_trusted_is_not_asked_about(host: Host) -> None:
    host.runs()
    host.is_up(DAY_S)
    host.restart(60, is_set=False)
    host.trusts = True
    assert host.runs() == Downtime(exactly_s=60.0, at_most_s=60.0)


def test_a_clock_that_went_back_proves_nothing(host: Host) -> None:
    host.runs()
    host.is_up(DAY_S)
    host.restart(60, off=-3 * DAY_S)
    assert host.runs() == Downtime()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"format": "x"}', '{"format": "bringup.alive/1", "boots": [{}]}', "[" * 100_000]
)
def test_a_file_that_is_damaged_knows_nothing_and_is_written_again(host: Host, text: str) -> None:
    (host.directory / FILE).write_text(text)
    assert host.runs() is None
    host.restart(60)
    assert host.runs() == Downtime(exactly_s=60.0, at_most_s=60.0)
    assert json.loads((host.directory / FILE).read_text())["format"] == "bringup.alive/1"
    assert (host.directory / FILE).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("known", "answer"),
    [
        (Known(downtime_s=300), None),
        (Known(downtime_s=301), Withheld.AWAY_TOO_LONG),
        (Known(at_most_s=300), None),
        (Known(at_most_s=301), Withheld.UNKNOWN),
        (Known(), Withheld.UNKNOWN),
        (Known(waits_for_clock=True), Withheld.CLOCK),
    ],
)
def test_what_is_not_known_keeps_a_guest_down_only_where_the_time_away_matters(
    known: Known, answer: Withheld | None
) -> None:
    limited, unlimited = (ResumePolicy(guests="on_host_boot", max_downtime=span) for span in (300, 0))
    assert Resuming(limited, known).of("u", {}) == (answer is None, answer)
    assert Resuming(unlimited, known).of("u", {}) == (True, None)


@pytest.mark.parametrize(
    ("told", "is_the_kernels"),
    [
        ({}, True),
        ({"Version": "252.39-1~deb12u2", "UserspaceTimestampMonotonic": "8000000"}, True),
        ({"Version": "257.9-1~deb13u1", "SoftRebootsCount": "0", "UserspaceTimestampMonotonic": "1"}, True),
        ({"Version": "257.9-1~deb13u1", "SoftRebootsCount": "1", "UserspaceTimestampMonotonic": "1"}, False),
        ({"Version": "255.4-1ubuntu8.10", "UserspaceTimestampMonotonic": "8000000"}, False),
        ({"Version": "254 (254.5-1.fc39)", "UserspaceTimestampMonotonic": "8000000"}, False),
    ],
)
def test_a_soft_reboot_is_detected_by_the_count_of_systemd(told: dict[str, str], *, is_the_kernels: bool) -> None:
    assert (derive_boot_id(KERNELS, told) == KERNELS) is is_the_kernels
    assert derive_boot_id(KERNELS, told) == derive_boot_id(KERNELS, told)
    assert len(derive_boot_id(KERNELS, told)) == len(KERNELS)
