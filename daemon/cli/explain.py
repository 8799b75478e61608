"""``bringup explain``: what a run would do with an instance in a given state.  Reads no settings, calls no service."""

import argparse
import json
import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from bringup.daemon.cli.options import add_json_to, write_json, write_line
from bringup.daemon.errors import UsageError
from bringup.daemon.text import in_plain_words

if TYPE_CHECKING:
    from bringup.daemon.cli.explain_input import Question
    from bringup.daemon.decisions.forecast import Course, Forecast

_LOOKS = "running, paused, shutdown, crashed, suspended, nostate, gone"
_STATES = "JSON lines on standard input, an object for each state: "


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = commands.add_parser(
        "explain",
        help="show what a run would do with an instance in a given state",
        description="Show what a run would do with an instance in a given state, and why.",
        epilog=f"Without --vm-state: {_STATES}vm_state, task_state, power_state, look, second_look, host (own or "
        "other, or a name with own_host), resume, old_vm_state, evacuation, live_migration, id (returned).",
    )
    parser.add_argument("--vm-state", metavar="STATE", help="such as active, stopped, error")
    parser.add_argument("--task-state", metavar="STATE", help="such as rebooting (default: none)")
    parser.add_argument("--power-state", metavar="STATE", help="of the record: a name or Nova's number")
    parser.add_argument(
        "--look", metavar="STATE", help=f"power state of the guest before it is changed: {_LOOKS} (default: each)"
    )
    parser.add_argument("--second-look", metavar="STATE", help="power state of the guest when it is read again")
    parser.add_argument("--old-vm-state", metavar="STATE", help="before an interrupted resize")
    parser.add_argument("--resume", action="store_true", help="start guests that ran before (resume.guests)")
    parser.add_argument("--host-is-other", action="store_true", help="the record names another host")
    parser.add_argument("--evacuation", metavar="STATUS", help="of its evacuation from this host: accepted, done, ...")
    parser.add_argument("--live-migration", action="store_true", help="its live migration from this host was running")
    add_json_to(parser)
    parser.set_defaults(execute=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Explain; return the exit code."""
    if arguments.vm_state is None:
        if sys.stdin.isatty():
            raise UsageError("no state given: use --vm-state, or JSON lines on standard input; see --help")
        return _explain_lines(sys.stdin.buffer, arguments)
    from bringup.daemon.cli.explain_input import NotAState, read_state

    document = _document(arguments)
    try:
        question = read_state(document)
    except NotAState as error:
        raise UsageError("cannot explain this state") from error
    _write(question, document, as_json=arguments.json)
    return os.EX_OK


def _document(arguments: argparse.Namespace) -> dict[str, Any]:
    return {
        "vm_state": arguments.vm_state,
        "task_state": None if arguments.task_state == "none" else arguments.task_state,
        "power_state": arguments.power_state,
        "look": arguments.look,
        "second_look": arguments.second_look,
        "old_vm_state": arguments.old_vm_state,
        "resume": arguments.resume,
        "host": "other" if arguments.host_is_other else "own",
        "evacuation": arguments.evacuation,
        "live_migration": arguments.live_migration,
    }


def _explain_lines(lines: Iterable[bytes], arguments: argparse.Namespace) -> int:
    """Write an answer for each line, also for one with an error."""
    from bringup.daemon.cli.explain_input import NotAState, read_state

    _refuse_options_without_state(arguments)
    code = os.EX_OK
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            document = _parsed(line)
            question = read_state(document)
        except NotAState as error:
            code = os.EX_USAGE
            problem = {"line": number, "error": str(error)}
            if arguments.json:
                write_json(problem)
            else:
                write_line(f"line {number}: {error}")
        else:
            _write(question, document, as_json=arguments.json)
        # The writer of the lines may wait for each answer.
        sys.stdout.flush()
    return code


def _refuse_options_without_state(arguments: argparse.Namespace) -> None:
    given = [name for name, value in _document(arguments).items() if value not in (None, False, "own")]
    if given:
        raise UsageError(f"no state given: use --vm-state beside --{given[0].replace('_', '-')}")
    if sys.stdin.isatty():
        raise UsageError(f"no state given: use --vm-state, or {_STATES}" + '{"vm_state": "active"}')


def _parsed(line: bytes) -> Any:
    from bringup.daemon.cli.explain_input import NotAState

    try:
        return json.loads(line)
    except UnicodeDecodeError as error:
        raise NotAState(f"byte {error.start} is not UTF-8") from error
    except json.JSONDecodeError as error:
        raise NotAState(f"this is not JSON: {error.msg.removesuffix(' at')} at column {error.colno}") from error
    except (ValueError, RecursionError) as error:
        raise NotAState("this is not JSON that can be used: it is nested too deep, or a number is too long") from error


def _write(question: "Question", document: dict[str, Any], *, as_json: bool) -> None:
    forecast = question.forecast()
    if as_json:
        write_json(_answer(forecast) if "id" not in document else {"id": document["id"], **_answer(forecast)})
        return
    from bringup.daemon.decisions.describe import condition, state_word

    instance = question.facts.instance
    states = (instance.vm_state, instance.task_state, instance.power_state)
    write_line("/".join(state_word(state) for state in states))
    for course in forecast.courses:
        when = condition(course, forecast)
        did = " or ".join(dict.fromkeys(in_plain_words(each.value) for each in course.done.values()))
        outcome = f"{course.kind.value}, {did}"
        write_line(f"  {when}: {outcome}" if when else f"  {outcome}")
        _write_course(course)


def _write_course(course: "Course") -> None:
    from bringup.daemon.decisions.describe import words

    for name, why in zip(course.because, course.why, strict=True):
        done = ", ".join(words(step.action) for step in course.steps if step.rule == name)
        write_line(f"    {name}: {done or 'nothing'}")
        write_line(f"      {why}")


def _answer(forecast: "Forecast") -> dict[str, Any]:
    from bringup.daemon.decisions.describe import courses_json, step_json

    certain, look = forecast.certain, forecast.waits_for
    answer: dict[str, Any] = {
        "because": list(forecast.because),
        "why": list(forecast.why),
        "steps": [step_json(step) for step in forecast.steps],
        "ends": certain is not None,
        "kind": None if certain is None else certain.kind.value,
        "did": None if certain is None or certain.did is None else certain.did.value,
        "waits_for_look": None if look is None else look.value,
    }
    return answer if certain is not None else {**answer, "courses": courses_json(forecast)}
