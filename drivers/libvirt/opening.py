"""The driver for libvirt without the verbs of guests: opened and closed, who else starts guests here, the network."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, NoReturn, TypeVar

import structlog

from bringup.drivers.base import DriverError, EventListener, FilterChange, Guest, InstanceNotFound, TwoMasters
from bringup.drivers.libvirt import autostart_conflicts
from bringup.drivers.libvirt.binding import Connection, Domain, binding
from bringup.drivers.libvirt.definitions import nics_with_several_queues
from bringup.drivers.libvirt.event_listener import Watch
from bringup.drivers.libvirt.hypervisor import Hypervisor
from bringup.drivers.libvirt.options import Autostart, LibvirtOptions
from bringup.drivers.libvirt.power import Power
from bringup.drivers.libvirt.threads import in_thread
from bringup.drivers.needs import NeedNotMet, NeedState
from bringup.drivers.network import Network, wants_taps

log = structlog.get_logger()

T = TypeVar("T")

WAY_OUT: Final = 'switch that off, or set libvirt.autostart to "take_over" (libvirt\'s autostart only) or "warn"'


@dataclass(frozen=True, slots=True)
class OtherMasters:
    """Who else starts the guests of this host at boot, in a sentence each; None: nobody."""

    autostart: str | None
    libvirt_guests: str | None
    auto_restore: str | None = None

    @property
    def sentences(self) -> list[str]:
        """All that there are."""
        return [sentence for sentence in (self.autostart, *self.foreign) if sentence]

    @property
    def foreign(self) -> list[str]:
        """Those that only a person can put an end to."""
        return [sentence for sentence in (self.libvirt_guests, self.auto_restore) if sentence]

    def refused(self, policy: Autostart) -> list[str]:
        """Those that a run is refused for: only libvirt's own autostart can be taken over from here."""
        if policy == "take_over":
            return self.foreign
        return self.sentences if policy == "refuse" else []


class Opening:
    """A hypervisor that is opened and closed."""

    def __init__(self, options: LibvirtOptions, network: Network | None) -> None:
        """Open nothing yet."""
        self._options = options
        self._network = network
        self._listeners: list[EventListener] = []
        self._opened: tuple[Hypervisor, Power, Watch] | None = None

    async def init_host(self, host: str) -> None:
        """Connect, and find out who else starts guests here; again is fine.

        :raises TwoMasters: somebody does, and the options say to refuse.
        :raises HypervisorUnavailable: there is no connection.
        :raises ImportError: libvirt-python is not installed.
        """
        if self._opened is not None:
            return
        libvirt = await in_thread(lambda _: binding())
        hypervisor = Hypervisor(self._options, libvirt)
        watch = Watch(self._options, libvirt)
        for listener in self._listeners:
            watch.listen(listener)
        await hypervisor.again("connect to libvirt", lambda: hypervisor.ask("ask for the host", _is_there))
        self._opened = hypervisor, Power(hypervisor), watch
        await self._be_the_one_master(host)
        await hypervisor.again(
            "watch the guests", lambda: hypervisor.ask("watch the guests", lambda _connection: watch.open())
        )

    async def close(self) -> None:
        """Let go of the hypervisor; guests are left as they are."""
        opened, self._opened = self._opened, None
        if opened is None:
            return
        hypervisor, _, watch = opened
        watch.close()
        try:
            if self._network is not None:
                await self._network.close()
        finally:
            await in_thread(lambda _: hypervisor.close())

    def resize(self, connections: int) -> None:
        """Have so many connections for verbs from now on; what is under way goes on."""
        self._options = replace(self._options, connections=connections)
        if self._opened is not None:
            self._opened[0].resize(connections)

    def register_event_listener(self, listener: EventListener) -> None:
        """Call ``listener``, in the event loop, for each lifecycle event from now on."""
        self._listeners.append(listener)
        if self._opened is not None:
            self._opened[2].listen(listener)

    async def other_masters(self) -> OtherMasters:
        """Find out what else starts the same guests at boot."""
        names = await self._autostarted()
        local = autostart_conflicts.is_local(self._options.uri)
        return OtherMasters(
            f"libvirt starts {_several(names)} itself (autostart)" if names else None,
            autostart_conflicts.libvirt_guests() if local else None,
            autostart_conflicts.auto_restore() if local else None,
        )

    async def plug_vifs(self, guest: Guest) -> None:
        """Make the NICs of a guest ready."""
        network = self._network or _no_network()
        await network.plug_vifs(guest, several_queues=await self._several_queues(guest))

    async def _make_network_ready(self, guest: Guest) -> None:
        """Make the NICs of a guest ready and its rules hold, before it is started: none runs without them."""
        if self._network is not None:
            await self._network.make_ready(guest, several_queues=await self._several_queues(guest))

    async def _see_network(self, guest: Guest) -> None:
        """Make sure that what was made for a guest's NICs can be taken away.

        :raises NeedNotMet: it cannot: Open vSwitch or nft is away.
        """
        looked = () if self._network is None else await self._network.look([guest])
        away = [need for need in looked if need.state is not NeedState.MET]
        if away:
            said = "; ".join(f"{need.name}: {need.why}" for need in away)
            raise NeedNotMet(f"did not destroy {guest.uuid}: {said}", away)

    async def _several_queues(self, guest: Guest) -> frozenset[str] | None:
        """Give the MACs of NICs that are defined with several queues; None: nobody asks, or nothing is defined."""
        if not wants_taps(guest):
            return None
        what = f"read the definition of {guest.uuid}"
        try:
            return await self._ask(
                what, lambda connection: nics_with_several_queues(connection.lookupByUUIDString(guest.uuid).XMLDesc())
            )
        except InstanceNotFound:
            return None

    async def ensure_filtering_rules_for_instance(self, guest: Guest) -> None:
        """Put the firewall rules of a guest in place."""
        await (self._network or _no_network()).ensure_filtering_rules_for_instance(guest)

    async def keep_filtering_rules(self, told: Callable[[FilterChange], None]) -> None:
        """Put firewall rules back that somebody else takes away or changes."""
        if self._network is not None:
            await self._network.keep_filtering_rules(told)

    async def filter_defer_apply_on(self) -> None:
        """Collect firewall rules from now on."""
        await (self._network or _no_network()).filter_defer_apply_on()

    async def filter_defer_apply_off(self) -> None:
        """Apply what was collected."""
        await (self._network or _no_network()).filter_defer_apply_off()

    @property
    def _host(self) -> Hypervisor:
        if self._opened is None:
            raise DriverError("cannot ask libvirt: init_host of the driver must come first")
        return self._opened[0]

    @property
    def _power(self) -> Power:
        if self._opened is None:
            raise DriverError("cannot ask libvirt: init_host of the driver must come first")
        return self._opened[1]

    async def _ask(self, what: str, work: Callable[[Connection], T]) -> T:
        return await self._host.again(what, lambda: self._host.ask(what, work))

    async def _autostarted(self) -> list[str]:
        """Names of the guests that libvirt starts itself: at each boot, or (libvirt 11.2) at the next one."""
        return await self._ask(
            "list what libvirt starts itself",
            lambda connection: sorted(
                f"{domain.name()} (once)" if once else domain.name()
                for domain, once in self._started_by_libvirt(connection)
            ),
        )

    def _started_by_libvirt(self, connection: Connection) -> list[tuple[Domain, bool]]:
        """Give the guests that libvirt starts, and whether only once."""
        flag = self._host.libvirt.VIR_CONNECT_LIST_DOMAINS_AUTOSTART
        found = [(domain, False) for domain in connection.listAllDomains(flag)]
        always = {domain.UUIDString() for domain, _ in found}
        error = self._host.libvirt.libvirtError
        others = (domain for domain in connection.listAllDomains() if domain.UUIDString() not in always)
        return [*found, *((domain, True) for domain in others if starts_once(domain, error))]

    async def _be_the_one_master(self, host: str) -> None:
        """Refuse, warn of, or put an end to others that start guests here.

        :raises TwoMasters: they are refused, or cannot be put an end to from here.
        """
        others = await self.other_masters()
        if self._options.may_change:
            if refused := others.refused(self._options.autostart):
                raise TwoMasters(f"{'; '.join(refused)}: on {host} guests would have two masters; {WAY_OUT}")
            if self._options.autostart == "take_over" and others.autostart:
                await self._host.change("take autostart over", self._switch_autostart_off)
                log.warning("libvirt.autostart_taken_over", was=others.autostart)
                return
        for other in others.sentences:
            log.warning("libvirt.two_masters", error=other)

    def _switch_autostart_off(self, connection: Connection) -> None:
        for domain, once in self._started_by_libvirt(connection):
            domain.setAutostartOnce(0) if once else domain.setAutostart(0)


def starts_once(domain: Domain, error: type[Exception]) -> bool:
    """Tell whether libvirt starts a guest at the next boot only; its library or its daemon may not know of that."""
    ask = getattr(domain, "autostartOnce", None)
    if ask is None:
        return False
    try:
        return bool(ask())
    except error:
        # An older daemon, a guest that is gone meanwhile, or a transient one.
        return False


def _is_there(connection: Connection) -> None:
    connection.getInfo()


def _no_network() -> NoReturn:
    raise NotImplementedError("this driver has no network: libvirt makes NICs ready as the guest's definition says")


def _several(names: list[str], most: int = 5) -> str:
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
