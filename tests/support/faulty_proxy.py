"""A proxy between us and a real server that does to answers what networks and proxies do.

It speaks just enough HTTP/1.1: one request a connection at a time, bodies with a Content-Length.  What happens to a
request is drawn from a seed, as often as its schedule says; after that everything gets through.
"""

import contextlib
import http.client
import random
import re
import socket
import socketserver
import ssl
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from support.servers import SilentServer, serving

KINDS = (
    "reset before",
    "reset after",
    "half",
    "delay",
    "silence",
    "500",
    "503",
    "429",
    "502 after",
    "wrong type",
    "drip",
)
NEVER_ASKED = frozenset({"reset before", "500", "503", "429", "wrong type"})
"""With these the server never sees the request; with the others it has done what it was asked."""
DELAY_S = 0.05
LATE_S = 1.2
"""How long an answer stays away with "late", which is in no schedule."""
DRIPS = 10
PATIENCE_S = 30.0
GENERATION = re.compile(rb'"(?:resource_provider_)?generation": ?([0-9]+)')
RESET = struct.pack("ii", 1, 0)


@dataclass
class Proxy:
    """What a proxy is to do, and what it saw."""

    upstream: str
    faults: list[str] = field(default_factory=list)
    """What happens to the next requests, in order; "" lets one through."""
    gate: threading.Event | None = None
    """Requests wait until it is set."""
    url: str = ""
    requests: list[str] = field(default_factory=list)
    connections: int = 0
    generations: list[int] = field(default_factory=list)
    """Those of the resource provider that was asked for, as the answers told them."""
    ended: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def takes(self, line: str) -> str:
        """Note a request, and tell what happens to it."""
        with self._lock:
            self.requests.append(line)
            return self.faults.pop(0) if self.faults else ""


def a_schedule(seed: int, *, most: int = 6, kinds: tuple[str, ...] = KINDS) -> list[str]:
    """Draw what happens to the first requests: half of them get through."""
    draw = random.Random(seed)  # noqa: S311 - chaos, no secret
    return [draw.choice(("", draw.choice(kinds))) for _ in range(draw.randint(1, most))]


def _reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    connection.close()


class _Handler(socketserver.StreamRequestHandler):
    proxy: Proxy

    def handle(self) -> None:
        self.proxy.connections += 1
        with contextlib.suppress(OSError):
            while self._one():
                pass

    def _one(self) -> bool:
        """Handle one request; return whether the connection stays open."""
        line = self.rfile.readline()
        if not line.strip():
            return False
        headers = http.client.parse_headers(self.rfile)
        body = self.rfile.read(int(headers.get("Content-Length") or 0))
        method, path, _ = line.decode().split()
        if self.proxy.gate is not None:
            self.proxy.gate.wait(PATIENCE_S)
        fault = self.proxy.takes(f"{method} {path}")
        if fault in NEVER_ASKED:
            return self._unasked(fault)
        answer = self._asked(method, path, headers, body)
        # The list of all of them tells of others, too.
        if path.startswith("/resource_providers") and (method, path) != ("GET", "/resource_providers"):
            self.proxy.generations += [int(number) for number in GENERATION.findall(answer)]
        return self._answered(fault, answer)

    def _unasked(self, fault: str) -> bool:
        """Do to a request what happens before the server sees it."""
        if fault == "reset before":
            _reset(self.connection)
            return False
        if fault == "wrong type":
            return self._say(200, b"<html><title>Welcome</title>", {"Content-Type": "text/html"})
        return self._say(int(fault), b'{"message": "not now"}', {"Retry-After": "0", "Content-Type": "text/json"})

    def _answered(self, fault: str, answer: bytes) -> bool:
        """Do to an answer what happens on its way back: the server has done what it was asked."""
        if fault == "reset after":
            _reset(self.connection)
            return False
        if fault == "502 after":
            return self._say(502, b"<html>Bad Gateway", {"Content-Type": "text/html"})
        if fault == "half":
            self.wfile.write(answer[: len(answer) // 2])
            return False
        if fault == "silence":
            # Until whoever asked has had enough of waiting.
            self.connection.settimeout(PATIENCE_S)
            self.connection.recv(1)
            return False
        if fault == "delay":
            self.proxy.ended.wait(DELAY_S)
        if fault == "late":
            self.proxy.ended.wait(LATE_S)
        step = max(1, len(answer) // DRIPS) if fault == "drip" else len(answer)
        for start in range(0, len(answer), step):
            self.wfile.write(answer[start : start + step])
            if fault == "drip":
                self.proxy.ended.wait(DELAY_S / DRIPS)
        return True

    def _say(self, status: int, body: bytes, headers: dict[str, str]) -> bool:
        lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self.wfile.write("\r\n".join([*lines, "", ""]).encode() + body)
        return True

    def _asked(self, method: str, path: str, headers: http.client.HTTPMessage, body: bytes) -> bytes:
        parts = urlsplit(self.proxy.upstream)
        upstream = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
        try:
            upstream.request(method, parts.path + path, body or None, dict(headers.items()))
            answer = upstream.getresponse()
            content = answer.read()
            kept = [
                f"{name}: {value}"
                for name, value in answer.getheaders()
                if name.lower() not in {"connection", "content-length", "transfer-encoding"}
            ]
        finally:
            upstream.close()
        lines = [f"HTTP/1.1 {answer.status} {answer.reason}", *kept]
        if answer.status != http.client.NO_CONTENT:
            lines.append(f"Content-Length: {len(content)}")
        return "\r\n".join([*lines, "", ""]).encode() + content


@contextlib.contextmanager
def a_proxy(
    upstream: str,
    faults: list[str] | None = None,
    *,
    tls: ssl.SSLContext | None = None,
    gate: threading.Event | None = None,
) -> Iterator[Proxy]:
    """Stand before ``upstream``; with ``tls``, as a server of https."""
    proxy = Proxy(upstream, faults or [], gate=gate)

    class Server(SilentServer):
        request_queue_size = 64

        def get_request(self) -> tuple[socket.socket, object]:
            connection, address = super().get_request()
            if tls is not None:
                connection.settimeout(10)
                connection = tls.wrap_socket(connection, server_side=True)
            return connection, address

    handler = type("Handler", (_Handler,), {"proxy": proxy})
    with Server(("127.0.0.1", 0), handler) as server:
        scheme, host = ("http", "127.0.0.1") if tls is None else ("https", "localhost")
        proxy.url = f"{scheme}://{host}:{server.server_address[1]}"
        with serving(server, proxy.ended):
            yield proxy
