"""Latencies depend on seed, guest, verb and count, and on nothing else."""

import statistics

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bringup.drivers.simulated import (
    Exponential,
    Latency,
    LatencyKey,
    Lognormal,
    Scenario,
    SimulatedDriver,
    SimulatedGuest,
    Uniform,
)
from bringup.drivers.simulated.latency import LONGEST_S, draw_s, parse_latency, write_latency
from support.drivers import driver_guest, uuid_of

SECONDS = st.floats(0, LONGEST_S)
DISTRIBUTIONS = st.one_of(
    SECONDS,
    st.tuples(SECONDS, SECONDS).map(lambda pair: Uniform(min(pair), max(pair))),
    st.builds(Exponential, SECONDS),
    st.builds(Lognormal, SECONDS, st.floats(0, 10)),
)


def driver(latency: dict[LatencyKey, Latency], own: dict[LatencyKey, Latency] | None = None) -> SimulatedDriver:
    guests = (SimulatedGuest(uuid=uuid_of(1), latency=own or {}), SimulatedGuest(uuid=uuid_of(2)))
    return SimulatedDriver(Scenario(seed=7, guests=guests, latency=latency))


@given(latency=DISTRIBUTIONS, seed=st.integers(), key=st.text())
def test_a_draw_is_the_same_each_time_and_never_negative(latency: Latency, seed: int, key: str) -> None:
    drawn = draw_s(latency, seed=seed, key=key)

    assert drawn == draw_s(latency, seed=seed, key=key)
    assert drawn >= 0


@given(latency=DISTRIBUTIONS)
def test_a_latency_is_read_as_it_was_written(latency: Latency) -> None:
    assert parse_latency(write_latency(latency)) == latency


@pytest.mark.parametrize(
    ("latency", "median"),
    [(Uniform(1, 3), 2), (Exponential(1), 0.693), (Lognormal(2, 0.8), 2), (4.0, 4)],
    ids=["uniform", "exponential", "lognormal", "fixed"],
)
def test_half_of_the_draws_are_below_the_median(latency: Latency, median: float) -> None:
    drawn = [draw_s(latency, seed=7, key=str(number)) for number in range(5_000)]

    assert statistics.median(drawn) == pytest.approx(median, rel=0.05)


def test_draws_are_the_same_on_every_machine() -> None:
    assert draw_s(Lognormal(2, 0.8), seed=7, key="a") == pytest.approx(4.740760138)


@pytest.mark.parametrize(
    ("latency", "own", "expected"),
    [
        ({}, {}, 0),
        ({"default": 1.0}, {}, 1),
        ({"default": 1.0, "reboot": 2.0}, {}, 2),
        ({"default": 1.0, "reboot": 2.0}, {"default": 3.0}, 3),
        ({"default": 1.0, "reboot": 2.0}, {"default": 3.0, "reboot": 4.0}, 4),
        ({"reboot": 2.0}, {"power_on": 5.0}, 2),
    ],
)
def test_the_guest_comes_before_the_scenario_and_the_verb_before_the_default(
    latency: dict[LatencyKey, Latency], own: dict[LatencyKey, Latency], expected: float
) -> None:
    assert driver(latency, own).latency_of(uuid_of(1), "reboot") == expected


def test_guest_verb_count_and_seed_each_make_another_draw() -> None:
    host = driver({"default": Uniform(0, 1)})
    other_seed = SimulatedDriver(Scenario(seed=8, latency=host.scenario.latency))

    drawn = {
        host.latency_of(uuid_of(1), "reboot"),
        host.latency_of(uuid_of(1), "reboot", 2),
        host.latency_of(uuid_of(1), "power_on"),
        host.latency_of(uuid_of(2), "reboot"),
        host.latency_of("", "init_host"),
        other_seed.latency_of(uuid_of(1), "reboot"),
    }

    assert len(drawn) == 6


@pytest.mark.anyio
async def test_a_verb_takes_the_latency_that_was_told() -> None:
    host = driver({"plug_vifs": Uniform(0.02, 0.03)})
    await host.init_host("compute-1")
    told_s = host.latency_of(uuid_of(1), "plug_vifs", 1)

    started = anyio.current_time()
    await host.plug_vifs(driver_guest(1))
    took = anyio.current_time() - started

    assert told_s <= took
