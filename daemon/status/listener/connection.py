"""uvicorn's HTTP connection, with a slot of its listener and a deadline for all that a client does.

Imported at the first request: it imports uvicorn.
"""

from typing import TYPE_CHECKING, Any

from h11 import LocalProtocolError
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from bringup.daemon.status.listener.connection_slots import Doing, Places

if TYPE_CHECKING:
    from uvicorn.server import ServerState

PIECE = 4096
KEPT = frozenset({"/events", "/release", "/retry", "/pause", "/resume"})
"""Answers that have limits of their own: a number of clients, deadlines of the body and of the request."""


class HttpConnection(H11Protocol):
    """One connection."""

    def __init__(self, config: Config, state: "ServerState", loop: Any, places: Places) -> None:
        """Build the protocol of an accepted connection."""
        super().__init__(config=config, server_state=state, app_state={}, _loop=loop)
        self._places = places
        self._head_began = True

    def doing(self) -> Doing:
        """Return what it does."""
        if self.transport.is_closing():
            return Doing.CLOSING
        if self._is_answering():
            return Doing.KEPT if self.scope["path"] in KEPT else Doing.ANSWERING
        if self.transport.get_write_buffer_size():
            return Doing.ANSWERING
        return Doing.HEAD if self._head_began else Doing.IDLE

    def _is_answering(self) -> bool:
        # uvicorn's types do not have that there is none before the first request.
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    def _gets_on(self) -> None:
        # One that is being closed has had its time; a late answer must not give it a slot again.
        if not self.transport.is_closing():
            self._places.gets_on(self)

    def abort(self) -> None:
        """Close it now, whatever is being sent."""
        self.transport.abort()

    def connection_made(self, transport: Any) -> None:
        """Wait for a request."""
        super().connection_made(transport)
        self._gets_on()

    def connection_lost(self, exc: Exception | None) -> None:
        """Release the slot."""
        super().connection_lost(exc)
        self._places.left(self)

    def data_received(self, data: bytes) -> None:
        """Read more; a part of a head gives no more time, a whole one does."""
        before = self.cycle
        if not self._head_began and self.doing() is Doing.IDLE:
            self._head_began = True
            self._gets_on()
        # h11 limits what it has not parsed yet, and accepts any size of what arrives at once.
        for at in range(0, len(data), PIECE):
            if self.transport.is_closing():
                return
            super().data_received(data[at : at + PIECE])
        if self.cycle is not before:
            self._gets_on()

    def on_response_complete(self) -> None:
        """Wait for the next request, of which a part may have arrived."""
        # What is left in h11 is the next request, or a body that was not requested.
        self._head_began = bool(self.conn.trailing_data[0])
        self._gets_on()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP; end an answer that has begun already."""
        if self._is_answering():
            cycle = self.cycle
            # The handler of the answer stops, and nothing is sent between its parts.
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started:
                self.transport.abort()
                return
        try:
            super().send_400_response(msg)
        except LocalProtocolError:
            self.transport.abort()
