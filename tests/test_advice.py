"""Everything that did not come out as one would want says what to do next."""

import ast
import importlib
import itertools
import pkgutil
import re
from pathlib import Path

import pytest

import bringup.daemon
import bringup.drivers
from bringup.daemon.cli.main import parser
from bringup.daemon.decisions.advice import BY_ERROR, BY_KIND, advice, advice_of, for_one, gathered
from bringup.daemon.decisions.outcomes import Did, Kind, Outcome, Problem
from bringup.daemon.decisions.states import TaskState, VmState
from bringup.daemon.errors import JournalError, StoreError
from bringup.drivers.base import DriverError
from bringup.drivers.needs import MetBy, NeedNotMet
from bringup.drivers.simulated import Fault
from support.computer import a_computer
from support.process import run
from support.records import instance, uuid_of

ROOT = Path(__file__).parents[1]
BY_ITS_NEEDS = {NeedNotMet.__name__}
"""What is done about these depends on who can meet the needs."""


def raised() -> set[str]:
    """Return the names of all errors that an action may end in."""
    for package in (bringup.daemon, bringup.drivers):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    waiting, found = [DriverError, StoreError, JournalError], set[type]()
    while waiting:
        one = waiting.pop()
        found.add(one)
        waiting += one.__subclasses__()
    return {each.__name__ for each in found if each.__module__.startswith("bringup.")}


def named() -> set[str]:
    """Return the names that problems have which no error stands behind: of what was decided."""
    found = set()
    for path in (ROOT / "daemon").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(func=ast.Name(id="Problem"), args=[_, ast.Constant(value=str(name)), _]):
                    found.add(name)
    return found


def test_every_error_that_there_is_has_its_advice() -> None:
    assert (raised() | named()) - BY_ITS_NEEDS - BY_ERROR.keys() == set()


def test_no_advice_is_for_an_error_that_there_is_not() -> None:
    of_python = {"NotImplementedError", "TimeoutError"}
    by_constant = {"DeadlineExceeded", "Held", "PendingElsewhere"}
    assert BY_ERROR.keys() - raised() - named() - of_python - by_constant == set()


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind not in (Kind.INITIALIZED, Kind.SKIPPED)])
def test_every_outcome_that_is_not_as_one_would_want_it_names_what_to_do(kind: Kind) -> None:
    for error, met_by in itertools.product((None, "SomethingNew", *BY_ERROR), (set(), *({who.value} for who in MetBy))):
        text = for_one(advice(kind, Did.UNKNOWN, error, met_by), uuid_of(1)) or ""
        assert text.isprintable()
        assert "UUID" not in text
        # A command, or that there is nothing to do, or where to look.
        assert re.search(r"\b(bringup|openstack|nothing|start nova-compute|look for|bring its disks)\b", text), text


def test_each_command_that_is_advised_is_there() -> None:
    commands = set(re.findall(r"bringup ([a-z]+) ", " ".join((*BY_ERROR.values(), *BY_KIND.values()))))
    assert {"retry", "release", "history"} <= commands
    for command in commands - {"that"}:
        assert parser().parse_known_args([command] if command != "demo" else [])[0].execute


def test_what_is_deferred_is_advised_by_who_can_meet_it() -> None:
    by_who = {who: advice(Kind.DEFERRED, Did.DEFERRED, "NeedNotMet", {who.value}) or "" for who in MetBy}
    assert "it is checked again" in by_who[MetBy.HOST]
    assert "start nova-compute" in by_who[MetBy.NOVA]
    assert by_who[MetBy.PERSON].startswith("bring what is missing")
    assert advice(Kind.DEFERRED, Did.DEFERRED, "NeedNotMet", {"host", "person"}) == by_who[MetBy.PERSON]
    assert advice(Kind.DEFERRED, Did.DEFERRED, "NeedNotMet") == BY_KIND[Kind.DEFERRED]


def test_what_came_back_well_proves_nothing() -> None:
    for kind in (Kind.INITIALIZED, Kind.SKIPPED):
        assert advice_of(Outcome(uuid=uuid_of(1), kind=kind, because=(), took_s=0)) is None
        warned = Outcome(
            uuid=uuid_of(1), kind=kind, because=(), took_s=0, warnings=(Problem("decide", "TaskStateLeftOver", "x"),)
        )
        assert "openstack server set --state active UUID" in (advice_of(warned) or "")


def test_a_record_set_to_error_by_a_rule_has_advice_and_stands_first_in_history(tmp_path: Path) -> None:
    building = instance(2, vm_state=VmState.BUILDING, task_state=TaskState.SPAWNING)
    computer = a_computer(tmp_path).guests([instance(1)]).records([instance(1), building])

    ran = computer.run()
    history = run("history", "--run", "last", *computer.arguments)
    [counts] = run("history", *computer.arguments).out.splitlines()[1:]

    assert ran.code == 0
    assert f"{uuid_of(2)}  initialized  set to error" in history.out.splitlines()[2]
    assert "to do (1): its build or rebuild was cut short" in history.out
    assert counts.endswith("1 set to error")


def test_the_same_advice_is_reported_once() -> None:
    assert gathered(["a", None, "b", "b"]) == ["to do (2): b", "to do (1): a"]


def test_it_is_reported_wherever_the_outcome_is(tmp_path: Path) -> None:
    fault = Fault(verb="plug_vifs", uuid=uuid_of(1), error="VirtualInterfacePlugError", message="no bridge")
    computer = a_computer(tmp_path).guests([instance(1)], fault).records([instance(1)])
    to_do = "repair the network of this host"

    computer.run()
    history = run("history", "--run", "last", *computer.arguments)
    of_one = run("history", "--instance", uuid_of(1), *computer.arguments)

    assert f"to do (1): {to_do}" in history.out
    assert f"to do: {to_do}" in of_one.out
    assert f"bringup retry {uuid_of(1)}" in of_one.out
