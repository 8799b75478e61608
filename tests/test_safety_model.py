"""A model of one host: records, guests, journal, kills, boots, users and a control plane, in any order.

The machine is the real ``init_host`` over the real store, journal and simulated hypervisor; the model is what must hold
whatever happens.  A kill is an exception that passes everything, after which nothing of that process has any effect.
"""

import inspect
import shutil
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import anyio
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bringup.daemon.decisions.instances import Instance
from bringup.daemon.decisions.outcomes import BACK, Did, RunResult
from bringup.daemon.decisions.policies import ResumePolicy
from bringup.daemon.decisions.resume_policy import Resuming
from bringup.daemon.decisions.states import PowerState, TaskState, VmState
from bringup.daemon.recovery.context import Host, Startup
from bringup.daemon.recovery.init_host import init_host
from bringup.daemon.storage.journal import Journal
from bringup.daemon.storage.journal.sqlite import open_journal
from bringup.daemon.storage.store.base import Records, Store
from bringup.drivers.base import Driver
from bringup.drivers.needs import NeedState
from bringup.drivers.simulated import Scenario, SimulatedDriver, SimulatedGuest, SimulatedNeed, Verb
from support.drivers import uuid_of
from support.hosts import CLAIMANT, ELSEWHERE, HOST, IN_MEMORY, executor_of, host_of, instance, now, start_of
from support.records import migration
from support.stores import open_sqlite

pytestmark = pytest.mark.timeout(600)

COUNT = 3
ANCHOR = COUNT + 1
"""An instance that nobody touches: the host is always this one."""
NUMBERS = range(1, COUNT + 1)
RESUME: Verb = "resume_state_on_host_boot"
STARTS: tuple[Verb, ...] = ("power_on", "reboot", RESUME, "finish_revert_migration")
RESUMES = """
SELECT actions.ended_at FROM actions JOIN runs ON runs.number = actions.run JOIN boots ON boots.number = runs.boot
WHERE boots.boot_id = ? AND actions.uuid = ? AND actions.verb = ?
"""
WAITS = frozenset({TaskState.REBOOT_STARTED_HARD, TaskState.POWERING_ON})
"""What stays as it is while a guest lacks something."""
TRANSIENT = {TaskState.REBOOT_STARTED_HARD, TaskState.POWERING_OFF, TaskState.POWERING_ON, TaskState.DELETING}
numbers = st.sampled_from(list(NUMBERS))


class Killed(BaseException):
    """The process is dead."""


class Mortal:
    """Stands before a part of a process that is killed at one of its boundaries."""

    def __init__(self, inner: object, process: "Process") -> None:
        self._inner, self._process = inner, process

    def __getattr__(self, name: str) -> Any:
        method: Callable[..., Any] = getattr(self._inner, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            self._process.passes()
            answer = await method(*args, **kwargs)
            self._process.passes()
            return answer

        def call_at_once(*args: Any, **kwargs: Any) -> Any:
            self._process.passes()
            return method(*args, **kwargs)

        return call if inspect.iscoroutinefunction(method) else call_at_once


class Process:
    """Counts boundaries; from one of them on everything refuses."""

    def __init__(self, kill_at: int | None) -> None:
        self._kill_at = kill_at
        self._count = 0

    def passes(self) -> None:
        self._count += 1
        if self._kill_at is not None and self._count >= self._kill_at:
            raise Killed


class Machine(RuleBasedStateMachine):
    """One host with a few instances."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(dir=IN_MEMORY))
        guests = tuple(SimulatedGuest(uuid=uuid_of(n)) for n in (*NUMBERS, ANCHOR))
        self.scenario = Scenario(guests=guests)
        self.boot = 1
        self.ended_on_boot = False
        self.resumed_before = dict.fromkeys(NUMBERS, 0)
        self.to_be_gone: set[int] = set()
        self.stopped_by_user: set[int] = set()
        """Since a run of this boot has ended."""
        self.lacking: dict[int, int] = {}
        """How often the guest had been started when something went that it needs."""
        self.reports: dict[str, set[str]] = {}
        self.import_records(Records(instances=tuple(instance(n) for n in (*NUMBERS, ANCHOR))))

    def teardown(self) -> None:
        shutil.rmtree(self.directory)

    # The world

    def open_driver(self) -> SimulatedDriver:
        return SimulatedDriver(self.scenario, state_path=self.directory / "guests.sqlite")

    @cached_property
    def driver(self) -> SimulatedDriver:
        """The host as its file has it, read once between two processes."""
        return self.open_driver()

    @cached_property
    def records(self) -> dict[int, Instance]:
        """The records as their file has them, read once between two changes."""

        async def read() -> Sequence[Instance]:
            async with open_sqlite(self.directory / "store.sqlite") as store:
                return await store.load_instances_by_uuid([uuid_of(n) for n in NUMBERS])

        found = anyio.run(read)
        return {next(n for n in NUMBERS if uuid_of(n) == one.uuid): one for one in found}

    @cached_property
    def counts(self) -> dict[tuple[Verb, int], int]:
        """How often each verb had its effect, as far as somebody asked since a process ran."""
        return {}

    def read_again(self, *what: str) -> None:
        for name in what:
            self.__dict__.pop(name, None)

    def import_records(self, records: Records) -> None:
        async def done() -> None:
            async with open_sqlite(self.directory / "store.sqlite") as store:
                await store.import_records(records)

        anyio.run(done)
        self.read_again("records")

    def done(self, verb: Verb, number: int) -> int:
        if (verb, number) not in self.counts:
            self.counts[verb, number] = self.driver.done(verb, uuid_of(number))
        return self.counts[verb, number]

    def power(self, number: int) -> PowerState | None:
        found = self.driver.guests.get(uuid_of(number))
        return None if found is None else found.power_state

    @asynccontextmanager
    async def process(self, kill_at: int | None) -> AsyncIterator[Startup]:
        life = Process(kill_at)

        async def report(result: RunResult) -> str | None:
            life.passes()
            if not result.unfinished:
                self.reports.setdefault(result.run_id, set()).add(f"{result.revision}")
            return None

        try:
            async with (
                open_sqlite(self.directory / "store.sqlite") as store,
                open_journal(
                    self.directory / "journal.sqlite", boot_id=uuid_of(self.boot), keep_runs=50, keep_days=90, now=now
                ) as journal,
            ):
                await store.take_lease(CLAIMANT, for_s=3600)
                executor = executor_of(
                    cast("Driver", Mortal(self.open_driver(), life)), cast("Store", Mortal(store, life))
                )

                async def open_host() -> Host:
                    return host_of(
                        executor,
                        run_id=uuid_of(1000 + self.boot * 1000 + len(self.reports)),
                        boot_id=uuid_of(self.boot),
                        report=report,
                        journal=cast("Journal", Mortal(journal, life)),
                        resuming=Resuming(ResumePolicy(guests="on_host_boot")),
                    )

                yield start_of(open_host)
        finally:
            self.read_again("driver", "records", "counts")

    # What may happen

    @rule(kill_at=st.integers(1, 90))
    def starts_and_is_killed(self, kill_at: int) -> None:
        async def run() -> None:
            async with self.process(kill_at) as start:
                await init_host(start)

        try:
            anyio.run(run)
        except BaseException as error:
            if not _is_kill(error):
                raise
        else:
            self.has_ended()

    @rule()
    def starts(self) -> None:
        async def run() -> RunResult:
            async with self.process(None) as start:
                return (await init_host(start)).result

        result = anyio.run(run)
        self.has_ended()
        self.is_at_rest()
        self.says_what_was_done(result)

    @rule()
    def host_loses_power(self) -> None:
        self.driver.host_loses_power()
        self.boot += 1
        self.ended_on_boot = False
        self.stopped_by_user.clear()
        self.resumed_before = {n: self.done(RESUME, n) for n in NUMBERS}

    @rule(number=numbers)
    def user_stops_a_guest_from_within(self, number: int) -> None:
        if self.power(number) is PowerState.RUNNING:
            self.driver.guest_stops_itself(uuid_of(number))
            if self.resume_is_in_flight(number):
                # Killed before the end of its resume was on disk: nobody can tell that it was resumed, so it is again.
                self.resumed_before[number] = self.done(RESUME, number)
            record = self.records.get(number)
            # What was asked for before is still to be done.
            if self.ended_on_boot and record is not None and record.task_state is None:
                self.stopped_by_user.add(number)

    @rule(number=numbers, task_state=st.sampled_from(sorted(TRANSIENT, key=str)))
    def user_asks_for_something_and_the_daemon_was_down(self, number: int, task_state: TaskState) -> None:
        record = self.records.get(number)
        if record is None or record.host != HOST or record.task_state is not None or record.vm_state is VmState.ERROR:
            return
        changed = replace(record, task_state=task_state)
        self.import_records(Records(instances=(changed,)))
        self.stopped_by_user.discard(number)
        if task_state is TaskState.DELETING:
            self.to_be_gone.add(number)

    @precondition(lambda self: len(self.to_be_gone) < COUNT)
    @rule(number=numbers)
    def is_evacuated(self, number: int) -> None:
        record = self.records.get(number)
        if record is None or record.host != HOST:
            return
        moved = replace(record, host=ELSEWHERE, task_state=None)
        self.import_records(Records(instances=(moved,), migrations=(migration(number),)))
        self.to_be_gone.add(number)

    @rule(number=numbers, state=st.sampled_from((NeedState.ABSENT, NeedState.UNVERIFIED)))
    def something_goes_that_a_guest_needs(self, number: int, state: NeedState) -> None:
        if number not in self.lacking and self.power(number) is not None:
            self.lacking[number] = self.times_started(number)
            self.driver.lacks(uuid_of(number), SimulatedNeed(name="/dev/sdb", state=state))

    @rule(number=numbers)
    def it_comes_back(self, number: int) -> None:
        if self.lacking.pop(number, None) is not None and self.power(number) is not None:
            self.driver.lacks(uuid_of(number))

    def resume_is_in_flight(self, number: int) -> bool:
        """Check whether the journal has the beginning of a resume on this boot, and no end of any."""
        path = self.directory / "journal.sqlite"
        if not path.exists():
            return False
        with closing(sqlite3.connect(path)) as journal:
            rows = journal.execute(RESUMES, (uuid_of(self.boot), uuid_of(number), RESUME)).fetchall()
        return bool(rows) and all(ended_at is None for (ended_at,) in rows)

    def times_started(self, number: int) -> int:
        return sum(self.done(verb, number) for verb in STARTS)

    # What must hold

    def has_ended(self) -> None:
        self.ended_on_boot = True

    def says_what_was_done(self, result: RunResult) -> None:
        """What is lost never counts as back."""
        records, there = self.records, self.driver.guests
        for number in NUMBERS:
            did = next((one.did for one in result.outcomes if one.uuid == uuid_of(number)), None)
            if did in BACK:
                assert uuid_of(number) in there, f"{number} is {did} and has no guest"
                assert records[number].vm_state is not VmState.ERROR, f"{number} is {did} and in ERROR"
            if did in (Did.DESTROYED, Did.DELETED):
                assert uuid_of(number) not in there
            assert (did is Did.DELETED) <= (number not in records)

    def is_at_rest(self) -> None:
        """After a start that nobody disturbed."""
        for number, record in self.records.items():
            if record.host == HOST:
                waits = WAITS if number in self.lacking else frozenset()
                assert record.task_state not in TRANSIENT - waits, (number, record.task_state)
            else:
                assert self.power(number) is not PowerState.RUNNING, f"{number} runs here and is elsewhere"

    @invariant()
    def nothing_is_destroyed_that_nobody_gave_up(self) -> None:
        there = self.driver.guests
        assert {n for n in NUMBERS if uuid_of(n) not in there} <= self.to_be_gone

    @invariant()
    def nothing_is_started_that_lacks_something(self) -> None:
        records = self.records if self.lacking else {}
        for number, before in self.lacking.items():
            assert self.times_started(number) == before, f"{number} was started without what it needs"
            assert number not in records or records[number].vm_state is not VmState.ERROR

    @invariant()
    def nobody_is_brought_back_twice_on_one_boot(self) -> None:
        for number in NUMBERS:
            count = self.done(RESUME, number) - self.resumed_before[number]
            assert count <= 1, f"{number} was brought back {count} times on boot {self.boot}"

    @invariant()
    def what_a_user_has_stopped_stays_down(self) -> None:
        for number in self.stopped_by_user:
            assert self.power(number) is not PowerState.RUNNING

    @invariant()
    def a_run_has_one_report(self) -> None:
        assert all(len(revisions) == 1 for revisions in self.reports.values())


def _is_kill(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(_is_kill(one) for one in error.exceptions)
    return isinstance(error, Killed)


Machine.TestCase.settings = settings(max_examples=60, stateful_step_count=24, deadline=None)
# Measuring coverage makes it three times as long; each line that it runs is run by a test of a name.
TestMachine = pytest.mark.no_cover(Machine.TestCase)


@pytest.fixture
def machine() -> Iterator[Machine]:
    made = Machine()
    yield made
    made.teardown()


def holds(machine: Machine) -> None:
    machine.nothing_is_destroyed_that_nobody_gave_up()
    machine.nobody_is_brought_back_twice_on_one_boot()
    machine.what_a_user_has_stopped_stays_down()
    machine.a_run_has_one_report()
    machine.nothing_is_started_that_lacks_something()


def test_a_guest_that_is_stopped_between_two_starts_of_one_boot_stays_down(machine: Machine) -> None:
    machine.starts()
    machine.user_stops_a_guest_from_within(1)
    machine.starts()
    assert machine.stopped_by_user == {1}
    holds(machine)
    machine.host_loses_power()
    machine.starts()
    assert machine.power(1) is PowerState.RUNNING


@pytest.mark.parametrize("kill_at", range(60, 100, 5))
def test_a_guest_that_was_resumed_is_resumed_again_only_if_nothing_reports_that_it_was(
    machine: Machine, kill_at: int
) -> None:
    machine.starts()
    machine.host_loses_power()
    machine.starts_and_is_killed(kill_at)
    for number in NUMBERS:
        machine.user_stops_a_guest_from_within(number)
    machine.starts()
    holds(machine)


def test_what_a_guest_lacks_keeps_it_down_and_what_comes_back_has_it_started_once(machine: Machine) -> None:
    machine.starts()
    for number, task_state in ((1, TaskState.REBOOT_STARTED_HARD), (2, TaskState.POWERING_ON)):
        machine.user_asks_for_something_and_the_daemon_was_down(number, task_state)
    machine.host_loses_power()
    for number in NUMBERS:
        machine.something_goes_that_a_guest_needs(number, NeedState.ABSENT)
    machine.starts()
    machine.starts()
    holds(machine)
    assert {machine.power(number) for number in NUMBERS} == {PowerState.SHUTDOWN}
    for number in NUMBERS:
        machine.it_comes_back(number)
    machine.starts()
    holds(machine)
    assert {machine.power(number) for number in NUMBERS} == {PowerState.RUNNING}


@pytest.mark.parametrize("kill_at", range(1, 100, 3))
def test_each_kind_of_work_killed_on_two_boots_comes_to_rest(machine: Machine, kill_at: int) -> None:
    machine.starts()
    machine.is_evacuated(1)
    machine.user_asks_for_something_and_the_daemon_was_down(2, TaskState.REBOOT_STARTED_HARD)
    machine.user_asks_for_something_and_the_daemon_was_down(3, TaskState.DELETING)
    machine.host_loses_power()
    machine.starts_and_is_killed(kill_at)
    holds(machine)
    machine.host_loses_power()
    machine.starts_and_is_killed(kill_at)
    holds(machine)
    machine.starts()
    holds(machine)
    assert machine.power(2) is PowerState.RUNNING
    assert set(machine.records) == {1, 2}
