"""How many guests boot at once: the controller alone, and on simulated hosts."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bringup.daemon.decisions.pace import (
    EVERY_FAST_S,
    EVERY_S,
    FLOOR,
    START_AT_MOST,
    PaceController,
)
from bringup.daemon.decisions.readiness import QUIET_S, RAN_S
from bringup.drivers.base import BootCounters, MemoryPressure
from support.booting_hosts import CROWDED, HOSTS, BootingHost, averaged, simulate

NO_WORSE = 1.3
"""Than the best fixed limit, which nobody knows before."""
SEEDS = (1, 2)
NOVA_S = 0.3
"""What a guest takes in Nova's loop on two cores (docs/performance.md: 20 in 6 s)."""


def boots(count: int, *, run_s: float = 1.0, delay_s: float = 0.0, look: int = 1) -> dict[str, BootCounters]:
    """Return the counters of guests that ran and waited so long between two looks, at this look."""
    return {str(number): BootCounters(look * run_s, look * delay_s) for number in range(count)}


def looked(controller: PaceController, *stretches: float, used: int | None = None) -> list[int]:
    """Show guests that are so many times slower than alone, a look each; return the limits."""
    found, run_s, delay_s = [], 0.0, 0.0
    for stretch in stretches:
        run_s, delay_s = run_s + 1.0, delay_s + stretch - 1.0
        slots = controller.limit if used is None else used
        counters = {str(number): BootCounters(run_s, delay_s) for number in range(slots)}
        found.append(controller.look(counters, booting=slots, used=slots).limit)
    return found


@pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.name)
def test_guests_are_back_nearly_as_soon_as_with_the_best_fixed_limit(host: BootingHost) -> None:
    best = averaged(partial(simulate, host, host.best), SEEDS)
    found = averaged(partial(simulate, host, None), SEEDS)

    assert found.all_s <= NO_WORSE * best.all_s
    assert found.half_s <= NO_WORSE * best.half_s


@pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.name)
def test_a_tenth_of_a_higher_priority_is_ready_nearly_as_soon_as_alone(host: BootingHost) -> None:
    alone = averaged(partial(simulate, replace(host, guests=host.guests // 10), None), SEEDS)
    without = averaged(partial(simulate, host, None), SEEDS)
    found = averaged(partial(simulate, host, None, marked=True), SEEDS)

    assert found.first_s <= 1.2 * alone.all_s
    assert found.all_s <= without.all_s + alone.all_s


@pytest.mark.parametrize("host", [HOSTS[3], HOSTS[5]], ids=lambda host: host.name)
def test_guests_that_never_show_that_they_are_ready_cost_little(host: BootingHost) -> None:
    found = averaged(partial(simulate, host, None), SEEDS)
    silent = averaged(partial(simulate, host, None, silent=1 / 3, hold_s=60), SEEDS)

    assert silent.all_s <= 1.15 * found.all_s


def test_it_starts_with_few_and_doubles_for_as_long_as_nothing_slows_down() -> None:
    controller = PaceController(ceiling=50)

    assert controller.limit == START_AT_MOST
    assert looked(controller, 1.0, 1.2, 1.4, 1.0) == [16, 32, 50, 50]


def test_once_something_has_slowed_down_it_grows_by_quarters() -> None:
    controller = PaceController(ceiling=64)

    assert looked(controller, 1.0, 2.0, 1.0, 1.0) == [16, 16, 20, 25]


def test_between_the_bounds_it_stays() -> None:
    assert looked(PaceController(ceiling=64), 1.5, 2.0, 3.0) == [8, 8, 8]


def test_it_shrinks_to_what_would_be_twice_as_slow_as_alone_by_a_half_at_most() -> None:
    assert looked(PaceController(ceiling=64, start=12), 3.2, 60.0) == [7, 3]


def test_it_is_never_below_two() -> None:
    assert looked(PaceController(ceiling=64), *[50.0] * 2)[-1] == FLOOR


def test_what_slows_down_the_fewest_guests_is_not_their_doing() -> None:
    """Others use the host: five times slower than alone is as quick as it gets, and more of them no slower."""
    controller = PaceController(ceiling=64)

    assert looked(controller, 5.0, 5.0, 5.0, 5.0, 5.0) == [4, 2, 4, 8, 16]
    assert looked(controller, 16.0) == [10]


def test_on_a_host_that_others_crowd_guests_are_not_kept_to_the_fewest() -> None:
    best = averaged(partial(simulate, CROWDED, CROWDED.best), SEEDS)
    found = averaged(partial(simulate, CROWDED, None), SEEDS)
    fewest = averaged(partial(simulate, CROWDED, FLOOR), SEEDS)

    assert found.all_s <= 1.6 * best.all_s
    assert found.all_s <= 0.5 * fewest.all_s


def test_while_more_boot_than_the_limit_has_it_shrinks_no_further() -> None:
    """They were started before: what is seen is not what the limit does."""
    assert looked(PaceController(ceiling=64), 8.0, 8.0, 8.0, used=8) == [4, 4, 4]


def test_slots_that_are_not_used_ask_for_no_more() -> None:
    assert looked(PaceController(ceiling=64), 1.0, 1.0, used=7) == [8, 8]


def test_while_most_that_were_started_have_not_run_yet_it_does_not_double() -> None:
    controller = PaceController(ceiling=64)

    assert controller.look(boots(3), booting=3, used=8).limit == 10
    assert controller.look(boots(10, look=2), booting=10, used=10).limit == 20


def test_guests_that_have_not_run_tell_nothing() -> None:
    controller = PaceController(ceiling=64)
    seen = controller.look(boots(8, run_s=0.0), booting=8, used=8)

    assert (seen.stretch, seen.limit) == (None, 8)


def test_guests_that_have_run_and_are_at_rest_slow_nobody_down() -> None:
    """They wait for a boot menu, or have nothing to boot, and keep their slots until they are quiet for a while."""
    controller = PaceController(ceiling=64)
    controller.look(boots(8), booting=8, used=8)

    seen = controller.look({**boots(16, run_s=0.0), **boots(8)}, booting=16, used=16)

    assert (seen.stretch, seen.limit) == (None, 32)


def test_guests_that_have_run_for_a_moment_and_are_at_rest_slow_nobody_down() -> None:
    """A host that is quick has ended before the first look what they have to boot."""
    rests = {str(number): BootCounters(run_s=RAN_S) for number in range(4)}
    controller = PaceController(ceiling=64, start=4)
    seen = [controller.look(rests, booting=4, used=controller.limit) for _ in range(2)]

    assert [(each.stretch, each.limit) for each in seen] == [(1.0, 8), (None, 16)]


def test_what_slows_down_guests_that_hardly_work_is_not_each_other() -> None:
    """They have nothing to boot, and wait four times as long as they run while QEMU and its like are started."""
    controller = PaceController(ceiling=64)
    little = controller.look(boots(8, run_s=0.06, delay_s=0.18), booting=8, used=8)
    more = controller.look(boots(16, run_s=0.1, delay_s=0.3), booting=16, used=16)
    much = controller.look(boots(32, run_s=0.3, delay_s=0.9), booting=32, used=32)

    assert [each.stretch for each in (little, more, much)] == [pytest.approx(4.0)] * 3
    assert [each.limit for each in (little, more, much)] == [16, 32, 16]


def test_beside_guests_of_a_higher_priority_that_wait_none_is_started_however_little_these_work() -> None:
    controller = PaceController(ceiling=64)
    for look in (1, 2, 3):
        controller.look(boots(4, run_s=0.05, delay_s=0.05, look=look), booting=4, used=4)

    assert not controller.take_spare()


@pytest.mark.parametrize("threads", [2, 16, 64])
def test_guests_that_have_nothing_to_boot_are_back_sooner_than_one_after_the_other(threads: int) -> None:
    """Nova's loop starts the next when the one before is started; we see only after a while that one is at rest."""
    host = BootingHost(
        "", threads, 2000, 20, 1, vcpus=1, cpu_s=0.06, io_mb=0.01, prepare_s=NOVA_S, rests_s=QUIET_S + EVERY_FAST_S
    )
    serial = averaged(partial(simulate, host, 1, hold_s=0.0), SEEDS)
    found = averaged(partial(simulate, host, None), SEEDS)

    assert found.all_s <= serial.all_s


def test_of_guests_that_rest_after_a_crowded_start_a_quarter_more_is_started() -> None:
    controller = PaceController(ceiling=64, start=2)
    assert looked(controller, 9.0, 9.0, used=4) == [2, 2]

    rests = {str(number): BootCounters(2.0, 16.0) for number in range(4)}
    seen = [controller.look(rests, booting=4, used=controller.limit) for _ in range(3)]

    assert [(each.stretch, each.limit) for each in seen] == [(None, 3), (None, 4), (None, 5)]


def test_the_ceiling_is_above_the_floor() -> None:
    controller = PaceController(ceiling=1)

    assert controller.limit == 1
    assert looked(controller, 1.0, 50.0) == [1, 1]


def test_a_ceiling_that_is_changed_holds_at_once_and_is_not_jumped_to() -> None:
    controller = PaceController(ceiling=64)
    looked(controller, 1.0)
    controller.resize(5)
    low = controller.limit
    controller.resize(64)

    assert (low, controller.limit) == (5, 5)


def test_instances_that_need_no_start_are_slowed_down_by_nothing() -> None:
    controller = PaceController(ceiling=20)
    for _ in range(30):
        controller.passed()
    without = controller.limit
    controller.began()

    assert (without, controller.limit) == (20, START_AT_MOST)


def test_what_shrank_before_the_next_guest_boots_stays_low() -> None:
    controller = PaceController(ceiling=20)
    looked(controller, 9.0)
    controller.began()

    assert controller.limit == 4


@pytest.mark.parametrize(("some", "full"), [(10.1, 0.0), (0.0, 1.1)])
def test_a_host_that_is_short_of_memory_starts_no_guest_beside_another(some: float, full: float) -> None:
    controller = PaceController(ceiling=64)
    braked = controller.look(boots(8), booting=8, used=8, memory=MemoryPressure(some, full))
    freed = controller.look(boots(8, look=2), booting=8, used=7, memory=MemoryPressure(10.0, 1.0))

    assert (braked.limit, braked.brakes) == (1, True)
    assert (freed.limit, freed.brakes) == (8, False)


def test_where_nobody_boots_a_shortage_of_memory_slows_down_nobody() -> None:
    controller = PaceController(ceiling=50)
    controller.look(boots(2), booting=2, used=2, memory=MemoryPressure(some=50.0, full=5.0))
    controller.passed()

    assert controller.limit > 1


def test_a_disk_that_answers_later_than_it_did_slows_boots_down() -> None:
    controller = PaceController(ceiling=64)
    quick = controller.look({"a": BootCounters(reads=100, read_s=0.1)}, booting=1, used=1)
    slow = controller.look({"a": BootCounters(reads=200, read_s=0.5)}, booting=1, used=1)

    assert quick.stretch == pytest.approx(1.0)
    assert slow.stretch == pytest.approx(4.0)


def test_a_few_reads_from_a_cache_do_not_make_the_disk_look_slow() -> None:
    controller = PaceController(ceiling=64)
    controller.look({"a": BootCounters(run_s=1.0, reads=19, read_s=0.0001)}, booting=1, used=1)
    controller.look({"a": BootCounters(run_s=2.0, reads=2000, read_s=0.002)}, booting=1, used=1)
    seen = controller.look({"a": BootCounters(run_s=2.0, reads=4000, read_s=0.202)}, booting=1, used=1)

    assert seen.stretch == pytest.approx(1.0)


def test_a_guest_that_was_started_again_is_counted_from_there() -> None:
    controller = PaceController(ceiling=64)
    controller.look({"a": BootCounters(run_s=100.0, delay_s=100.0)}, booting=1, used=1)
    seen = controller.look({"a": BootCounters(run_s=2.0, delay_s=2.0)}, booting=1, used=1)

    assert seen.stretch == pytest.approx(2.0)


def test_beside_guests_of_a_higher_priority_one_is_started_for_each_look_while_nothing_is_slowed_down() -> None:
    controller = PaceController(ceiling=64)
    found = []
    for look, delay_s in enumerate((0.0, 0.0, 0.0, 3.0, 3.0, 3.0), start=1):
        controller.look(boots(4, delay_s=delay_s / look, look=look), booting=4, used=4)
        found.append((controller.take_spare(), controller.take_spare()))

    assert found == [(False, False), (True, False), (True, False), (False, False), (False, False), (True, False)]


def test_without_guests_that_boot_nothing_is_known_to_spare() -> None:
    controller = PaceController(ceiling=64)
    for _ in range(3):
        controller.look({}, booting=0, used=4)

    assert not controller.take_spare()


def test_it_is_looked_more_often_for_as_long_as_nothing_has_slowed_down() -> None:
    controller = PaceController(ceiling=64)
    first = controller.every_s
    looked(controller, 2.0)

    assert (first, controller.every_s) == (EVERY_FAST_S, EVERY_S)


def test_it_is_looked_more_often_while_guests_hardly_work() -> None:
    """That they are quiet is seen sooner, and then their slots are free."""
    controller = PaceController(ceiling=64)
    looked(controller, 2.0)
    controller.look({str(number): BootCounters(1.1, 1.0) for number in range(8)}, booting=8, used=8)

    assert controller.every_s == EVERY_FAST_S


COUNTERS = st.dictionaries(
    st.sampled_from("abcdef"),
    st.builds(
        BootCounters,
        run_s=st.floats(0, 1e6),
        delay_s=st.floats(0, 1e6),
        reads=st.integers(0, 10**12),
        read_s=st.floats(0, 1e6),
    ),
)


@given(st.integers(1, 1024), st.lists(st.tuples(COUNTERS, st.integers(0, 2000)), max_size=20))
def test_whatever_is_counted_the_limit_is_between_its_bounds(
    ceiling: int, looks: list[tuple[Mapping[str, BootCounters], int]]
) -> None:
    controller = PaceController(ceiling=ceiling)
    for counters, used in looks:
        seen = controller.look(counters, booting=len(counters), used=used)

        assert min(FLOOR, ceiling) <= seen.limit == controller.limit <= ceiling
        assert seen.stretch is None or seen.stretch > 0
