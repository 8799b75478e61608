"""A process that saves records and says which saves were acknowledged: to be killed, or to run out of disk.

Usage: ``store_child.py MODE STORE``.  ``saves`` saves forever, eight at once; ``full`` runs into a limit on the size of
its files, logs what it met, and continues when the limit is lifted.
"""

import resource
import sys
from functools import partial
from pathlib import Path

import anyio

from bringup.daemon.decisions.instances import Expected
from bringup.daemon.decisions.states import VmState
from bringup.daemon.errors import StoreError
from bringup.daemon.storage.store.sql import SqlStore
from bringup.daemon.storage.store.sqlite import open_database

ACTIVE = Expected((VmState.ACTIVE,), (None,))


def print_line(*words: object) -> None:
    """Write a line that is out at once."""
    print(*words, flush=True)  # noqa: T201 - the other end of the pipe reads it


async def save_forever(store: SqlStore, uuid: str) -> None:
    """Save a number that goes up, and say each that was acknowledged."""
    number = 0
    while True:
        number += 1
        await store.save(uuid, {"system_metadata": {"saved": str(number)}}, expected=ACTIVE)
        print_line(uuid, number)


async def save_until_full(store: SqlStore, uuid: str) -> int:
    """Save larger and larger values until one is refused; return the number of the last that was acknowledged."""
    for number in range(1, 1000):
        try:
            await store.save(uuid, {"system_metadata": {"saved": f"{number} {'x' * 20_000}"}}, expected=ACTIVE)
        except StoreError as error:
            print_line("refused", type(error).__name__, str(error), "|", repr(error.__cause__))
            return number - 1
    return -1


async def main(mode: str, path: Path) -> None:
    """Do what the mode says."""
    store = SqlStore(open_database(path))
    uuids = [instance.uuid for instance in await store.load_instances("compute-1")]
    if mode == "saves":
        async with anyio.create_task_group() as tasks:
            for uuid in uuids:
                tasks.start_soon(save_forever, store, uuid)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
    print_line("acknowledged", await save_until_full(store, uuids[0]))
    print_line("read back", (await store.get_instance(uuids[0])).system_metadata["saved"].split()[0])
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await store.save(uuids[1], {"system_metadata": {"saved": "later"}}, expected=ACTIVE)
    await store.close()


if __name__ == "__main__":
    anyio.run(partial(main, sys.argv[1], Path(sys.argv[2])))
