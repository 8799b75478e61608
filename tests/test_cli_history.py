"""What ``bringup history`` shows a person."""

from pathlib import Path

import anyio
import pytest

from bringup.daemon.decisions.actions import DestroyEvacuated, PlugVifs
from bringup.daemon.decisions.outcomes import Did, Kind, Outcome, Problem, RunResult
from bringup.daemon.decisions.rules import Step
from bringup.daemon.storage.journal import KeptDisks, NewRun
from bringup.daemon.storage.journal.sqlite import open_journal
from support.command_lines import Site
from support.hosts import HOST, instance, now
from support.records import uuid_of

RUN = "6f1b7c0e-8d5e-4f3a-9c1d-0a2b3c4d5e6f"


@pytest.fixture
def site(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Site:
    return Site(tmp_path, capsys)


def has_run(site: Site) -> None:
    """Write a journal with one run: one instance failed, one is in flight."""

    async def write() -> None:
        site.store.parent.mkdir(exist_ok=True)
        path = site.store.parent / "journal.sqlite"
        failed = Outcome(
            uuid=uuid_of(1),
            kind=Kind.FAILED,
            because=("vifs",),
            took_s=1.25,
            name="web",
            project_id="8c3a",
            did=Did.UNKNOWN,
            problem=Problem("plug_vifs", "VirtualInterfacePlugError", "port binding\nfailed"),
            instance=instance(1),
        )
        async with open_journal(path, boot_id=uuid_of(8), keep_runs=9, keep_days=9, now=now) as journal:
            await journal.begin_run(NewRun(run_id=RUN, boot_id=uuid_of(8), host=HOST, began_at=now()))
            await journal.began(uuid_of(1), Step("vifs", PlugVifs()), ("vifs",))
            journal.ended(uuid_of(1), Step("vifs", PlugVifs()), RuntimeError("no port"))
            await journal.settled(failed)
            await journal.began(uuid_of(2), Step("evacuated", DestroyEvacuated()), ("evacuated",))
            await journal.kept(KeptDisks(uuid=uuid_of(2), where=("/kept/2",), kept_at=now(), until=now()))
            result = RunResult(
                run_id=RUN,
                boot_id=uuid_of(8),
                host=HOST,
                outcomes=(failed,),
                unfinished=(uuid_of(2),),
                took_s=3.0,
            )
            await journal.end_run(result, delivery=None)

    anyio.run(write)


def test_history_without_runs(site: Site) -> None:
    ended = site.run("history", *site.settings())
    assert (ended.code, ended.lines[0].startswith("no run yet")) == (0, True)
    assert site.run("history", "--json", *site.settings()).out == ""


def test_runs_have_a_line_each(site: Site) -> None:
    has_run(site)
    ended = site.run("history", *site.settings())
    expected = "6f1b7c0e 2026-01-01T00:00:00 3.0 s 1 stopped 1 unknown 1 failed"
    assert ended.lines[1].split() == expected.split()


@pytest.mark.parametrize("which", ["last", RUN, RUN[:6]])
def test_run_lists_urgent_instances_first_without_control_characters(site: Site, which: str) -> None:
    has_run(site)
    ended = site.run("history", "--run", which, *site.settings())
    assert RUN in ended.lines[0]
    assert ended.lines[2].split()[:3] == ["web", uuid_of(1), "failed"]
    assert ended.lines[3].split()[:2] == [uuid_of(2), "unsettled"]
    assert [line.startswith("to do (1): ") for line in ended.lines[4:]] == [True]
    assert "port binding\\nfailed" in ended.lines[2]


def test_an_instance_has_its_actions(site: Site) -> None:
    has_run(site)
    first = site.run("history", "--instance", uuid_of(1), *site.settings())
    assert first.lines[0] == f"instance web ({uuid_of(1)}), project 8c3a"
    assert "no port" in first.lines[3]
    second = site.run("history", "--instance", uuid_of(2).upper(), *site.settings())
    assert second.lines[0] == f"instance {uuid_of(2)}"
    assert "in flight" in second.lines[3]


def test_kept_disks_are_listed_with_their_place(site: Site) -> None:
    has_run(site)
    ended = site.run("history", "--kept", *site.settings())
    assert ended.lines[1].split() == [uuid_of(2), "2026-01-01T00:00:00", "/kept/2"]


@pytest.mark.parametrize(
    "arguments",
    [("--run", "nothing"), ("--run", ""), ("--instance", "x"), ("--instance", uuid_of(9)), ("--limit", "0")],
)
def test_unknown_run_or_instance_is_a_usage_error(site: Site, arguments: tuple[str, str]) -> None:
    has_run(site)
    try:
        code = site.run("history", *arguments, *site.settings()).code
    except SystemExit as error:
        code = int(str(error.code))
    # An empty prefix is the beginning of every id, and there is one run.
    assert code == (0 if arguments == ("--run", "") else 64)
