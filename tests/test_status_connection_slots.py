"""Connection slots of the endpoint: who keeps one, for how long, and who is closed for another."""

from dataclasses import dataclass, field

import pytest

from bringup.daemon.status.listener.connection_slots import AT_MOST_S, YIELD_S, Doing, Places
from support.status import Clock


@dataclass(eq=False)
class Client:
    name: str
    now: Doing
    aborted: list[str] = field(default_factory=list)

    def doing(self) -> Doing:
        return self.now

    def abort(self) -> None:
        self.aborted.append(self.name)


def places_with(clock: Clock, *clients: Client, most: int = 2) -> Places:
    places = Places(most, clock=clock)
    for client in clients:
        places.gets_on(client)
    return places


def test_nothing_is_closed_while_slots_are_free() -> None:
    first = Client("first", Doing.HEAD)
    places = places_with(Clock(), first)

    assert (places.make_room(), first.aborted, len(places)) == (True, [], 1)


@pytest.mark.parametrize("waits", [Doing.HEAD, Doing.IDLE, Doing.CLOSING], ids=lambda each: each.value)
@pytest.mark.parametrize("keeps", [Doing.ANSWERING, Doing.KEPT], ids=lambda each: each.value)
def test_a_new_connection_closes_the_one_that_waits_longest(waits: Doing, keeps: Doing) -> None:
    answered, old, new = Client("answered", keeps), Client("old", waits), Client("new", waits)
    places = places_with(Clock(), answered, old, new, most=3)

    assert places.make_room()
    assert (answered.aborted, old.aborted, new.aborted, places.closed) == ([], ["old"], [], 1)


def test_a_connection_with_progress_is_not_the_one_that_waits_longest() -> None:
    old, new = Client("old", Doing.HEAD), Client("new", Doing.HEAD)
    places = places_with(Clock(), old, new)

    places.gets_on(old)

    assert places.make_room()
    assert (old.aborted, new.aborted) == ([], ["new"])


def test_an_answer_keeps_its_slot_for_a_while_and_an_event_stream_always() -> None:
    clock = Clock()
    events, slow = Client("events", Doing.KEPT), Client("slow", Doing.ANSWERING)
    places = places_with(clock, events, slow)

    at_once = places.make_room()
    clock.now_s = YIELD_S + 1
    later = places.make_room()

    assert (at_once, later) == (False, True)
    assert (events.aborted, slow.aborted) == ([], ["slow"])


@pytest.mark.parametrize("doing", list(Doing), ids=lambda each: each.value)
def test_a_connection_without_progress_is_closed_unless_it_has_its_own_limits(doing: Doing) -> None:
    clock, client = Clock(), Client("slow", doing)
    places = places_with(clock, client)
    limit_s = AT_MOST_S.get(doing)

    clock.now_s = limit_s or 1e9
    places.look()
    in_time = list(client.aborted)
    clock.now_s += 1
    places.look()

    assert in_time == []
    assert client.aborted == ([] if doing is Doing.KEPT else ["slow"])
    assert len(places) == (1 if doing is Doing.KEPT else 0)
