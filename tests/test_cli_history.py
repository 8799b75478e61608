"""What ``bringup history`` shows a person."""

import os
from pathlib import Path

import anyio
import pytest

from bringup.daemon.decisions.actions import DestroyEvacuated, PlugVifs
from bringup.daemon.decisions.outcomes import Did, Kind, Outcome, Problem, RunResult
from bringup.daemon.decisions.readiness import Readiness, ReadyBy
from bringup.daemon.decisions.rules import Step
from bringup.daemon.decisions.verdicts import GuestVerdict
from bringup.daemon.storage.journal import KeptDisks, NewRun, Past
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


SECOND = "7a2c8d1f-9e6a-4b4c-8d2e-1b3c4d5e6f70"


def started(number: int, name: str) -> Outcome:
    return Outcome(
        uuid=uuid_of(number),
        kind=Kind.INITIALIZED,
        because=("resume",),
        took_s=1.0,
        name=name,
        did=Did.STARTED,
        instance=instance(number),
    )


def readiness(at_s: float, by: ReadyBy | None = "agent", queued_s: float = 0.0) -> Readiness:
    return Readiness(by=by, at_s=at_s, queued_s=queued_s, start_s=1.0, boot_s=at_s - 1.0 - queued_s)


def has_booted(site: Site) -> None:
    """Write a journal with two runs on two boots; the second guest was later in the second of them."""

    async def write() -> None:
        site.store.parent.mkdir(exist_ok=True)
        path = site.store.parent / "journal.sqlite"
        outcomes = (started(1, "web"), started(2, "db"), started(3, "mute"))
        runs = ((RUN, 8, (4.0, 6.0)), (SECOND, 9, (4.0, 30.0)))
        for run_id, boot, times in runs:
            async with open_journal(path, boot_id=uuid_of(boot), keep_runs=9, keep_days=9, now=now) as journal:
                new = NewRun(run_id=run_id, boot_id=uuid_of(boot), host=HOST, began_at=now())
                await journal.begin_run(new)
                for outcome in outcomes:
                    await journal.settled(outcome)
                await journal.ready(uuid_of(1), readiness(times[0]))
                await journal.ready(uuid_of(2), readiness(times[1], queued_s=times[1] - 4.0))
                await journal.ready(uuid_of(3), readiness(60.0, by=None))
                await journal.verified(uuid_of(1), GuestVerdict("reachable"))
                await journal.verified(uuid_of(3), GuestVerdict("broken", "disk vda: I/O error"))
                result = RunResult(
                    run_id=run_id, boot_id=uuid_of(boot), host=HOST, outcomes=outcomes, unfinished=(), took_s=3.0
                )
                await journal.end_run(result, delivery=None)

    anyio.run(write)


def test_a_run_shows_when_its_guests_were_ready(site: Site) -> None:
    has_booted(site)
    ended = site.run("history", "--run", "last", *site.settings())
    run, web, *_ = site.run("history", "--run", RUN, "--json", *site.settings()).documents

    assert ended.lines[1] == "ready: 2 of 3 ready, the first after 4.0 s, half after 30 s, 1 not known to be ready"
    assert "30 s (agent; waited for a slot)" in ended.out
    assert "not seen in 59 s" in ended.out
    assert run["ready"] == {"started": 3, "ready": 2, "not_ready": 1, "first_s": 4.0, "half_s": 6.0, "all_s": None}
    assert (web["ready"]["by"], web["ready"]["at_s"], web["ready"]["cost"]) == ("agent", 4.0, "boot")


def test_a_run_shows_which_of_its_guests_were_reachable(site: Site) -> None:
    has_booted(site)
    ended = site.run("history", "--run", "last", *site.settings())
    run, web, db, mute = site.run("history", "--run", RUN, "--json", *site.settings()).documents

    assert ended.lines[2] == "after their boot: 1 reachable, 1 broken"
    assert "broken: disk vda: I/O error" in ended.out
    assert run["verdicts"] == {"reachable": 1, "silent": 0, "broken": 1}
    assert [each["verdict"] for each in (web, db, mute)] == [
        {"word": "reachable", "why": ""},
        None,
        {"word": "broken", "why": "disk vda: I/O error"},
    ]


def test_two_runs_are_compared_by_when_their_guests_were_ready(site: Site) -> None:
    has_booted(site)
    ended = site.run("history", "--compare", RUN[:6], "last", *site.settings())
    document = site.run("history", "--compare", RUN, SECOND, "--json", *site.settings()).documents[0]

    assert [" ".join(line.split()) for line in ended.lines] == [
        "6f1b7c0e 7a2c8d1f later",
        "began (UTC) 2026-01-01T00:00 2026-01-01T00:00",
        "guests started 3 3",
        "ready 2 2",
        "not known to be ready 1 1",
        "first ready after 4.0 s 4.0 s +0 ms",
        "half ready after 6.0 s 30 s +24 s",
        "all ready after - -",
        "db 6.0 s 30 s +24 s, waited for a slot",
    ]
    assert [(each["name"], each["later_s"]) for each in document["instances"]] == [
        ("db", 24.0),
        ("web", 0.0),
        ("mute", 0.0),
    ]
    assert [run["ready"]["half_s"] for run in document["runs"]] == [6.0, 30.0]


def test_a_run_that_is_not_there_is_not_compared(site: Site) -> None:
    has_booted(site)
    ended = site.run("history", "--compare", RUN, "ffff", *site.settings())

    assert ended.code == os.EX_USAGE
    assert "--compare ffff: no run, or more than one, has this id" in ended.err


def test_the_next_boot_knows_how_long_guests_took_from_their_slots(site: Site) -> None:
    has_booted(site)

    async def past(boot: int) -> Past:
        path = site.store.parent / "journal.sqlite"
        async with open_journal(path, boot_id=uuid_of(boot), keep_runs=9, keep_days=9, now=now) as journal:
            new = NewRun(run_id=uuid_of(77), boot_id=uuid_of(boot), host=HOST, began_at=now())
            return await journal.begin_run(new)

    assert anyio.run(past, 10).took_s == {uuid_of(1): 4.0, uuid_of(2): 4.0}
