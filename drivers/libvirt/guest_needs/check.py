"""All needs of one guest: libvirt is queried, this host is checked, then libvirt for what this process cannot see."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from bringup.drivers.base import Guest
from bringup.drivers.errors import DriverError, InstanceNotFound
from bringup.drivers.libvirt.binding import Connection
from bringup.drivers.libvirt.errors import CallTimedOut, NotSent
from bringup.drivers.libvirt.guest_needs.devices import devices
from bringup.drivers.libvirt.guest_needs.disks import disks, firmware_and_memory
from bringup.drivers.libvirt.guest_needs.evidence import Evidence, LibvirtAnswers
from bringup.drivers.libvirt.guest_needs.host import HostFiles
from bringup.drivers.libvirt.guest_needs.queries import Queries
from bringup.drivers.libvirt.guest_needs.rules.definition import Definition, SecretName
from bringup.drivers.libvirt.guest_needs.rules.disk_identity import volumes_of
from bringup.drivers.libvirt.guest_needs.rules.verdicts import Verdict, need
from bringup.drivers.libvirt.hypervisor import Hypervisor
from bringup.drivers.libvirt.slots import Slots
from bringup.drivers.libvirt.threads import on_disk
from bringup.drivers.needs import MetBy, Need, NeedKind, NeedState

CHECKS: Final = 64
"""At once: one that hangs in unavailable storage keeps its thread."""
DEADLINE_S: Final = 10.0
NO_DEFINITION: Final = "libvirt has no definition of it; nova-compute defines it anew"
LOST_SECRET: Final = "libvirt has no such secret; Nova creates it when the guest's owner hard reboots it"  # noqa: S105 - a sentence


class NeedsCheck:
    """Checker of the needs of guests."""

    def __init__(
        self, host: HostFiles, instances_path: Path, *, deadline_s: float = DEADLINE_S, is_local: bool = True
    ) -> None:
        """Store the host to check and the deadline for one guest; Nova's mounts are beside ``instances_path``.

        If the guests are not on this host, ``is_local`` is false and ``host`` is an empty one.
        """
        self._host = host
        self._is_local = is_local
        self._deadline_s = deadline_s
        # Nova's state_path contains both; it is never the root itself.
        state_path = instances_path.parent if instances_path.parent != Path("/") else Path("/var/lib/nova")
        self._nova_base = str(state_path / "mnt")
        self._slots = Slots(CHECKS, "place for a check")

    async def needs(self, hypervisor: Hypervisor, guest: Guest, made: frozenset[str]) -> tuple[Need, ...]:
        """Return what a start of a guest relies on; ``made`` is created before it.

        :raises DriverError: libvirt does not answer.
        """
        libvirt, uuid = hypervisor.libvirt, guest.uuid

        def query(connection: Connection) -> LibvirtAnswers:
            return Queries(connection, libvirt, self._host).answers(uuid)

        try:
            answers = await hypervisor.query(f"read what {uuid} needs", query)
        except InstanceNotFound:
            return (missing_definition(guest),)
        except ValueError as error:
            return (need(NeedKind.DEFINITION, uuid, met_by=MetBy.PERSON, unverified=str(error)),)
        host = self._host.for_one_guest()
        check = _HostCheck(host, partial(self._verdicts, host, answers, guest, made))
        what = f"check what {uuid} needs"
        try:
            verdicts = await on_disk(what, check.run, slots=self._slots, deadline_s=self._deadline_s)
        except NotSent:
            raise
        except CallTimedOut:
            point = check.register_hang()
            return (need(NeedKind.MOUNT, point, unverified=f"it did not answer in {self._deadline_s:g} s"),)
        found = [
            seen
            for verdict in verdicts
            if (seen := await self._checked_by_libvirt(hypervisor, uuid, verdict)).state is not NeedState.ABSENT
            or not verdict.optional
        ]
        # The managed save image has much the same as the definition.
        return tuple(dict.fromkeys(found))

    def _verdicts(self, host: HostFiles, answers: LibvirtAnswers, guest: Guest, made: frozenset[str]) -> list[Verdict]:
        expected = dict(host.expected_mounts())
        expected.update({folder: f"pool {name} of libvirt" for folder, name in answers.idle_pools.items()})
        evidence = Evidence(
            host=host,
            libvirt=answers,
            definition=answers.definitions[0],
            mounts=host.mounts(),
            expected=expected,
            nova_base=host.real(self._nova_base),
            volumes=tuple(volumes_of(guest.block_devices)),
            profiles=dict(_profiles(guest.network_info)),
            made=made,
            nics_in_record=len(guest.network_info),
        )
        found: list[Verdict] = []
        for definition in answers.definitions:
            emulator = definition.machine.emulator
            sees = not emulator or host.exists(emulator) is True
            one = replace(evidence, definition=definition, sees_host=sees)
            found += _known_to_libvirt(one)
            found += disks(one)
            # Nothing of another machine can be seen here, and a share could be anything.
            found += (Verdict(each) for each in devices(one) if self._is_local or each.kind is NeedKind.SHARE)
            found += firmware_and_memory(one)
        return found

    async def _checked_by_libvirt(self, hypervisor: Hypervisor, uuid: str, verdict: Verdict) -> Need:
        """Query libvirt about a disk that this process cannot see: it may be in a container, or in a folder of root."""
        missing = verdict.need
        if not verdict.disk or missing.state is NeedState.MET:
            return missing
        try:
            await hypervisor.query(
                f"read a disk of {uuid}",
                lambda connection: connection.lookupByUUIDString(uuid).blockInfo(verdict.disk),
            )
        except (CallTimedOut, NotImplementedError):
            return missing
        except DriverError:
            why = f"{missing.why}, and libvirt cannot open it" if missing.state is NeedState.UNVERIFIED else missing.why
            return need(missing.kind, missing.name, absent=why)
        return need(missing.kind, missing.name)


class _HostCheck:
    """One check of the host in a thread; where it hangs, no other check enters until it has ended."""

    def __init__(self, host: HostFiles, work: Callable[[], list[Verdict]]) -> None:
        self._host = host
        self._work = work
        self._point = ""
        self._has_ended = False

    def run(self) -> list[Verdict]:
        try:
            return self._work()
        finally:
            self._has_ended = True
            self._unregister()

    def register_hang(self) -> str:
        """Register the mount point that it hangs in, and return that."""
        at = self._host.at
        covering = self._host.for_one_guest().mounts().covering(at)
        point = at if covering is None or covering.point == "/" else covering.point
        if point.startswith("/"):
            self._host.silent[point] = self._host.silent.get(point, 0) + 1
            self._point = point
            if self._has_ended:
                self._unregister()
        return point or "the storage of this host"

    def _unregister(self) -> None:
        point, self._point = self._point, ""
        if point and not (left := self._host.silent.get(point, 1) - 1):
            self._host.silent.pop(point, None)
        elif point:
            self._host.silent[point] = left


def missing_definition(guest: Guest) -> Need:
    """Return the need of a guest that libvirt has no definition of."""
    return need(NeedKind.DEFINITION, guest.name or guest.uuid, met_by=MetBy.NOVA, absent=NO_DEFINITION)


def _known_to_libvirt(evidence: Evidence) -> Iterator[Verdict]:
    """Return the verdicts that follow from libvirt's answers alone."""
    definition, answers = evidence.definition, evidence.libvirt.answers
    machine = definition.machine
    why = answers.get(("machine", f"{machine}"), "")
    named = " ".join(filter(None, (machine.type, machine.arch, machine.machine))) or machine.emulator
    if machine.emulator:
        yield Verdict(need(NeedKind.MACHINE, named, met_by=MetBy.PERSON, absent=why))
    for secret in definition.secrets:
        yield Verdict(_secret(definition, secret, answers.get(("secret", secret.uuid or secret.usage), "")))


def _secret(definition: Definition, secret: SecretName, why: str) -> Need:
    if why and definition.by_nova and secret.type in ("volume", "vtpm"):
        why = LOST_SECRET
    return need(NeedKind.SECRET, secret.uuid or secret.usage, met_by=MetBy.PERSON, absent=why)


def _profiles(network_info: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Return what a record contains about PCI devices of NICs: address, vendor and product."""
    for vif in network_info:
        with suppress(AttributeError, KeyError, TypeError):
            profile = vif["profile"]
            slot, info = profile.get("pci_slot"), profile.get("pci_vendor_info")
            if isinstance(slot, str) and isinstance(info, str) and ":" in info:
                yield slot.lower(), info
