"""Servers of socketserver that serve beside a test, and what their clients of plain HTTP verify with."""

import _thread
import contextlib
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any

PLAIN = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Trusts nobody: to load the certificates of the system takes 20 ms of each client."""


def start_unmeasured(work: Callable[[], None]) -> None:
    """Start a thread in which coverage does not trace.

    It has nothing to measure there, and Python 3.11 ends a thread that starts tracing while another one does
    (RuntimeError: "Cannot install a trace function while another trace function is being installed").
    """
    _thread.start_new_thread(work, ())


class SilentServer(socketserver.ThreadingTCPServer):
    """Answers each connection in a thread that nobody waits for."""

    daemon_threads = True
    block_on_close = False

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread of its own."""
        start_unmeasured(lambda: self.process_request_thread(request, client_address))

    def handle_error(self, request: object, client_address: object) -> None:
        """Stay silent: who asked is gone."""


@contextlib.contextmanager
def serving(server: socketserver.BaseServer, ended: threading.Event) -> Iterator[None]:
    """Serve for as long as the block lasts; ``ended`` is set at its end, for handlers that wait."""
    over = threading.Event()

    def serve() -> None:
        try:
            server.serve_forever(poll_interval=0.01)
        finally:
            over.set()

    start_unmeasured(serve)
    try:
        yield
    finally:
        ended.set()
        server.shutdown()
        over.wait()
