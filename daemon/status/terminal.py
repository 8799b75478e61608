"""A run on a terminal: its progress, live, and a table when it is over."""

import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from bringup.daemon.decisions.advice import advice_of, gathered
from bringup.daemon.decisions.outcomes import Did, Kind, Outcome, RunResult, attention_of
from bringup.daemon.status.progress import Progress
from bringup.daemon.status.snapshot import Snapshot, counts_line
from bringup.daemon.tasks import background
from bringup.daemon.text import in_plain_words, labelled, printable
from bringup.daemon.time_spans import in_words

REFRESH_S = 0.25
SHOWN_RUNNING = 5
SHOWN_FAILED = 20
STYLES = {
    Kind.INITIALIZED: "green",
    Kind.SKIPPED: "cyan",
    Kind.FAILED: "bold red",
    Kind.SUPERSEDED: "yellow",
    Kind.HELD: "magenta",
    Kind.DEFERRED: "yellow",
}


def words(*parts: str | tuple[str, str]) -> Text:
    """Join texts, each with its style where it has one; escape sequences in them are shown, not obeyed.

    ``rich.Text`` lets escape sequences, C1, bidirectional controls and line breaks through.
    """
    return Text.assemble(
        *(printable(part) if isinstance(part, str) else (printable(part[0]), part[1]) for part in parts)
    )


def _running_table(snapshot: Snapshot) -> Table:
    table = Table.grid(padding=(0, 2))
    for running in snapshot.running[:SHOWN_RUNNING]:
        label, age = labelled(running.uuid, running.name), in_words(running.verb_age_s)
        table.add_row(words((label, "dim")), running.verb, words((age, "yellow")))
    return table


def live_view(snapshot: Snapshot) -> RenderableType:
    """Draw the progress of the run."""
    head = words((snapshot.phase, "bold"), "  ", (snapshot.detail, "dim"))
    if not snapshot.total:
        return head
    bar = Table.grid()
    bar.add_row(ProgressBar(total=snapshot.total, completed=snapshot.done, width=60))
    return Group(head, bar, Text(counts_line(snapshot)), _running_table(snapshot))


def summary(result: RunResult) -> RenderableType:
    """Draw the outcomes of the run by what was done and why, then those that failed."""
    table = Table(title=words(f"{result.host}: {len(result.outcomes)} instances in {in_words(result.took_s)}"))
    table.add_column("outcome")
    table.add_column("did")
    table.add_column("because")
    table.add_column("instances", justify="right")
    table.add_column("longest", justify="right")
    groups: Counter[tuple[Kind, Did, str]] = Counter()
    longest: dict[tuple[Kind, Did, str], float] = {}
    for outcome in result.outcomes:
        key = (outcome.kind, outcome.did, " > ".join(outcome.because))
        groups[key] += 1
        longest[key] = max(longest.get(key, 0), outcome.took_s)
    kinds, did_all = list(Kind), list(Did)
    for key in sorted(groups, key=lambda key: (kinds.index(key[0]), did_all.index(key[1]), key[2])):
        kind, did, because = key
        outcome_text, did_text = (kind.value, STYLES[kind]), in_plain_words(did.value)
        table.add_row(words(outcome_text), did_text, words(because), str(groups[key]), in_words(longest[key]))
    if result.unfinished:
        table.add_row(Text("unfinished", style="bold red"), "", "", str(len(result.unfinished)), "")
    return Group(table, *_failures(result))


def _failures(result: RunResult) -> list[RenderableType]:
    lines = [_failure(outcome) for outcome in result.outcomes if _is_failure(outcome)]
    lines += [
        words(("warning ", "yellow"), _label(outcome), f"  {warning.action}: {warning.message}")
        for outcome in result.outcomes
        for warning in outcome.warnings
    ]
    if len(lines) > SHOWN_FAILED:
        lines[SHOWN_FAILED:] = [Text(f"and {len(lines) - SHOWN_FAILED} more")]
    lines += [words((line, "cyan")) for line in gathered(map(advice_of, result.outcomes))]
    if result.error is not None:
        lines.append(words((result.error, "bold red")))
    return list(lines)


def _is_failure(outcome: Outcome) -> bool:
    return outcome.problem is not None or attention_of(outcome.kind, outcome.did) is Did.SET_TO_ERROR


def _failure(outcome: Outcome) -> Text:
    problem, attention = outcome.problem, attention_of(outcome.kind, outcome.did) or outcome.kind
    text = " > ".join(outcome.because) if problem is None else f"{problem.action}: {problem.message}"
    style = STYLES[Kind.FAILED if attention is Did.SET_TO_ERROR else outcome.kind]
    return words((f"{in_plain_words(attention.value)} ", style), _label(outcome), "  ", text)


def _label(outcome: Outcome) -> str:
    return labelled(outcome.uuid, outcome.name)


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
            live.update(live_view(progress.snapshot()), refresh=True)
            await anyio.sleep(REFRESH_S)

    def show_summary(self, result: RunResult) -> None:
        """Draw the table."""
        self._console.print(summary(result))

    def say(self, line: str) -> None:
        """Write a line."""
        self._console.print(printable(line), markup=False, highlight=False)
