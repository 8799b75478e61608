"""The driver for libvirt: :class:`bringup.drivers.base.Driver` over the guests that libvirt has defined.

It starts what is defined and defines nothing: a guest that libvirt does not have is
:class:`~bringup.drivers.base.InstanceNotFound`.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import anyio
import structlog

from bringup.drivers.base import (
    AvailableResource,
    BootSigns,
    DriverError,
    EventListener,
    FilterChange,
    Guest,
    GuestInfo,
    InstanceNotFound,
    RebootType,
    SharedStorageProbe,
    SignListener,
    VitalSigns,
)
from bringup.drivers.capacity import Capacity
from bringup.drivers.libvirt.arrivals.watch import Watchers
from bringup.drivers.libvirt.autostart_conflicts import (
    AutostartConflicts,
    autostarted_names,
    disable_autostart,
    find_conflicts,
    is_local,
)
from bringup.drivers.libvirt.binding import Connection, binding
from bringup.drivers.libvirt.boot_signs import signs_of
from bringup.drivers.libvirt.domains import DefinedGuest, guests_of, guests_that_require_kvm
from bringup.drivers.libvirt.event_listener import EventWatcher, Listeners
from bringup.drivers.libvirt.guest_needs.check import NeedsCheck, missing_definition
from bringup.drivers.libvirt.guest_needs.host import NOTHING_SEEN, HostFiles
from bringup.drivers.libvirt.guest_network import GuestNetwork
from bringup.drivers.libvirt.host_needs import HostWideNeeds, definitions_of, drivers_needed, need_of_driver
from bringup.drivers.libvirt.hypervisor import Hypervisor
from bringup.drivers.libvirt.local_disks import LocalDisks
from bringup.drivers.libvirt.power import Check, Power, RebootProgress
from bringup.drivers.libvirt.repairs import clean_up_after_snapshot, define_again
from bringup.drivers.libvirt.running_devices import DevicesReader
from bringup.drivers.libvirt.start import deferred_on_host_failure
from bringup.drivers.libvirt.threads import in_thread
from bringup.drivers.libvirt.traits import traits_of
from bringup.drivers.libvirt.vital_signs import vital_signs_of
from bringup.drivers.libvirt_options import LibvirtOptions
from bringup.drivers.needs import DefinitionGone, Need, NeedNotMet, describe_unmet, require_needs
from bringup.drivers.network.host import HostNetwork

log = structlog.get_logger()

T = TypeVar("T")


class _Opened(NamedTuple):
    hypervisor: Hypervisor
    power: Power
    watch: EventWatcher
    watchers: Watchers


SLOTS = 8
"""How many verbs are called at once where nobody says how many."""


class LibvirtDriver:
    """A hypervisor that libvirt controls; without a ``network``, NICs and firewall are left to libvirt."""

    def __init__(
        self, options: LibvirtOptions, network: HostNetwork | None = None, capacity: Capacity | None = None
    ) -> None:
        """Store the options; nothing is opened yet.  ``capacity`` is followed unless ``connections`` is set."""
        self._capacity = capacity = capacity or Capacity(SLOTS)
        self._options = options
        self._network = GuestNetwork(network, self._ask)
        self._devices = DevicesReader()
        self._listeners = Listeners(signs=[self._devices.heard])
        self._opened: _Opened | None = None
        self._disks = LocalDisks(options, self._definitions, options.connections or capacity.calls)
        self._files = HostFiles() if is_local(options.uri) else None
        self._needs_check = NeedsCheck(
            self._files or NOTHING_SEEN,
            options.instances_path,
            deadline_s=options.look_deadline_s,
            is_local=self._files is not None,
        )
        capacity.follow(self._follow)
        if options.may_change:
            self._follow(capacity.number)
        self._reboots: dict[str, RebootProgress] = {}
        """Reboots that failed, or did not end in time; libvirt may have carried them out all the same."""

    async def init_host(self, host: str) -> None:
        """Connect, and check what else starts guests here; may be repeated.

        :raises AutostartConflict: something does, and ``libvirt.autostart`` refuses it.
        :raises HypervisorUnavailable: there is no connection.
        :raises ImportError: libvirt-python is not installed.
        """
        if self._opened is not None:
            return
        libvirt = await in_thread(lambda _: binding())
        hypervisor = Hypervisor(self._options, libvirt, self._options.connections or self._capacity.calls)
        watch = EventWatcher(self._options, libvirt, self._listeners)
        await hypervisor.retry("connect to libvirt", lambda: hypervisor.query("read what the host has", _ping))
        watchers = Watchers(self._files, watch, self._network.of_host)
        self._opened = _Opened(hypervisor, Power(hypervisor), watch, watchers)
        conflicts = await self.autostart_conflicts()
        if self._options.may_change and conflicts.resolve(self._options.autostart, host):
            await hypervisor.change(
                "disable libvirt's autostart", lambda connection: disable_autostart(connection, libvirt)
            )
            log.warning("libvirt.autostart_disabled", was=conflicts.autostart)
        else:
            conflicts.warn()
        await hypervisor.retry(
            "watch the guests", lambda: hypervisor.query("watch the guests", lambda _connection: watch.open())
        )

    async def close(self) -> None:
        """Close the connections; guests are left as they are."""
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.watch.close()
            await in_thread(lambda _: opened.hypervisor.close())

    def _follow(self, _slots: int) -> None:
        """Use a connection for each verb that may be called at once, unless their number is set; none is cut."""
        fixed, calls = self._options.connections, self._capacity.calls
        if fixed is not None:
            if calls > fixed:
                log.warning("libvirt.connections_too_few", connections=fixed, concurrency=calls)
            return
        if self._opened is not None:
            self._opened.hypervisor.resize(calls)
        self._disks.resize(calls)

    def register_event_listener(self, listener: EventListener) -> None:
        """Call ``listener``, in the event loop, for each lifecycle event from now on."""
        self._listeners.events.append(listener)

    def register_sign_listener(self, listener: SignListener) -> None:
        """Call ``listener``, in the event loop, for each other event of a guest from now on."""
        self._listeners.signs.append(listener)

    async def boot_signs(self, uuids: Collection[str]) -> Mapping[str, BootSigns]:
        """Return libvirt's counters of guests that were started, and the state of their agents."""
        libvirt, devices = self._host.libvirt, self._devices
        return await self._look(
            "read how guests boot", lambda connection: signs_of(connection, uuids, devices, libvirt)
        )

    async def vital_signs(self, uuids: Collection[str]) -> Mapping[str, VitalSigns]:
        """Return what guests show after their boot; those that are not there are not in it."""
        libvirt, devices = self._host.libvirt, self._devices
        return await self._look(
            "read how guests are", lambda connection: vital_signs_of(connection, uuids, devices, libvirt)
        )

    async def autostart_conflicts(self) -> AutostartConflicts:
        """Return what else starts the same guests at boot."""
        libvirt = self._host.libvirt
        names = await self._ask(
            "list the guests that libvirt starts itself", lambda connection: autostarted_names(connection, libvirt)
        )
        return find_conflicts(names, self._options.uri)

    async def list_instance_uuids(self) -> list[str]:
        """Return the UUIDs of the guests, running or not."""
        return await self._ask(
            "list the guests", lambda connection: [domain.UUIDString() for domain in connection.listAllDomains()]
        )

    async def defined_guests(self) -> list[DefinedGuest]:
        """Return the guests with the facts from which records are created, sorted by name."""
        return await self._ask("list the guests", guests_of)

    async def guests_that_require_kvm(self) -> list[str]:
        """Return the names of the guests that do not start without KVM."""
        return await self._ask("list the guests that require KVM", guests_that_require_kvm)

    async def list_instances(self) -> list[str]:
        """Return the names of the guests, running or not."""
        return await self._ask(
            "list the guests", lambda connection: [domain.name() for domain in connection.listAllDomains()]
        )

    async def capabilities_as_traits(self) -> frozenset[str]:
        """Return the traits of CPU and devices as libvirt reports them."""
        libvirt = self._host.libvirt
        return await self._ask("read the capabilities of the host", lambda connection: traits_of(connection, libvirt))

    async def get_info(self, guest: Guest) -> GuestInfo:
        """Read the state of a guest."""
        return GuestInfo(
            await self._host.retry(f"read the state of {guest.uuid}", partial(self._host.state, guest.uuid))
        )

    async def needs(self, guest: Guest) -> Sequence[Need]:
        """Return what a start of the guest relies on, from libvirt, the record and this host; nothing is changed."""
        check = partial(self._needs_check.needs, self._host, guest, self._network.created_names(guest))
        found = await self._host.retry(f"read what {guest.uuid} needs", check)
        return await self._disks.with_kept_by_resize(guest.uuid, found)

    async def watch_needs(self, needs: Collection[Need], notify: Callable[[Need], None]) -> None:
        """Call ``notify`` with each of these needs that may be met by now, until cancelled."""
        await self._ready.watchers.watch(needs, notify)

    def watches(self, need: Need) -> bool:
        """Return whether the arrival of what a guest needs is reported."""
        return self._ready.watchers.watches(need)

    async def host_needs(self, guests: Sequence[Guest]) -> Sequence[Need]:
        """Return the needs of libvirt's other drivers, the folder of local disks, Open vSwitch and nft, if used."""
        definitions = await self._definitions(frozenset(guest.uuid for guest in guests))
        error_class = self._host.libvirt.libvirtError
        queries = {n: partial(need_of_driver, name=n, error_class=error_class) for n in drivers_needed(definitions)}
        needs = [await self._ask(f"query {name}", query) for name, query in queries.items()]
        return [*needs, *await self._disks.folder_needs(definitions), *await self._network.check(guests)]

    async def get_available_resource(self) -> AvailableResource:
        """Return CPUs and memory as libvirt reports them, disk of the file system of ``instances_path``."""
        info = await self._ask("read what the host has", lambda connection: connection.getInfo())
        return AvailableResource(
            vcpus=int(str(info[2])), memory_mb=int(str(info[1])), local_gb=await self._disks.local_gb()
        )

    async def plug_vifs(self, guest: Guest) -> None:
        """Make the NICs of a guest ready."""
        await self._network.plug_vifs(guest)

    async def ensure_filtering_rules_for_instance(self, guest: Guest) -> None:
        """Apply the firewall rules of a guest."""
        await self._network.own.ensure_filtering_rules_for_instance(guest)

    async def keep_filtering_rules(self, notify: Callable[[FilterChange], None]) -> None:
        """Restore firewall rules that another program deletes or changes."""
        await self._network.keep_filtering_rules(notify)

    async def filter_defer_apply_on(self) -> None:
        """Collect firewall rules from now on."""
        await self._network.own.filter_defer_apply_on()

    async def filter_defer_apply_off(self) -> None:
        """Apply what was collected."""
        await self._network.own.filter_defer_apply_off()

    @deferred_on_host_failure()
    async def power_on(self, guest: Guest) -> None:
        """Start a guest, from its managed save image if it has one; a running one stays as it is."""
        await self._network.make_ready(guest)
        await self._start(guest, "start", partial(self._power.power_on, guest.uuid, self._check(guest)))

    async def power_off(self, guest: Guest, *, timeout_s: float, retry_interval_s: float) -> None:
        """Stop a guest: request a shutdown for ``timeout_s`` s, each ``retry_interval_s`` s, then power it off."""
        if timeout_s:
            await self._request_shutdown(guest.uuid, timeout_s, retry_interval_s)
        await self._host.retry(f"stop {guest.uuid}", partial(self._power.power_off_now, guest.uuid))

    @deferred_on_host_failure()
    async def reboot(self, guest: Guest, reboot_type: RebootType) -> None:
        """Restart a guest; one that does not carry out a soft reboot in time is restarted hard."""
        uuid, options = guest.uuid, self._options
        if reboot_type is RebootType.SOFT:
            # One that cannot be started again is not shut down.
            await self._check(guest)()
            if await self._request_shutdown(uuid, options.wait_soft_reboot, options.ask_again_s):
                # If it was off before, no shutdown was requested; it is started all the same.
                await self.power_on(guest)
                return
        await self._network.make_ready(guest)
        # A later attempt continues where this one was: a guest is powered off once for one reboot.
        progress = self._reboots.setdefault(uuid, RebootProgress())
        await self._start(guest, "reboot", partial(self._power.hard_reboot, uuid, progress, self._check(guest)))
        self._reboots.pop(uuid, None)

    async def unpause(self, guest: Guest) -> None:
        """Resume a paused guest, or wake up one that sleeps."""
        await self._host.retry(f"unpause {guest.uuid}", partial(self._power.unpause, guest.uuid))

    @deferred_on_host_failure()
    async def resume_state_on_host_boot(self, guest: Guest) -> None:
        """Start a guest that is off; any other stays as it is."""
        await self._network.make_ready(guest)
        await self._start(guest, "resume", partial(self._power.resume_on_boot, guest.uuid, self._check(guest)))

    async def destroy(self, guest: Guest, *, destroy_disks: bool) -> None:
        """Stop a guest, delete its definition, its NICs and rules, and with ``destroy_disks`` its local disks."""
        uuid = guest.uuid
        # Before anything is deleted: what is started here must be finished.
        await self._network.require(guest, f"destroy {uuid}")
        if destroy_disks:
            await self._disks.require_visible(f"delete the disks of {uuid}", uuid)
        await self._host.retry(f"destroy {uuid}", partial(self._power.undefine, uuid))
        await self._network.forget(guest)
        if destroy_disks:
            await self._disks.delete(uuid)

    @deferred_on_host_failure()
    async def finish_revert_migration(self, guest: Guest, *, power_on: bool) -> None:
        """Restore a guest: its folder, its definition, and running if it ran."""
        uuid = guest.uuid
        await self._disks.take_back(uuid)
        definition = await self._disks.definition(uuid)
        await self._start(guest, "restore", partial(define_again, self._host, uuid, definition))
        if power_on:
            await self.power_on(guest)

    async def live_migration_abort(self, guest: Guest) -> None:
        """Abort the live migration of a guest."""
        uuid = guest.uuid
        await self._host.do("abort the live migration of", uuid, lambda domain: domain.abortJob())

    async def post_interrupted_snapshot_cleanup(self, guest: Guest) -> None:
        """Stop the copy of a disk that a snapshot was making, delete it, and restore the guest's definition."""
        uuid, left = guest.uuid, list[Path]()
        clean_up = partial(clean_up_after_snapshot, self._host, self._power, uuid, left)
        await self._host.retry(f"clean up after a snapshot of {uuid}", clean_up)
        for path in left:
            await self._disks.remove_copy(uuid, path)

    async def keep_disks(self, guest: Guest) -> Sequence[str]:
        """Move the folder of a guest's disks aside."""
        return await self._disks.keep(guest.uuid)

    async def delete_kept_disks(self, uuid: str, where: Sequence[str]) -> None:
        """Delete folders that were moved aside."""
        await self._disks.delete_kept(uuid, where)

    async def check_instance_shared_storage_local(self, guest: Guest) -> SharedStorageProbe | None:
        """Create a mark in the folder of a guest's disks; None: it has none here."""
        return await self._disks.mark(guest.uuid)

    async def check_instance_shared_storage_cleanup(self, probe: SharedStorageProbe) -> None:
        """Delete the mark."""
        await self._disks.unmark(probe)

    @property
    def _ready(self) -> _Opened:
        if self._opened is None:
            raise DriverError("cannot call libvirt: init_host of the driver must come first")
        return self._opened

    @property
    def _host(self) -> Hypervisor:
        return self._ready.hypervisor

    @property
    def _power(self) -> Power:
        return self._ready.power

    async def _ask(self, what: str, work: Callable[[Connection], T]) -> T:
        return await self._host.retry(what, lambda: self._host.query(what, work))

    async def _look(self, what: str, work: Callable[[Connection], T]) -> T:
        return await self._host.retry(what, lambda: self._host.look(what, work))

    async def _definitions(self, wanted: frozenset[str] | None) -> Sequence[HostWideNeeds]:
        folder = str(self._options.instances_path)
        return await self._ask("read the definitions of guests", partial(definitions_of, wanted=wanted, folder=folder))

    async def _request_shutdown(self, uuid: str, for_s: float, every_s: float) -> bool:
        deadline = anyio.current_time() + for_s
        ask = partial(self._power.request_shutdown, uuid, deadline=deadline, every_s=every_s)
        return await self._host.retry(f"shut down {uuid}", ask)

    def _check(self, guest: Guest) -> Check:
        """Return a check that raises if a need of the guest's start is not met.

        Nothing is done to a guest that cannot be started: it is checked before the guest is stopped, and right before
        it is started.
        """

        async def check() -> None:
            await require_needs(guest.uuid, self.needs(guest))

        return check

    async def _start(self, guest: Guest, what: str, attempt: Callable[[], Awaitable[None]]) -> None:
        try:
            await self._host.retry(f"{what} {guest.uuid}", attempt)
        except NeedNotMet:
            raise
        except InstanceNotFound as error:
            missing = [missing_definition(guest)]
            raise DefinitionGone(describe_unmet(f"{what} {guest.uuid}", missing), missing) from error


def _ping(connection: Connection) -> None:
    connection.getInfo()
