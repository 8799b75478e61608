"""``bringup history --compare``: two runs, and how long their guests took until they were ready."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from bringup.daemon.cli.options import write_json, write_line
from bringup.daemon.decisions.describe_readiness import COSTS, ready_json, rounded
from bringup.daemon.text import printable
from bringup.daemon.time_spans import in_words

if TYPE_CHECKING:
    from bringup.daemon.decisions.readiness import Readiness
    from bringup.daemon.storage.journal.history import History

Row = Mapping[str, Any]
SHOWN: Final = 10
WIDEST: Final = 24
ROWS: Final = (
    ("guests started", "started"),
    ("ready", "ready"),
    ("not known to be ready", "not_ready"),
    ("first ready after", "first_s"),
    ("half ready after", "half_s"),
    ("all ready after", "all_s"),
)


def write_comparison(first: Row, second: Row, history: "History", *, as_json: bool) -> None:
    """Write how long the guests of two runs took until they were ready, and the guests that differ most."""
    runs = (first, second)
    times = [asdict(history.time_to_ready(run["run_id"])) for run in runs]
    found = [history.ready_of(run["run_id"]) for run in runs]
    in_both = found[0].keys() & found[1].keys()
    differing = sorted(in_both, key=lambda uuid: (-abs(_later_s(found, uuid)), uuid))
    if as_json:
        write_json(
            {
                "runs": [{**run, "ready": rounded(each)} for run, each in zip(runs, times, strict=True)],
                "instances": [
                    {
                        "uuid": uuid,
                        "name": history.name_of(uuid),
                        "later_s": round(_later_s(found, uuid), 3),
                        "ready": [ready_json(each[uuid]) for each in found],
                    }
                    for uuid in differing
                ],
            }
        )
        return
    lines: list[tuple[str, ...]] = [
        ("", *(run["run_id"][:8] for run in runs), "later"),
        ("began (UTC)", *(run["began_at"][:16] for run in runs), ""),
    ]
    for label, key in ROWS:
        values = [each[key] for each in times]
        lines.append((label, *map(_cell, values), _difference(*values)))
    for uuid in [uuid for uuid in differing if _later_s(found, uuid)][:SHOWN]:
        pair = [each[uuid] for each in found]
        seconds = [each.at_s for each in pair]
        why = COSTS[max(pair, key=lambda each: each.at_s).cost]
        label = printable(history.name_of(uuid) or uuid)[:WIDEST]
        lines.append((label, *map(in_words, seconds), f"{_difference(*seconds)}, {why}"))
    for label, *cells, later in lines:
        write_line(f"{label:{WIDEST}}  {'  '.join(f'{cell:16}' for cell in cells)}  {later}".rstrip())


def _later_s(found: "list[dict[str, Readiness]]", uuid: str) -> float:
    return found[1][uuid].at_s - found[0][uuid].at_s


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return in_words(value) if isinstance(value, float) else str(value)


def _difference(first: Any, second: Any) -> str:
    if not isinstance(first, float) or not isinstance(second, float):
        return ""
    return f"{'+' if second >= first else '-'}{in_words(abs(second - first))}"
