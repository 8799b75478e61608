"""A small scheduler that receives reports over HTTP, for the demonstration and the tests.

``POST /reports`` accepts a report: 201 for a new one, 200 for a repeat.  ``GET /reports`` lists them.
``GET /hosts/<host>`` shows the instances of a host as Nova's ``HostManager`` would have them: what is reported is
merged, what is deleted or elsewhere is removed, what is not mentioned stays.

A report is on disk before it is acknowledged, so a kill loses nothing.  It prints its URL as a line of JSON, and exits
when stdin closes or on SIGTERM.
"""

import argparse
import contextlib
import http.server
import json
import os
import signal
import sys
import threading
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from bringup.daemon.storage.files import make_private_directory, write_durably
from bringup.daemon.storage.outbox.report import Report, is_report

Hosts = dict[str, dict[str, Any]]


@dataclass(slots=True, kw_only=True)
class ReceiverFaults:
    """Injected faults, as the options of the command line describe them."""

    fail_first: int = 0
    hang_first: int = 0
    drop_first: int = 0
    status: int | None = None
    retry_after: str | None = None


class Receiver(http.server.ThreadingHTTPServer):
    """Server that keeps the reports in memory and in ``directory``; it listens on loopback once it is created."""

    daemon_threads = True
    block_on_close = False

    def __init__(
        self, directory: Path, *, port: int = 0, token: str | None = None, faults: ReceiverFaults | None = None
    ) -> None:
        """Read the reports of an earlier process; ``port`` 0: any."""
        super().__init__(("127.0.0.1", port), _Handler)
        make_private_directory(directory)
        self.directory = directory
        self.token = token
        self.faults = faults or ReceiverFaults()
        self.stopped = threading.Event()
        self.lock = threading.Lock()
        self.reports: list[Report] = [json.loads(path.read_bytes()) for path in sorted(directory.glob("*.json"))]
        self.hosts: Hosts = {}
        for report in self.reports:
            merge(self.hosts, report)

    @property
    def url(self) -> str:
        """URL without a trailing slash."""
        return f"http://127.0.0.1:{self.server_port}"

    def keep(self, report: Report) -> bool:
        """Write a report to disk; return whether it is new."""
        with self.lock:
            if any(known["report_id"] == report["report_id"] for known in self.reports):
                return False
            path = self.directory / f"{len(self.reports):08d}.json"
            write_durably(path, json.dumps(report).encode("ascii"), draft=path.with_suffix(".tmp"))
            self.reports.append(report)
            merge(self.hosts, report)
            return True

    def stop(self) -> None:
        """Stop the server, and the requests that hang."""
        self.stopped.set()
        self.shutdown()
        self.server_close()


def merge(hosts: Hosts, report: Report) -> None:
    """Apply a report to the known instances, by the rules of Nova's ``HostManager``."""
    instances = hosts.setdefault(report["host"], {})
    for instance in report["instances"]:
        instances[instance["uuid"]] = instance
    for uuid in (*report["deleted"], *(instance["uuid"] for instance in report["elsewhere"])):
        instances.pop(uuid, None)


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Receiver
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if not self._is_allowed():
            return
        with self.server.lock:
            host = unquote(self.path.removeprefix("/hosts/"))
            if self.path == "/reports":
                self._answer(HTTPStatus.OK, {"reports": self.server.reports})
            elif self.path.startswith("/hosts/") and host in self.server.hosts:
                self._answer(HTTPStatus.OK, {"host": host, "instances": list(self.server.hosts[host].values())})
            else:
                self._answer(HTTPStatus.NOT_FOUND, {"error": f"not found: {self.path}"})

    def do_POST(self) -> None:
        # Read first: an answer before the end of the request breaks the connection.
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if not self._is_allowed() or self._fails():
            return
        report = _parse(body)
        if self.path != "/reports":
            self._answer(HTTPStatus.NOT_FOUND, {"error": f"reports go to /reports, not to {self.path}"})
        elif report is None or self.headers.get("Idempotency-Key") != report["report_id"]:
            self._answer(HTTPStatus.BAD_REQUEST, {"error": "not a report, or its id is not the Idempotency-Key"})
        else:
            status = HTTPStatus.CREATED if self.server.keep(report) else HTTPStatus.OK
            self.close_connection = self._hits("drop_first")
            if not self.close_connection:
                self._answer(status, {"report_id": report["report_id"]})

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is http.server's
        """Stay silent: stdout has the URL only."""

    def _is_allowed(self) -> bool:
        if self.server.token is None or self.headers.get("Authorization") == f"Bearer {self.server.token}":
            return True
        self._answer(HTTPStatus.UNAUTHORIZED, {"error": "wrong bearer token"})
        return False

    def _fails(self) -> bool:
        if self._hits("hang_first"):
            self.server.stopped.wait()
            self.close_connection = True
            return True
        status = HTTPStatus.SERVICE_UNAVAILABLE if self._hits("fail_first") else self.server.faults.status
        if status is not None:
            self._answer(status, {"error": "not now"})
        return status is not None

    def _hits(self, fault: str) -> bool:
        with self.server.lock:
            left: int = getattr(self.server.faults, fault)
            setattr(self.server.faults, fault, max(left - 1, 0))
        return left > 0

    def _answer(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode("ascii")
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if status >= HTTPStatus.BAD_REQUEST and self.server.faults.retry_after is not None:
            self.send_header("Retry-After", self.server.faults.retry_after)
        self.end_headers()
        self.wfile.write(body)


def _parse(body: bytes) -> Report | None:
    with contextlib.suppress(ValueError, RecursionError):
        report = json.loads(body)
        return report if is_report(report) else None
    return None


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scheduler_receiver", description="Receive reports over HTTP.")
    parser.add_argument("--port", type=int, default=0, help="0: any (default)")
    parser.add_argument("--directory", type=Path, required=True, help="directory of the reports")
    parser.add_argument("--token-file", type=Path, help="file with the required bearer token")
    parser.add_argument("--fail-first", type=int, default=0, metavar="N", help="answer 503 to the first N reports")
    parser.add_argument("--hang-first", type=int, default=0, metavar="N", help="do not answer the first N")
    parser.add_argument("--drop-first", type=int, default=0, metavar="N", help="store the first N without an answer")
    parser.add_argument("--status", type=int, metavar="CODE", help="answer this to all reports")
    parser.add_argument("--retry-after", metavar="VALUE", help="header of the answers from 400 on")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Serve until stdin closes, or until SIGTERM."""
    options = vars(_arguments(arguments))
    port, directory, token_file = options.pop("port"), options.pop("directory"), options.pop("token_file")
    token = None if token_file is None else token_file.read_text().strip()
    receiver = Receiver(directory, port=port, token=token, faults=ReceiverFaults(**options))
    ended = threading.Event()

    def wait_for_end_of_input() -> None:
        # Not sys.stdin: the interpreter cannot exit while a thread holds its lock.
        while os.read(sys.stdin.fileno(), 4096):
            pass
        ended.set()

    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    threading.Thread(target=wait_for_end_of_input, name="stdin", daemon=True).start()
    threading.Thread(target=receiver.serve_forever, name="receiver", daemon=True).start()
    sys.stdout.write(json.dumps({"url": receiver.url}) + "\n")
    sys.stdout.flush()
    ended.wait()
    receiver.stop()


if __name__ == "__main__":
    main()
