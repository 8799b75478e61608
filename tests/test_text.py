"""Text of others stays text: no command obeys it on a terminal, and none lets it forge a line."""

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from bringup.daemon.decisions.outcomes import Kind, Outcome, Problem, RunResult
from bringup.daemon.decisions.run_events import PhaseBegan
from bringup.daemon.decisions.states import UnknownState
from bringup.daemon.errors import Refused, SettingsError, StoreError, UsageError, chain_of
from bringup.daemon.status.console import render
from bringup.daemon.status.progress import Progress
from bringup.daemon.status.terminal import Terminal, live_view, summary, words
from bringup.daemon.text import one_line_of_json, printable, without_login
from bringup.drivers.simulated import Fault
from bringup.placement.error_body import parse_error_body
from support.computer import Computer, a_computer
from support.process import run
from support.records import instance, uuid_of

FORGED = "all is ready"
EVIL = f"\x1b]0;title\x07\x1b[2J\x9b31m\u202e\r\n{FORGED}\n\u2028{FORGED}\x85\x00"
"""An escape sequence of each kind, C1, a bidirectional control, and line breaks that a terminal or a reader knows."""
SHORT = f"\x1b[2J\u202e\n{FORGED}\n"


def is_clean(text: str) -> bool:
    """Check whether a terminal shows all of it, and no line of it is another's."""
    return all(char.isprintable() or char == "\n" for char in text) and FORGED not in text.split("\n")


@given(st.text(alphabet=st.characters(codec=None)))
def test_what_is_printable_is_in_one_line_and_what_was_so_already_is_left_as_it_is(text: str) -> None:
    assert printable(text).isprintable()
    if text.isprintable():
        assert printable(text) == text


@given(st.dictionaries(st.text(), st.text()))
def test_json_in_one_line_is_read_back_as_it_was(facts: dict[str, str]) -> None:
    line = one_line_of_json(facts)
    assert line.isprintable()
    assert json.loads(line) == facts


def test_our_own_lines_stay_lines_and_those_of_others_do_not_become_any() -> None:
    error = SettingsError([f"a.b = {EVIL}: wrong", "c.d is missing"])
    error.__cause__ = StoreError(EVIL)

    first, second = str(error).split("\n")

    assert second == "c.d is missing"
    assert is_clean(first)
    assert is_clean(chain_of(error))
    assert is_clean(str(UsageError(EVIL, EVIL)) + str(Refused(EVIL)))


def drawn(*things: Any) -> str:
    file = io.StringIO()
    console = Console(file=file, width=400, color_system=None, legacy_windows=False)
    for thing in things:
        console.print(thing)
    Terminal(console).say(EVIL)
    return file.getvalue()


def test_what_is_drawn_of_a_run_is_clean() -> None:
    problem = Problem(EVIL, EVIL, EVIL)
    outcomes = tuple(
        Outcome(uuid=EVIL, kind=kind, because=(EVIL,), took_s=1, problem=problem, warnings=(problem,)) for kind in Kind
    )
    result = RunResult(
        run_id=EVIL, boot_id=EVIL, host=EVIL, outcomes=outcomes, unfinished=(EVIL,), took_s=1, error=EVIL
    )
    assert is_clean(drawn(summary(result), words(EVIL)))


@pytest.mark.parametrize("state", ["initializing", "ready", "failed", EVIL])
def test_what_is_drawn_of_an_answer_of_the_daemon_is_clean(state: str) -> None:
    entry = {
        "uuid": EVIL,
        "name": EVIL,
        "outcome": "failed",
        "because": [EVIL],
        "action": EVIL,
        "error": EVIL,
        "message": EVIL,
    }
    answer = {
        "host": EVIL,
        "state": state,
        "reason": EVIL,
        "phase": EVIL,
        "detail": EVIL,
        "phase_s": 1.0,
        "percent": 5,
        "counts_text": EVIL,
        "run": {"total": 2, "done": 1, "waiting": 1, "eta_s": 1.0},
        "counts": {},
        "running": [{"uuid": EVIL, "name": EVIL, "action": EVIL, "action_age_s": 1.0}],
        "failures": [entry, {**entry, "message": None}],
        "warnings": [entry],
        "omitted": 0,
        "deferred": {"waiting": 1, "next_check_s": 1.0},
        "reports": {"waiting": 1, "oldest_s": None},
    }
    assert is_clean(drawn(render(answer)))


def test_the_id_of_a_request_is_bounded_and_printable() -> None:
    problem = parse_error_body(json.dumps({"errors": [{"detail": EVIL, "request_id": EVIL * 100}]}).encode())
    assert problem.request_id is not None
    assert re.fullmatch(r"[0-9A-Za-z-]{1,64}", problem.request_id)
    cleaned = parse_error_body(json.dumps({"errors": [{"detail": EVIL, "request_id": "req-1"}]}).encode())
    assert (cleaned.request_id, is_clean(cleaned.words)) == ("req-1", True)


@pytest.fixture
def computer(tmp_path: Path) -> Computer:
    strange = instance(1, vm_state=UnknownState(SHORT), task_state=UnknownState(SHORT), name=SHORT, node=SHORT)
    broken, fault = (
        instance(2, display_name=SHORT),
        Fault(verb="plug_vifs", uuid=uuid_of(2), error="VirtualInterfacePlugError", message=EVIL),
    )
    elsewhere = instance(3, host=SHORT)
    return a_computer(tmp_path).guests([broken], fault).records([strange, broken, elsewhere])


def test_no_command_lets_a_text_of_others_out(computer: Computer, tmp_path: Path) -> None:
    said = [
        run("plan", *computer.arguments),
        run("plan", "--json", *computer.arguments),
        run("check", *computer.arguments),
        computer.once(),
        computer.run(),
        *(
            run("history", *arguments, *computer.arguments)
            for more in ((), ("--json",))
            for arguments in (more, ("--run", "last", *more), ("--instance", uuid_of(2), *more))
        ),
        run("history", "--run", SHORT, *computer.arguments),
        run("plot", "--run", SHORT, *computer.arguments),
        run("release", SHORT, *computer.arguments),
        run("status", "-s", f"status.socket={tmp_path}/{SHORT}", *computer.arguments),
        run("status", SHORT),
        run("check", "-s", f"host.name={SHORT}", "-s", f"{SHORT}.x=1", *computer.arguments),
        run("check", "-c", f"{tmp_path}/{SHORT}"),
    ]
    assert [ended for ended in said if not is_clean(ended.out + ended.err)] == []
    assert sum(len(ended.out + ended.err) for ended in said) > 4000


FILES = {
    "an unknown field": {"format": "bringup.records/1", SHORT: 1},
    "a field of a record": {"format": "bringup.records/1", "instances": [{"uuid": uuid_of(1), SHORT: 1}]},
    "a state": {"servers": [{"id": SHORT, "OS-EXT-STS:vm_state": SHORT, "OS-EXT-SRV-ATTR:host": 1}]},
    "another document": {SHORT: SHORT},
    "an answer": {"forbidden": {"code": 403, "message": EVIL}},
}


@pytest.mark.parametrize("document", FILES.values(), ids=FILES.keys())
def test_no_file_of_records_gets_out(tmp_path: Path, document: dict[str, Any]) -> None:
    file = tmp_path / f"records{SHORT.replace('/', '')}.json"
    file.write_text(json.dumps(document))
    state = ("-s", f"host.state_directory={tmp_path}/state")

    ended = run("import", str(file), *state)

    assert ended.code == 64
    assert is_clean(ended.out + ended.err)


def test_no_nova_conf_gets_out(tmp_path: Path) -> None:
    evil = SHORT.replace("\n", " ")
    (tmp_path / "compute_id").write_text(uuid_of(1))
    conf = tmp_path / "nova.conf"
    placement = "[placement]\nauth_url = http://k:5000\nusername = n\npassword = s\nproject_name = p\n"
    conf.write_text(
        f"[DEFAULT]\nstate_path = {tmp_path}\ntransport_url = rabbit://n:p@h/\ncompute_driver = {evil}\n{placement}"
    )
    ended = run("from-nova-conf", str(conf))
    assert (ended.code, is_clean(ended.out + ended.err)) == (0, True)
    wrong = run("from-nova-conf", f"{tmp_path}/{SHORT}")
    assert (wrong.code, is_clean(wrong.err)) == (78, True)


def test_the_live_view_is_clean() -> None:
    progress = Progress()
    progress.observe(PhaseBegan(EVIL, EVIL))
    assert is_clean(drawn(live_view(progress.snapshot())))


@pytest.mark.parametrize(
    "text",
    [
        "admin:s3cr3t@controller:1",
        "http:/admin:s3cr3t@controller",
        "http:\\\\admin:s3cr3t@controller",
        "http%3A%2F%2Fadmin%3As3cr3t%40controller",
        "http://admin:s3cr3t\uff20controller",
        "http://controller/?a=1&token=s3cr3t",
        "http://controller/#s3cr3t",
        "postgresql://h/d?user=u&password=s3cr3t",
        "postgresql://user@host/d?sslpassword=s3cr3t",
        "host=h user=u password='s3cr3t s3cr3t'",
        'pw="s3cr3t"',
        '{"tokens": ["s3cr3t"]}',
    ],
)
def test_a_value_is_shown_without_what_may_be_a_secret_however_it_is_written(text: str) -> None:
    assert "s3cr3t" not in without_login(text)
    assert "s3cr3t" not in without_login(json.dumps({"url": text}, ensure_ascii=False))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("part", ["//", "a: ", "@", "pass", "password=", 'pw="', "//#"])
def test_what_may_be_secret_is_looked_for_in_time_that_grows_as_the_text(part: str) -> None:
    # With the square of it a value of a megabyte would take hours.
    assert without_login(part * (1_000_000 // len(part)))


@pytest.mark.parametrize(
    "text", ["http://auth:5000/v3/auth/tokens", "qemu:///system", "sqlite:////var/lib/x", "a@b", "12:30 x", ""]
)
def test_a_value_without_a_secret_is_shown_as_it_is(text: str) -> None:
    assert without_login(text) == text
