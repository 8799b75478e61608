"""A region in a simulation whose hosts decide with the product's own functions, beside other ways."""

from collections.abc import Mapping

import pytest

from support import simulated_conductors
from support.simulated_region import WAYS, Figures, simulate

BY_NAME = {way.name: way for way in WAYS}
HOSTS, WORKERS = 400, 2
"""Two hundred a worker: without pacing none of them passes once all of them wait."""


@pytest.fixture(scope="module")
def after_an_outage() -> Mapping[str, Figures]:
    """Simulate what happens when Keystone comes back, by the name of the way."""
    return {name: simulate(way, HOSTS, WORKERS, outage_s=600.0, limit_s=60.0) for name, way in BY_NAME.items()}


def test_all_pass_soon_after_an_outage_and_others_hardly_notice(after_an_outage: Mapping[str, Figures]) -> None:
    ours = after_an_outage["ours"]
    assert ours.passed == HOSTS
    assert ours.times_ideal is not None
    assert ours.times_ideal <= 1.3
    assert ours.longest_queue_s <= 6
    assert ours.longest_refusal_s < 0.1
    assert ours.logins_per_host <= 1.1
    assert (ours.exits, ours.wasted) == (0, 0)


def test_where_many_workers_wait_for_few_hosts_these_notice_soon_that_keystone_is_back() -> None:
    """All logins together take less than three seconds."""
    ours = simulate(BY_NAME["ours"], 500, 48, outage_s=600.0, limit_s=60.0)
    assert ours.times_ideal is not None
    assert ours.times_ideal <= 1.3
    assert ours.logins_per_host <= 1.1


def test_at_power_on_nobody_is_later_than_without_pacing() -> None:
    ours, unpaced = (simulate(BY_NAME[name], 100, WORKERS, limit_s=60.0) for name in ("ours", "no pacing"))
    assert ours.all_s is not None
    assert unpaced.all_s is not None
    assert ours.all_s <= 1.02 * unpaced.all_s
    assert ours.longest_queue_s < unpaced.longest_queue_s


@pytest.mark.parametrize("name", ["no pacing", "start jitter"])
def test_without_pacing_keystone_works_for_nobody(after_an_outage: Mapping[str, Figures], name: str) -> None:
    assert after_an_outage[name].passed < HOSTS / 10
    assert after_an_outage[name].wasted > 0.9


def test_a_proxy_that_refuses_lets_those_pass_that_are_not_paced_too(after_an_outage: Mapping[str, Figures]) -> None:
    proxy = after_an_outage["proxy"]
    assert proxy.passed == HOSTS
    assert proxy.longest_queue_s < 6


def test_a_region_that_is_simulated_twice_is_the_same() -> None:
    assert simulate(BY_NAME["ours"], 50, 1) == simulate(BY_NAME["ours"], 50, 1)
    assert simulate(BY_NAME["ours"], 50, 1) != simulate(BY_NAME["ours"], 50, 1, seed=2)


def test_messages_that_expire_are_all_the_pacing_that_conductors_need() -> None:
    kept, expiring = (simulated_conductors.simulate(500, 30, 1, expires=expires) for expires in (False, True))
    assert expiring.all_s is not None
    assert expiring.failed == expiring.exits == 0
    assert expiring.all_s <= 1.15 * expiring.ideal_s
    assert expiring.wasted < 0.1 < kept.wasted
    assert kept.all_s is None or kept.all_s > 1.2 * expiring.all_s
