"""``bringup history``: the runs of the journal, their instances and their actions."""

import argparse
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from bringup.daemon.cli.options import add_json_to, add_settings_to, settings_of, write_json, write_line
from bringup.daemon.errors import UsageError
from bringup.daemon.text import counted, in_plain_words, labelled, printable

if TYPE_CHECKING:
    from bringup.daemon.settings import Settings
    from bringup.daemon.storage.journal.history import History

Row = Mapping[str, Any]


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = commands.add_parser(
        "history",
        help="show earlier runs",
        description="Show earlier runs from the journal; without an option a line for each run, the newest first.",
    )
    add_settings_to(parser, placement=False)
    add_json_to(parser)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--run", metavar="ID", help='one run: its id, a unique prefix of it, or "last"')
    which.add_argument("--instance", metavar="UUID", help="one instance (or its name), in every run")
    which.add_argument(
        "--compare", nargs=2, metavar="RUN", help="two runs: how long their guests took until they were ready"
    )
    which.add_argument("--kept", action="store_true", help="disks of destroyed guests that are kept")
    parser.add_argument("--limit", type=_count, default=20, metavar="N", help="show at most N runs (default: 20)")
    parser.set_defaults(execute=execute)


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def execute(arguments: argparse.Namespace) -> int:
    """Show the history; return the exit code."""
    from bringup.daemon.service.assembly import JOURNAL
    from bringup.daemon.storage.journal.history import read

    settings = settings_of(arguments)
    uuid = "" if arguments.instance is None else _uuid_of(arguments.instance, settings)
    with read(settings.host.state_directory / JOURNAL) as history:
        if history is None:
            if not arguments.json:
                write_line(f"no run yet: there is no journal in {settings.host.state_directory}")
            return os.EX_OK
        if arguments.run is not None:
            _write_run(history, arguments.run, as_json=arguments.json)
        elif arguments.instance is not None:
            _write_instance(history, uuid, as_json=arguments.json)
        elif arguments.compare is not None:
            from bringup.daemon.cli.history_compare import write_comparison

            first, second = (_run_with(history, each, "--compare") for each in arguments.compare)
            write_comparison(first, second, history, as_json=arguments.json)
        elif arguments.kept:
            _write_kept(history, as_json=arguments.json)
        else:
            _write_runs(history, arguments.limit, as_json=arguments.json)
    return os.EX_OK


def _write_runs(history: "History", limit: int, *, as_json: bool) -> None:
    from bringup.daemon.decisions.outcomes import NEED_ATTENTION

    runs = history.runs(limit)
    if as_json:
        _write_all(runs)
        return
    attention = [each.value for each in NEED_ATTENTION]
    rows = [
        (
            run["run_id"][:8],
            run["began_at"][:19],
            _seconds(run["took_s"]),
            str(run["attempt"]),
            run["state"],
            counted(run["did"] or run["counts"] or {}),
            counted({each: count for each, count in _counts(run).items() if each in attention}),
        )
        for run in runs
    ]
    _write_table(("run", "began (UTC)", "took", "attempt", "state", "done", "attention"), rows)


def _counts(run: Row) -> Row:
    """Return the counts by outcome and by what was done; an instance that failed is in both."""
    return {**(run["did"] or {}), **(run["counts"] or {})}


def _write_run(history: "History", prefix: str, *, as_json: bool) -> None:
    from bringup.daemon.decisions.advice import gathered
    from bringup.daemon.decisions.describe_readiness import ready_json, ready_text, ready_word, rounded
    from bringup.daemon.decisions.verdicts import counts_of, verdicts_text

    run = _run_with(history, prefix, "--run")
    instances = history.instances_of(run["run_id"])
    ready, times = history.ready_of(run["run_id"]), history.time_to_ready(run["run_id"])
    verdicts = history.verdicts_of(run["run_id"])
    for row in instances:
        verdict = verdicts.get(row["uuid"])
        row["ready"] = ready_json(ready.get(row["uuid"]))
        row["verdict"] = None if verdict is None else {"word": verdict.word, "why": verdict.why}
    if as_json:
        write_json({**run, "ready": rounded(asdict(times)), "verdicts": counts_of(verdicts.values())})
        _write_all(instances)
        return
    boot, began, state = run["boot_id"], run["began_at"][:19], run["state"]
    write_line(
        f"run {run['run_id']} of {run['host']}, boot {boot}, began {began} UTC, {state}, attempt {run['attempt']}"
    )
    if run["error"]:
        write_line(f"error: {run['error']}")
    if times.started:
        write_line(f"ready: {ready_text(times)}")
    if verdicts:
        write_line(f"after their boot: {verdicts_text(counts_of(verdicts.values()))}")
    rows = [
        (
            row["name"],
            row["uuid"],
            row["kind"] or "unsettled",
            _did(row),
            " > ".join(row["because"]),
            _seconds(row["took_s"]),
            "" if (found := ready.get(row["uuid"])) is None else ready_word(found),
            "" if (verdict := verdicts.get(row["uuid"])) is None else verdict.text,
            _problem(row),
        )
        for row in instances
    ]
    _write_table(("name", "uuid", "outcome", "did", "because", "took", "ready", "verdict", "problem"), rows)
    for line in gathered(row["advice"] and row["advice"].replace(row["uuid"], "UUID") for row in instances):
        write_line(line)


def _run_with(history: "History", prefix: str, option: str) -> Row:
    run = history.run(prefix)
    if run is None:
        raise UsageError(f"{option} {prefix}: no run, or more than one, has this id; bringup history lists them")
    return run


def _uuid_of(text: str, settings: "Settings") -> str:
    import anyio

    from bringup.daemon.cli.instance_arguments import uuids_of

    async def read() -> str:
        [uuid] = await uuids_of([text], settings, option="--instance")
        return uuid

    return anyio.run(read)


def _write_instance(history: "History", uuid: str, *, as_json: bool) -> None:
    found = history.instance(uuid)
    if not found:
        raise UsageError(f"--instance {uuid}: no run of the journal has this instance")
    if as_json:
        _write_all(found)
        return
    name = next((row["name"] for row in found if row["name"]), "")
    project = next((row["project_id"] for row in found if row["project_id"]), None)
    write_line(f"instance {labelled(uuid, name)}" + (f", project {project}" if project else ""))
    for row in found:
        write_line(
            f"run {row['run_id'][:8]}: {row['kind'] or 'unsettled'}, {_did(row)}, {' > '.join(row['because'])} "
            f"{_problem(row)}"
        )
        rows = [
            (
                action["began_at"][:23],
                str(action["attempt"]),
                action["verb"],
                action["rule"],
                "in flight" if action["ended_at"] is None else _seconds(action["took_s"]),
                action["error"] or "",
            )
            for action in row["actions"]
        ]
        _write_table(
            ("  began (UTC)", "attempt", "action", "rule", "took", "error"), [("  " + r[0], *r[1:]) for r in rows]
        )
        if row["advice"]:
            write_line(f"to do: {row['advice']}")


def _write_kept(history: "History", *, as_json: bool) -> None:
    kept = history.kept_disks()
    if as_json:
        _write_all(kept)
        return
    rows = [(row["name"], row["uuid"], row["until"][:19], ", ".join(row["where"])) for row in kept]
    _write_table(("name", "uuid", "until (UTC)", "where"), rows)


def _write_all(rows: Iterable[Row]) -> None:
    for row in rows:
        write_json(row)


def _write_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    shown = [[printable(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    for row in shown:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        write_line("  ".join(cells).rstrip())


def _seconds(took_s: float | None) -> str:
    return "" if took_s is None else f"{took_s:.1f} s"


def _did(row: Row) -> str:
    return in_plain_words(row["did"])


def _problem(row: Row) -> str:
    problem = row["problem"]
    return "" if problem is None else json.dumps(f"{problem[0]}: {problem[2]}", ensure_ascii=False)[1:-1]
