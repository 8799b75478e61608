"""Each benchmark once with minimal input, so that none breaks unnoticed; its figures say nothing then."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from support import rabbitmq
from support.libvirtd import skip_without_libvirtd
from support.nova import nova_python
from support.programs import needs, run

pytestmark = pytest.mark.timeout(600)
REPOSITORY = Path(__file__).parents[2]


def printed(benchmark: str, *arguments: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY / "tests")}
    return run(sys.executable, REPOSITORY / "benchmarks" / benchmark, *arguments, cwd=REPOSITORY, env=environment)


@pytest.mark.skipif(os.geteuid() != 0, reason="a packet filter of its own is for root")
def test_simulated_hosts_are_measured() -> None:
    needs("nft")

    table = printed("run.py", "smallest")

    assert "| makespan / lower bound, 40 instances, limit 64 |" in table
    assert "| serial loop / concurrent run, 40 instances, limit 8 |" in table


def test_a_region_is_measured_and_simulated() -> None:
    small = "--hosts 2 --rounds 4 --pairs 1 --limit 120 --simulate 20x1 --conductors 10x1"

    table = printed("region.py", *small.split())

    assert "| 2 | 0 s | 2 | 0 | 1.00 |" in table
    assert "| pairs of logins | later with the probe, median |" in table
    assert "| 20 | 1 | 10 min | ours | 20 |" in table
    assert "| 10 | 1 | yes |" in table


def test_real_guests_are_measured() -> None:
    skip_without_libvirtd()

    table = printed("real_guests.py", "2", "4", "1")

    assert "| bringup run --once, limit 16 | none |" in table
    assert "Our own CPU a guest:" in table


def test_simulated_boots_are_measured() -> None:
    table = printed("pace.py", "1")

    assert "64 threads, NVMe, 60 guests" in table
    assert "  adaptive, a third never ready" in table


def test_real_boots_are_measured() -> None:
    skip_without_libvirtd()
    needs("qemu-ga")

    table = printed("real_boots.py", "2", "1")

    assert "adaptive / fixed, free when started: p50 " in table
    assert "adaptive, a third has no agent / adaptive: p50 " in table


def test_a_real_conductor_is_measured() -> None:
    if why := rabbitmq.missing():
        pytest.skip(why)
    nova_python()

    table = printed("openstack.py", "20", "0.001", "4")

    assert "Nova's loop / bringup run, wall:" in table


def test_the_way_home_is_measured_and_drawn(tmp_path: Path) -> None:
    skip_without_libvirtd()
    if why := rabbitmq.missing():
        pytest.skip(why)
    nova_python()
    figures = tmp_path / "way_home.json"

    table = printed("way_home.py", "1", "--hooks", "0", "--compute", "1", "--idle", "1", "--json", str(figures))

    found = json.loads(figures.read_text())
    ways, idle = found["hooks"]["0"], found["idle_hooks"]["0"]
    assert (len(ways), len(idle)) == (9, 4)
    assert table.count("| 0 s |") == 13
    assert all(len(way["started"]) == len(way["ready"]) == 1 for way in (*ways.values(), *idle.values()))
    assert {name for name, way in ways.items() if way["cpu_s"] == 0} >= {"Incus", "Proxmox VE, at boot"}
    shutil.copy(REPOSITORY / "docs/draw_way_home.py", tmp_path)
    run(sys.executable, tmp_path / "draw_way_home.py", figures)
    assert (tmp_path / "way-home.svg").read_text().count('stroke-width="2"') == 2 * 13
