"""``make bench``: every measure, and one table.  Each prints a ratio, to the ideal or to a peer in the same run.

Machines are noisy: each figure is the median of its runs, with the smallest and the largest.  With the argument
``smallest`` each measure is made once with next to nothing to do: that shows that it runs, its figures say nothing.
"""

import json
import multiprocessing
import statistics
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import measures


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much is measured."""

    runs: int
    starts: int
    """Processes of which only the start is measured, each short."""
    counts: tuple[int, ...]
    """Instances of the makespans."""
    many: int
    filtered: int
    felt: int
    shrink: int = 1
    """Divides all latencies."""


FULL = Size(runs=3, starts=9, counts=(1_000, 10_000), many=10_000, filtered=100, felt=400)
SMALLEST = Size(runs=1, starts=1, counts=(40,), many=40, filtered=3, felt=40, shrink=2_000)
FORKED = multiprocessing.get_context("fork")
GATES = Path(__file__).with_name("gates.py")


def measure(name: str, *arguments: int | str) -> dict[str, Any]:
    """Run a measure in a process of its own, forked from one that has imported what all need."""
    with ProcessPoolExecutor(max_workers=1, mp_context=FORKED) as process:
        return dict(process.submit(measures.run, name, *arguments).result())


def row(what: str, aim: str, values: list[float], write: Callable[[float], str]) -> None:
    """Print a row: the median, and the range; "too short to tell" if nothing could be measured."""
    if not values:
        print(f"| {what} | {aim} | too short to tell | - |", flush=True)
        return
    middle, low, high = statistics.median(values), min(values), max(values)
    print(f"| {what} | {aim} | {write(middle)} | {write(low)} to {write(high)} |", flush=True)


def makespans(size: Size) -> None:
    """Print how close a run comes to the shortest one possible."""
    for count in size.counts:
        for limit in (8, 64):
            times = size.runs if limit > 8 else 1  # noqa: PLR2004
            runs = [measure("makespan", count, limit, size.shrink) for _ in range(times)]
            row(
                f"makespan / lower bound, {count} instances, limit {limit}",
                "<= 1.03",
                [run["wall_s"] / run["bound_s"] for run in runs],
                "{:.3f}".format,
            )


def own_cost(size: Size) -> None:
    """Print what an instance costs when the hypervisor costs nothing."""
    for save, aim in ((0, "<= 0.15 ms"), (1, "<= 1 ms")):
        runs = [measure("cpu", size.many, save) for _ in range(size.runs)]
        what = "CPU an instance, instant driver, " + ("one save" if save else "no save")
        row(what, aim, [run["cpu_s_an_instance"] * 1000 for run in runs], "{:.3f} ms".format)
    runs = [measure("cpu", size.many, 0, 1) for _ in range(size.runs)]
    what = "CPU an instance, instant driver, no save, with the journal"
    row(what, "<= 0.3 ms", [run["cpu_s_an_instance"] * 1000 for run in runs], "{:.3f} ms".format)
    shared = [size.many / run["commits"] for run in runs]
    row("instances that need nothing to a commit of the journal", ">= 64", shared, "{:.0f}".format)
    runs = [measure("cpu", size.many, 0, 1, 16, 1) for _ in range(size.runs)]
    what = "the same of guests that would be brought back, limit 16"
    row(what, ">= 64", [size.many / run["commits"] for run in runs], "{:.0f}".format)
    runs = [measure("memory", size.many) for _ in range(size.runs)]
    row(f"largest RSS, {size.many} instances", "<= 120 MB", [run["rss_mb"] for run in runs], "{:.0f} MB".format)
    pairs = [(measure("plan", size.many), measure("plan", size.many // 10)) for _ in range(size.runs)]
    ratios = [many["cpu_s_an_instance"] / few["cpu_s_an_instance"] for many, few in pairs]
    what = f"CPU an instance of `bringup plan`, {size.many} instances"
    row(f"{what} / {size.many // 10} instances", "<= 1.1", ratios, "{:.2f}".format)
    row(what, "-", [1000 * many["cpu_s_an_instance"] for many, _ in pairs], "{:.3f} ms".format)
    runs = [measure("first_request", 0) for _ in range(size.starts)]
    row(
        "process start to first request to Placement",
        "<= 0.4 s",
        [run["first_request_s"] for run in runs],
        "{:.2f} s".format,
    )
    row(
        "CPU until then / imports of anyio, httpx and structlog",
        "<= 1.6",
        [run["cpu_s"] / run["imports_cpu_s"] for run in runs],
        "{:.2f}".format,
    )


def with_and_without(name: str, size: Size) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Run with and without the subject of a measure, in turn."""
    return [
        (measure(name, size.many, 64, 1, size.shrink), measure(name, size.many, 64, 0, size.shrink))
        for _ in range(size.runs)
    ]


def journaled(size: Size) -> None:
    """Print what the journal costs."""
    pairs = with_and_without("journal", size)
    what = f"with / without the journal, {size.many} instances, limit 64"
    row(f"wall {what}", "<= 1.10", [one["wall_s"] / other["wall_s"] for one, other in pairs], "{:.3f}".format)
    added = [1000 * (one["cpu_s_an_instance"] - other["cpu_s_an_instance"]) for one, other in pairs]
    row("CPU an instance that the journal adds", "-", added, "{:.3f} ms".format)
    row("commits of the journal, each an fsync", "-", [one["commits"] for one, _ in pairs], "{:.0f}".format)


def gates(size: Size) -> None:
    """Print the cost of the Placement gate beside keystoneauth1, each as a whole process."""
    command = [sys.executable, str(GATES), str(size.starts)]
    runs = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    pairs = list(zip(runs["ours"], runs["peer"], strict=True))
    for what, key, aim in (
        ("requests until the gate is passed", "cold_requests", "< 1"),
        ("process start to gate passed, no token yet", "cold_s", "<= 0.5"),
        ("gate passed again, with a token", "warm_s", "-"),
    ):
        row(f"{what}: ours / keystoneauth1", aim, [one[key] / other[key] for one, other in pairs], "{:.2f}".format)
    row("process start to gate passed", "-", [one["cold_s"] for one, _ in pairs], "{:.2f} s".format)


def filtered(size: Size) -> None:
    """Print what one transaction of nft saves; requires root and nft."""
    hows = ("serially", "at_once", "deferred")
    runs = [{how: measure("filters", size.filtered, how) for how in hows} for _ in range(size.runs)]
    for how, what in (("serially", "one by one"), ("at_once", "8 at a time, gathered")):
        for key, kind in (("wall_s", "wall"), ("cpu_s", "CPU")):
            # A run shorter than one tick of the clock has no CPU time to divide by.
            ratios = [run[how][key] / run["deferred"][key] for run in runs if run["deferred"][key]]
            row(
                f"{kind}, packet filter of {size.filtered} instances: {what} / one transaction",
                "-",
                ratios,
                "{:.1f}".format,
            )
    spent = [1000 * run["deferred"]["cpu_s"] for run in runs]
    row(f"CPU, packet filter of {size.filtered} instances in one transaction", "-", spent, "{:.0f} ms".format)


def flooded(size: Size) -> None:
    """Print what unknown clients at the status endpoint cost a run."""
    pairs = with_and_without("flood", size)
    what = f"{size.many} instances, limit 64: 1100 silent connections and a flood of requests / nobody asks"
    row(f"wall, {what}", "< 1.05", [one["wall_s"] / other["wall_s"] for one, other in pairs], "{:.3f}".format)
    added = [one["cpu_s_an_instance"] / other["cpu_s_an_instance"] for one, other in pairs]
    row("CPU of the daemon, the same", "< 1.05", added, "{:.3f}".format)
    row("/livez meanwhile, median", "-", [1000 * one["livez_s"] for one, _ in pairs], "{:.0f} ms".format)
    row("/livez meanwhile, longest", "< 5 s", [one["livez_most_s"] for one, _ in pairs], "{:.2f} s".format)
    row("/livez meanwhile, not answered", "0", [one["livez_failed"] for one, _ in pairs], "{:.0f}".format)


def felt(size: Size) -> None:
    """Print the serial loop beside the concurrent run, over the same scenario."""
    shrink = 10 * size.shrink
    serial = measure("makespan", size.felt, 1, shrink)["wall_s"]
    concurrent = [measure("makespan", size.felt, 8, shrink)["wall_s"] for _ in range(size.runs)]
    row(
        f"serial loop / concurrent run, {size.felt} instances, limit 8",
        "8 at best",
        [serial / c for c in concurrent],
        "{:.2f}".format,
    )


if __name__ == "__main__":
    print("| measure | aim | median | range |")
    print("|---|---|---|---|")
    for part in (makespans, own_cost, journaled, gates, filtered, flooded, felt):
        part(SMALLEST if sys.argv[1:] == ["smallest"] else FULL)
