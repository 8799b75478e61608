"""No host is worse off with bringup than without: the real nova-compute with its real libvirt driver says so."""

import os
import subprocess
from pathlib import Path

import pytest

from support import libvirtd, programs, rabbitmq
from support.nova import nova_python
from support.regret import HEAD, SITUATIONS, WITH_SERVICES_AWAY, Row, rows_of
from support.regret_lab import AWAY, command

pytestmark = pytest.mark.timeout(900)
TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs/no-regret.md"


def run_lab() -> list[Row]:
    libvirtd.skip_without_libvirtd()
    programs.needs("losetup", "ovs-vswitchd", "ovsdb-server")
    if (why := rabbitmq.missing()) is not None:
        pytest.skip(why)
    nova_python()
    done = subprocess.run(
        command(),
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        cwd=TESTS,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
    return rows_of(done.stdout.splitlines())


def test_no_instance_is_worse_off_with_bringup_than_with_nova_compute_alone() -> None:
    """Also where what its host needs is away at first."""
    rows = run_lab()

    assert len(rows) == len(SITUATIONS) + len(AWAY) * len(WITH_SERVICES_AWAY)
    assert [str(row) for row in rows if row.verdict.startswith("worse")] == []
    # What the page shows is what was run: `make no-regret` writes it.
    shown = PAGE.read_text().splitlines()
    assert [str(row) for row in rows if str(row) not in shown] == []


def test_the_page_has_the_head_of_the_table() -> None:
    assert all(line in PAGE.read_text().splitlines() for line in HEAD)
