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


async def test_a_listener_receives_events_in_order() -> None:
    feed = Feed("e")
    feed.publish("before", {})
    listener = listening(feed)
    first = await anext(listener)

    feed.publish("began", {"uuid": "a"})
    feed.publish("ended", '{"uuid":"a"}')
    text = await until(listener, "ended")
    await listener.aclose()

    assert first == "event: progress\ndata: {}\n\n"
    assert text.startswith('id: e-2\nevent: began\ndata: {"uuid":"a"}\n\nid: e-3\nevent: ended\ndata: {"uuid":"a"}\n\n')
    assert feed.listeners == 0


async def test_a_waiting_listener_is_woken_by_an_event() -> None:
    feed = Feed("e")
    listener = listening(feed)
    await anext(listener)
    events: list[str] = []

    async def read_event() -> None:
        events.append(await until(listener, "began"))

    async with anyio.create_task_group() as group:
        group.start_soon(read_event)
        await anyio.wait_all_tasks_blocked()
        feed.publish("began", {})
    await listener.aclose()

    assert len(events) == 1


async def test_a_returning_listener_receives_missed_events() -> None:
    feed = Feed("e")
    for number in range(5):
        feed.publish("began", {"n": number})
    listener = listening(feed, "e-3")

    await anext(listener)
    text = await until(listener, '"n":4')
    await listener.aclose()

    assert '"n":3' in text
    assert '"n":2' not in text


@pytest.mark.parametrize(
    "last_id", ["other-3", "e-1", "e-99", "e-", "", "nonsense", "e-3\n", f"e-{'9' * 5000}", "e-\u0663"]
)
async def test_a_listener_that_missed_dropped_events_gets_a_reset(last_id: str) -> None:
    """The ring has forgotten it, or it is of a process before this one."""
    feed = Feed("e", keep=2)
    for _ in range(5):
        feed.publish("began", {})
    listener = listening(feed, last_id)

    first = await anext(listener)
    feed.publish("later", {})
    rest = await until(listener, "later")
    await listener.aclose()

    assert first.startswith("event: reset\ndata: {}\n\n")
    assert "began" not in rest


async def test_a_slow_listener_is_dropped_and_costs_nothing() -> None:
    feed = Feed("e", keep=3)
    listener = listening(feed)
    await anext(listener)

    for _ in range(10):
        feed.publish("began", {})
    with pytest.raises(StopAsyncIteration), anyio.fail_after(60):
        await anext(listener)

    assert (feed.dropped, feed.listeners) == (1, 0)


async def test_listeners_above_the_limit_are_refused() -> None:
    feed = Feed("e", listeners=1)
    first = listening(feed)
    await anext(first)

    with pytest.raises(TooManyListeners):
        await anext(listening(feed))
    await first.aclose()
    again = listening(feed)
    await anext(again)
    await again.aclose()


async def test_at_the_end_every_listener_receives_the_end() -> None:
    feed = Feed("e")
    listener = listening(feed)
    await anext(listener)
    feed.publish("done", {})
    feed.close()

    with anyio.fail_after(60):
        text = "".join([piece async for piece in listener])

    assert "event: done\n" in text
    assert text.endswith("event: end\ndata: {}\n\n")


async def test_progress_is_sent_each_second_during_work() -> None:
    feed = Feed("e")
    listener = feed.listen(None, lambda: "event: progress\ndata: {}\n\n", lambda: True)

    with anyio.fail_after(60):
        beats = [await anext(listener) for _ in range(3)]
    await listener.aclose()

    assert beats == ["event: progress\ndata: {}\n\n"] * 3


async def test_two_listeners_receive_the_same_events() -> None:
    feed = Feed("e")
    both = [listening(feed), listening(feed)]
    for listener in both:
        await anext(listener)
    feed.publish("began", {"n": 1})

    texts = [await until(listener, "began") for listener in both]
    for listener in both:
        await listener.aclose()

    assert texts[0] == texts[1]
