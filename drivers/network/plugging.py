"""Makes the NICs of a guest ready: reads its info cache, asks netlink and Open vSwitch for what is missing."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio

from bringup.drivers.base import DriverError, Guest, PciDeviceNotFound, VirtualInterfacePlugError
from bringup.drivers.network.gathering import Gathering
from bringup.drivers.network.links import LinkWanted, TapWanted, VethWanted
from bringup.drivers.network.netlink import Netlink
from bringup.drivers.network.ovs import OpenVSwitch
from bringup.drivers.network.ports import wanted
from bringup.drivers.network.vifs import Vif, VifProblem, vifs_of
from bringup.drivers.network.wants import Around, NotOurs, OvsPort, Wanted

MOST = 200
"""VIFs in one call of netlink: it has one deadline."""
PCI_DEVICES = Path("/sys/bus/pci/devices")


@dataclass(frozen=True, slots=True)
class _Failure:
    sentence: str
    cause: Exception | None
    kind: type[DriverError | NotImplementedError] = VirtualInterfacePlugError


def names_to_delete(each: Sequence[Wanted], ports: Sequence[str]) -> list[str]:
    """Give the links that were made for VIFs, and those that the names of ports in Open vSwitch tell of.

    A bridge that carries others' NICs too stays.
    """
    links = [link for want in each for link in want.links]
    # With one end of a pair goes the other.
    pairs = {link.name: link.master for link in links if isinstance(link, VethWanted)}
    pairs |= {f"qvb{port[3:]}": f"qbr{port[3:]}" for port in ports if port.startswith("qvo")}
    return [*pairs, *pairs.values(), *(link.name for link in links if isinstance(link, TapWanted))]


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
        self._links: Gathering[Sequence[LinkWanted]] = Gathering(netlink.ensure, most=MOST)

    async def plug(self, guest: Guest) -> None:
        """Make each NIC ready; one that cannot be does not keep the others from it.

        :raises VirtualInterfacePlugError: some could not be; the sentence names them all.
        :raises PciDeviceNotFound: the same, and each of them is a PCI device that is gone.
        :raises NotImplementedError: all that are left are of a type that only others can plug.
        """
        failures = [failure for vif in vifs_of(guest) if (failure := await self._plug(guest, vif)) is not None]
        if failures:
            kinds = {failure.kind for failure in failures}
            kind = next(
                kind for kind in (VirtualInterfacePlugError, PciDeviceNotFound, NotImplementedError) if kind in kinds
            )
            blamed = [failure for failure in failures if failure.kind is kind or kind is VirtualInterfacePlugError]
            raise kind("; ".join(failure.sentence for failure in blamed)) from blamed[0].cause

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

    def _around(self, guest: Guest) -> Around:
        return Around(instance=guest.uuid, ovs_bridge=self._ovs_bridge, system_metadata=guest.system_metadata)

    async def _plug(self, guest: Guest, vif: Vif | VifProblem) -> _Failure | None:
        if isinstance(vif, VifProblem):
            return _Failure(f"cannot plug the VIFs of instance {guest.uuid}: {vif}", None)
        what = f"cannot plug VIF {vif.id or '(no id)'} (device {vif.device}) of instance {guest.uuid}"
        try:
            want = wanted(vif, self._around(guest))
            if want.pci_slot is not None and not await (self._pci_devices / want.pci_slot).exists():
                return _Failure(f"{what}: PCI device {want.pci_slot} is not on this host", None, PciDeviceNotFound)
            if want.links:
                await self._links.do(want.links)
        except VifProblem as problem:
            return _Failure(f"{what}: {problem}", None)
        except NotOurs as error:
            return _Failure(f"{what}: {error}", None, NotImplementedError)
        except DriverError as error:
            return _Failure(f"{what}: its links could not be made", error)
        return await self._plug_port(want.ovs, what)

    async def _plug_port(self, port: OvsPort | None, what: str) -> _Failure | None:
        if port is None:
            return None
        try:
            await self._open_vswitch.ensure(port)
        except DriverError as error:
            return _Failure(f"{what} into bridge {port.bridge} of Open vSwitch", error)
        return None
