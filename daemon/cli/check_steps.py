"""Checks of what a run needs, in order.  They change nothing: no record, no guest, no resource provider."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit

import anyio
import anyio.to_thread

from bringup.daemon.cli.check_finding import Finding, Status, with_warnings
from bringup.daemon.decisions.states import VmState
from bringup.daemon.errors import (
    BringupError,
    LeaseHeld,
    Refused,
    SettingsError,
    StoreError,
    Temporary,
    Unavailable,
    chain_of,
)
from bringup.daemon.openstack.resource_provider import HostProvider
from bringup.daemon.openstack.rpc.errors import RpcError
from bringup.daemon.openstack.scheduler_nova_messages import TOPIC
from bringup.daemon.recovery.load_records import start_driver
from bringup.daemon.service import assembly
from bringup.daemon.service.placement_gate import opened_placement, other_name, placed, probe_placement
from bringup.daemon.settings import Settings
from bringup.daemon.storage import identity
from bringup.daemon.storage.outbox.spool import OutboxError, Spool
from bringup.daemon.storage.store.base import Claimant
from bringup.daemon.text import labelled
from bringup.drivers.base import DriverError
from bringup.placement.errors import ProviderMissing

CONNECT_DEADLINE_S = 5.0
SHOWN_DIFFERENCES = 3
SHOWN_IN_ERROR = 3
PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class _Row:
    """Columns of an instance that the checks read."""

    uuid: str
    name: str
    host: str | None
    is_in_error: bool
    shown_name: str

    def is_among(self, guests: frozenset[str]) -> bool:
        return self.uuid in guests or (bool(self.name) and self.name in guests)


class Checks:
    """Checks of one host."""

    def __init__(self, settings: Settings) -> None:
        """Check the host of these settings."""
        self._settings = settings
        self._rows: list[_Row] | None = None
        self._guests: frozenset[str] = frozenset()
        self._hypervisor_answers = False
        self._differences: list[str] | None = None

    async def findings(self) -> AsyncIterator[Finding]:
        """Run all checks, also after a failure."""
        for problem in self._identity():
            yield Finding("settings", Status.FAILED, problem, exit_code=SettingsError.exit_code)
        for finding in await anyio.to_thread.run_sync(self._state):
            yield finding
        checks: dict[str, Callable[[], Awaitable[Finding | Sequence[Finding] | None]]] = {
            "store": self.store,
            "records": self.records,
            "resume": self.resume,
            "driver": self.driver,
            "needs": self.needs,
            "names": self.names,
            "libvirt": self.libvirt,
            "host": self.host,
            "pci": self.pci,
            "placement": self.placement,
            "inventory": self.inventory,
            "scheduler": self.scheduler,
            "status": self.status,
        }
        for name, check in checks.items():
            try:
                found = await check()
                for finding in [found] if isinstance(found, Finding) else found or ():
                    yield finding
            except SettingsError as error:
                for problem in error.problems:
                    yield Finding(name, Status.FAILED, problem, exit_code=error.exit_code)
            except BringupError as error:
                yield Finding(name, Status.FAILED, chain_of(error), exit_code=error.exit_code)

    def _state(self) -> list[Finding]:
        """Check the state directory."""
        from bringup.daemon.cli.check_machine import state_directory_warnings

        try:
            return [Finding("state", Status.WARNING, text) for text in state_directory_warnings(self._settings)]
        except Refused as error:
            return [Finding("state", Status.FAILED, chain_of(error), exit_code=error.exit_code)]

    def _identity(self) -> list[str]:
        """Compare the host with the identity that the state directory records."""
        host = self._settings.host
        try:
            known = identity.read_identity(host.state_directory)
        except SettingsError as error:
            return list(error.problems)
        except Temporary as error:
            return [str(error)]
        if known is None:
            return []
        now = assembly.given_by(self._settings)
        found = identity.differences(known, now)
        return [f"{problem}; correct it or, if the change is intended, run {identity.ACCEPT}" for problem in found]

    async def store(self) -> Finding:
        """Open the store and count its instances."""
        if self._settings.store.is_nova_conductor:
            return await self._nova_conductor()
        path = self._settings.store.path or self._settings.store.url
        try:
            rows = await anyio.to_thread.run_sync(partial(_rows, self._settings))
        except SettingsError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
            return Finding("store", Status.WARNING, f"no records yet: {path} does not exist; bringup import creates it")
        self._rows = rows
        name = self._settings.host.name
        own = sum(row.host == name for row in rows)
        facts = {"path": str(path), "instances": own, "elsewhere": len(rows) - own}
        message = f"{path}: {own} instances of {name}, {len(rows) - own} of other hosts"
        warning = "is host.name what Nova calls this host?" if rows and not own else None
        return with_warnings("store", message, facts, warning)

    async def _nova_conductor(self) -> Finding:
        """Load this host's records from nova-conductor, and check that Nova knows this machine as this host."""
        host = self._settings.host
        async with (
            assembly.opened_messaging(self._settings) as rpc,
            assembly.opened_store(self._settings, rpc=rpc) as store,
        ):
            where = "" if rpc is None else f" through RabbitMQ at {rpc.where}"
            try:
                await store.take_lease(Claimant(host.name, host.node_uuid or ""), for_s=1)
                records = await store.load_instances(host.name)
            except LeaseHeld as error:
                raise Refused("Nova has another machine as this host") from error
            except StoreError as error:
                raise Temporary("cannot load the records from nova-conductor") from error
        self._rows = [
            _Row(each.uuid, each.name, each.host, each.vm_state is VmState.ERROR, each.shown_name) for each in records
        ]
        facts = {"instances": len(records), "node": host.node_uuid}
        message = f"nova-conductor{where}: {len(records)} instances of {host.name}, compute node {host.node_uuid}"
        return with_warnings("store", message, facts, None if rpc is None else rpc.unencrypted)

    async def records(self) -> Finding | None:
        """List the instances in ERROR, which no run touches; None if there are none."""
        host = self._settings.host.name
        found = [row for row in self._rows or () if row.host == host and row.is_in_error]
        if not found:
            return None
        named = ", ".join(labelled(row.uuid, row.shown_name) for row in found[:SHOWN_IN_ERROR])
        named += ", ..." if len(found) > SHOWN_IN_ERROR else ""
        first = found[0].uuid
        are = "record is" if len(found) == 1 else "records are"
        message = (
            f"{len(found)} {are} in ERROR, and a run does not touch them: {named}; "
            f"once the cause is removed: bringup retry {first} or, if bringup did not set ERROR: openstack server set "
            f"--state active {first}"
        )
        return Finding("records", Status.WARNING, message, {"in_error": len(found)})

    async def resume(self) -> Finding:
        """Return which guests are started after a boot."""
        guests = self._settings.resume.guests
        if guests == "never":
            message = (
                'guests that ran stay off after a boot: resume.guests = "never"; set it to "on_host_boot", '
                "unless a nova-compute on this host starts them"
            )
            return Finding("resume", Status.WARNING, message, {"guests": guests})
        when = "once after each boot" if guests == "on_host_boot" else "at every start of bringup"
        message = f"guests that ran are started {when}; bringup plan --after-power-cut lists them"
        return Finding("resume", Status.OK, message, {"guests": guests})

    async def driver(self) -> Finding:
        """Compare the guests of the hypervisor with the records."""
        name = self._settings.driver.name
        driver = assembly.make_driver(self._settings)
        try:
            guests = await start_driver(
                driver, self._settings.host.name, deadline_s=self._settings.limits.host_deadline
            )
        finally:
            await assembly.close_driver(driver)
        self._guests = guests
        self._hypervisor_answers = True
        if self._rows is None:
            return Finding("driver", Status.OK, f"{name}: {len(guests)} guests", {"guests": len(guests)})
        known = {text for row in self._rows for text in (row.uuid, row.name)}
        unknown = len(guests - known)
        own = [row for row in self._rows if row.host == self._settings.host.name]
        missing = sum(not row.is_among(guests) for row in own)
        facts = {"guests": len(guests), "guests_without_record": unknown, "records_without_guest": missing}
        message = f"{name}: {len(guests)} guests, {unknown} of them without a record; {missing} records without a guest"
        return Finding("driver", Status.WARNING if unknown else Status.OK, message, facts)

    async def needs(self) -> Finding | None:
        """Check for guests that would be deferred if they were started now; None if there are none."""
        if not self._rows:
            return None
        from bringup.daemon.cli.check_guests import needs_finding

        return await needs_finding(self._settings)

    async def names(self) -> Finding | None:
        """Check for guests whose records name another host; None if there are none, or the store is not readable."""
        known = {
            text for row in self._rows or () if row.host == self._settings.host.name for text in (row.uuid, row.name)
        }
        if self._rows is None or self._guests <= known:
            return None
        from bringup.daemon.cli.check_guests import names_finding

        return await names_finding(self._settings, self._guests)

    async def libvirt(self) -> Finding | None:
        """Check for other autostart mechanisms and low limits; None if libvirt is not the hypervisor."""
        if self._settings.driver.name != "libvirt":
            return None
        from bringup.daemon.cli.check_machine import libvirt_finding

        return await libvirt_finding(self._settings)

    async def host(self) -> Sequence[Finding]:
        """Check what the guests need together, as a run does before the first instance."""
        if self._rows is None or not self._hypervisor_answers:
            # The checks of the store and of the driver report why.
            return ()
        from bringup.daemon.cli.check_guests import host_findings

        return await host_findings(self._settings)

    async def pci(self) -> Finding | None:
        """Check the network interfaces of ``[pci] device_spec``; None if it names none."""
        from bringup.daemon.cli.check_machine import pci_finding

        return await anyio.to_thread.run_sync(pci_finding, self._settings)

    async def status(self) -> Finding | None:
        """Check the confinement of the status endpoint's processes; None if it is complete."""
        from bringup.daemon.cli.check_machine import confinement_finding

        return await confinement_finding(self._settings)

    async def placement(self) -> Finding:
        """Probe the Placement gate once."""
        placement = self._settings.placement
        async with opened_placement(self._settings) as client:
            try:
                gate = await probe_placement(self._settings, client, node_uuid=self._node_uuid())
            except Unavailable as error:
                if isinstance(error.__cause__, ProviderMissing) and placement.create_resource_provider:
                    missing = (
                        f"{client.url}: resource provider {placement.resource_provider} does not exist; "
                        "a run creates it"
                    )
                    return Finding("placement", Status.WARNING, "; ".join([missing, *client.unencrypted]))
                if client.unencrypted:
                    raise Unavailable(f"{'; '.join(client.unencrypted)}; and it does not answer") from error
                raise
            await self._compare(placed(self._settings, gate))
        facts = {
            "url": client.url,
            "microversion": str(gate.microversion),
            "resource_provider": gate.provider.name,
            "uuid": gate.provider.uuid,
            "generation": gate.provider.generation,
        }
        message = (
            f"{client.url}: microversion {gate.microversion}, access granted, "
            f"resource provider {gate.provider.name} ({gate.provider.uuid})"
        )
        return with_warnings("placement", message, facts, other_name(self._settings, gate), *client.unencrypted)

    def _node_uuid(self) -> str | None:
        """Return the node UUID that a run would use; None if there is none yet."""
        host = self._settings.host
        if host.node_uuid is not None:
            return host.node_uuid
        try:
            known = identity.read_identity(host.state_directory)
        except (SettingsError, Temporary):
            # The check of the settings reports it.
            return None
        return None if known is None else known.node_uuid or None

    async def inventory(self) -> Finding | None:
        """Compare Placement's inventory and traits with the hypervisor's; None if one of them does not answer."""
        found = self._differences
        if found is None:
            return None
        facts = {"differences": found}
        if not found:
            return Finding("inventory", Status.OK, "inventory and traits match the hypervisor", facts)
        end = "`bringup run` will correct it" if self._settings.inventory.update else "set inventory.update = true"
        return Finding("inventory", Status.WARNING, f"{_summed_up(found)}; {end}", facts)

    async def _compare(self, host: HostProvider) -> None:
        driver = assembly.make_driver(self._settings)
        try:
            with anyio.fail_after(self._settings.limits.host_deadline):
                await driver.init_host(self._settings.host.name)
                self._differences = await host.differences(driver)
        except (TimeoutError, OSError, DriverError):
            # The check of the driver reports it.
            return
        finally:
            await assembly.close_driver(driver)

    async def scheduler(self) -> Finding:
        """Check that the scheduler accepts connections, sending nothing, and count the queued reports."""
        spool = Spool(self._settings.host.state_directory / "outbox")
        try:
            waiting = len(await anyio.to_thread.run_sync(spool.waiting))
        except OutboxError as error:
            return Finding("scheduler", Status.WARNING, f"{error}: {error.__cause__}")
        queued = f"{waiting} report{'' if waiting == 1 else 's'} queued"
        facts = {"waiting": waiting}
        if not assembly.reports(self._settings):
            why = f"scheduler.transport = {self._settings.scheduler.transport}"
            if not self._settings.scheduler.track_instance_changes:
                why = "scheduler.track_instance_changes = false"
            message = f"reporting disabled ({why}); {queued}"
            return Finding("scheduler", Status.WARNING if waiting else Status.OK, message, facts)
        if self._settings.scheduler.transport == "nova":
            url = "nova-scheduler"
            problem = await _unreachable_nova_scheduler(self._settings)
        else:
            url = self._settings.scheduler.url or ""
            if url.startswith("https:"):
                assembly.scheduler_tls(self._settings)
            problem = await _unreachable(url)
        if problem is not None:
            message = f"{url} cannot be reached ({problem}): reports will be kept and sent later; {queued}"
            return Finding("scheduler", Status.WARNING, message, facts)
        return Finding(
            "scheduler", Status.WARNING if waiting else Status.OK, f"{url} accepts connections; {queued}", facts
        )


def _summed_up(differences: Sequence[str]) -> str:
    """Return the differences, or how many they are: a new host lacks some fifty traits."""
    if len(differences) <= SHOWN_DIFFERENCES:
        return "; ".join(differences)
    traits = sum(each.startswith("trait ") for each in differences)
    counted = [(len(differences) - traits, "resource class", "resource classes"), (traits, "trait", "traits")]
    parts = [f"{count} {one if count == 1 else several}" for count, one, several in counted if count]
    return f"{' and '.join(parts)} of this host differ in Placement (--json lists them)"


def _rows(settings: Settings) -> list[_Row]:
    from sqlalchemy import select
    from sqlalchemy.exc import DBAPIError

    from bringup.daemon.storage.store.schema import instances

    database = assembly.open_database(settings, must_exist=True)
    columns = instances.c
    query = select(columns.uuid, columns.name, columns.host, columns.vm_state, columns.display_name).where(
        columns.deleted == 0
    )
    try:
        rows = database.read(lambda connection: connection.execute(query).all())
        return [
            _Row(uuid, name, host, state == VmState.ERROR.value, display_name or name)
            for uuid, name, host, state, display_name in rows
        ]
    except DBAPIError as error:
        raise Temporary(f"cannot read the store {database.name}") from error.orig
    finally:
        database.engine.dispose()


async def _unreachable_nova_scheduler(settings: Settings) -> str | None:
    """Return why no nova-scheduler receives reports; None if one does."""
    async with assembly.opened_messaging(settings) as rpc:
        try:
            if rpc is not None:
                await rpc.probe_fanout(TOPIC)
        except RpcError as error:
            return chain_of(error)
    return None


async def _unreachable(url: str) -> str | None:
    parts = urlsplit(url)
    try:
        with anyio.fail_after(CONNECT_DEADLINE_S):
            stream = await anyio.connect_tcp(parts.hostname or "", parts.port or PORTS[parts.scheme])
    except TimeoutError:
        return f"no connection in {CONNECT_DEADLINE_S:g} s"
    except OSError as error:
        return str(error)
    await stream.aclose()
    return None
