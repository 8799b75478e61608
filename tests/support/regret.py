"""What is compared: a host brought back by nova-compute alone, and by bringup and then nova-compute.

Values only; :mod:`support.regret_lab` makes them by running both.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

Found = Literal["off", "on", "paused", "saved", "undefined"]
Wants = Literal["runs", "off", "paused", "gone", "nothing"]


@dataclass(frozen=True, kw_only=True)
class Situation:
    """One instance as a host boot finds it."""

    name: str
    found: Found = "off"
    """The guest."""
    record: dict[str, Any] = field(default_factory=dict)
    """What its record says, beside active and running."""
    wants: Wants = "runs"
    """What its user would want to come of the guest."""
    spoil: tuple[str, ...] = ()
    """What is wrong with its definition or its files; names of :mod:`support.regret_lab`."""
    vif: str = ""
    """Its NIC: none, or of this sort."""
    migration: dict[str, Any] | None = None
    """A migration of it, its source this host."""
    issue: str = ""
    """What makes this row good, where it is not yet."""


OFF = {"vm_state": "stopped", "power_state": 4}
PAUSED = {"vm_state": "paused", "power_state": 3}


def _task(name: str, task: str, **more: Any) -> Situation:
    return Situation(name=name, **{"record": {"task_state": task, **more.pop("record", {})}, **more})


NEEDS = (
    "definition gone",
    "disk by a kernel name that another volume has now",
    "disk by a kernel name that is gone",
    "file of a volume below a mount point that is not mounted",
    "CD image gone",
    "share that is not mounted",
    "bridge gone",
    "libvirt network not active",
    "parent of a macvtap gone",
    "PCI device gone",
    "mediated device gone",
    "USB device gone",
    "secret of an encrypted disk gone",
    "firmware gone",
    "huge pages not there",
)
SITUATIONS: tuple[Situation, ...] = (
    Situation(name="ran, nothing is wrong"),
    Situation(name="ran, with a NIC on Open vSwitch", vif="ovs"),
    Situation(name="ran, with a NIC whose tap os-vif makes (ovs_create_tap)", vif="ovs-tap"),
    Situation(name="runs, only the service is started again", found="on"),
    Situation(name="stopped by its user", record=OFF, wants="off"),
    Situation(name="saved by libvirt-guests at an orderly reboot", found="saved"),
    *(Situation(name=f"ran; {each}", spoil=(each,)) for each in NEEDS),
    Situation(name="ran; its own disk is gone", spoil=("own disk gone",)),
    Situation(name="stopped; PCI device gone", record=OFF, wants="off", spoil=("PCI device gone",)),
    Situation(name="in ERROR", record={"vm_state": "error"}, wants="nothing"),
    _task("soft reboot, went down", "reboot_started"),
    _task("hard reboot asked for, guest runs", "reboot_pending_hard", found="on"),
    _task("hard reboot begun", "reboot_started_hard"),
    _task("hard reboot begun; PCI device gone", "reboot_started_hard", spoil=("PCI device gone",)),
    _task("being started", "powering-on", record=OFF),
    _task("being started; CD image gone", "powering-on", record=OFF, spoil=("CD image gone",)),
    _task("being stopped, is off", "powering-off", wants="off"),
    _task("being paused, host went down", "pausing"),
    _task("being unpaused, is paused", "unpausing", record=PAUSED, found="paused"),
    _task("being deleted", "deleting", wants="gone"),
    _task("being deleted, with a port", "deleting", wants="gone", vif="ovs"),
    _task("resize prepared", "resize_prep"),
    _task("resize moved its disks away", "resize_migrating", spoil=("disks at _resize",)),
    _task("resize, no disks anywhere", "resize_migrating", spoil=("own disk gone",)),
    _task(
        "live migration cut short",
        "migrating",
        migration={"migration_type": "live-migration", "status": "running"},
        wants="nothing",
    ),
    Situation(
        name="ran; a live migration's row was left over",
        migration={"migration_type": "live-migration", "status": "preparing"},
    ),
    _task("snapshot cut short", "image_uploading"),
    _task("backup cut short", "image_backup"),
    _task("being shelved", "shelving"),
    _task("being suspended", "suspending"),
    _task("being rescued", "rescuing"),
    _task("build cut short", "spawning", record={"vm_state": "building"}, wants="nothing"),
    _task("rebuild cut short", "rebuild_spawning", wants="nothing"),
    Situation(
        name="evacuated to another host",
        record={"host": "another"},
        migration={"migration_type": "evacuation", "status": "done"},
        wants="gone",
    ),
)

WITH_SERVICES_AWAY: tuple[Situation, ...] = (
    Situation(name="ran, with a NIC on Open vSwitch", vif="ovs"),
    Situation(name="ran, without a NIC"),
    Situation(name="runs, only the service is started again", found="on", vif="ovs"),
    _task("resize moved its disks away", "resize_migrating", spoil=("disks at _resize",)),
    _task("being deleted", "deleting", wants="gone"),
)


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What came of one instance."""

    guest: str
    """running, paused, off, saved ..., gone."""
    vm_state: str
    task_state: str | None
    deleted: bool
    disk: bool
    """Its disk is on this host, in its own place."""
    ports: int = 0
    """How many ports Neutron has of it."""
    wrong_disk: bool = False
    """It was started on a disk that is not its own."""
    outcome: str = ""
    """What bringup said, where it ran."""

    def __str__(self) -> str:
        if self.deleted:
            left = [what for what, there in (("port", self.ports), ("disk", self.disk)) if there]
            return f"deleted, guest {self.guest}" + "".join(f", {what} left" for what in left)
        task = f"/{self.task_state}" if self.task_state else ""
        return f"{self.guest}, {self.vm_state}{task}" + (", WRONG DISK" if self.wrong_disk else "")


def regrets(wants: Wants, alone: Observation, both: Observation) -> list[str]:
    """Return in what a host is worse off with bringup; empty: in nothing."""
    found = [
        ("it was started on a disk that is not its own", both.wrong_disk and not alone.wrong_disk),
        ("its guest does not run", wants == "runs" and alone.guest == "running" and both.guest != "running"),
        ("its guest runs", wants in ("off", "gone") and both.guest == "running" and alone.guest != "running"),
        ("its record is in ERROR", both.vm_state == "error" and alone.vm_state != "error"),
        ("it was not deleted", alone.deleted and not both.deleted),
        ("its record was deleted", both.deleted and not alone.deleted and wants != "gone"),
        ("its task state stays", both.task_state is not None and alone.task_state is None),
        ("its guest is gone", both.guest == "gone" and alone.guest != "gone" and wants != "gone"),
        ("its disk is left", both.deleted and both.disk and not alone.disk),
        ("its port is left", both.deleted and both.ports > alone.ports),
        ("its disk is gone", alone.disk and not both.disk and wants != "gone"),
    ]
    return [text for text, holds in found if holds]


def verdict(wants: Wants, alone: Observation, both: Observation) -> str:
    """Compare: worse, better or the same."""
    worse, better = regrets(wants, alone, both), regrets(wants, both, alone)
    if worse:
        return "worse: " + "; ".join(worse)
    return "better" if better else "the same"


HEAD = (
    "| an instance that | nova-compute alone | bringup, then nova-compute | bringup said | with bringup it is |",
    "|---|---|---|---|---|",
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One situation, run both ways."""

    name: str
    wants: Wants
    alone: Observation
    both: Observation

    @property
    def verdict(self) -> str:
        """Worse, better or the same."""
        return verdict(self.wants, self.alone, self.both)

    def __str__(self) -> str:
        return f"| {self.name} | {self.alone} | {self.both} | {self.both.outcome} | {self.verdict} |"


def rows_of(lines: Iterable[str]) -> list[Row]:
    """Read what the lab said: a line of JSON a row."""
    wants = {row.name: row.wants for row in (*SITUATIONS, *WITH_SERVICES_AWAY)}
    found = []
    for line in lines:
        told = json.loads(line)
        seen = Observation(**told["alone"]), Observation(**told["both"])
        name = told["name"]
        found.append(Row(name=name, wants=wants[name.rpartition(": ")[2]], alone=seen[0], both=seen[1]))
    return found
