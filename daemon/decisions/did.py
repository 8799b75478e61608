"""What was done to an instance: computed from what was carried out, never from what was planned.  Pure.

An action that did not end well has an unknown effect, unless its error proves that nothing was begun.  What is lost
stays lost: nothing that follows turns a destroyed guest, or a record that was set to ERROR, into one that was started.
"""

from collections.abc import Collection
from typing import assert_never

from bringup.daemon.decisions.actions import (
    AbortLiveMigration,
    Action,
    CleanupInterruptedSnapshot,
    CompletePartialDeletion,
    Delete,
    DestroyEvacuated,
    DestroyGuest,
    EnsureFilteringRules,
    Fence,
    FenceForeign,
    LookAtGuest,
    PlugVifs,
    Reboot,
    ResumeStateOnHostBoot,
    RevertMigration,
    Save,
    SaveMigration,
    SetError,
    Start,
    Stop,
    Unpause,
)
from bringup.daemon.decisions.outcomes import BACK, Did, Kind
from bringup.daemon.decisions.states import PowerState, VmState
from bringup.daemon.errors import RecordNotFound, StateConflict
from bringup.drivers.base import NotBegun
from bringup.drivers.needs import NeedNotMet

OFF = (PowerState.NOSTATE, PowerState.SHUTDOWN, PowerState.CRASHED)
POWERED = (PowerState.RUNNING, PowerState.PAUSED)
NOTHING_WAS_BEGUN = (NotBegun, NotImplementedError, NeedNotMet, StateConflict, RecordNotFound)
"""Raised by one call, these prove that it has changed nothing."""
_LOST = (Did.SET_TO_ERROR, Did.DESTROYED, Did.DELETED)
"""From bad to worse."""


def did_by(  # noqa: C901, PLR0911, PLR0912 - one arm an action, proved complete
    action: Action, look: PowerState | None
) -> Did | None:
    """Return what an action does that ends well; None: nothing that counts.

    ``look`` is the last known power state of the guest; None: it is not known.
    """
    match action:
        case Start():
            return Did.LEFT_RUNNING if look is PowerState.RUNNING else Did.STARTED
        case ResumeStateOnHostBoot():
            return _resumed(look)
        case RevertMigration():
            return None if not action.power_on else did_by(Start(), look)
        case Reboot():
            return Did.REBOOTED
        case Unpause():
            return Did.UNPAUSED
        case Stop():
            return Did.STAYS_OFF if look in OFF else Did.STOPPED
        case Fence() | FenceForeign():
            if look is None:
                return Did.UNKNOWN
            return Did.POWERED_OFF if look in POWERED else Did.STAYS_OFF
        case DestroyGuest() | DestroyEvacuated():
            return Did.DESTROYED
        case Delete() | CompletePartialDeletion():
            return Did.DELETED
        case SetError():
            return Did.SET_TO_ERROR
        case Save():
            return Did.SET_TO_ERROR if action.changes.get("vm_state") is VmState.ERROR else None
        case (
            LookAtGuest()
            | PlugVifs()
            | EnsureFilteringRules()
            | CleanupInterruptedSnapshot()
            | AbortLiveMigration()
            | SaveMigration()
        ):
            return None
        case _:
            assert_never(action)


def _resumed(look: PowerState | None) -> Did:
    """Return what a resume does: it starts a guest that is off; one that runs, is paused or suspended stays so."""
    match look:
        case PowerState.SHUTDOWN | PowerState.CRASHED:
            return Did.STARTED
        case PowerState.RUNNING | PowerState.PAUSED | PowerState.SUSPENDED:
            return _as_seen(look)
        case _:
            return Did.UNKNOWN


def combined(before: Did | None, now: Did | None) -> Did | None:
    """Return what was done in all, where ``now`` was done after ``before``."""
    if before in _LOST and (now not in _LOST or _LOST.index(now) < _LOST.index(before)):
        return before
    return before if now is None else now


def after_look(done: Did | None, look: PowerState) -> Did | None:
    """Return what was done, checked against the power state that was read since; None: only that counts from now on."""
    is_contradicted = done in BACK and look is not PowerState.RUNNING
    return None if done is Did.UNKNOWN or is_contradicted else done


def did_of(done: Did | None, *, kind: Kind, look: PowerState | None, earlier: Collection[str] = ()) -> Did:
    """Return what was done to an instance whose outcome is ``kind``.

    ``done`` is what its actions have done, ``look`` the last power state of its guest.  ``earlier``: verbs that
    a run of this boot that was cut short had done.
    """
    if done is not None:
        return done
    match kind:
        case Kind.HELD:
            return Did.HELD
        case Kind.DEFERRED:
            return Did.DEFERRED
        case Kind.INITIALIZED:
            return next((did for verb, did in _EARLIER.get(look, ()) if verb in earlier), _as_seen(look))
        case Kind.SKIPPED | Kind.FAILED | Kind.SUPERSEDED:
            return Did.LEFT_ALONE
        case _:
            assert_never(kind)


_EARLIER: dict[PowerState | None, tuple[tuple[str, Did], ...]] = {
    PowerState.RUNNING: (
        (Reboot.verb, Did.REBOOTED),
        (ResumeStateOnHostBoot.verb, Did.STARTED),
        (Start.verb, Did.STARTED),
        (Unpause.verb, Did.UNPAUSED),
    ),
    None: ((DestroyEvacuated.verb, Did.DESTROYED),),
}
"""What a continued run has done before it was cut short, where the guest is as that left it."""


def _as_seen(look: PowerState | None) -> Did:
    match look:
        case None:
            return Did.LEFT_ALONE
        case PowerState.RUNNING:
            return Did.LEFT_RUNNING
        case PowerState.PAUSED:
            return Did.LEFT_PAUSED
        case PowerState.NOSTATE | PowerState.SHUTDOWN | PowerState.CRASHED | PowerState.SUSPENDED:
            return Did.STAYS_OFF
        case _:
            assert_never(look)
