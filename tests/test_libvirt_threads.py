"""Calls in threads: one after the other they share one, and one that hangs keeps its own and nothing else."""

import threading
from collections.abc import Callable

import anyio
import pytest

from bringup.drivers.libvirt.threads import Abandoned, CallThread, in_thread
from support.polling import until

pytestmark = pytest.mark.anyio


def of_this_thread(_abandoned: Abandoned) -> int:
    return threading.get_ident()


async def at_once(work: Callable[[Abandoned], int], count: int) -> set[int]:
    found = set[int]()

    async def one() -> None:
        found.add(await in_thread(work))

    async with anyio.create_task_group() as group:
        for _ in range(count):
            group.start_soon(one)
    return found


async def test_calls_one_after_the_other_share_a_thread() -> None:
    assert len({await in_thread(of_this_thread) for _ in range(5)}) == 1


async def test_calls_at_once_have_a_thread_each_and_leave_them_to_the_next() -> None:
    together = threading.Barrier(3)

    def meet(abandoned: Abandoned) -> int:
        together.wait(60)
        return of_this_thread(abandoned)

    first = await at_once(meet, 3)
    assert len(first) == 3
    assert await at_once(meet, 3) == first


async def test_a_call_that_fails_leaves_its_thread_to_the_next() -> None:
    found: list[int] = []

    def fail(abandoned: Abandoned) -> None:
        found.append(of_this_thread(abandoned))
        raise OSError("no answer")

    with pytest.raises(OSError, match="no answer"):
        await in_thread(fail)
    assert await in_thread(of_this_thread) == found[0]


async def test_a_call_that_hangs_keeps_its_thread_until_it_ends() -> None:
    ends, ended = threading.Event(), anyio.Event()
    hanging: list[int] = []

    def hang(abandoned: Abandoned) -> None:
        hanging.append(of_this_thread(abandoned))
        ends.wait(60)

    with anyio.move_on_after(0.05):
        await in_thread(hang, at_end=ended.set)
    other = await in_thread(of_this_thread)
    assert [other] != hanging
    ends.set()
    await ended.wait()
    assert await at_once(of_this_thread, 2) <= {other, *hanging}


def test_a_thread_that_is_idle_for_long_ends() -> None:
    idle: list[CallThread] = []
    idle.append(CallThread(idle, idle_s=0.01))
    until(lambda: not idle, "the end of the thread")


def test_a_thread_that_was_taken_as_it_was_about_to_end_carries_out_the_call() -> None:
    called = threading.Event()

    def call() -> bool:
        called.set()
        return False

    # It is among no idle ones: whoever took it has yet to submit.
    thread = CallThread([], idle_s=0.001)
    assert not called.wait(0.05)
    thread.submit(call)
    assert called.wait(60)
