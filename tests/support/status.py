"""A source for the status endpoint, its run acted out by hand, and ways to ask an application."""

import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import httpx

from bringup.daemon.decisions.actions import PlugVifs
from bringup.daemon.decisions.outcomes import Did, Kind, Outcome, Problem
from bringup.daemon.decisions.rules import Step
from bringup.daemon.decisions.run_events import (
    ActionBegan,
    ActionEnded,
    InstanceBegan,
    InstanceEnded,
    PhaseBegan,
    RunBegan,
    RunEnded,
    WorkFound,
)
from bringup.daemon.status.endpoint.recorder import Recorder
from bringup.daemon.status.endpoint.sockets import short
from bringup.daemon.status.endpoint.source import StatusSource
from bringup.drivers.capacity import Capacity
from support.computer import Computer
from support.drivers import uuid_of
from support.hosts import HOST
from support.process import PATIENCE_S
from support.servers import PLAIN

PLUG = Step("vifs", PlugVifs())
STARTED = datetime(2026, 1, 1, tzinfo=UTC)
DID = {
    **dict.fromkeys(Kind, Did.LEFT_ALONE),
    Kind.INITIALIZED: Did.STARTED,
    Kind.HELD: Did.HELD,
    Kind.DEFERRED: Did.DEFERRED,
}
PROBLEM = Problem("plug_vifs", "VirtualInterfacePlugError", "cannot plug")


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class ManualRun:
    """A run that a test acts out; the recorder's clock is the test's."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.recorder = Recorder(lambda: STARTED, self.clock)
        self.progress = self.recorder.progress
        self.observe = self.recorder.observe
        self.source = StatusSource(
            host=HOST,
            version="1.2.3",
            boot_id=uuid_of(8),
            capacity=Capacity(4),
            stuck_after_s=700,
            recorder=self.recorder,
        )

    def begin(self, total: int) -> None:
        """Pass the gate, find work."""
        self.observe(PhaseBegan("placement"))
        self.clock.now_s = 1
        self.observe(PhaseBegan("records"))
        self.observe(RunBegan(uuid_of(9), 1))
        self.observe(WorkFound(total))
        self.observe(PhaseBegan("instances"))

    def instance(
        self, number: int, kind: Kind = Kind.INITIALIZED, *, took_s: float = 0.5, did: Did | None = None
    ) -> None:
        """Bring one instance through one action."""
        uuid = uuid_of(number)
        self.observe(InstanceBegan(uuid, f"web-{number}", "tests"))
        self.observe(ActionBegan(uuid, PLUG))
        self.clock.now_s += took_s
        failed = kind is Kind.FAILED
        self.observe(ActionEnded(uuid, PLUG, RuntimeError("no") if failed else None))
        problem = PROBLEM if failed else None
        outcome = Outcome(
            uuid=uuid,
            kind=kind,
            because=("vifs",),
            took_s=took_s,
            name=f"web-{number}",
            project_id="tests",
            did=did or DID[kind],
            problem=problem,
        )
        self.observe(InstanceEnded(outcome))

    def end(self) -> None:
        """End the run, and stay."""
        self.observe(RunEnded())
        self.source.staying.set()


@asynccontextmanager
async def app_client(app: Any, *, host: str = "bringup") -> AsyncIterator[httpx.AsyncClient]:
    """Provide a client of an application, without a server between."""
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as client:
        yield client


@contextmanager
def socket_client(computer: Computer) -> Iterator[httpx.Client]:
    """Provide a client of a host's daemon at its socket."""
    with short(computer.state / "status.sock") as name:
        transport = httpx.HTTPTransport(uds=name, verify=PLAIN)
        with httpx.Client(transport=transport, base_url="http://bringup", timeout=PATIENCE_S) as client:
            yield client


@contextmanager
def silent_client(path: Path) -> Iterator[None]:
    """Connect to a socket and send nothing: the process that answers is started for this one too."""
    with short(path) as name, socket.socket(socket.AF_UNIX) as client:
        client.connect(name)
        yield


class Listener:
    """A client of a stream that an ASGI application sends; it takes a piece when it is asked to."""

    def __init__(self, app: Any, path: str, *, query: str = "", headers: dict[str, str] | None = None) -> None:
        self._app = app
        self._scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": query.encode(),
            "headers": [(b"host", b"bringup"), *((k.encode(), v.encode()) for k, v in (headers or {}).items())],
            "server": None,
            "client": None,
        }
        self._send, self._messages = anyio.create_memory_object_stream[dict[str, Any]](0)
        self._gone = anyio.Event()
        self.status = 0
        self.ended = anyio.Event()

    async def serve(self) -> None:
        """Run the application for this client; to be started beside the test."""
        try:
            await self._app(self._scope, self._receive, self._send.send)
        finally:
            self._send.close()
            self.ended.set()

    async def _receive(self) -> dict[str, Any]:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    def disconnect(self) -> None:
        """Close the connection."""
        self._gone.set()
        self._messages.close()

    async def start(self) -> int:
        """Wait for the head of the answer; return its status."""
        message = await self._messages.receive()
        assert message["type"] == "http.response.start"
        self.status = message["status"]
        return self.status

    async def next_chunk(self) -> str:
        """Wait for the next piece; empty at the end."""
        message = await self._messages.receive()
        if not message.get("more_body", False):
            self._messages.close()
        text: bytes = message.get("body", b"")
        return text.decode()

    async def until(self, word: str) -> str:
        """Read chunks until a word was in one; return all of them."""
        found = ""
        while word not in found:
            found += await self.next_chunk()
        return found
