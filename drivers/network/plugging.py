"""Makes the NICs of a guest ready: reads its info cache, asks netlink and Open vSwitch for what is missing."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio

from bringup.drivers.base import DriverError, Guest, VirtualInterfacePlugError
from bringup.drivers.batching import Gathering
from bringup.drivers.needs import MetBy, Need, NeedKind, NeedNotMet, NeedState
from bringup.drivers.network.commands import CommandRefused
from bringup.drivers.network.netlink import Netlink
from bringup.drivers.network.ovs import OpenVSwitch
from bringup.drivers.network.rules.links import BridgeWanted, LinkWanted, TapWanted, VethWanted
from bringup.drivers.network.rules.vif_types import Around, NotOurs, Wanted, wanted
from bringup.drivers.network.rules.vifs import Vif, VifProblem, vifs_of

MOST = 200
"""VIFs in one call of netlink: it has one deadline."""
PCI_DEVICES = Path("/sys/bus/pci/devices")


@dataclass(frozen=True, slots=True)
class _Failure:
    sentence: str
    cause: Exception | None = None
    needs: tuple[Need, ...] = ()
    """What this host lacks; empty: the VIF itself is wrong."""
    is_others: bool = False
    """It is plugged by others."""

    @property
    def is_wrong(self) -> bool:
        return not self.needs


def names_to_delete(each: Sequence[Wanted], ports: Sequence[str]) -> list[str]:
    """Give the links that were made for VIFs, and those that the names of ports in Open vSwitch tell of.

    A bridge that carries others' NICs too stays.
    """
    links = [link for want in each for link in want.links]
    # With one end of a pair goes the other.
    pairs = {link.name: link.master for link in links if isinstance(link, VethWanted)}
    pairs |= {f"qvb{port[3:]}": f"qbr{port[3:]}" for port in ports if port.startswith("qvo")}
    return [*pairs, *pairs.values(), *(link.name for link in links if isinstance(link, TapWanted))]


def _made(want: Wanted) -> Iterator[str]:
    for link in want.links:
        if isinstance(link, TapWanted) or (isinstance(link, BridgeWanted) and link.make):
            yield link.name
        elif isinstance(link, VethWanted):
            yield from (link.name, link.peer)
    if want.ovs is not None:
        yield want.ovs.bridge


class Plugging:
    """What stands between the VIFs of guests and the host."""

    def __init__(
        self, *, netlink: Netlink, open_vswitch: OpenVSwitch, ovs_bridge: str, pci_devices: Path = PCI_DEVICES
    ) -> None:
        """Take who changes links and ports; ``ovs_bridge`` is for VIFs that name no bridge."""
        self._netlink = netlink
        self._open_vswitch = open_vswitch
        self._ovs_bridge = ovs_bridge
        self._pci_devices = anyio.Path(pci_devices)
        self._links: Gathering[Sequence[LinkWanted], None] = Gathering(
            netlink.ensure, failure=DriverError, repeatable=True, most=MOST
        )

    async def plug(self, guest: Guest, *, several_queues: frozenset[str] | None = None, to_start: bool = False) -> None:
        """Make each NIC ready; one that cannot be does not keep the others from it.

        ``several_queues`` are the MACs of the NICs that are defined so; None: that is not known.  ``to_start``: the
        guest is about to be started, so that a NIC that only others can plug counts too.

        :raises VirtualInterfacePlugError: some are wrong in themselves; the sentence names all that could not be.
        :raises NeedNotMet: some could not be, because this host lacks what they need.
        :raises NotImplementedError: all that are left are of a kind that only others can plug.
        """
        around = self._around(guest, several_queues)
        failures = [failure for vif in vifs_of(guest) if (failure := await self._plug(around, vif)) is not None]
        if any(failure.is_wrong for failure in failures):
            raise VirtualInterfacePlugError(_sentences(failures)) from failures[0].cause
        lacking = [failure for failure in failures if to_start or not failure.is_others]
        if lacking:
            needs = dict.fromkeys(need for failure in lacking for need in failure.needs)
            raise NeedNotMet(_sentences(lacking), tuple(needs)) from lacking[0].cause
        if failures:
            raise NotImplementedError(_sentences(failures))

    def wants_open_vswitch(self, guest: Guest) -> bool:
        """Tell whether one of the NICs of a guest is in Open vSwitch."""
        return any(isinstance(vif, Vif) and self._wanted(guest, vif).ovs is not None for vif in vifs_of(guest))

    async def look(self) -> Need:
        """Tell whether Open vSwitch is there."""
        return await self._open_vswitch.look()

    def makes(self, guest: Guest) -> frozenset[str]:
        """Give the names of what :meth:`plug` makes where it is not there."""
        found: set[str] = set()
        for vif in vifs_of(guest):
            if isinstance(vif, VifProblem):
                continue
            want = self._wanted(guest, vif)
            found.update(_made(want))
            # With its port Open vSwitch makes a socket.
            path = vif.details.get("vhostuser_socket")
            if want.ovs is not None and want.ovs.type and isinstance(path, str):
                found.add(path)
        return frozenset(found)

    async def unplug(self, guest: Guest) -> None:
        """Take away what was made for the NICs of a guest; what libvirt made goes with the guest.

        Ports in Open vSwitch are found by the guest's UUID, so those that the record has forgotten go too.

        :raises DriverError: something could not be taken away.
        """
        each = [self._wanted(guest, vif) for vif in vifs_of(guest) if isinstance(vif, Vif)]
        in_ovs = [want.ovs for want in each if want.ovs is not None]
        trunks = [port.bridge for port in in_ovs if port.is_trunk]
        ports = await self._open_vswitch.forget(guest.uuid, trunks) if in_ovs else []
        names = names_to_delete(each, ports)
        if names:
            await self._netlink.delete(names)

    def _wanted(self, guest: Guest, vif: Vif) -> Wanted:
        try:
            return wanted(vif, self._around(guest))
        except (VifProblem, NotOurs):
            return Wanted()

    def _around(self, guest: Guest, several_queues: frozenset[str] | None = None) -> Around:
        return Around(
            instance=guest.uuid,
            ovs_bridge=self._ovs_bridge,
            system_metadata=guest.system_metadata,
            several_queues=several_queues,
        )

    async def _plug(self, around: Around, vif: Vif | VifProblem) -> _Failure | None:
        if isinstance(vif, VifProblem):
            return _Failure(f"cannot plug the VIFs of instance {around.instance}: {vif}")
        what = f"cannot plug VIF {vif.id or '(no id)'} (device {vif.device}) of instance {around.instance}"
        try:
            await self._make(wanted(vif, around))
        except VifProblem as problem:
            return _Failure(f"{what}: {problem}")
        except NotOurs as error:
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

    async def _make(self, want: Wanted) -> None:
        if want.pci_slot is not None and not await (self._pci_devices / want.pci_slot).exists():
            why = f"PCI device {want.pci_slot} is not on this host"
            raise NeedNotMet(
                why, [Need(kind=NeedKind.HOST_DEVICE, name=want.pci_slot, state=NeedState.ABSENT, why=why)]
            )
        if want.links:
            await self._links.submit(want.links)
        if want.ovs is not None:
            await self._open_vswitch.ensure(want.ovs)


def _sentences(failures: Sequence[_Failure]) -> str:
    """Say all of them, each with its cause but the first: that one follows by itself."""
    first, *others = failures
    said = [failure.sentence if failure.cause is None else f"{failure.sentence}: {failure.cause}" for failure in others]
    return "; ".join([first.sentence, *said])
