"""Those who listen: nobody waits for a slow one, and who comes back goes on where it was."""

from collections.abc import AsyncGenerator

import anyio
import pytest

from bringup.daemon.status.endpoint.event_feed import Feed, TooManyListeners

pytestmark = pytest.mark.anyio


def listening(feed: Feed, last_id: str | None = None) -> AsyncGenerator[str, None]:
    return feed.listen(last_id, lambda: "event: progress\ndata: {}\n\n", lambda: False)


async def until(listener: AsyncGenerator[str, None], word: str) -> str:
    found = ""
    with anyio.fail_after(60):
        while word not in found:
            found += await anext(listener)
    return found


async def test_who_listens_hears_what_happens_in_order() -> None:
    feed = Feed("e")
    feed.say("before", {})
    listener = listening(feed)
    first = await anext(listener)

    feed.say("began", {"uuid": "a"})
    feed.say("ended", '{"uuid":"a"}')
    text = await until(listener, "ended")
    await listener.aclose()

    assert first == "event: progress\ndata: {}\n\n"
    assert text.startswith('id: e-2\nevent: began\ndata: {"uuid":"a"}\n\nid: e-3\nevent: ended\ndata: {"uuid":"a"}\n\n')
    assert feed.listeners == 0


async def test_one_that_waits_is_woken_by_what_happens() -> None:
    feed = Feed("e")
    listener = listening(feed)
    await anext(listener)
    events: list[str] = []

    async def read_event() -> None:
        events.append(await until(listener, "began"))

    async with anyio.create_task_group() as group:
        group.start_soon(read_event)
        await anyio.wait_all_tasks_blocked()
        feed.say("began", {})
    await listener.aclose()

    assert len(events) == 1


async def test_who_comes_back_hears_what_it_missed() -> None:
    feed = Feed("e")
    for number in range(5):
        feed.say("began", {"n": number})
    listener = listening(feed, "e-3")

    await anext(listener)
    text = await until(listener, '"n":4')
    await listener.aclose()

    assert '"n":3' in text
    assert '"n":2' not in text


@pytest.mark.parametrize(
    "last_id", ["other-3", "e-1", "e-99", "e-", "", "nonsense", "e-3\n", f"e-{'9' * 5000}", "e-\u0663"]
)
async def test_who_missed_what_is_not_kept_is_told_to_ask_anew(last_id: str) -> None:
    """The ring has forgotten it, or it is of a process before this one."""
    feed = Feed("e", keep=2)
    for _ in range(5):
        feed.say("began", {})
    listener = listening(feed, last_id)

    first = await anext(listener)
    feed.say("later", {})
    rest = await until(listener, "later")
    await listener.aclose()

    assert first.startswith("event: reset\ndata: {}\n\n")
    assert "began" not in rest


async def test_a_slow_one_is_let_go_and_costs_nothing() -> None:
    feed = Feed("e", keep=3)
    listener = listening(feed)
    await anext(listener)

    for _ in range(10):
        feed.say("began", {})
    with pytest.raises(StopAsyncIteration), anyio.fail_after(60):
        await anext(listener)

    assert (feed.dropped, feed.listeners) == (1, 0)


async def test_more_than_there_is_room_for_are_turned_away() -> None:
    feed = Feed("e", listeners=1)
    first = listening(feed)
    await anext(first)

    with pytest.raises(TooManyListeners):
        await anext(listening(feed))
    await first.aclose()
    again = listening(feed)
    await anext(again)
    await again.aclose()


async def test_at_the_end_everybody_hears_the_last_words() -> None:
    feed = Feed("e")
    listener = listening(feed)
    await anext(listener)
    feed.say("done", {})
    feed.close()

    with anyio.fail_after(60):
        text = "".join([piece async for piece in listener])

    assert "event: done\n" in text
    assert text.endswith("event: end\ndata: {}\n\n")


async def test_while_work_is_under_way_it_beats() -> None:
    feed = Feed("e")
    listener = feed.listen(None, lambda: "event: progress\ndata: {}\n\n", lambda: True)

    with anyio.fail_after(60):
        beats = [await anext(listener) for _ in range(3)]
    await listener.aclose()

    assert beats == ["event: progress\ndata: {}\n\n"] * 3


async def test_two_listeners_hear_the_same() -> None:
    feed = Feed("e")
    both = [listening(feed), listening(feed)]
    for listener in both:
        await anext(listener)
    feed.say("began", {"n": 1})

    texts = [await until(listener, "began") for listener in both]
    for listener in both:
        await listener.aclose()

    assert texts[0] == texts[1]
