"""Writes docs/rules.md from the tables in daemon/decisions: ``python docs/write_rules.py``."""

import re
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from bringup.daemon.decisions.actions import Action
from bringup.daemon.decisions.describe import words
from bringup.daemon.decisions.from_evacuation import EVACUATED
from bringup.daemon.decisions.from_event import LIFECYCLE
from bringup.daemon.decisions.from_guest import FROM_FIRST_LOOK, FROM_SECOND_LOOK
from bringup.daemon.decisions.from_needs import MEANINGS
from bringup.daemon.decisions.from_other_host import FOREIGN
from bringup.daemon.decisions.from_record import FROM_RECORD
from bringup.daemon.decisions.on_failure import ON_FAILURE, Reaction
from bringup.daemon.decisions.rules import FixedActions, Next, Rule

PAGE = Path(__file__).with_name("rules.md")
WIDTH = 120
BUG = "https://bugs.launchpad.net/nova/+bug/"
TABLES: tuple[tuple[str, Sequence[Rule], str], ...] = (
    (
        "Evacuated guests",
        EVACUATED,
        (
            "Read first, for each guest that this hypervisor has although its instance was evacuated from this host. "
            "Nova: `_destroy_evacuated_instances`."
        ),
    ),
    (
        "Guests whose record names another host",
        FOREIGN,
        (
            "Read next, with the power state of the guest, where no evacuation or migration explains why it is here. "
            "Nova does nothing with such a guest."
        ),
    ),
    (
        "What the record says",
        FROM_RECORD,
        (
            "The first of three tables for each instance whose record names this host. "
            "Nova: `_init_instance`, up to the first reading of the power state."
        ),
    ),
    (
        "What the power state adds",
        FROM_FIRST_LOOK,
        (
            "Read where no rule on the record has ended the reading. Nova: `_init_instance`, `_retry_reboot` and what "
            "follows them."
        ),
    ),
    (
        "What the power state adds when it is read again",
        FROM_SECOND_LOOK,
        (
            "Read where no rule before has ended the reading; the power state is read again, because an action may "
            "have changed it. Nova: `_resume_guests_state`."
        ),
    ),
    (
        "Lifecycle events",
        LIFECYCLE,
        (
            "Read for each event of the hypervisor while the daemon stays, with the power state of the guest. Nova: "
            "`handle_lifecycle_event` and `_sync_instance_power_state`."
        ),
    ),
)
INTRODUCTION = """\
What bringup does with an instance is decided by tables of rules. This page has each of them: it is written by
`python docs/write_rules.py` from the tables in `daemon/decisions`, and a test compares the two.

**From a log line to its rule.** The canonical line of an instance (`instance.initialized`, `instance.failed` ...) has
`because`: the names of the rules that held, in order; the last one decided the outcome. Find a name in the
[index](#index); the numbers are the tables that have it. `bringup explain` shows the rules for any state of a record,
`bringup plan` for the instances of this host.

**How a table is read.** From the top. Each rule that holds gives its actions. A rule that *ends* the reading is the
last one that counts, of this table and of those after it; otherwise the rows after it are read on the record as the
actions leave it. [What was done](report.md) (`did`) stands beside the outcome.

**Actions** are named as in the log, the journal and `bringup plan`. "nothing" leaves guest and record as they are.
"""
GUARDS = """\
Guards are checked over the whole plan before the first instance is touched. An instance that a guard holds is left
as it is until an operator approves: `bringup release UUID`. Where the record or the evacuation decides, the guard's
rule stands in the table ([`quarantined`](#quarantined), [`destruction_held`](#destruction_held)).

| guard | holds |
|---|---|
| `quarantined` | what was worked on each time the host died, `guards.quarantine_after` boots in a row |
| `destruction_held` | what would be destroyed, once it is too much (`guards.destroy_at_most`, `guards.destroy_share`) |
"""
FAILURES = """\
Read from the top, for the action that failed and the error that it raised. Before it, for every action:
`NotBegun` (nothing was touched): {fail}; `NeedNotMet` (something that the guest needs is missing): {defer}. What no
row names: {fail}. A record that somebody else has changed (`StateConflict`) makes the outcome *superseded*.
"""
NEEDS = """\
Before a guest is started the driver is asked for all that it needs: disks, images, devices, networks, its definition.
Each need is judged by the first row that holds. Any need that does not let it start defers the guest.
"""


def render() -> str:
    """Return the text of the page."""
    index, parts = dict[str, list[str]](), list[str]()
    for number, (title, table, text) in enumerate(TABLES, start=1):
        parts.append(f"## {number}. {title}\n\n{_wrapped(text)}\n")
        for rule in table:
            # GitHub numbers the headings of one name.
            anchors = index.setdefault(rule.name, [])
            anchors.append(f"[{number}](#{rule.name}{f'-{len(anchors)}' if anchors else ''})")
            parts.append("\n".join(_rule(rule)))
    names = " · ".join(f"`{name}` {' '.join(anchors)}" for name, anchors in sorted(index.items()))
    titles = [*(title for title, _table, _text in TABLES), *_LAST]
    contents = (f"{number}. [{title}](#{_slug(f'{number}. {title}')})" for number, title in enumerate(titles, start=1))
    failures = FAILURES.format(fail=Reaction.FAIL.value, defer=Reaction.DEFER.value)
    last = (GUARDS, "\n".join((_wrapped(failures), "", *_failures())), "\n".join((NEEDS, *_needs())))
    parts += [
        f"## {number}. {title}\n\n{text}"
        for number, (title, text) in enumerate(zip(_LAST, last, strict=True), start=len(TABLES) + 1)
    ]
    body = "\n".join(part.rstrip("\n") + "\n" for part in parts)
    return "\n".join(("# Rules\n", INTRODUCTION, *contents, "\n## Index\n", _wrapped(names), "", body))


_LAST = ("Guards", "When an action fails", "What a guest needs")


def _rule(rule: Rule) -> Iterator[str]:
    yield f"### {rule.name}\n"
    yield _item(f"**When:** {rule.condition}")
    yield _item(f"**Then:** {_actions(rule)}. {_next(rule)}")
    why = re.sub(r"Nova bugs? ([0-9]+)", rf"[Nova bug \1]({BUG}\1)", rule.why)
    yield _item(f"**Why:** {why}")
    yield ""


def _actions(rule: Rule) -> str:
    if isinstance(rule.then, FixedActions):
        return ", ".join(f"`{words(action)}`" for action in rule.then.actions) or "nothing"
    return " ".join((rule.then.__doc__ or "").split()).removesuffix(".")


def _next(rule: Rule) -> str:
    if rule.next is Next.CONTINUE:
        return "The reading continues."
    return f"The reading ends: *{rule.kind.value}*."


def _failures() -> Iterator[str]:
    yield "| action | error | what follows |"
    yield "|---|---|---|"
    for action, reactions in ON_FAILURE.items():
        for error, reaction in reactions:
            name = "any other" if error is Exception and len(reactions) > 1 else "any" if error is Exception else None
            yield f"| `{_verb(action)}` | {name or f'`{error.__name__}`'} | {reaction.value} |"


def _verb(action: type[Action]) -> str:
    return action.verb


def _needs() -> Iterator[str]:
    yield "| need | when | what follows | why |"
    yield "|---|---|---|---|"
    for row in MEANINGS:
        yield f"| `{row.name}` | {row.condition} | {row.follows.value} | {row.why} |"


def _slug(title: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def _item(text: str) -> str:
    return textwrap.fill(
        text, WIDTH, initial_indent="- ", subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )


def _wrapped(text: str, initial_indent: str = "", subsequent_indent: str = "") -> str:
    return textwrap.fill(
        " ".join(text.split()),
        WIDTH,
        initial_indent=initial_indent,
        subsequent_indent=subsequent_indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
