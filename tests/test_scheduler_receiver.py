import signal
from pathlib import Path
from typing import Any

import httpx
import pytest

from bringup.daemon.cli.demo_site.scheduler_receiver import Hosts, merge
from bringup.daemon.storage.outbox.report import Report
from support.polling import PATIENCE_S
from support.scheduler import HOST, a_report, an_outcome, receiver, receiver_process, uuid_of


def post(url: str, report: Any, **headers: str) -> int:
    key = report["report_id"] if isinstance(report, dict) and "report_id" in report else "none"
    with httpx.Client(trust_env=False, timeout=PATIENCE_S) as client:
        response = client.post(f"{url}/reports", json=report, headers={"Idempotency-Key": key, **headers})
    return response.status_code


def read(url: str, path: str) -> Any:
    with httpx.Client(trust_env=False, timeout=PATIENCE_S) as client:
        return client.get(f"{url}{path}").raise_for_status().json()


def test_a_new_report_is_created_a_repeat_is_not(tmp_path: Path) -> None:
    with receiver(tmp_path) as scheduler:
        assert [post(scheduler.url, a_report()), post(scheduler.url, a_report())] == [201, 200]
        assert read(scheduler.url, "/reports") == {"reports": [a_report()]}


def test_a_host_is_shown_with_its_instances(tmp_path: Path) -> None:
    report = a_report(an_outcome(1))
    with receiver(tmp_path) as scheduler:
        post(scheduler.url, report)
        assert read(scheduler.url, f"/hosts/{HOST}") == {"host": HOST, "instances": report["instances"]}
        with pytest.raises(httpx.HTTPStatusError, match="404"):
            read(scheduler.url, "/hosts/another")


@pytest.mark.parametrize(
    ("later", "known"),
    [
        (a_report(an_outcome(3), minute=1), [1, 2, 3]),
        (a_report(an_outcome(2, deleted=True), minute=1), [1]),
        (a_report(an_outcome(2, host="compute-2"), minute=1), [1]),
        (a_report(minute=1), [1, 2]),
    ],
    ids=["merged", "deleted", "elsewhere", "not mentioned"],
)
def test_what_is_known_of_a_host_follows_the_host_manager(later: Report, known: list[int]) -> None:
    hosts: Hosts = {}
    merge(hosts, a_report(an_outcome(1), an_outcome(2)))
    merge(hosts, later)
    assert list(hosts[HOST]) == [uuid_of(number) for number in known]


@pytest.mark.parametrize("body", [[], {}, {"format": "bringup.report/1"}, {**a_report(), "host": ""}], ids=str)
def test_what_is_no_report_is_refused(tmp_path: Path, body: Any) -> None:
    with receiver(tmp_path) as scheduler:
        assert (post(scheduler.url, body), scheduler.reports) == (400, [])


def test_a_report_under_another_key_is_refused(tmp_path: Path) -> None:
    with receiver(tmp_path) as scheduler:
        assert post(scheduler.url, a_report(), **{"Idempotency-Key": "another"}) == 400


def test_without_the_token_nothing_is_taken_nor_shown(tmp_path: Path) -> None:
    with receiver(tmp_path, token="t0ken") as scheduler:
        assert post(scheduler.url, a_report()) == 401
        assert post(scheduler.url, a_report(), Authorization="Bearer t0ken") == 201
        with pytest.raises(httpx.HTTPStatusError, match="401"):
            read(scheduler.url, "/reports")


def test_what_it_acknowledged_outlives_a_kill(tmp_path: Path) -> None:
    with receiver_process(tmp_path / "kept") as first:
        assert post(first.url, a_report(an_outcome(1))) == 201
        assert post(first.url, a_report(an_outcome(1, deleted=True), minute=1)) == 201
        assert first.end_by(signal.SIGKILL) == -signal.SIGKILL
    with receiver_process(tmp_path / "kept") as second:
        assert read(second.url, f"/hosts/{HOST}")["instances"] == []
        assert post(second.url, a_report(an_outcome(1))) == 200


def test_it_ends_with_its_stdin_and_on_sigterm(tmp_path: Path) -> None:
    with receiver_process(tmp_path) as process:
        assert process.end_by_stdin() == 0
    with receiver_process(tmp_path) as process:
        assert process.end_by(signal.SIGTERM) == 0


def test_its_options_say_what_goes_wrong(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("t0ken\n")
    options = ["--fail-first", "1", "--token-file", str(token), "--retry-after", "7"]
    with receiver_process(tmp_path / "kept", *options) as process:
        statuses = [post(process.url, a_report(), Authorization="Bearer t0ken") for _ in range(2)]
        assert statuses == [503, 201]
