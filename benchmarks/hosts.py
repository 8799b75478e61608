"""Host to measure: simulated guests, records in a real SQLite store, everything else as in the daemon."""

import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from uuid import UUID, uuid5

from bringup.daemon import logs
from bringup.daemon.decisions.instances import Instance
from bringup.daemon.decisions.outcomes import RunResult
from bringup.daemon.decisions.policies import GuestShutdown, Limits, ResumePolicy
from bringup.daemon.decisions.resume_policy import Resuming
from bringup.daemon.decisions.run_events import Observer
from bringup.daemon.decisions.states import PowerState, TaskState, VmState
from bringup.daemon.recovery.context import Host, Startup
from bringup.daemon.recovery.evacuated_guests import SettingWitness
from bringup.daemon.recovery.executor import Executor
from bringup.daemon.recovery.start_claim import StartClaim
from bringup.daemon.service.assembly import utc_now
from bringup.daemon.status.progress import Progress
from bringup.daemon.storage.journal import NO_JOURNAL, Journal
from bringup.daemon.storage.store.base import Claimant, Records
from bringup.daemon.storage.store.sql import open_store
from bringup.daemon.storage.store.sqlite import open_database
from bringup.drivers.capacity import Capacity
from bringup.drivers.simulated import Latency, LatencyKey, Lognormal, Scenario, SimulatedDriver, SimulatedGuest

NAME = "compute-1"
NOWHERE = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - as long as the process lives
NAMESPACE = UUID("4b1d4f0e-0f57-5a53-8f3c-64f5bb4a4a52")


def uuid_of(number: int) -> str:
    """Return the UUID of the nth instance."""
    return str(uuid5(NAMESPACE, str(number)))


def instance(number: int, task_state: TaskState | None) -> Instance:
    """Return the record of the nth instance: active, running, one NIC."""
    uuid = uuid_of(number)
    vif = {
        "id": uuid,
        "address": f"fa:16:3e:{number >> 16 & 255:02x}:{number >> 8 & 255:02x}:{number & 255:02x}",
        "network": {"bridge": "br-int", "label": "private", "subnets": [{"cidr": "10.0.0.0/24", "ips": []}]},
        "type": "ovs",
        "devname": f"tap{uuid[:11]}",
    }
    return Instance(
        uuid=uuid,
        host=NAME,
        name=f"instance-{number:08x}",
        vm_state=VmState.ACTIVE,
        task_state=task_state,
        power_state=PowerState.RUNNING,
        metadata={"role": "web"},
        system_metadata={"image_base_image_ref": uuid, "boot_roles": "member"},
        network_info=(vif,),
    )


def crashed(number: int) -> TaskState | None:
    """Return instances of which one in 40 was interrupted in a reboot, one in 40 in a clean shutdown."""
    return {3: TaskState.REBOOT_PENDING_HARD, 23: TaskState.POWERING_OFF}.get(number % 40)


def heavy_tailed(scale: float) -> dict[LatencyKey, Latency]:
    """Return latencies over two orders of magnitude: a NIC is quick, a reboot or a clean shutdown is not.

    A look and firewall rules cost nothing here: the event loop wakes up by the millisecond, and what is shorter than
    some of them would measure that.
    """
    return {
        "default": 0.0,
        "plug_vifs": Lognormal(0.03 * scale, 0.8),
        "reboot": Lognormal(0.4 * scale, 0.7),
        "power_off": Lognormal(0.4 * scale, 0.7),
    }


@asynccontextmanager
async def opened_host(  # noqa: PLR0913 - what a measure may vary
    directory: Path,
    *,
    count: int,
    limit: int,
    task_states: Callable[[int], TaskState | None] = lambda _number: None,
    latency: Mapping[LatencyKey, Latency] | None = None,
    journal: Journal = NO_JOURNAL,
    observer: Observer | None = None,
    resume: ResumePolicy | None = None,
) -> AsyncIterator[tuple[Startup, SimulatedDriver]]:
    """Return a host with ``count`` instances; log lines are formatted and discarded."""
    guests = tuple(SimulatedGuest(uuid=uuid_of(number), power_state=PowerState.RUNNING) for number in range(count))
    driver = SimulatedDriver(Scenario(seed=5, latency=latency or {"default": 0}, guests=guests))
    logs.configure(level="info", style="json", stream=NOWHERE)
    async with open_store(partial(open_database, directory / "instances.sqlite")) as store:
        await store.import_records(Records(instances=tuple(instance(n, task_states(n)) for n in range(count))))
        observer = observer or Progress().observe

        async def at_once() -> None: ...

        async def no_report(result: RunResult) -> None:
            del result

        claimant = Claimant(NAME, "node-1")
        await store.take_lease(claimant, for_s=3600)

        async def open_host() -> Host:
            return Host(
                name=NAME,
                run_id=uuid_of(-1),
                boot_id=uuid_of(-2),
                executor=Executor(
                    driver=driver,
                    store=store,
                    now=utc_now,
                    shutdown=GuestShutdown(),
                    witness=SettingWitness("unknown"),
                    start_claim=StartClaim(store=store, driver=driver, claimant=claimant),
                ),
                journal=journal,
                resuming=Resuming(resume or ResumePolicy()),
                observer=observer,
                capacity=Capacity(limit),
                limits=Limits(concurrency=limit, instance_deadline=600, host_deadline=120, shutdown_report_deadline=20),
                report=no_report,
            )

        yield Startup(pass_placement=at_once, open_host=open_host, observer=observer), driver
        # The next one that opens the same store is another daemon.
        await store.drop_lease(claimant)
