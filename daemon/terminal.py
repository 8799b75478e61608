"""What a person at a terminal sees of a run: how far it is, live, and a table when it is over."""

import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from bringup.daemon.background import background
from bringup.daemon.outcomes import Kind, Outcome, RunResult
from bringup.daemon.progress import Progress, Running

REFRESH_S = 0.25
SHOWN_RUNNING = 5
SHOWN_FAILED = 20
STYLES = {
    Kind.INITIALIZED: "green",
    Kind.SKIPPED: "cyan",
    Kind.FAILED: "bold red",
    Kind.SUPERSEDED: "yellow",
    Kind.HELD: "magenta",
}


def seconds(value: float) -> str:
    """Write a span as a person says it: ``0.4 s``, ``41 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if value < 10:  # noqa: PLR2004 - below, tenths matter
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 60:  # noqa: PLR2004 - a minute
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:  # noqa: PLR2004 - an hour
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def counts_line(progress: Progress) -> str:
    """Write the counts, without colour: ``137/412 done, 3 failed, 8 running, 267 waiting, 12/s, ETA 23 s``."""
    parts = [f"{progress.done}/{progress.total} done"]
    failed = progress.kinds[Kind.FAILED]
    if failed:
        parts.append(f"{failed} failed")
    parts += [f"{len(progress.running)} running", f"{progress.waiting} waiting"]
    rate, eta_s = progress.rate(), progress.eta_s()
    if rate is not None:
        parts.append(f"{rate:.1f}/s")
    if eta_s is not None and progress.done < progress.total:
        parts.append(f"ETA {seconds(eta_s)}")
    return ", ".join(parts)


def _running_table(progress: Progress, now: float) -> Table:
    table = Table.grid(padding=(0, 2))
    longest: list[Running] = sorted(progress.running.values(), key=lambda running: running.since)[:SHOWN_RUNNING]
    for running in longest:
        table.add_row(
            Text(running.uuid, style="dim"),
            running.doing,
            Text(seconds(now - running.doing_since), style="yellow"),
        )
    return table


def live_view(progress: Progress, now: float) -> RenderableType:
    """Draw how far the run is."""
    head = Text.assemble((progress.phase, "bold"), "  ", (progress.detail, "dim"))
    if not progress.total:
        return head
    bar = Table.grid()
    bar.add_row(ProgressBar(total=progress.total, completed=progress.done, width=60))
    return Group(head, bar, Text(counts_line(progress)), _running_table(progress, now))


def summary(result: RunResult) -> RenderableType:
    """Draw what came of the run: outcomes by kind and rule, then those that failed."""
    table = Table(title=Text(f"{result.host}: {len(result.outcomes)} instances in {seconds(result.took_s)}"))
    table.add_column("outcome")
    table.add_column("because")
    table.add_column("instances", justify="right")
    table.add_column("longest", justify="right")
    groups: Counter[tuple[Kind, str]] = Counter()
    longest: dict[tuple[Kind, str], float] = {}
    for outcome in result.outcomes:
        key = (outcome.kind, " > ".join(outcome.because))
        groups[key] += 1
        longest[key] = max(longest.get(key, 0), outcome.took_s)
    order = list(Kind)
    for (kind, because), count in sorted(groups.items(), key=lambda item: (order.index(item[0][0]), item[0][1])):
        table.add_row(
            Text(kind.value, style=STYLES[kind]), escape(because), str(count), seconds(longest[kind, because])
        )
    if result.unfinished:
        table.add_row(Text("unfinished", style="bold red"), "", str(len(result.unfinished)), "")
    return Group(table, *_failures(result))


def _failures(result: RunResult) -> list[RenderableType]:
    lines = [_failure(outcome) for outcome in result.outcomes if outcome.problem is not None]
    lines += [
        Text.assemble(("warning ", "yellow"), outcome.uuid, f"  {warning.action}: {warning.message}")
        for outcome in result.outcomes
        for warning in outcome.warnings
    ]
    if len(lines) > SHOWN_FAILED:
        lines[SHOWN_FAILED:] = [Text(f"and {len(lines) - SHOWN_FAILED} more")]
    if result.error is not None:
        lines.append(Text(result.error, style="bold red"))
    return list(lines)


def _failure(outcome: Outcome) -> Text:
    problem = outcome.problem
    text = "" if problem is None else f"{problem.action}: {problem.message}"
    return Text.assemble((f"{outcome.kind.value} ", STYLES[outcome.kind]), outcome.uuid, "  ", text)


class Terminal:
    """Draws on one console."""

    def __init__(self, console: Console | None = None) -> None:
        """Draw on standard output, or on the console given."""
        self._console = console or Console(file=sys.stdout)

    @asynccontextmanager
    async def showing(self, progress: Progress) -> AsyncIterator[None]:
        """Keep the live view up to date for as long as the block lasts."""
        with Live(console=self._console, auto_refresh=False, transient=True) as live:
            async with background() as beside:
                beside.start_soon(self._refresh, live, progress, name="terminal")
                yield

    async def _refresh(self, live: Live, progress: Progress) -> None:
        while True:
            live.update(live_view(progress, progress.now()), refresh=True)
            await anyio.sleep(REFRESH_S)

    def show_summary(self, result: RunResult) -> None:
        """Draw the table."""
        self._console.print(summary(result))

    def say(self, line: str) -> None:
        """Write a line."""
        self._console.print(line, markup=False, highlight=False)
