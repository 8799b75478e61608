import json
import os
import resource
import stat
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from bringup.daemon.errors import chain_of
from bringup.daemon.storage.outbox.report import Report
from bringup.daemon.storage.outbox.spool import OutboxError, Spool
from support.drivers import uuid_of
from support.scheduler import a_report, an_outcome, ids, reports


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "outbox"


def ids_in(spool: Spool) -> list[str]:
    found = [spool.read(path) for path in spool.waiting()]
    return [report["report_id"] for report in found if report is not None]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_report_is_read_as_it_was_written(directory: Path) -> None:
    spool = Spool(directory)
    report = a_report(an_outcome())
    spool.write(report)
    (path,) = spool.waiting()
    assert spool.read(path) == report
    assert report["report_id"] in path.name


def test_report_files_are_private(directory: Path) -> None:
    before = os.umask(0)
    try:
        Spool(directory).write(a_report())
    finally:
        os.umask(before)
    assert [mode(directory), *(mode(path) for path in directory.iterdir())] == [0o700, 0o600]


def test_reports_wait_in_the_order_of_writing_even_if_the_clock_goes_back(directory: Path) -> None:
    spool = Spool(directory)
    written = [a_report(minute=minute) for minute in (5, 3, 3, 1, 9)]
    written[2]["report_id"] = uuid_of(99)
    for report in written:
        spool.write(report)
    assert ids_in(Spool(directory)) == ids(written)


def test_a_report_written_twice_is_kept_once(directory: Path) -> None:
    spool = Spool(directory)
    spool.write(a_report())
    spool.write(a_report())
    assert len(spool.waiting()) == 1


def test_a_report_may_be_removed_twice(directory: Path) -> None:
    spool = Spool(directory)
    spool.write(a_report())
    (path,) = spool.waiting()
    spool.remove(path)
    spool.remove(path)
    assert spool.waiting() == []
    assert spool.read(path) is None


def test_a_missing_directory_has_no_reports(directory: Path) -> None:
    assert Spool(directory).waiting() == []


@pytest.mark.parametrize(
    "content",
    [b"", b'{"format": "bringup.rep', b"\xff\xfe", b"[" * 200_000, b"{}", b"[]", b'{"format": "bringup.report/9"}'],
    ids=["empty", "cut off", "not UTF-8", "too deep", "no keys", "a list", "another format"],
)
def test_a_file_that_is_no_report_is_set_aside_and_named_in_the_log(directory: Path, content: bytes) -> None:
    spool = Spool(directory)
    spool.write(a_report())
    bad = directory / "20000101T000000.000000Z-bad.json"
    bad.write_bytes(content)
    with capture_logs() as logs:
        assert ids_in(spool) == ids([a_report()])
    assert [(line["event"], line["file"]) for line in logs] == [("outbox.corrupt", str(bad))]
    assert (directory / "corrupt" / bad.name).read_bytes() == content
    assert not bad.exists()


def test_a_report_that_cannot_be_read_without_descriptors_is_kept(directory: Path) -> None:
    spool = Spool(directory)
    spool.write(a_report())
    (path,) = spool.waiting()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        with pytest.raises(OutboxError, match="now") as raised:
            spool.read(path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert "Too many open files" in chain_of(raised.value)
    assert ids_in(spool) == [a_report()["report_id"]]


def test_a_rejected_report_is_set_aside_and_can_be_moved_back(directory: Path) -> None:
    spool = Spool(directory)
    spool.write(a_report())
    (path,) = spool.waiting()
    kept = spool.reject(path)
    assert (spool.waiting(), kept, mode(kept.parent)) == ([], directory / "rejected" / path.name, 0o700)
    kept.rename(path)
    assert ids_in(spool) == ids([a_report()])


def test_files_set_aside_are_bounded_and_the_oldest_removed(directory: Path) -> None:
    spool = Spool(directory, keep=2)
    names = []
    for report in reports(3):
        spool.write(report)
        (path,) = spool.waiting()
        names.append(spool.reject(path).name)
    assert sorted(path.name for path in (directory / "rejected").iterdir()) == names[1:]


def test_a_half_written_report_is_removed_and_not_sent(directory: Path) -> None:
    spool = Spool(directory)
    spool.write(a_report())
    half = directory / ".20261123T120000.000000Z-half.tmp"
    half.write_bytes(b'{"form')
    assert ids_in(spool) == ids([a_report()])
    spool.tidy()
    assert not half.exists()
    assert ids_in(spool) == ids([a_report()])


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ([a_report(an_outcome(1), minute=minute) for minute in range(4)], [3]),
        ([a_report(an_outcome(1, deleted=minute == 0), minute=minute, error="x") for minute in range(4)], [3]),
        ([a_report(an_outcome(minute, deleted=minute == 1), minute=minute) for minute in range(4)], [1, 3]),
        (reports(4), [0, 1, 2, 3]),
    ],
    ids=["complete ones", "all of one instance", "one tells of a deletion", "each of another instance"],
)
def test_above_the_bound_superseded_reports_are_removed(
    directory: Path, written: list[Report], kept: list[int]
) -> None:
    spool = Spool(directory, keep=3)
    with capture_logs() as logs:
        for report in written:
            spool.write(report)
    assert ids_in(spool) == [written[index]["report_id"] for index in kept]
    (line,) = logs
    dropped = {report["report_id"] for report in written} - set(ids_in(spool))
    assert line["event"] == "outbox.pruned"
    assert len(line["dropped"]) == len(dropped)
    assert all(any(report_id in name for name in line["dropped"]) for report_id in dropped)


def test_the_newest_report_is_kept_even_if_it_names_nothing(directory: Path) -> None:
    spool = Spool(directory, keep=1)
    written = [a_report(minute=minute, error="stopped") for minute in range(2)]
    for report in written:
        spool.write(report)
    assert ids_in(spool) == ids(written[1:])


def test_within_the_bound_no_report_is_removed(directory: Path) -> None:
    spool = Spool(directory, keep=3)
    written = [a_report(an_outcome(1), minute=minute) for minute in range(3)]
    for report in written:
        spool.write(report)
    assert ids_in(spool) == ids(written)


def test_a_file_in_the_way_of_the_directory_is_an_error_with_its_cause(directory: Path) -> None:
    # Not a matter of modes: it holds for root too.
    directory.write_text("in the way")
    spool = Spool(directory)
    with pytest.raises(OutboxError, match=f"cannot write report {a_report()['report_id']} to {directory}") as caught:
        spool.write(a_report())
    assert isinstance(caught.value.__cause__, OSError)
    with pytest.raises(OutboxError, match="cannot list"):
        spool.waiting()


@pytest.mark.parametrize("folder", ["rejected", "corrupt"])
def test_a_file_in_the_way_of_setting_aside_is_an_error_and_the_report_stays(directory: Path, folder: str) -> None:
    spool = Spool(directory)
    spool.write(a_report())
    (path,) = spool.waiting()
    (directory / folder).write_text("in the way")
    if folder == "corrupt":
        path.write_text("{")
    with pytest.raises(OutboxError, match="cannot move"):
        spool.reject(path) if folder == "rejected" else spool.read(path)
    assert path.exists()


def test_a_report_of_a_later_version_is_sent_unchanged(directory: Path) -> None:
    directory.mkdir()
    later: dict[str, Any] = {**a_report(), "mood": "good"}
    path = directory / "20261123T120000.000000Z-later.json"
    path.write_text(json.dumps(later))
    assert Spool(directory).read(path) == later
