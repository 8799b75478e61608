"""A real Placement a test process, and servers that answer what a real one does not on demand."""

import atexit
import contextlib
import functools
import json
import os
import socket
import socketserver
import subprocess
import sys
import threading
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from bringup.placement.auth import NoAuth
from bringup.placement.client import PlacementClient, connect
from support.preloaded import Forked, preloaded_cloud
from support.servers import SilentServer, serving

SERVER = (sys.executable, "-m", "bringup.daemon.cli.demo_site.placement_server")
TOKEN = "admin:s3cr3t-pr0ject"
STDERR = 2
END_S = 30.0
HANG = b"(hang)"
"""An answer that never comes."""
NOTHING = b""
"""A connection that is closed without an answer."""
DOCUMENT = {"versions": [{"id": "v1.0", "min_version": "1.0", "max_version": "1.39", "status": "CURRENT"}]}


def start_placement(
    *arguments: str, afresh: bool = False, stderr: int = STDERR, **options: Any
) -> tuple["subprocess.Popen[str] | Forked", str]:
    """Start a Placement of one's own, spared its imports if not ``afresh``; the caller ends it."""
    streams: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": stderr}
    process = (
        subprocess.Popen([*SERVER, *arguments], text=True, **streams, **options)
        if afresh
        else preloaded_cloud("placement").start(["alone", *arguments], os.environ, **streams, **options)
    )
    assert process.stdout is not None
    return process, json.loads(process.stdout.readline())["url"]


@functools.cache
def real_placement() -> str:
    """Return the URL of this process' Placement, started when first asked for."""
    process, url = start_placement()
    atexit.register(process.communicate, timeout=END_S)
    return url


def fresh_name() -> str:
    """Return a provider name that no other test has."""
    return f"compute-{uuid.uuid4()}"


@contextlib.asynccontextmanager
async def a_client(
    url: str | None = None, *, token: str | None = TOKEN, read_timeout_s: float = 10
) -> AsyncIterator[PlacementClient]:
    """Open a client, of the real Placement if no other is named."""
    auth = None if token is None else NoAuth(token)
    async with connect(url or real_placement(), auth=auth, read_timeout_s=read_timeout_s) as client:
        yield client


def an_answer(status: int = 200, content: Any = None, **headers: str) -> bytes:
    """Write an HTTP answer; ``content`` is bytes, or becomes JSON."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


@dataclass
class Peer:
    """A server on loopback that gives prepared answers, whatever is asked; the last one again and again."""

    answers: Sequence[bytes]
    url: str = ""
    requests: list[str] = field(default_factory=list)
    """The heads of the requests, as they came."""
    ended: threading.Event = field(default_factory=threading.Event)


@contextlib.contextmanager
def a_peer(*answers: bytes) -> Iterator[Peer]:
    """Serve these answers, one a connection."""
    peer = Peer(answers)
    lock = threading.Lock()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            if self.connection.recv(1, socket.MSG_PEEK) == b"\x16":  # TLS, which this is not
                self.wfile.write(peer.answers[0])
                return
            lines = list(iter(self.rfile.readline, b"\r\n"))
            head = b"".join(lines)
            length = [line.partition(b":")[2] for line in lines if line.lower().startswith(b"content-length:")]
            # Unread, it would break the connection.
            self.rfile.read(int(length[0]) if length else 0)
            with lock:
                answer = peer.answers[min(len(peer.requests), len(peer.answers) - 1)]
                peer.requests.append(head.decode("latin-1"))
            if answer == HANG:
                peer.ended.wait()
            else:
                self.wfile.write(answer)

    with SilentServer(("127.0.0.1", 0), Handler) as server:
        peer.url = f"http://127.0.0.1:{server.server_address[1]}"
        with serving(server, peer.ended):
            yield peer


@contextlib.contextmanager
def nobody() -> Iterator[str]:
    """Yield a URL where nobody listens."""
    with socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler, bind_and_activate=False) as held:
        held.server_bind()  # taken, so that nobody else listens there; never listened on
        yield f"http://127.0.0.1:{held.server_address[1]}"
