"""The tables of the driver for libvirt: errors, states, events, traits, definitions; each as libvirt's own values."""

import errno
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import os_traits
import pytest

from bringup.daemon.decisions.actions import ResumeStateOnHostBoot
from bringup.daemon.decisions.on_failure import Reaction, reaction_to
from bringup.drivers.base import POWER_AFTER, DriverError, InstanceNotFound, PowerState, Transition
from bringup.drivers.libvirt import definitions
from bringup.drivers.libvirt.binding import binding
from bringup.drivers.libvirt.errors import (
    BROKEN,
    CODES,
    CallTimedOut,
    ConnectionLost,
    DiskFull,
    GuestBusy,
    HypervisorUnavailable,
    NotAllowed,
    NotConnected,
    NotInThatState,
    NotSent,
    is_kill_pending,
    meaning_of,
)
from bringup.drivers.libvirt.event_listener import TRANSITION_TO, transition_of
from bringup.drivers.libvirt.hypervisor import power_state
from bringup.drivers.libvirt.start import deferred_on_host_failure
from bringup.drivers.libvirt.traits import _OTHERS, _SAME, cpu_traits
from bringup.drivers.needs import MetBy, NeedNotMet, NeedState


@dataclass(frozen=True)
class Raised:
    """What is asked of an error of libvirt."""

    code: int
    domain: int = 0
    number: int = 0
    message: str = ""

    def get_error_code(self) -> int:
        return self.code

    def get_error_domain(self) -> int:
        return self.domain

    def get_error_message(self) -> str:
        return self.message

    def get_int1(self) -> int:
        return self.number


@pytest.fixture
def libvirt() -> Any:
    try:
        return binding()
    except ImportError as error:
        pytest.skip(str(error))


def test_every_error_code_in_the_table_exists_in_libvirt(libvirt: Any) -> None:
    assert all(hasattr(libvirt, name) for name in (*CODES, *BROKEN))


@pytest.mark.parametrize(
    ("code", "domain", "meaning"),
    [
        ("VIR_ERR_NO_DOMAIN", "VIR_FROM_QEMU", InstanceNotFound),
        ("VIR_ERR_ACCESS_DENIED", "VIR_FROM_ACCESS", NotAllowed),
        ("VIR_ERR_NO_SUPPORT", "VIR_FROM_NONE", NotImplementedError),
        ("VIR_ERR_OPERATION_INVALID", "VIR_FROM_QEMU", NotInThatState),
        ("VIR_ERR_OPERATION_TIMEOUT", "VIR_FROM_QEMU", GuestBusy),
        ("VIR_ERR_SYSTEM_ERROR", "VIR_FROM_RPC", ConnectionLost),
        ("VIR_ERR_INTERNAL_ERROR", "VIR_FROM_RPC", ConnectionLost),
        ("VIR_ERR_SYSTEM_ERROR", "VIR_FROM_QEMU", DriverError),
        ("VIR_ERR_INTERNAL_ERROR", "VIR_FROM_QEMU", DriverError),
        ("VIR_ERR_XML_ERROR", "VIR_FROM_RPC", DriverError),
    ],
)
def test_errors_of_libvirt_are_mapped_to_classes_callers_react_to(
    libvirt: Any, code: str, domain: str, meaning: type[Exception]
) -> None:
    raised = Raised(getattr(libvirt, code), getattr(libvirt, domain))

    assert meaning_of(raised, libvirt) is meaning


@pytest.mark.parametrize(
    ("code", "number", "message"),
    [
        ("VIR_ERR_SYSTEM_ERROR", errno.ENOSPC, "Kann nicht in Datei schreiben"),
        ("VIR_ERR_SYSTEM_ERROR", errno.EDQUOT, ""),
        ("VIR_ERR_OPERATION_FAILED", -1, "operation failed: failed to format image: 'No space left on device'"),
        ("VIR_ERR_INTERNAL_ERROR", -1, "internal error: failed to write master key file for domain"),
    ],
)
def test_a_full_disk_is_detected_by_errno_or_text(libvirt: Any, code: str, number: int, message: str) -> None:
    raised = Raised(getattr(libvirt, code), libvirt.VIR_FROM_QEMU, number, message)

    assert meaning_of(raised, libvirt) is DiskFull


def test_a_process_that_waits_for_storage_is_kill_pending_and_nothing_else_is(libvirt: Any) -> None:
    system = libvirt.VIR_ERR_SYSTEM_ERROR

    assert is_kill_pending(Raised(system, number=errno.EBUSY), libvirt)
    assert not is_kill_pending(Raised(system, number=errno.ENOENT), libvirt)
    assert not is_kill_pending(Raised(libvirt.VIR_ERR_XML_ERROR, number=errno.EBUSY), libvirt)


def test_every_state_of_libvirt_has_a_power_state_of_nova(libvirt: Any) -> None:
    expected = {
        "NOSTATE": PowerState.NOSTATE,
        "RUNNING": PowerState.RUNNING,
        "BLOCKED": PowerState.RUNNING,
        "PAUSED": PowerState.PAUSED,
        "SHUTDOWN": PowerState.SHUTDOWN,
        "SHUTOFF": PowerState.SHUTDOWN,
        "CRASHED": PowerState.CRASHED,
        "PMSUSPENDED": PowerState.SUSPENDED,
    }

    assert {name: power_state(getattr(libvirt, f"VIR_DOMAIN_{name}")) for name in expected} == expected
    assert power_state(99) is PowerState.NOSTATE


@pytest.mark.parametrize(
    ("event", "detail", "transition"),
    [
        ("STARTED", "STARTED_BOOTED", Transition.STARTED),
        ("STARTED", "STARTED_MIGRATED", Transition.STARTED),
        ("RESUMED", "RESUMED_UNPAUSED", Transition.RESUMED),
        ("SUSPENDED", "SUSPENDED_PAUSED", Transition.PAUSED),
        ("SUSPENDED", "SUSPENDED_IOERROR", Transition.PAUSED),
        ("SUSPENDED", "SUSPENDED_MIGRATED", None),
        ("SUSPENDED", "SUSPENDED_POSTCOPY", None),
        ("STOPPED", "STOPPED_SHUTDOWN", Transition.STOPPED),
        ("STOPPED", "STOPPED_CRASHED", Transition.STOPPED),
        ("STOPPED", "STOPPED_SAVED", Transition.STOPPED),
        ("STOPPED", "STOPPED_MIGRATED", None),
        ("CRASHED", "CRASHED_PANICKED", Transition.CRASHED),
        ("PMSUSPENDED", "PMSUSPENDED_MEMORY", Transition.SUSPENDED),
        ("DEFINED", "DEFINED_ADDED", None),
        ("UNDEFINED", "UNDEFINED_REMOVED", None),
        ("SHUTDOWN", "SHUTDOWN_FINISHED", None),
    ],
)
def test_an_event_of_libvirt_is_a_transition_or_ignored(
    libvirt: Any, event: str, detail: str, transition: Transition | None
) -> None:
    numbers = [getattr(libvirt, f"VIR_DOMAIN_EVENT_{name}") for name in (event, detail)]

    assert transition_of(numbers[0], numbers[1], libvirt) is transition


def test_every_transition_ends_in_the_state_of_its_table() -> None:
    assert POWER_AFTER.keys() == set(Transition)
    assert {state: POWER_AFTER[transition] for state, transition in TRANSITION_TO.items()} == {
        state: state for state in TRANSITION_TO
    }
    assert TRANSITION_TO.keys() == set(PowerState) - {PowerState.NOSTATE}


def test_every_trait_of_a_cpu_feature_is_one_that_os_traits_knows() -> None:
    assert cpu_traits([*_SAME, *_OTHERS]) <= set(os_traits.get_traits())
    assert cpu_traits(["sse4.1", "svm", "no-such-feature"]) == {
        "HW_CPU_X86_SSE41",
        "HW_CPU_X86_SVM",
        "HW_CPU_X86_AMD_SVM",
    }


def test_a_copy_of_a_disk_is_found_and_another_job_is_not() -> None:
    def disk(name: str, mirror: str) -> str:
        return f"<disk><target dev='{name}'/>{mirror}</disk>"

    xml = f"""<domain><devices>
      {disk("vda", "<mirror job='copy'><source file='/x/one'/></mirror>")}
      {disk("vdb", "<mirror job='active-commit'><source file='/x/two'/></mirror>")}
      {disk("vdc", "<mirror file='/x/three'/>")}
      {disk("vdd", "<mirror job='copy'><source dev='/dev/x'/></mirror>")}
      {disk("vde", "")}
    </devices></domain>"""

    assert definitions.copies_of(xml) == [
        definitions.DiskCopy("vda", Path("/x/one")),
        definitions.DiskCopy("vdc", Path("/x/three")),
        definitions.DiskCopy("vdd", None),
    ]


def test_a_guest_requires_kvm_where_its_definition_does() -> None:
    assert definitions.requires_kvm("<domain type='kvm'/>")
    assert not definitions.requires_kvm("<domain type='qemu'/>")


@pytest.mark.parametrize("xml", ["", "<domain", "<domain/>", "<domain><uuid>other</uuid></domain>"])
def test_a_definition_of_another_guest_is_refused(xml: str) -> None:
    with pytest.raises(DriverError, match="cannot restore the definition of this"):
        definitions.require_definition_of(xml, "this")


@pytest.mark.parametrize(
    "raised",
    [
        CallTimedOut("no answer"),
        NotSent("not sent"),
        HypervisorUnavailable("away"),
        NotConnected("away"),
        GuestBusy("busy"),
        DiskFull("cannot start"),
    ],
    ids=lambda raised: type(raised).__name__,
)
@pytest.mark.anyio
async def test_a_start_with_unknown_outcome_is_retried_and_no_failure_of_the_guest(
    raised: DriverError,
) -> None:
    @deferred_on_host_failure()
    async def start() -> None:
        raise raised

    with pytest.raises(NeedNotMet, match=re.escape(str(raised))) as told:
        await start()

    (need,) = told.value.needs
    assert (need.state, need.met_by, bool(need.why)) == (NeedState.UNVERIFIED, MetBy.HOST, True)
    assert reaction_to(ResumeStateOnHostBoot(), told.value) is Reaction.DEFER


@pytest.mark.anyio
async def test_a_start_refused_for_another_reason_is_raised_unchanged() -> None:
    with pytest.raises(NotInThatState):
        async with deferred_on_host_failure():
            raise NotInThatState("it runs")
