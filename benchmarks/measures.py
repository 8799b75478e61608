"""Measures: ``run.py`` runs each in a process of its own, ``measures.py NAME ARGUMENTS`` prints one JSON object."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import anyio
from filters import filters
from floods import flood
from hosts import NOWHERE, crashed, heavy_tailed, instance, opened_host, uuid_of

from bringup.daemon.cli.main import main
from bringup.daemon.decisions.policies import ResumePolicy
from bringup.daemon.decisions.states import TaskState
from bringup.daemon.recovery.init_host import init_host
from bringup.daemon.service.assembly import utc_now
from bringup.daemon.status.progress import Progress
from bringup.daemon.storage.journal import NO_JOURNAL
from bringup.daemon.storage.journal.sqlite import SqliteJournal, open_journal
from bringup.daemon.storage.record_files import Records, dump_records
from bringup.drivers.simulated import SimulatedDriver, Verb

# As an operator installs it: without what the tests need, and with its byte code written.
PYTHON = os.environ.get("BENCH_PYTHON", sys.executable)
START_S = 60
LIBRARIES = "anyio, httpx, structlog"
"""A start imports them whatever it does."""
VERBS: tuple[Verb, ...] = ("get_info", "plug_vifs", "ensure_filtering_rules_for_instance", "reboot", "power_off")


def makespan(count: int, limit: int, shrink: int = 1) -> dict[str, Any]:
    """Run once; return the time from the first instance on and its bound ``max(sum / limit, longest)``, in seconds.

    Fewer instances take longer each, so that the bound is about the same; ``shrink`` divides all of it.
    """
    latency = heavy_tailed(10_000 / count / shrink)

    async def measured() -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as directory:
            progress = Progress()
            async with opened_host(
                Path(directory),
                count=count,
                limit=limit,
                task_states=crashed,
                latency=latency,
                observer=progress.observe,
            ) as (start, driver):
                result = (await init_host(start)).result
                took = (progress.ended or 0) - (progress.work_began or 0)
            assert len(result.outcomes) == count  # noqa: S101 - a benchmark that lost instances measures nothing
            each = [sum(_spent(driver, uuid_of(number))) for number in range(count)]
            return {"wall_s": took, "bound_s": max(sum(each) / limit, *each), "longest_s": max(each)}

    return anyio.run(measured)


def _spent(driver: SimulatedDriver, uuid: str) -> Iterator[float]:
    """Return the latency of each call for a guest."""
    for verb in VERBS:
        for nth in range(1, driver.count(verb, uuid) + 1):
            yield driver.latency_of(uuid, verb, nth)


class _Commits:
    """Counts the commits of a journal from now on."""

    def __init__(self, journal: SqliteJournal) -> None:
        self.number = 0
        journal.database.set_trace_callback(self._count)

    def _count(self, statement: str) -> None:
        self.number += statement == "COMMIT"


def cpu(count: int, save: int, written: int = 0, limit: int = 64, resumed: int = 0) -> dict[str, Any]:
    """Run once with an instant driver, with or without the journal; return CPU seconds per instance, and commits.

    Loading and log lines are included.  ``resumed``: guests would be brought back if they were found down.
    """

    async def measured() -> dict[str, Any]:
        def task_states(_number: int) -> TaskState | None:
            return TaskState.RESIZE_PREP if save else None

        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory)
            async with (
                open_journal(path / "journal.sqlite", boot_id="1", keep_runs=50, keep_days=90, now=utc_now) as journal,
                opened_host(
                    path,
                    count=count,
                    limit=limit,
                    task_states=task_states,
                    journal=journal if written else NO_JOURNAL,
                    resume=ResumePolicy(guests="on_every_start" if resumed else "never"),
                ) as (start, _),
            ):
                commits = _Commits(journal)
                began, began_wall = time.process_time(), time.perf_counter()
                result = (await init_host(start)).result
                spent, wall = time.process_time() - began, time.perf_counter() - began_wall
                assert len(result.outcomes) == count  # noqa: S101 - same
                return {"cpu_s_an_instance": spent / count, "wall_s": wall, "commits": commits.number}

    return anyio.run(measured)


def journal(count: int, limit: int, written: int, shrink: int = 1) -> dict[str, Any]:
    """Run once as ``makespan`` does, with or without the journal; return wall and CPU seconds, and commits.

    With ``synchronous=FULL`` a commit is one fsync of the write-ahead log.
    """

    async def measured() -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory)
            async with (
                open_journal(path / "journal.sqlite", boot_id="1", keep_runs=50, keep_days=90, now=utc_now) as journal,
                opened_host(
                    path,
                    count=count,
                    limit=limit,
                    task_states=crashed,
                    latency=heavy_tailed(10_000 / count / shrink),
                    journal=journal if written else NO_JOURNAL,
                ) as (start, _),
            ):
                commits = _Commits(journal)
                began, began_cpu = time.perf_counter(), time.process_time()
                result = (await init_host(start)).result
                took, cpu_s = time.perf_counter() - began, time.process_time() - began_cpu
            assert len(result.outcomes) == count  # noqa: S101 - a benchmark that lost instances measures nothing
            return {"wall_s": took, "cpu_s_an_instance": cpu_s / count, "commits": commits.number}

    return anyio.run(measured)


def memory(count: int) -> dict[str, Any]:
    """Run once in a new process over an existing store; return its largest RSS in MB (10^6 bytes)."""
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, __file__, "fill", directory, str(count)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        command = [sys.executable, __file__, "rss", directory, str(count)]
        return dict(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))


def fill(directory: str, count: int) -> dict[str, Any]:
    """Write the store that ``rss`` reads."""

    async def filled() -> None:
        async with opened_host(Path(directory), count=count, limit=64):
            pass

    anyio.run(filled)
    return {}


def rss(directory: str, count: int) -> dict[str, Any]:
    """Run the command itself on an existing store; return the largest RSS of its process."""
    scenario = Path(directory) / "scenario.json"
    guests = [{"uuid": uuid_of(n), "power_state": "running"} for n in range(count)]
    scenario.write_text(json.dumps({"format": "bringup.scenario/1", "latency": {"default": 0}, "guests": guests}))
    with _placement() as url:
        command = [
            *(PYTHON, "-m", "bringup", "run", "--once", "--json"),
            *("-s", f"placement.url={url}"),
            *("-s", "host.name=compute-1", "-s", "placement.resource_provider=compute-1"),
            *("-s", "placement.create_resource_provider=true", "-s", f"host.state_directory={directory}"),
            *("-s", f"driver.scenario={scenario}", "-s", "log.level=warning"),
        ]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as child:
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0  # noqa: S101 - a run that failed measures nothing
    return {"rss_mb": usage.ru_maxrss * 1024 / 1e6}


def _placement() -> Any:
    from bringup.daemon.cli.demo_site.children import serving  # noqa: PLC0415 - its own process should not pay for it

    return serving("bringup.daemon.cli.demo_site.placement_server", ["--database", "memory"])


def plan(count: int) -> dict[str, Any]:
    """Plan a file of records by ``bringup plan``, a second time; return CPU seconds per instance."""
    with tempfile.TemporaryDirectory() as directory, redirect_stdout(NOWHERE):
        records = Path(directory) / "records.json"
        records.write_text(dump_records(Records(instances=tuple(instance(n, crashed(n)) for n in range(count)))))
        spent = 0.0
        for _ in range(2):
            began = time.process_time()
            code = main(["plan", "--records", str(records), "-s", "host.name=compute-1"])
            spent = time.process_time() - began
            assert code == 0  # noqa: S101 - a plan that failed measures nothing
    return {"cpu_s_an_instance": spent / count}


def first_request(_count: int) -> dict[str, Any]:
    """Start the command; return the seconds until the first byte that Placement would receive.

    And the CPU seconds of the process by then, those of a process that imports three libraries beside it.
    """
    with subprocess.Popen([PYTHON, "-c", f"import {LIBRARIES}"]) as importing:
        imports_s = _cpu_s_of(importing)
    with tempfile.TemporaryDirectory() as directory, socket.create_server(("127.0.0.1", 0)) as listener:
        scenario = Path(directory) / "scenario.json"
        scenario.write_text('{"format": "bringup.scenario/1"}')
        command = [
            *(PYTHON, "-m", "bringup", "run", "--once", "--json"),
            *("-s", f"placement.url=http://127.0.0.1:{listener.getsockname()[1]}"),
            *("-s", f"host.state_directory={directory}", "-s", f"driver.scenario={scenario}"),
            *("-s", "placement.wait=0", "-s", "log.level=error"),
        ]
        began = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
            listener.settimeout(START_S)  # a start that ends before its first request is no measure
            connection, _ = listener.accept()
            connection.recv(1)
            took = time.perf_counter() - began
            connection.close()
            child.kill()
            spent = _cpu_s_of(child)
    return {"first_request_s": took, "cpu_s": spent, "imports_cpu_s": imports_s}


def _cpu_s_of(child: "subprocess.Popen[bytes]") -> float:
    """Wait for the end of a process; return the CPU seconds that it has taken."""
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_utime + usage.ru_stime


MEASURES: dict[str, Callable[..., dict[str, Any]]] = {
    function.__name__: function
    for function in (makespan, cpu, journal, memory, fill, rss, plan, first_request, filters, flood)
}


def run(name: str, *arguments: int | str) -> dict[str, Any]:
    """Run a measure."""
    return MEASURES[name](*arguments)


if __name__ == "__main__":
    name, *rest = sys.argv[1:]
    print(json.dumps(run(name, *(int(value) if value.isdecimal() else value for value in rest))))
