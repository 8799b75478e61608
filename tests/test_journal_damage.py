"""A journal with any page of it damaged, in any way: the guests come back, on this boot and on the next."""

import itertools
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path
from typing import cast

import anyio
import pytest
from structlog.testing import capture_logs

from bringup.daemon.decisions.actions import PlugVifs, ResumeStateOnHostBoot
from bringup.daemon.decisions.outcomes import Kind, Outcome, RunResult
from bringup.daemon.decisions.policies import Guests, ResumePolicy
from bringup.daemon.decisions.resume_policy import Resuming
from bringup.daemon.decisions.rules import Step
from bringup.daemon.decisions.states import PowerState
from bringup.daemon.errors import JournalError
from bringup.daemon.recovery.context import Startup
from bringup.daemon.recovery.init_host import init_host
from bringup.daemon.service.journal_requests import release, retry
from bringup.daemon.status.timeline_of_run import timeline_of
from bringup.daemon.storage.journal import Journal, KeptDisks, NewRun
from bringup.daemon.storage.journal.history import DamagedJournal, History, damage, read
from bringup.daemon.storage.journal.sqlite import SqliteJournal, open_journal
from bringup.drivers.base import Driver
from bringup.drivers.simulated import Scenario, SimulatedDriver
from support import process
from support.computer import a_computer
from support.drivers import uuid_of
from support.hosts import HOST, IN_MEMORY, ArrangedHost, arranged, executor_of, guest, instance, now
from support.process import WITHOUT_ROOTS_RIGHTS, run
from support.programs import needs
from support.surroundings import NOBODY

pytestmark = pytest.mark.anyio

COUNT = 8
PAGE = 4096
RAN = [instance(number) for number in range(1, COUNT + 1)]
RUNS = itertools.count(5100)
OFF = tuple(guest(number, PowerState.SHUTDOWN) for number in range(1, COUNT + 1))
VIFS, RESUME = Step("vifs", PlugVifs()), Step("ran_before", ResumeStateOnHostBoot())


@pytest.fixture
def anyio_backend() -> str:
    """The file is used in a thread, which is the same on both."""
    return "asyncio"


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as folder:
        yield Path(folder)


@asynccontextmanager
async def a_journal(directory: Path, boot: int) -> AsyncIterator[SqliteJournal]:
    path = directory / "journal.sqlite"
    async with open_journal(path, boot_id=uuid_of(boot), keep_runs=50, keep_days=90, now=now) as journal:
        yield journal


async def boots(arranged_host: ArrangedHost, directory: Path, boot: int, guests: Guests) -> tuple[RunResult, int]:
    """Boot the host with all of its guests off, and run; return the result, and how many guests run."""
    driver = SimulatedDriver(Scenario(guests=OFF))
    async with a_journal(directory, boot) as journal:
        host = replace(
            arranged_host.host,
            run_id=uuid_of(next(RUNS)),
            boot_id=uuid_of(boot),
            journal=cast("Journal", journal),
            executor=executor_of(cast("Driver", driver), arranged_host.store),
            resuming=Resuming(ResumePolicy(guests=guests)),
        )

        async def open_host() -> object:
            return host

        start = Startup(
            pass_placement=arranged_host.start.pass_placement,
            open_host=open_host,  # type: ignore[arg-type]  # it is a Host
            observer=arranged_host.progress.observe,
        )
        result = (await init_host(start)).result
    return result, sum(each.power_state is PowerState.RUNNING for each in driver.guests.values())


async def history_of_two_boots(directory: Path, arranged_host: ArrangedHost, *, ended: bool) -> bytes:
    """Run on boots 1 and 2, the last one ended or cut short by the death of the host; return the journal."""
    await boots(arranged_host, directory, 1, "on_every_start")
    if ended:
        await boots(arranged_host, directory, 2, "on_every_start")
    else:
        async with a_journal(directory, 2) as journal:
            run = NewRun(run_id=uuid_of(5002), boot_id=uuid_of(2), host=HOST, began_at=now())
            await journal.begin_run(run)
            for number in range(1, COUNT + 1):
                await journal.began(uuid_of(number), VIFS, ("vifs",))
            for number in range(1, COUNT // 2):
                outcome = Outcome(uuid=uuid_of(number), kind=Kind.INITIALIZED, because=("vifs",), took_s=0.1)
                await journal.settled(outcome)
    return (directory / "journal.sqlite").read_bytes()


def zeroed(content: bytes, page: int) -> bytes:
    return content[: page * PAGE] + bytes(PAGE) + content[(page + 1) * PAGE :]


def noisy(content: bytes, page: int) -> bytes:
    noise = random.Random(page).randbytes(PAGE)  # noqa: S311 - noise
    return content[: page * PAGE] + noise + content[(page + 1) * PAGE :]


def truncated(content: bytes, page: int) -> bytes:
    return content[: page * PAGE + PAGE // 2]


def swapped(content: bytes, page: int) -> bytes:
    """Put the next page in its place, and it in the place of the next."""
    other = (page + 1) % (len(content) // PAGE)
    pages = [content[at : at + PAGE] for at in range(0, len(content), PAGE)]
    pages[page], pages[other] = pages[other], pages[page]
    return b"".join(pages)


@pytest.mark.parametrize("damages", [zeroed, noisy, truncated, swapped], ids=lambda damages: damages.__name__)
@pytest.mark.parametrize("ended", [True, False], ids=["ended", "cut short"])
# The same lines run on every start as on a boot: they are measured once.
@pytest.mark.parametrize("guests", ["on_host_boot", pytest.param("on_every_start", marks=pytest.mark.no_cover)])
async def test_with_any_page_damaged_every_guest_comes_back_on_this_boot_and_the_next(
    directory: Path, damages: Callable[[bytes, int], bytes], *, ended: bool, guests: Guests
) -> None:
    template = directory / "template"
    template.mkdir()
    wrong: list[tuple[int, int, object]] = []
    set_aside = 0
    async with arranged(RAN) as host:
        content = await history_of_two_boots(template, host, ended=ended)
        pages = len(content) // PAGE
        assert pages > 12
        for page in range(pages):
            place = directory / f"page-{page}"
            place.mkdir()
            shutil.copy(template / "boot", place / "boot")
            (place / "journal.sqlite").write_bytes(damages(content, page))
            for boot in (3, 4):
                result, running = await boots(host, place, boot, guests)
                kinds = {outcome.kind for outcome in result.outcomes}
                if running != COUNT or kinds != {Kind.INITIALIZED}:
                    wrong.append((boot, page, (running, kinds)))
            set_aside += len(list(place.glob("journal.sqlite.corrupt-*Z")))
            # What is there now is whole.
            if damage(place / "journal.sqlite") is not None:
                wrong.append((0, page, damage(place / "journal.sqlite")))
    assert wrong == []
    assert set_aside >= pages // 2


def with_byte(at: int, value: int) -> Callable[[bytes], bytes]:
    return lambda content: content[:at] + bytes([value]) + content[at + 1 :]


def with_indexes_swapped(content: bytes) -> bytes:
    """Swap the pages of two indexes, each whole and in order: only the tables say that they are another's."""
    with closing(sqlite3.connect(":memory:")) as database:
        database.deserialize(with_byte(18, 1)(with_byte(19, 1)(content)))
        query = "SELECT rootpage FROM sqlite_master WHERE name IN ('sqlite_autoindex_boots_1', 'instances_uuid')"
        first, second = (number - 1 for (number,) in database.execute(query))
    pages = [content[at : at + PAGE] for at in range(0, len(content), PAGE)]
    pages[first], pages[second] = pages[second], pages[first]
    return b"".join(pages)


LITTLE = {
    "that it is never written": with_byte(18, 3),
    "a version that nobody writes": with_byte(60, 1),
    "a version below 0": with_byte(60, 255),
    "indexes that are each other's": with_indexes_swapped,
}


@pytest.mark.parametrize("spoils", LITTLE.values(), ids=LITTLE)
@pytest.mark.parametrize("guests", ["on_host_boot", "on_every_start"])
async def test_damage_that_sqlite_does_not_detect_is_set_aside_too(
    directory: Path, spoils: Callable[[bytes], bytes], guests: Guests
) -> None:
    path = directory / "journal.sqlite"
    async with arranged(RAN) as host:
        path.write_bytes(spoils(await history_of_two_boots(directory, host, ended=True)))
        assert damage(path) is not None
        for boot in (3, 4):
            result, running = await boots(host, directory, boot, guests)
            assert (running, {outcome.kind for outcome in result.outcomes}) == (COUNT, {Kind.INITIALIZED})
    assert damage(path) is None


WRITES_AND_GOES = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1])
database.execute("UPDATE boots SET last_seen = last_seen")
database.commit()
print(*database.execute("SELECT count(*) FROM instances WHERE kind IS NOT NULL").fetchone())
database.close()
"""
"""As ``bringup retry`` beside a daemon."""


@pytest.mark.parametrize("asks", ["release", "retry"])
async def test_readers_of_the_journal_do_not_disturb_the_daemons_file(directory: Path, asks: str) -> None:
    path = directory / "journal.sqlite"

    async def another() -> str:
        command = [sys.executable, "-I", "-c", WRITES_AND_GOES, str(path)]
        return (await anyio.run_process(command)).stdout.decode().strip()

    async with a_journal(directory, 1) as journal:
        await journal.begin_run(NewRun(run_id=uuid_of(5001), boot_id=uuid_of(1), host=HOST, began_at=now()))
        for number in range(1, 4):
            # In the process that has it open: what the status socket is asked for.
            done = await (release(path, []) if asks == "release" else retry(path, uuid_of(1), []))
            assert len(done) == (number - 1 if asks == "release" else 0)
            assert await another() == str(number - 1)
            await journal.settled(Outcome(uuid=uuid_of(number), kind=Kind.HELD, because=("vifs",), took_s=0.1))
    assert await another() == "3"


async def test_damage_detected_during_a_run_sets_the_file_aside_and_the_run_continues(
    directory: Path,
) -> None:
    path = directory / "journal.sqlite"
    async with a_journal(directory, 1) as journal:
        run = NewRun(run_id=uuid_of(5001), boot_id=uuid_of(1), host=HOST, began_at=now())
        past = await journal.begin_run(run)
        await journal.began(uuid_of(1), VIFS, ("vifs",))
        journal.database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        spoiled = path.read_bytes()
        with path.open("r+b") as file:
            file.write(spoiled[:100] + b"\xff" * (len(spoiled) - 100))
        journal.database.execute("PRAGMA shrink_memory")

        with capture_logs() as logs:
            for number in range(1, COUNT + 1):
                await journal.began(uuid_of(number), RESUME, ("vifs",))
                await journal.settled(
                    Outcome(uuid=uuid_of(number), kind=Kind.INITIALIZED, because=("vifs",), took_s=0.1)
                )
            kept = KeptDisks(uuid=uuid_of(1), where=("/a",), kept_at=now(), until=now())
            await journal.kept(kept)
            assert await journal.kept_disks() == [kept]
        assert [each["event"] for each in logs] == ["journal.set_aside"]
    with read(path) as history:
        assert history is not None
        found = history.run("last")
        assert found is not None
        assert (found["run_id"], found["attempt"], found["state"]) == (past.run_id, 1, "running")
        assert len(history.instances_of(past.run_id)) == COUNT
    # What was done on this boot before is not known any more.
    async with a_journal(directory, 1) as journal:
        assert (await journal.begin_run(run)).memory_lost


def spoil(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA ignore_check_constraints = 1")
        database.execute(statement)
        database.commit()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE instances SET outcome = 'no json' WHERE outcome IS NOT NULL",
        "UPDATE instances SET outcome = '{}' WHERE outcome IS NOT NULL",
        "UPDATE instances SET outcome = '[' || replace(printf('%.100000c', '['), ' ', '[') WHERE outcome IS NOT NULL",
        "UPDATE instances SET outcome = cast(x'ff80' AS TEXT) WHERE outcome IS NOT NULL",
        "UPDATE instances SET because = x'ff80'",
        "UPDATE boots SET last_seen = 'yesterday'",
        "UPDATE boots SET first_seen = 7",
        "UPDATE runs SET boot = 77",
        "UPDATE runs SET began_at = x'00'",
        "INSERT INTO kept_disks VALUES ('u', 'no json', '2026-01-01', '2026-01-01')",
        "INSERT INTO kept_disks VALUES ('u', '[]', 'then', '2026-01-01')",
        "INSERT INTO releases (uuid, at, after_run) VALUES (x'ff', '2026-01-01', 1)",
        "DROP TABLE actions",
        "CREATE TRIGGER theirs BEFORE INSERT ON runs BEGIN SELECT raise(ABORT, 'no'); END",
        "DROP TABLE runs",
    ],
)
async def test_a_row_with_invalid_content_sets_the_file_aside(directory: Path, statement: str) -> None:
    async with arranged(RAN) as host:
        await history_of_two_boots(directory, host, ended=False)
        spoil(directory / "journal.sqlite", statement)
        # The interrupted run continues on the same boot: its rows are read.
        result, running = await boots(host, directory, 3, "on_every_start")
    assert (running, {outcome.kind for outcome in result.outcomes}) == (COUNT, {Kind.INITIALIZED})


def a_link_to(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


NO_FILES: dict[str, tuple[str, Callable[[Path], None]]] = {
    **{f"a directory{suffix}": (suffix, Path.mkdir) for suffix in ("", "-wal", "-shm", "-journal")},
    **{f"a FIFO{suffix}": (suffix, os.mkfifo) for suffix in ("", "-wal", "-shm", "-journal")},
    "a link to nothing": ("", a_link_to("/nonexistent/journal.sqlite")),
    "a link to itself": ("", a_link_to("journal.sqlite")),
    "a device": ("", a_link_to("/dev/zero")),
}


@pytest.mark.parametrize("name", NO_FILES)
async def test_a_journal_that_is_no_regular_file_is_set_aside_without_blocking(directory: Path, name: str) -> None:
    suffix, makes = NO_FILES[name]
    path = directory / "journal.sqlite"
    place = path.with_name(path.name + suffix)
    async with arranged(RAN) as host:
        await boots(host, directory, 1, "on_host_boot")
        place.unlink(missing_ok=True)
        makes(place)
        assert damage(path) is not None
        with pytest.raises(DamagedJournal), read(path):
            pass
        for boot in (3, 4):
            result, running = await boots(host, directory, boot, "on_host_boot")
            assert (running, {outcome.kind for outcome in result.outcomes}) == (COUNT, {Kind.INITIALIZED})
    assert damage(path) is None
    assert len([each for each in directory.iterdir() if ".corrupt-" in each.name and each.name.endswith("Z")]) <= 1


@pytest.mark.parametrize(
    "spoils", [Path.mkdir, os.mkfifo, Path.touch, a_link_to("/x/boot")], ids=["folder", "FIFO", "empty file", "link"]
)
@pytest.mark.parametrize("name", ["boot", ".boot"])
async def test_a_mark_without_a_boot_is_not_attributed_to_another_boot(
    directory: Path, name: str, spoils: Callable[[Path], None]
) -> None:
    async with arranged(RAN) as host:
        await boots(host, directory, 1, "on_host_boot")
        (directory / name).unlink(missing_ok=True)
        spoils(directory / name)
        (directory / "journal.sqlite").write_bytes(b"x" * 9000)

        # What was done on this boot is not known: nothing is started, and the next boot is as any other.
        for boot, running in ((1, 0), (2, COUNT)):
            assert (await boots(host, directory, boot, "on_host_boot"))[1] == running
    assert (directory / "boot").read_text() == f"{uuid_of(2)}\n"


async def test_without_the_journal_of_this_boot_a_guest_is_neither_started_nor_counted_as_back(
    directory: Path,
) -> None:
    async with arranged(RAN) as host:
        await boots(host, directory, 1, "on_host_boot")
        (directory / "journal.sqlite").write_bytes(b"x" * 9000)

        result, running = await boots(host, directory, 1, "on_host_boot")

        assert running == 0
        assert {outcome.kind for outcome in result.outcomes} == {Kind.DEFERRED}
        said = [outcome.problem.message for outcome in result.outcomes if outcome.problem is not None]
        assert len([text for text in said if "bringup retry" in text]) == COUNT
        # A retry by an operator is enough.
        async with a_journal(directory, 1) as journal:
            await journal.retry([uuid_of(1)], at=now())
        result, running = await boots(host, directory, 1, "on_host_boot")
        assert running == 1


async def test_a_request_of_an_operator_leaves_a_damaged_file_to_the_daemon(directory: Path) -> None:
    path = directory / "journal.sqlite"
    path.write_bytes(b"x" * 9000)
    journal = SqliteJournal(path, boot_id="", keep_runs=1, keep_days=1, now=now)
    with pytest.raises(JournalError):
        await journal.release([uuid_of(1)], at=now())
    await journal.close()
    assert [each.name for each in directory.iterdir()] == ["journal.sqlite"]
    with pytest.raises(DamagedJournal), read(path):
        pass
    assert "not a database" in str(damage(path))


async def test_a_uuid_that_cannot_be_stored_does_not_fail_others_in_its_commit(directory: Path) -> None:
    async with a_journal(directory, 1) as journal:
        await journal.begin_run(NewRun(run_id=uuid_of(1), boot_id=uuid_of(1), host=HOST, began_at=now()))
        await journal.began("\ud800", VIFS, ("vifs\udfff",))
        journal.ended("\ud800", VIFS, ValueError("\udc80"))
        await journal.settled(Outcome(uuid="\ud800", kind=Kind.FAILED, because=("vifs",), took_s=0.1))
    with read(directory / "journal.sqlite") as history:
        assert history is not None
        [row] = history.instances_of(uuid_of(1))
        assert (row["uuid"], row["kind"]) == ("\\ud800", "failed")


def looks(history: History) -> Iterator[Callable[[], object]]:
    """Yield every query of a journal."""
    yield lambda: history.runs(20)
    yield lambda: history.run("last")
    yield lambda: history.run(uuid_of(5002)[:4])
    yield lambda: history.instances_of(uuid_of(5002))
    yield lambda: history.instance(uuid_of(1))
    yield lambda: timeline_of(history, "last")
    yield history.kept_disks
    yield lambda: history.past(uuid_of(2), HOST, now())
    yield lambda: history.not_back(uuid_of(2))
    yield history.held
    yield lambda: history.last_with(Kind.FAILED)
    yield lambda: history.failures(uuid_of(2))


@pytest.mark.parametrize("damages", [zeroed, noisy, truncated, swapped], ids=lambda damages: damages.__name__)
async def test_reading_a_damaged_journal_gives_rows_or_a_sentence(
    directory: Path, damages: Callable[[bytes, int], bytes]
) -> None:
    path = directory / "spoiled.sqlite"
    said: list[str] = []
    async with arranged(RAN) as host:
        content = await history_of_two_boots(directory, host, ended=False)
    for page in range(len(content) // PAGE):
        path.write_bytes(damages(content, page))
        for number in range(12):
            try:
                with read(path) as history:
                    if history is not None:
                        list(looks(history))[number]()
            except DamagedJournal as error:
                said.append(str(error))
    assert len(said) > 12
    assert set(said) == {f"cannot read the journal {path}; it is damaged; the next start sets it aside"}


def test_history_plot_check_and_plan_report_a_damaged_journal(directory: Path) -> None:
    computer = a_computer(directory).guests(RAN).records(RAN)
    assert computer.run().code == 0
    path = computer.state / "journal.sqlite"
    content = path.read_bytes()
    path.write_bytes(content[:PAGE] + bytes(len(content) - PAGE))

    for command in ("history", "plot"):
        ended = run(command, *computer.arguments)
        assert (ended.code, ended.out) == (77, "")
        assert ended.err.startswith(f"bringup: cannot read the journal {path}; it is damaged; the next start sets it")
    checked = run("check", *computer.arguments)
    assert "the next start moves it aside and uses the records alone" in checked.out
    planned = run("plan", *computer.arguments)
    assert (planned.code, "so does this plan" in planned.err) == (0, True)
    assert computer.run().code == 0
    assert run("history", *computer.arguments).code == 0


def test_a_journal_with_a_lost_sector_is_set_aside(directory: Path) -> None:
    needs("gcc")
    library = directory / "bad_sector.so"
    source = Path(process.__file__).with_name("bad_sector.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-Wall", "-Werror", "-o", library, source, "-ldl"], check=True)  # noqa: S607 - wherever it is
    computer = a_computer(directory).guests(RAN).records(RAN)
    assert computer.run().code == 0
    path = computer.state / "journal.sqlite"
    lost = {"LD_PRELOAD": str(library), "BAD_SECTOR": f"{path.stat().st_ino}:0"}

    ended = computer.run(env={**process.ENVIRONMENT, **lost})

    assert ended.code == 0
    assert len(ended.named("journal.set_aside")) == 1
    assert set(ended.outcomes.values()) == {"initialized"}
    assert run("history", *computer.arguments).code == 0


def test_a_journal_of_another_user_is_set_aside_and_one_of_a_newer_version_is_refused_by_check_too(
    directory: Path,
) -> None:
    computer = a_computer(directory).guests(RAN).records(RAN)
    assert computer.run().code == 0
    path = computer.state / "journal.sqlite"
    path.chmod(0)
    if os.geteuid() == 0:
        os.chown(path, NOBODY, NOBODY)

    ended = computer.run(within=WITHOUT_ROOTS_RIGHTS if os.geteuid() == 0 else None)

    [set_aside] = ended.named("journal.set_aside")
    assert "may not read and write" in set_aside["error"]
    assert set(ended.outcomes.values()) == {"initialized"}
    assert path.stat().st_uid == os.geteuid()

    spoil(path, "PRAGMA user_version = 9")
    for command in (("check",), ("run", "--once")):
        ended = run(*command, *computer.arguments)
        assert ended.code == 77
        assert (
            "its version is 9, this version of bringup knows 1; run the version that wrote it" in ended.out + ended.err
        )
