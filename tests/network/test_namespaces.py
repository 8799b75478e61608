"""The tests' own network namespaces: what is looked at from a thread is looked at in the same one."""

from pathlib import Path

import anyio
import pytest

from bringup.drivers.libvirt.threads import in_thread
from support.namespaces import OF_THIS_THREAD, new_network_namespace

AT_ONCE = 5


def here() -> str:
    return str(Path(OF_THIS_THREAD).readlink())


async def in_threads() -> list[str]:
    """Return the namespaces of new threads of the libvirt driver."""
    found: list[str] = []

    async def one() -> None:
        found.append(await in_thread(lambda _: here()))

    async with anyio.create_task_group() as group:
        for _ in range(AT_ONCE):
            group.start_soon(one)
    return found


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_thread_of_the_driver_is_in_the_namespace_of_the_test(backend: str) -> None:
    outside = here()
    assert anyio.run(in_threads, backend=backend) == [outside] * AT_ONCE
    with new_network_namespace():
        assert here() != outside
        assert anyio.run(in_threads, backend=backend) == [here()] * AT_ONCE
    assert anyio.run(in_threads, backend=backend) == [outside] * AT_ONCE
