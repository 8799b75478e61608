"""What is done with a guest that is here although its record names another host, and nothing says why.

Either this machine has two names in Nova, and then it is a guest like any other, or it runs twice.  Nova does nothing
to it.  So it is named, and left; an operator who knows that it cannot be the first may have it powered off.
"""

from bringup.daemon.decisions.actions import FenceForeign
from bringup.daemon.decisions.outcomes import Kind, Problem
from bringup.daemon.decisions.rules import Facts, Next, Rule, always, nothing
from bringup.daemon.decisions.shared_rows import UNREADABLE
from bringup.daemon.decisions.states import PowerState

RUNS = (PowerState.RUNNING, PowerState.PAUSED)


def _is_fenced(facts: Facts) -> bool:
    # One that somebody works on may be on its way here.
    return facts.fences_foreign and facts.look in RUNS and facts.instance.task_state is None


def _tell(facts: Facts) -> Problem:
    uuid, other = facts.instance.uuid, facts.instance.host or "no host"
    if facts.look not in RUNS:
        what = "it is left off"
    elif _is_fenced(facts):
        what = "it runs here and is powered off (guards.foreign_running)"
    else:
        what = 'it runs here, perhaps twice, and is left so (guards.foreign_running = "power_off" would pull its plug)'
    return Problem(
        "decide",
        "ForeignGuest",
        f"the record of guest {uuid} names {other}, not {facts.host}, and no evacuation or migration says why: {what}; "
        f"if {other} is this machine, set host.name to it, else find out where it belongs (openstack server show "
        f"{uuid})",
    )


FOREIGN: tuple[Rule, ...] = (
    UNREADABLE,
    Rule(
        "foreign_and_running",
        _is_fenced,
        always(FenceForeign()),
        Next.END,
        "It runs here, its record names another host, and nothing says why: it may run there too.",
        Kind.SKIPPED,
        tells=_tell,
        condition=(
            "The guest runs or is paused, its record has no task state, and `guards.foreign_running` is `power_off`."
        ),
    ),
    Rule(
        "foreign",
        lambda _f: True,
        nothing,
        Next.END,
        "Its record names another host, and no evacuation or migration says why its guest is here.",
        Kind.SKIPPED,
        tells=_tell,
        condition="None of the rules above.",
    ),
)
