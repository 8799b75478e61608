"""What a guest needs, all of it: libvirt is asked, this host is looked at, and libvirt again of what is not seen."""

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
from bringup.drivers.libvirt.guest_needs.disks import disks, stores
from bringup.drivers.libvirt.guest_needs.evidence import Sight, Told
from bringup.drivers.libvirt.guest_needs.host import Host
from bringup.drivers.libvirt.guest_needs.queries import Asking
from bringup.drivers.libvirt.guest_needs.rules.definition import Definition, SecretName
from bringup.drivers.libvirt.guest_needs.rules.disk_identity import volumes_of
from bringup.drivers.libvirt.guest_needs.rules.verdicts import Verdict, need
from bringup.drivers.libvirt.hypervisor import Hypervisor
from bringup.drivers.libvirt.room import Room
from bringup.drivers.libvirt.threads import on_disk
from bringup.drivers.needs import MetBy, Need, NeedKind, NeedState

LOOKS: Final = 64
"""At once: one that hangs in a storage that is away keeps its thread."""
DEADLINE_S: Final = 10.0
GONE: Final = "libvirt has no definition of it; nova-compute defines it anew"
OWNER: Final = "libvirt has no such secret; Nova makes it anew when the guest's owner reboots it hard"


class Looking:
    """Looks at the needs of guests."""

    def __init__(
        self, host: Host, instances_path: Path, *, deadline_s: float = DEADLINE_S, is_local: bool = True
    ) -> None:
        """Look at ``host``, for ``deadline_s`` at a guest; Nova's mounts are beside ``instances_path``.

        Where the guests are not on this host, ``is_local`` is false and ``host`` is an empty one.
        """
        self._host = host
        self._is_local = is_local
        self._deadline_s = deadline_s
        # Nova's state_path has both; directly below the root nobody has Nova's.
        state_path = instances_path.parent if instances_path.parent != Path("/") else Path("/var/lib/nova")
        self._nova_base = str(state_path / "mnt")
        self._room = Room(LOOKS, "place for a look")

    async def needs(self, hypervisor: Hypervisor, guest: Guest, made: frozenset[str]) -> tuple[Need, ...]:
        """Tell what a start of a guest relies on.

        :raises DriverError: libvirt cannot be asked.
        """
        libvirt, uuid = hypervisor.libvirt, guest.uuid

        def ask(connection: Connection) -> Told:
            return Asking(connection, libvirt, self._host).of(uuid)

        try:
            told = await hypervisor.ask(f"ask what {uuid} needs", ask)
        except InstanceNotFound:
            return (definition_gone(guest),)
        except ValueError as error:
            return (need(NeedKind.DEFINITION, uuid, met_by=MetBy.PERSON, unverified=str(error)),)
        host = self._host.for_one_guest()
        look = _Look(host, partial(self._look, host, told, guest, made))
        what = f"look at what {uuid} needs"
        try:
            verdicts = await on_disk(what, look.look, room=self._room, deadline_s=self._deadline_s)
        except NotSent:
            raise
        except CallTimedOut:
            point = look.hangs()
            return (need(NeedKind.MOUNT, point, unverified=f"it did not answer in {self._deadline_s:g} s"),)
        found = [
            seen
            for verdict in verdicts
            if (seen := await self._seen_by_libvirt(hypervisor, uuid, verdict)).state is not NeedState.ABSENT
            or not verdict.optional
        ]
        # The managed save image has much the same as the definition.
        return tuple(dict.fromkeys(found))

    def _look(self, host: Host, told: Told, guest: Guest, made: frozenset[str]) -> list[Verdict]:
        expected = dict(host.expected_mounts())
        expected.update({folder: f"pool {name} of libvirt" for folder, name in told.idle_pools.items()})
        sight = Sight(
            host=host,
            told=told,
            definition=told.definitions[0],
            mounts=host.mounts(),
            expected=expected,
            nova_base=host.real(self._nova_base),
            volumes=tuple(volumes_of(guest.block_devices)),
            profiles=dict(_profiles(guest.network_info)),
            made=made,
            nics_in_record=len(guest.network_info),
        )
        found: list[Verdict] = []
        for definition in told.definitions:
            emulator = definition.machine.emulator
            sees = not emulator or host.exists(emulator) is True
            one = replace(sight, definition=definition, sees_host=sees)
            found += _told(one)
            found += disks(one)
            # Of another machine nothing is seen here, and a share could be anything.
            found += (Verdict(each) for each in devices(one) if self._is_local or each.kind is NeedKind.SHARE)
            found += stores(one)
        return found

    async def _seen_by_libvirt(self, hypervisor: Hypervisor, uuid: str, verdict: Verdict) -> Need:
        """Ask libvirt of a disk that is not seen here: it may be in a container, or a folder of root's."""
        missing = verdict.need
        if not verdict.disk or missing.state is NeedState.MET:
            return missing
        try:
            await hypervisor.ask(
                f"look at a disk of {uuid}",
                lambda connection: connection.lookupByUUIDString(uuid).blockInfo(verdict.disk),
            )
        except (CallTimedOut, NotImplementedError):
            return missing
        except DriverError:
            why = f"{missing.why}, and libvirt cannot open it" if missing.state is NeedState.UNVERIFIED else missing.why
            return need(missing.kind, missing.name, absent=why)
        return need(missing.kind, missing.name)


class _Look:
    """One look in a thread; where it hangs no other one goes in until it has ended."""

    def __init__(self, host: Host, work: Callable[[], list[Verdict]]) -> None:
        self._host = host
        self._work = work
        self._point = ""
        self._has_ended = False

    def look(self) -> list[Verdict]:
        try:
            return self._work()
        finally:
            self._has_ended = True
            self._forget()

    def hangs(self) -> str:
        """Take note of what it hangs in, and give that."""
        at = self._host.at
        covering = self._host.for_one_guest().mounts().covering(at)
        point = at if covering is None or covering.point == "/" else covering.point
        if point.startswith("/"):
            self._host.silent[point] = self._host.silent.get(point, 0) + 1
            self._point = point
            if self._has_ended:
                self._forget()
        return point or "the storage of this host"

    def _forget(self) -> None:
        point, self._point = self._point, ""
        if point and not (left := self._host.silent.get(point, 1) - 1):
            self._host.silent.pop(point, None)
        elif point:
            self._host.silent[point] = left


def definition_gone(guest: Guest) -> Need:
    """Give the need of a guest that libvirt does not have."""
    return need(NeedKind.DEFINITION, guest.name or guest.uuid, met_by=MetBy.NOVA, absent=GONE)


def unmet(needs: Sequence[Need]) -> list[Need]:
    """Give those that are not met."""
    return [each for each in needs if each.state is not NeedState.MET]


def sentence(what: str, needs: Sequence[Need]) -> str:
    """Say what is not met."""
    return f"did not {what}: " + "; ".join(f"{each.kind.value} {each.name}: {each.why}" for each in needs)


def _told(sight: Sight) -> Iterator[Verdict]:
    """Give what libvirt alone knows."""
    definition, answers = sight.definition, sight.told.answers
    machine = definition.machine
    why = answers.get(("machine", f"{machine}"), "")
    named = " ".join(filter(None, (machine.type, machine.arch, machine.machine))) or machine.emulator
    if machine.emulator:
        yield Verdict(need(NeedKind.MACHINE, named, met_by=MetBy.PERSON, absent=why))
    for secret in definition.secrets:
        yield Verdict(_secret(definition, secret, answers.get(("secret", secret.uuid or secret.usage), "")))


def _secret(definition: Definition, secret: SecretName, why: str) -> Need:
    if why and definition.by_nova and secret.type in ("volume", "vtpm"):
        why = OWNER
    return need(NeedKind.SECRET, secret.uuid or secret.usage, met_by=MetBy.PERSON, absent=why)


def _profiles(network_info: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Give what a record says of PCI devices of NICs: address, vendor and product."""
    for vif in network_info:
        with suppress(AttributeError, KeyError, TypeError):
            profile = vif["profile"]
            slot, info = profile.get("pci_slot"), profile.get("pci_vendor_info")
            if isinstance(slot, str) and isinstance(info, str) and ":" in info:
                yield slot.lower(), info
