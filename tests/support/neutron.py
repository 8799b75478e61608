"""A Neutron of the ports of one host: what the real nova-compute asks of it where it destroys a guest."""

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

LISTS = ("networks", "subnets", "floatingips", "security-groups", "extensions")


class Neutron(ThreadingHTTPServer):
    """Ports by ID; a request for anything else finds nothing."""

    daemon_threads = True

    def __init__(self) -> None:
        """Listen on a port of loopback."""
        super().__init__(("127.0.0.1", 0), _Answers)
        self.ports: dict[str, dict[str, Any]] = {}

    @property
    def url(self) -> str:
        """What a client is told."""
        return f"http://127.0.0.1:{self.server_port}"

    def have(self, ports: Sequence[tuple[str, str]]) -> None:
        """Set these ports and no others: each its ID and the UUID of its instance."""
        self.ports = {one: {"id": one, "device_id": of, "binding:profile": {}} for one, of in ports}

    def left(self, instance: str) -> int:
        """Count the ports of an instance."""
        return sum(port["device_id"] == instance for port in self.ports.values())


class _Answers(BaseHTTPRequestHandler):
    server: Neutron

    def do_GET(self) -> None:
        """Answer with the ports that are asked for, and with an empty list of anything else."""
        asked = urlsplit(self.path)
        name = asked.path.rpartition("/")[2].removesuffix(".json")
        if name == "ports":
            wanted = parse_qs(asked.query).get("device_id")
            ports = [port for port in self.server.ports.values() if wanted is None or port["device_id"] in wanted]
            self._answer(200, {"ports": ports})
        elif name in self.server.ports:
            self._answer(200, {"port": self.server.ports[name]})
        else:
            self._answer(200, {name.replace("-", "_"): []} if name in LISTS else {})

    def do_PUT(self) -> None:
        """Change nothing, and say that it was done."""
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer(200, {"port": self.server.ports.get(self.path.rpartition("/")[2], {})})

    def do_DELETE(self) -> None:
        """Delete a port."""
        found = self.server.ports.pop(self.path.rpartition("/")[2].removesuffix(".json"), None)
        self._answer(404 if found is None else 204, None)

    def _answer(self, status: int, document: Any) -> None:
        body = b"" if document is None else json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the name is the base's
        """Log nothing."""


@contextmanager
def a_neutron() -> Iterator[Neutron]:
    """Run one."""
    server = Neutron()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
