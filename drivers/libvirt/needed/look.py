"""What a guest needs, all of it: libvirt is asked, this host is looked at, and libvirt again of what is not seen."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from bringup.drivers.base import Guest
from bringup.drivers.errors import DriverError, InstanceNotFound
from bringup.drivers.libvirt.binding import Connection
from bringup.drivers.libvirt.errors import CallTimedOut
from bringup.drivers.libvirt.hypervisor import Hypervisor
from bringup.drivers.libvirt.needed.asking import Asking
from bringup.drivers.libvirt.needed.definition import Definition, SecretName
from bringup.drivers.libvirt.needed.devices import devices
from bringup.drivers.libvirt.needed.disks import disks
from bringup.drivers.libvirt.needed.host import Host
from bringup.drivers.libvirt.needed.sight import Sight, Told
from bringup.drivers.libvirt.needed.verdicts import Verdict, need
from bringup.drivers.libvirt.needed.volumes import volumes_of
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

    def __init__(self, host: Host, instances_path: Path) -> None:
        """Look at ``host``; Nova's mounts are beside ``instances_path``."""
        self._host = host
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
        look = partial(self._look, host, told, guest, made)
        try:
            verdicts = await on_disk(f"look at what {uuid} needs", look, room=self._room, deadline_s=DEADLINE_S)
        except CallTimedOut:
            why = f"it did not answer in {DEADLINE_S:g} s"
            return (need(NeedKind.MOUNT, host.at or "the storage of this host", unverified=why),)
        found = [await self._seen_by_libvirt(hypervisor, uuid, verdict) for verdict in verdicts]
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
            nova_base=self._nova_base,
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
            found += (Verdict(each) for each in devices(one))
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
        except (DriverError, NotImplementedError):
            return missing
        return need(missing.kind, missing.name)


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
                yield slot, info
