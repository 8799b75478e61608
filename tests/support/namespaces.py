"""Network namespaces of the tests' own.

A namespace belongs to a thread.  A test runs in the main thread; what it starts from there is in its namespace too:
processes, the threads of the driver for libvirt, and the worker threads of asyncio, which are new for each event loop.
Trio keeps idle threads for a while: they are moved.
"""

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio

CLONE_NEWNET = 0x40000000
OF_THIS_THREAD = "/proc/thread-self/ns/net"
THREADS = 64
"""More than Trio has idle ones."""
PATIENCE_S = 60.0

_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def new_network_namespace() -> Iterator[None]:
    """Enter a new namespace with nothing in it but a loopback device that is down."""
    before = os.open(OF_THIS_THREAD, os.O_RDONLY)
    try:
        if _libc.unshare(CLONE_NEWNET) != 0:
            pytest.skip(f"a network namespace cannot be made: {os.strerror(ctypes.get_errno())}; needs root")
        within = os.open(OF_THIS_THREAD, os.O_RDONLY)
        try:
            _move_idle_threads(within)
            yield
        finally:
            os.close(within)
            _enter(before)
            _move_idle_threads(before)
    finally:
        os.close(before)


def _enter(namespace: int) -> None:
    assert _libc.setns(namespace, CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())


def _move_idle_threads(namespace: int) -> None:
    """Make every idle thread enter it: none is idle twice while all of them wait for each other."""
    all_there = threading.Barrier(THREADS + 1, timeout=PATIENCE_S)

    def enter() -> None:
        _enter(namespace)
        all_there.wait()

    for _ in range(THREADS):
        trio.lowlevel.start_thread_soon(enter, lambda _outcome: None)
    all_there.wait()
