import os
import signal

import anyio
import pytest

from bringup.daemon.errors import Unavailable
from bringup.daemon.tasks import background, ended_by_signal

pytestmark = pytest.mark.anyio


async def test_what_the_block_raises_comes_out_as_it_is() -> None:
    with pytest.raises(Unavailable, match=r"^not today$"):
        async with background():
            raise Unavailable("not today")


async def test_what_a_signal_could_end_raises_as_it_is_too() -> None:
    with pytest.raises(Unavailable, match=r"^not today$"):
        async with ended_by_signal(lambda _number: None):
            raise Unavailable("not today")


async def test_tasks_end_with_the_block() -> None:
    ended = anyio.Event()

    async def work() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.set()

    with anyio.fail_after(60):
        async with background() as beside:
            beside.start_soon(work)
            await anyio.wait_all_tasks_blocked()

    assert ended.is_set()


async def test_a_task_that_fails_ends_the_block() -> None:
    async def fail() -> None:
        await anyio.lowlevel.checkpoint()
        raise LookupError("a mistake of ours")

    with anyio.fail_after(60), pytest.RaisesGroup(LookupError):
        async with background() as beside:
            beside.start_soon(fail)
            await anyio.sleep_forever()


async def test_cancellation_passes_through() -> None:
    with anyio.CancelScope() as scope:
        async with ended_by_signal(lambda _number: None), background():
            scope.cancel()
            await anyio.sleep_forever()

    assert scope.cancelled_caught


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda number: number.name)
async def test_a_signal_ends_the_block_and_is_reported(number: signal.Signals) -> None:
    told: list[signal.Signals] = []

    with anyio.fail_after(60):
        async with ended_by_signal(told.append):
            os.kill(os.getpid(), number)
            await anyio.sleep_forever()

    assert told == [number]


async def test_more_signals_change_nothing_while_the_shutdown_report_is_sent() -> None:
    told: list[signal.Signals] = []
    heard = anyio.Event()

    def take(number: signal.Signals) -> None:
        told.append(number)
        if len(told) == 2:
            heard.set()

    last_word = False
    with anyio.fail_after(60):
        async with ended_by_signal(take):
            os.kill(os.getpid(), signal.SIGTERM)
            try:
                await anyio.sleep_forever()
            finally:
                with anyio.CancelScope(shield=True):
                    os.kill(os.getpid(), signal.SIGTERM)
                    await heard.wait()
                    last_word = True

    assert last_word
    assert told == [signal.SIGTERM, signal.SIGTERM]


async def test_after_the_block_signals_are_as_before() -> None:
    before = signal.getsignal(signal.SIGTERM)

    async with ended_by_signal(lambda _number: None):
        assert signal.getsignal(signal.SIGTERM) != before

    assert signal.getsignal(signal.SIGTERM) == before


async def test_a_hang_up_may_be_something_else_than_the_end() -> None:
    told: list[signal.Signals] = []
    hung_up = anyio.Event()

    with anyio.fail_after(60):
        async with ended_by_signal(told.append, on_hangup=hung_up.set):
            os.kill(os.getpid(), signal.SIGHUP)
            await hung_up.wait()
            os.kill(os.getpid(), signal.SIGTERM)
            await anyio.sleep_forever()

    assert told == [signal.SIGTERM]
