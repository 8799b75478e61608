"""What to do next about an instance that is not back: a table over what went wrong.  Pure.

An error says what happened; this says what an operator does about it.  ``UUID`` stands for that of the instance.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from bringup.daemon.decisions.outcomes import Did, Kind, Outcome

RETRY = "bringup retry UUID"
AGAIN_BY_NOVA = "openstack server reboot --hard UUID"
LOOK = "openstack server show UUID"
BY_ERROR: Mapping[str, str] = {
    # of the hypervisor
    "CallTimedOut": f"find out what does not answer (storage, network, the hypervisor), then: {RETRY}",
    "CommandUnavailable": f"install the program that is missing, or have its service run, then: {RETRY}",
    "CommandRefused": f"correct what the command reports, then: {RETRY}",
    "ConnectionLost": f"once the hypervisor answers again: {RETRY}",
    "DeadlineExceeded": f"find out what does not answer (storage, network, the hypervisor), then: {RETRY}",
    "DefinitionGone": f"have nova-compute define it again: {AGAIN_BY_NOVA}",
    "DiskFull": f"make room where its disks are, then: {RETRY}",
    "DriverError": f"correct what the hypervisor reports, then: {RETRY}",
    "GuestBusy": f"wait until what is done to it is over, then: {RETRY}",
    "InstanceNotFound": f"have nova-compute define it again, if its disks are here: {AGAIN_BY_NOVA}",
    "InstancePowerOffFailure": f"check its QEMU process, which does not exit, then: {RETRY}",
    "HypervisorUnavailable": f"once the hypervisor answers: {RETRY}",
    "NotAllowed": f"install polkit/49-bringup.rules, and restart polkit.service, then: {RETRY}",
    "NotBegun": f"nothing of it was touched; once the hypervisor answers: {RETRY}",
    "NotConnected": f"once the hypervisor answers: {RETRY}",
    "NotSent": f"the hypervisor was not asked: {RETRY}",
    "NotImplementedError": f"this driver cannot do it; let nova-compute: {AGAIN_BY_NOVA}",
    "NotInThatState": f"it changed while it was worked on: {RETRY}",
    "PciDeviceNotFound": f"bring the device back, or detach its port, then: {RETRY}",
    "TimeoutError": f"find out what does not answer (storage, network, the hypervisor), then: {RETRY}",
    "AutostartConflict": f"have one of the two start guests (bringup check names them), then: {RETRY}",
    "VirtualInterfacePlugError": f"repair the network of this host (bridge, Open vSwitch, its port), then: {RETRY}",
    # of records
    "LeaseHeld": f"another daemon works for this host: stop one of the two, then: {RETRY}",
    "NotOursToStart": f"nothing here: another host has taken it over, or is about to; {LOOK} names it",
    "RecordNotFound": "nothing: its record was deleted meanwhile",
    "StateConflict": f"nothing: somebody else works on it; {LOOK} says how it is now",
    "StoreError": f"once its record can be read and written: {RETRY}",
    "StoreUnavailable": f"once the store of records answers: {RETRY}",
    "Paused": "nothing: it is started when the pause of starts is over; bringup resume ends that now",
    # of this host
    "JournalError": "make room for the journal, or repair its disk (host.state_directory), then: bringup release UUID",
    # of what was decided
    "ClockNotSet": f"nothing, if a time service sets the clock; where there is none, set resume.clock, then: {RETRY}",
    "FailedBefore": f"see what failed (bringup history --instance UUID), correct it, then: {RETRY}",
    "ForeignGuest": f"find out where it belongs: {LOOK}; set host.name if that is this machine",
    "Held": "read why; if it is right all the same: bringup release UUID",
    "LiveMigratedAway": "look for its guest on the host that is named before anything is started here",
    "MetadataWrong": f"correct the value (openstack server set --property KEY=VALUE UUID), then: {RETRY}",
    "MigrationLeftOver": "nothing has to be done: openstack server migration list --server UUID shows the row",
    "Moving": "nothing: nova-compute finishes or ends it; openstack server migration list --server UUID",
    "NotKnown": f"if it is to run: {RETRY}",
    "PendingElsewhere": "start nova-compute, which finishes the deletion, with its ports and volumes",
    "ResizeUnfinished": "bring its disks here from the host that it comes from, or give it back to that host",
    "TaskStateLeftOver": "if nobody works on it any more: openstack server set --state active UUID",
    "Unreadable": f"correct its record, as the message says, then: {RETRY}",
    "UnknownState": "install a version of bringup that knows this state, or: openstack server set --state active UUID",
}
"""By the class of an error."""
BY_KIND: Mapping[Kind, str] = {
    Kind.FAILED: f"correct what the message says, then: {RETRY}",
    Kind.SUPERSEDED: f"nothing: somebody else works on it; {LOOK} says how it is now",
    Kind.HELD: BY_ERROR["Held"],
    Kind.DEFERRED: f"bring what is missing, then: {RETRY}",
    Kind.INITIALIZED: "nothing has to be done at once: bringup history --instance UUID shows what was tried",
    Kind.SKIPPED: "nothing has to be done at once: bringup history --instance UUID shows what was tried",
}
"""For an error that is not in the table; successful instances are listed only with a warning."""
SET_TO_ERROR = f"its build or rebuild was cut short: its owner rebuilds it, or deletes and creates it again; {LOOK}"
"""For a record that a rule has set to ERROR."""
BY_WHO: tuple[tuple[str, str], ...] = (
    ("person", f"bring what is missing, then: {RETRY}"),
    ("nova", f"start nova-compute, which prepares it and starts it, or: {AGAIN_BY_NOVA}"),
    ("host", f"nothing, if it comes by itself: it is checked again; else provide it, then: {RETRY}"),
)
"""For what is deferred, by who can meet its needs: whoever is hardest to come by counts."""


def advice(kind: Kind, did: Did, error: str | None, met_by: Collection[str] = ()) -> str | None:
    """Return what to do next; ``met_by`` are those who can meet what is not met.  None: nothing has to be done."""
    if kind in (Kind.INITIALIZED, Kind.SKIPPED):
        if did is Did.SET_TO_ERROR:
            return SET_TO_ERROR
        if error is None:
            return None
    if kind is Kind.DEFERRED and met_by and error in (None, "NeedNotMet", "DefinitionGone", "DeadlineExceeded"):
        return next((text for who, text in BY_WHO if who in met_by), BY_KIND[kind])
    if kind is Kind.HELD and error != "JournalError":
        return BY_KIND[kind]
    return BY_ERROR.get(error or "", BY_KIND[kind])


def advice_of(outcome: Outcome) -> str | None:
    """Return what to do next about an outcome; None: nothing has to be done."""
    problem = outcome.problem or next(iter(outcome.warnings), None)
    error = None if problem is None else problem.error
    return advice(outcome.kind, outcome.did, error, {need.met_by.value for need in outcome.needs})


def for_one(text: str | None, uuid: str) -> str | None:
    """Return an advice with the UUID of the instance in it."""
    return None if text is None else text.replace("UUID", uuid)


def gathered(texts: Iterable[str | None]) -> list[str]:
    """Return each advice once, with how many it is for; what is for most of them first."""
    counted = Counter(text for text in texts if text is not None)
    return [f"to do ({count}): {text}" for text, count in counted.most_common()]
