"""What is waited for on the way out: each wait has a bound in one table, and the units give at least their sum."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import bringup
from bringup.daemon import closing
from bringup.daemon.service.deadlines import STOP_SLACK_S, closes_s, stopping_s
from bringup.daemon.settings import Settings, load
from support.settings_files import value_of

REPOSITORY = Path(bringup.__file__).parents[1]
BOUND = {
    "daemon/recovery/start_claim.py: RELEASE_CLAIM_S": closing.RELEASE_CLAIM_S,
    "daemon/storage/journal/sqlite.py: CLOSE_S": closing.JOURNAL_S,
    "daemon/recovery/host_lease.py: DROP_S": closing.LEASE_S,
    "daemon/openstack/rpc/connection.py: CLOSE_S": closing.MESSAGING_S,
    "daemon/status/listener/server.py: CLOSE_S": closing.STATUS_S,
    "daemon/openstack/conductor/store.py: CLOSE_S": closing.CONDUCTOR_S,
    "daemon/storage/store/sql.py: CLOSE_LIMIT_S": closing.STORE_S,
    "daemon/service/assembly/close_driver.py: CLOSE_S": closing.DRIVER_S,
}
OF_THE_SHUTDOWN_REPORT = {"daemon/recovery/init_host.py: left_s", "daemon/recovery/init_host.py: deadline_s"}
"""They share ``limits.shutdown_report_deadline``."""
BOUNDED_OTHERWISE = {
    "daemon/status/endpoint/listeners.py: left_s": "what is left of channel.py: CLOSE_S, which all of them share",
    "daemon/status/endpoint/listeners.py: REAP_S": "one that was killed is waited for, beside the others",
    "daemon/recovery/lifecycle_events.py": "it gets its deadline, FINISH_S, when the watch ends",
    "daemon/status/listener/server.py": "served() waits CLOSE_S for it",
    "daemon/status/listener/streams.py": "a generator that waits for nothing is closed",
    "drivers/batching.py": "the round of a database, which is hurried",
}
"""Shields without a number of their own."""


def shields() -> Iterator[str]:
    """Return each place that shields from cancellation, with its bound."""
    for path in sorted(REPOSITORY.glob("d*/**/*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and any(keyword.arg == "shield" for keyword in node.keywords):
                where = str(path.relative_to(REPOSITORY))
                yield f"{where}: {ast.unparse(node.args[0])}" if node.args else where


def test_every_wait_that_a_signal_does_not_cut_short_is_in_the_table() -> None:
    assert set(shields()) == BOUND.keys() | OF_THE_SHUTDOWN_REPORT | BOUNDED_OTHERWISE.keys()


def test_the_table_is_what_the_code_waits() -> None:
    for place, bound_s in BOUND.items():
        path, _, name = place.partition(": ")
        module = __import__(f"bringup.{path.removesuffix('.py').replace('/', '.')}", fromlist=[name])
        assert getattr(module, name) == bound_s


def settings(*overrides: str) -> Settings:
    return load(None, environment={}, overrides=overrides)


def test_the_sum_follows_the_settings_and_systemd_is_asked_for_more() -> None:
    given = settings("limits.shutdown_report_deadline=90")
    assert value_of(given, "limits.shutdown_report_deadline") == 90
    assert closes_s(given) == closes_s(settings()) - 20 + 90
    assert closes_s(given) >= sum(BOUND.values()) + 90
    assert stopping_s(given) == closes_s(given) + STOP_SLACK_S


SECONDS = {"s": 1, "min": 60}


def limit_in(path: str, key: str) -> float:
    [(number, unit)] = re.findall(rf"(?m)^{key}(\d+)(s|min)?$", (REPOSITORY / path).read_text())
    return int(number) * SECONDS[unit or "s"]


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("systemd/bringup.service", "TimeoutStopSec="),
        ("container/quadlet/bringup.container", "TimeoutStopSec="),
        ("container/quadlet/bringup.container", "PodmanArgs=--stop-timeout="),
    ],
)
def test_a_unit_gives_at_least_the_sum(path: str, key: str) -> None:
    assert limit_in(path, key) >= closes_s(settings())


@pytest.mark.parametrize("name", ["once.yaml", "sidecar.yaml"])
def test_a_pod_gives_at_least_the_sum(name: str) -> None:
    found = re.findall(
        r"terminationGracePeriodSeconds: (\d+)", (REPOSITORY / "container/kubernetes" / name).read_text()
    )
    assert yaml.safe_load(found[0]) >= closes_s(settings())
    assert len(found) == 1
