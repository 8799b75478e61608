"""``/status`` on a console: whether the host is back, what hangs, what failed and why."""

from collections.abc import Mapping
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from bringup.daemon.decisions.advice import gathered
from bringup.daemon.decisions.outcomes import Kind
from bringup.daemon.errors import Unavailable
from bringup.daemon.status.terminal import STYLES, words
from bringup.daemon.text import labelled
from bringup.daemon.time_spans import in_words

UNKNOWN: Final = (
    "the daemon's answer does not hold what this version of bringup reads; use the version that runs, or --json"
)
SHOWN_RUNNING = 8
SHOWN_FAILURES = 20
STATES = {"ready": "bold green", "initializing": "bold blue", "failed": "bold red", "stopping": "bold yellow"}
WARNING_STYLE = "yellow"

Answer = Mapping[str, Any]


def render(answer: Answer) -> RenderableType:
    """Draw an answer.

    :raises Unavailable: it does not hold what this version reads.
    """
    try:
        return _parts_of(answer)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise Unavailable(UNKNOWN) from error


def _unreachable(guest: Answer) -> RenderableType:
    colour = "red" if guest["verdict"] == "broken" else "yellow"
    return words((labelled(guest["uuid"], guest["name"]), colour), f" {guest['text']}")


def _boots(pace: Answer) -> list[RenderableType]:
    """Describe guests that boot; those that took longest only once none does."""
    parts: list[RenderableType] = [words(str(pace["text"]))]
    parts += [_unreachable(each) for each in pace["verdicts"]["guests"]]
    slowest = [] if pace["booting"] else pace["ready"]["slowest"]
    return parts + [
        words(("slowest", "dim"), f"  {labelled(each['uuid'], each['name'])}  {each['text']}") for each in slowest
    ]


def _parts_of(answer: Answer) -> RenderableType:
    parts: list[RenderableType] = [_head(answer)]
    run = answer["run"]
    if run is not None and run["total"]:
        bar = Table.grid()
        bar.add_row(ProgressBar(total=int(run["total"]), completed=int(run["done"]), width=60))
        parts += [bar, words(str(answer["counts_text"]))]
    if answer.get("pace") is not None:
        parts += _boots(answer["pace"])
    parts += _running(answer)
    parts += _failures(answer)
    parts += _pause(answer)
    deferred = answer.get("deferred", {"waiting": 0})
    if deferred["waiting"]:
        parts.append(
            words((f"{deferred['waiting']} deferred, checked again in {in_words(deferred['next_check_s'])}", "yellow"))
        )
    parts += _filter(answer)
    waiting = answer["reports"]["waiting"]
    if waiting:
        oldest_s = answer["reports"]["oldest_s"]
        since = "" if oldest_s is None else f", the oldest for {in_words(oldest_s)}"
        parts.append(words((f"{waiting} reports wait for the scheduler{since}", "yellow")))
    return Group(*parts)


def _pause(answer: Answer) -> list[Text]:
    """Describe a pause of starts."""
    # A daemon of an earlier version has none.
    found = answer.get("pause")
    if found is None:
        return []
    said = f"starts are paused since {found['since']} until {found['until']}, {found['waiting']} wait"
    return [words((f"{said}; bringup resume ends the pause", "yellow"))]


def _filter(answer: Answer) -> list[Text]:
    """Describe what other processes did to the rules of guests."""
    found = answer.get("filter", {"restored": 0, "problem": None})
    if found["problem"]:
        return [words((f"packet filter: {found['problem']}", "red"))]
    if found["restored"]:
        count = found["restored"]
        times = "once" if count == 1 else f"{count} times"
        said = f"packet filter: changed by another process, restored {times}, last at {found['last_at']}"
        return [words((said, "yellow"))]
    return []


def _head(answer: Answer) -> Text:
    state = answer["state"]
    head = words((answer["host"], "bold"), "  ", (state, STATES.get(state, "bold")))
    if state == "initializing":
        doing = f"{answer['phase']}: {answer['detail']}" if answer["detail"] else answer["phase"]
        head.append(words(f" {answer['percent']} %  {doing}, for {in_words(answer['phase_s'])}"))
    elif state == "ready":
        head.append(f"  for {in_words(answer['phase_s'])}", style="dim")
    else:
        head.append(words(f"  {answer['reason']}"))
    return head


def _running(answer: Answer) -> list[RenderableType]:
    running = answer["running"]
    if not running:
        return []
    table = Table.grid(padding=(0, 2))
    for one in running[:SHOWN_RUNNING]:
        age = words((in_words(one["action_age_s"]), "yellow"))
        table.add_row(words(("running", "dim")), words(_label(one)), words(one["action"]), age)
    return [table, *_more(len(running) - SHOWN_RUNNING, "running")]


def _failures(answer: Answer) -> list[RenderableType]:
    lines = [words((_attention(one), _style(one)), f"  {_label(one)}  {_why(one)}") for one in answer["failures"]]
    lines += [words(("warning", WARNING_STYLE), f"  {_label(one)}  {_why(one)}") for one in answer["warnings"]]
    more = len(lines) - SHOWN_FAILURES + answer["omitted"]
    return [*lines[:SHOWN_FAILURES], *_more(more, "that need attention"), *_to_do(answer)]


def _attention(one: Answer) -> str:
    # A daemon of an earlier version lists only what has such an outcome.
    return str(one.get("attention") or one["outcome"])


def _style(one: Answer) -> str:
    kind = Kind(one["outcome"])
    return STYLES[kind] if _attention(one) == kind.value else STYLES[Kind.FAILED]


def _to_do(answer: Answer) -> list[RenderableType]:
    # A daemon of an earlier version does not say it.
    one_each = [
        text.replace(one["uuid"], "UUID")
        for one in (*answer["failures"], *answer["warnings"])
        if (text := one.get("advice"))
    ]
    return [words((line, "cyan")) for line in gathered(one_each)]


def _label(one: Answer) -> str:
    return labelled(one["uuid"], one["name"])


def _why(one: Answer) -> str:
    why = " > ".join(one["because"]) if one["message"] is None else f"{one['action']}: {one['message']}"
    # A daemon of an earlier version does not say for how long.
    waited_s = one.get("deferred_s")
    return why if waited_s is None else f"{why}; deferred for {in_words(waited_s)}"


def _more(count: int, what: str) -> list[RenderableType]:
    return [words((f"and {count} more {what}", "dim"))] if count > 0 else []
