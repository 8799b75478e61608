"""Guests that ran before the boot and are off after it because the settings have it so: all is green otherwise."""

from bringup.daemon.decisions.outcomes import Outcome, RunResult
from bringup.daemon.decisions.states import PowerState
from bringup.daemon.logs import get_logger

log = get_logger()

SHOWN = 5


def tell_left_off(result: RunResult, resume: str) -> None:
    """Name them, where ``resume`` (``resume.guests``) brings none back."""
    off = [outcome.uuid for outcome in result.outcomes if _ran(outcome)] if resume == "never" else []
    if off:
        log.warning("run.not_resumed", count=len(off), first=off[:SHOWN], why='resume.guests = "never"')


def _ran(outcome: Outcome) -> bool:
    record = outcome.instance
    stays_off = outcome.because[-1:] == ("stays_off",)
    return stays_off and record is not None and record.power_state is PowerState.RUNNING
