"""A run while unknown clients hold and re-open connections at its status endpoint, and flood it with requests.

These clients are a process of their own with the lowest priority, since they would be another machine; a third process
measures how long ``/livez`` takes: ``python floods.py flood PORT`` and ``python floods.py probe PORT``.
"""

import http.client
import json
import os
import resource
import select
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import anyio
from hosts import NAME, crashed, heavy_tailed, opened_host, uuid_of

from bringup.daemon.recovery.init_host import init_host
from bringup.daemon.service.assembly import utc_now
from bringup.daemon.status.endpoint.channel import Channels
from bringup.daemon.status.endpoint.listeners import Listener, supervised
from bringup.daemon.status.endpoint.recorder import Recorder
from bringup.daemon.status.endpoint.source import StatusSource
from bringup.drivers.capacity import Capacity

SILENT = 1100
ASKING = 8
"""Connections that send requests in a loop."""
ASKED = ("/status", "/timeline", "/metrics", "/livez")
PATIENCE_S = 10.0
EVERY_S = 0.1


def flood(count: int, limit: int, flooded: int, shrink: int = 1) -> dict[str, Any]:
    """Run once as ``makespan`` does, with the endpoint at a TCP address, flooded or without clients; return seconds."""

    async def measured() -> dict[str, Any]:
        recorder = Recorder(utc_now, keep=0)
        source = StatusSource(
            host=NAME,
            version="0",
            boot_id=uuid_of(-2),
            capacity=Capacity(limit),
            stuck_after_s=600,
            recorder=recorder,
        )
        with tempfile.TemporaryDirectory() as directory, socket.create_server(("127.0.0.1", 0), backlog=1024) as served:
            port = served.getsockname()[1]
            listener = Listener(name="flooded", socket=served, host_names=())
            async with (
                supervised(listener, Channels(source)),
                opened_host(
                    Path(directory),
                    count=count,
                    limit=limit,
                    task_states=crashed,
                    latency=heavy_tailed(10_000 / count / shrink),
                    observer=recorder.observe,
                ) as (start, _),
            ):
                await anyio.to_thread.run_sync(_livez, port)
                with ExitStack() as beside:
                    probe = await anyio.to_thread.run_sync(beside.enter_context, _ours("probe", port))
                    if flooded:
                        await anyio.to_thread.run_sync(beside.enter_context, _ours("flood", port))
                    began, began_cpu = time.perf_counter(), time.process_time()
                    result = (await init_host(start)).result
                    took, cpu_s = time.perf_counter() - began, time.process_time() - began_cpu
                    found = await anyio.to_thread.run_sync(_ended, probe)
            assert len(result.outcomes) == count  # noqa: S101 - a benchmark that lost instances measures nothing
            return {"wall_s": took, "cpu_s_an_instance": cpu_s / count, **found}

    return anyio.run(measured)


@contextmanager
def _ours(what: str, port: int) -> Iterator["subprocess.Popen[str]"]:
    """Run one of the other processes for as long as the block lasts."""
    command = [sys.executable, __file__, what, str(port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            _pipe(process.stdout).readline()
            yield process
        finally:
            process.kill()


def _pipe(stream: IO[str] | None) -> IO[str]:
    assert stream is not None  # noqa: S101 - it was asked for
    return stream


def _ended(process: "subprocess.Popen[str]") -> dict[str, Any]:
    """Stop it, and return its result."""
    out, _ = process.communicate("")
    return dict(json.loads(out))


def _livez(port: int) -> float:
    """Send one request on a new connection; return the seconds."""
    began = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    try:
        connection.request("GET", "/livez")
        connection.getresponse().read()
    finally:
        connection.close()
    return time.perf_counter() - began


def _probe(port: int) -> None:
    """Request ``/livez`` until standard input ends; print how long each took, in seconds."""
    over = threading.Event()

    def until_it_ends() -> None:
        sys.stdin.read()
        over.set()

    threading.Thread(target=until_it_ends, daemon=True).start()
    print("ready", flush=True)
    took: list[float] = []
    failed = 0
    while not over.wait(EVERY_S) or not took:
        try:
            took.append(_livez(port))
        except (OSError, http.client.HTTPException):
            failed += 1
    took.sort()
    print(json.dumps({"livez_s": took[len(took) // 2], "livez_most_s": took[-1], "livez_failed": failed}))


def _flood(port: int) -> None:
    """Hold silent connections, re-open those that are closed, and send requests without end on some more."""
    os.nice(19)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    for number in range(ASKING):
        threading.Thread(target=_ask, args=(port, ASKED[number % len(ASKED)]), daemon=True).start()
    held = [socket.create_connection(("127.0.0.1", port)) for _ in range(SILENT)]
    print("ready", flush=True)
    poll, by_number = select.poll(), {each.fileno(): each for each in held}
    for each in held:
        poll.register(each, select.POLLIN)
    while True:
        for number, _ in poll.poll():
            poll.unregister(number)
            by_number.pop(number).close()
            another = socket.create_connection(("127.0.0.1", port))
            by_number[another.fileno()] = another
            poll.register(another, select.POLLIN)


def _ask(port: int, path: str) -> None:
    while True:
        with suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
            while True:
                connection.request("GET", path)
                connection.getresponse().read()


if __name__ == "__main__":
    {"probe": _probe, "flood": _flood}[sys.argv[1]](int(sys.argv[2]))
