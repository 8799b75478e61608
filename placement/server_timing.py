"""Processing time of a server for one request, without network round trips.

A Keystone that is far away is not a busy one.  The time for setting up the connection is subtracted too, except the TLS
handshake, which the server works on like on the request.
"""

import socket
import ssl
import struct
import time
from typing import Any, Final

import httpx

TCP_INFO_SIZE: Final = 152
MIN_RTT_AT: Final = 148
"""Offset of ``tcpi_min_rtt`` (microseconds) in Linux' ``struct tcp_info``."""
NOT_MEASURED: Final = 0xFFFFFFFF


class ServerTiming:
    """Timing of one request; :meth:`trace` is its extension ``trace`` of httpx."""

    def __init__(self) -> None:
        """Start the clock."""
        self._began = time.monotonic()
        self._ended: float | None = None
        self._is_new_tls = False

    async def trace(self, event: str, _: Any) -> None:
        """Record a step that httpcore reports."""
        match event.rpartition(".")[0], event.rpartition(".")[2]:
            case "connection.connect_tcp", "complete":
                self._began = time.monotonic()
            case "connection.start_tls", "complete":
                self._is_new_tls = True
            case step, "complete" if step.endswith("receive_response_headers"):
                self._ended = time.monotonic()

    def took_s(self, response: httpx.Response) -> float:
        """Return the processing time of the server in seconds."""
        ended = time.monotonic() if self._ended is None else self._ended
        stream = response.extensions.get("network_stream")
        trips = 1
        if self._is_new_tls and stream is not None:
            tls = stream.get_extra_info("ssl_object")
            version = tls.version() if isinstance(tls, ssl.SSLObject | ssl.SSLSocket) else None
            trips += 1 if version == "TLSv1.3" else 2
        way_s = 0.0 if stream is None else _round_trip_s(stream.get_extra_info("socket"))
        return max(0.0, ended - self._began - trips * way_s)


def _round_trip_s(connection: Any) -> float:
    """Return the shortest round trip of a connection by the kernel, in seconds; 0 where it is unknown."""
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_SIZE)
    except (OSError, AttributeError):
        return 0.0
    if len(info) < TCP_INFO_SIZE:
        return 0.0
    (microseconds,) = struct.unpack_from("=I", info, MIN_RTT_AT)
    return 0.0 if microseconds == NOT_MEASURED else float(microseconds) / 1e6
