"""Servers of socketserver that serve beside a test."""

import contextlib
import socketserver
import threading
from collections.abc import Iterator


class SilentServer(socketserver.ThreadingTCPServer):
    """Answers each connection in a thread that nobody waits for."""

    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """Stay silent: who asked is gone."""


@contextlib.contextmanager
def serving(server: socketserver.BaseServer, ended: threading.Event) -> Iterator[None]:
    """Serve for as long as the block lasts; ``ended`` is set at its end, for handlers that wait."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        server.shutdown()
        thread.join()
