"""NICs of a guest: its info cache is read, and netlink and Open vSwitch create what is missing."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio

from bringup.drivers.base import DriverError, Guest, VirtualInterfacePlugError
from bringup.drivers.batching import Gathering
from bringup.drivers.needs import MetBy, Need, NeedKind, NeedNotMet, NeedState
from bringup.drivers.network.commands import CommandRefused
from bringup.drivers.network.netlink import Netlink
from bringup.drivers.network.ovs import NAME as OPEN_VSWITCH
from bringup.drivers.network.ovs import OpenVSwitch
from bringup.drivers.network.rules.links import BridgeWanted, LinkWanted, TapWanted, VethWanted
from bringup.drivers.network.rules.vif_types import NotPluggedHere, PlugContext, VifNeeds, needs_of_vif
from bringup.drivers.network.rules.vifs import Vif, VifProblem, vifs_of

MOST = 200
"""Most VIFs in one call of netlink: it has one deadline."""
PCI_DEVICES = Path("/sys/bus/pci/devices")


@dataclass(frozen=True, slots=True)
class _Failure:
    sentence: str
    cause: Exception | None = None
    needs: tuple[Need, ...] = ()
    """What this host lacks; empty: the VIF itself is wrong."""
    is_others: bool = False
    """Another program plugs it."""

    @property
    def is_wrong(self) -> bool:
        return not self.needs


def names_to_delete(each: Sequence[VifNeeds], ports: Sequence[str]) -> list[str]:
    """Return the names of the links that were created for VIFs, also those that follow from ports in Open vSwitch.

    A bridge that carries NICs of others too stays.
    """
    links = [link for need in each for link in need.links]
    # The other end of a pair is deleted with it.
    pairs = {link.name: link.master for link in links if isinstance(link, VethWanted)}
    pairs |= {f"qvb{port[3:]}": f"qbr{port[3:]}" for port in ports if port.startswith("qvo")}
    return [*pairs, *pairs.values(), *(link.name for link in links if isinstance(link, TapWanted))]


def _made(need: VifNeeds) -> Iterator[str]:
    for link in need.links:
        if isinstance(link, TapWanted) or (isinstance(link, BridgeWanted) and link.make):
            yield link.name
        elif isinstance(link, VethWanted):
            yield from (link.name, link.peer)
    if need.ovs is not None:
        yield need.ovs.bridge


class Plugging:
    """Plugging of the VIFs of guests into the host."""

    def __init__(
        self, *, netlink: Netlink, open_vswitch: OpenVSwitch, ovs_bridge: str, pci_devices: Path = PCI_DEVICES
    ) -> None:
        """Store the clients for links and ports; ``ovs_bridge`` is for VIFs that name no bridge."""
        self._netlink = netlink
        self._open_vswitch = open_vswitch
        self._ovs_bridge = ovs_bridge
        self._pci_devices = anyio.Path(pci_devices)
        self._links: Gathering[Sequence[LinkWanted], None] = Gathering(
            netlink.ensure, failure=DriverError, repeatable=True, most=MOST
        )

    async def plug(self, guest: Guest, *, several_queues: frozenset[str] | None = None, to_start: bool = False) -> None:
        """Make each NIC ready; one that fails does not keep the others from it.

        ``several_queues`` are the MACs of the NICs that are defined so; None: unknown.  ``to_start``: the
        guest is about to be started, so that a NIC that only others can plug counts too.

        :raises VirtualInterfacePlugError: some are wrong in themselves; the message names all that failed.
        :raises NeedNotMet: some failed, because this host lacks what they need.
        :raises NotImplementedError: all that remain are of a kind that only others can plug.
        """
        context = self._context(guest, several_queues)
        failures = [failure for vif in vifs_of(guest) if (failure := await self._plug(context, vif)) is not None]
        if any(failure.is_wrong for failure in failures):
            raise VirtualInterfacePlugError(_sentences(failures)) from failures[0].cause
        lacking = [failure for failure in failures if to_start or not failure.is_others]
        if lacking:
            needs = dict.fromkeys(need for failure in lacking for need in failure.needs)
            raise NeedNotMet(_sentences(lacking), tuple(needs)) from lacking[0].cause
        if failures:
            raise NotImplementedError(_sentences(failures))

    def needs_open_vswitch(self, guest: Guest) -> bool:
        """Check whether one of the NICs of a guest is in Open vSwitch."""
        return any(isinstance(vif, Vif) and self._needs_of(guest, vif).ovs is not None for vif in vifs_of(guest))

    async def check(self) -> Need:
        """Return whether Open vSwitch is available, as a need."""
        return await self._open_vswitch.check()

    def watches(self, need: Need) -> bool:
        """Return whether it is a need of Open vSwitch, and that can be watched."""
        return need.name == OPEN_VSWITCH and self._open_vswitch.can_be_watched

    async def watch(self, needs: Collection[Need], notify: Callable[[Need], None]) -> None:
        """Call ``notify`` with all of these needs when Open vSwitch may answer by now, until cancelled."""

        def changed() -> None:
            for need in needs:
                notify(need)

        await self._open_vswitch.watch(changed)

    def created_names(self, guest: Guest) -> frozenset[str]:
        """Return the names of what :meth:`plug` creates if it is missing."""
        found: set[str] = set()
        for vif in vifs_of(guest):
            if isinstance(vif, VifProblem):
                continue
            need = self._needs_of(guest, vif)
            found.update(_made(need))
            # Open vSwitch creates a socket with its port.
            path = vif.details.get("vhostuser_socket")
            if need.ovs is not None and need.ovs.type and isinstance(path, str):
                found.add(path)
        return frozenset(found)

    async def unplug(self, guest: Guest) -> None:
        """Delete what was created for the NICs of a guest; what libvirt created is deleted with the guest.

        Ports in Open vSwitch are found by the guest's UUID, so those that the record lacks are deleted too.

        :raises DriverError: something could not be deleted.
        """
        each = [self._needs_of(guest, vif) for vif in vifs_of(guest) if isinstance(vif, Vif)]
        in_ovs = [need.ovs for need in each if need.ovs is not None]
        trunks = [port.bridge for port in in_ovs if port.is_trunk]
        ports = await self._open_vswitch.forget(guest.uuid, trunks) if in_ovs else []
        names = names_to_delete(each, ports)
        if names:
            await self._netlink.delete(names)

    def _needs_of(self, guest: Guest, vif: Vif) -> VifNeeds:
        try:
            return needs_of_vif(vif, self._context(guest))
        except (VifProblem, NotPluggedHere):
            return VifNeeds()

    def _context(self, guest: Guest, several_queues: frozenset[str] | None = None) -> PlugContext:
        return PlugContext(
            instance=guest.uuid,
            ovs_bridge=self._ovs_bridge,
            system_metadata=guest.system_metadata,
            several_queues=several_queues,
        )

    async def _plug(self, context: PlugContext, vif: Vif | VifProblem) -> _Failure | None:
        if isinstance(vif, VifProblem):
            return _Failure(f"cannot plug the VIFs of instance {context.instance}: {vif}")
        what = f"cannot plug VIF {vif.id or '(no id)'} (device {vif.device}) of instance {context.instance}"
        try:
            await self._make(needs_of_vif(vif, context))
        except VifProblem as problem:
            return _Failure(f"{what}: {problem}")
        except NotPluggedHere as error:
            need = Need(
                kind=NeedKind.NETWORK,
                name=f"VIF {vif.id or '(no id)'}",
                state=NeedState.UNVERIFIED,
                met_by=MetBy.NOVA,
                why=f"{error}; nova-compute plugs it when it starts the guest",
            )
            return _Failure(f"{what}: {error}", needs=(need,), is_others=True)
        except DriverError as error:
            into = " into Open vSwitch" if isinstance(error, CommandRefused) else ""
            return _Failure(what + into, error, needs=error.needs if isinstance(error, NeedNotMet) else ())
        return None

    async def _make(self, need: VifNeeds) -> None:
        if need.pci_slot is not None and not await (self._pci_devices / need.pci_slot).exists():
            why = f"PCI device {need.pci_slot} is not on this host"
            raise NeedNotMet(
                why, [Need(kind=NeedKind.HOST_DEVICE, name=need.pci_slot, state=NeedState.ABSENT, why=why)]
            )
        if need.links:
            await self._links.submit(need.links)
        if need.ovs is not None:
            await self._open_vswitch.ensure(need.ovs)


def _sentences(failures: Sequence[_Failure]) -> str:
    """Join the messages, each with its cause but the first: the chain of the error has that one."""
    first, *others = failures
    texts = [
        failure.sentence if failure.cause is None else f"{failure.sentence}: {failure.cause}" for failure in others
    ]
    return "; ".join([first.sentence, *texts])
