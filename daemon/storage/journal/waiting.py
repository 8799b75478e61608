"""Entries that wait for a commit which many of them share.

They are of instances that need nothing: without them an instance is decided on again, as if it had not been.  Once an
entry of an instance did not wait, no later one of it does.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from bringup.daemon.storage.journal.rows import Entry, SettledEntry


class WaitingEntries:
    """Entries in memory, in their order.  The event loop adds them, the thread of the journal writes them."""

    def __init__(self) -> None:
        """Build it without any; none may wait yet."""
        self.are_allowed = False
        self._entries: deque[Entry] = deque()
        self._do_not_wait: set[str] = set()
        """UUIDs of instances with an entry that did not wait, or with an outcome."""

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._entries)

    def clear(self) -> None:
        """Forget all of them: a run starts."""
        self._entries.clear()
        self._do_not_wait.clear()

    def accepts_more_of(self, uuid: str) -> bool:
        """Check whether the next entry of an instance may wait."""
        return self.are_allowed and uuid not in self._do_not_wait

    def close(self, uuid: str) -> None:
        """Accept no further entry of an instance."""
        self._do_not_wait.add(uuid)

    def accepts(self, uuid: str, entry: Entry, *, at_once: bool) -> bool:
        """Store an entry; False: it must be written at once."""
        does_wait = not at_once and self.accepts_more_of(uuid)
        if does_wait:
            self._entries.append(entry)
        if not does_wait or isinstance(entry, SettledEntry):
            self.close(uuid)
        return does_wait

    @contextmanager
    def taken(self) -> Iterator[Sequence[Entry]]:
        """Return all of them for the block to write; if it fails they wait on."""
        entries = list(self._drained())
        try:
            yield entries
        except BaseException:
            self._entries.extendleft(reversed(entries))
            raise

    def dropped_outcomes(self) -> Iterator[SettledEntry]:
        """Drop all of them; return the outcomes among them."""
        return (entry for entry in self._drained() if isinstance(entry, SettledEntry))

    def _drained(self) -> Iterator[Entry]:
        # Both threads may be here: neither counts on an entry that the other takes.
        with suppress(IndexError):
            while True:
                yield self._entries.popleft()
