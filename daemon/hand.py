"""The record that is being worked on."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Unpack

from bringup.daemon.instances import Changes, Expected, Instance, Migration
from bringup.daemon.states import TaskState
from bringup.daemon.store.base import Store


class Hand:
    """One record in hand: what is stored of it, and what was changed and not saved yet.

    A save that fails leaves its changes in hand, and the next save carries them: Nova's ``Instance`` does the same, and
    the rows of the oracle with two saves depend on it.
    """

    __slots__ = ("_store", "_stored", "_unsaved", "deleted", "instance", "left_over")

    def __init__(self, instance: Instance, store: Store, moves: Iterable[Migration] = ()) -> None:
        """Take ``instance`` as it was read from ``store``, with rows of migrations that nobody works on."""
        self.left_over = frozenset((move.uuid, move.status) for move in moves)
        self.instance = instance
        self.deleted = False
        self._store = store
        self._stored = instance
        self._unsaved: Changes = {}

    @property
    def stored(self) -> Instance:
        """The record as it was last read or written."""
        return self._stored

    def found(self, instance: Instance) -> None:
        """Take the record as it was read afresh; what was not saved is let go."""
        self.instance = self._stored = instance
        self._unsaved = {}

    def change(self, **changes: Unpack[Changes]) -> None:
        """Change the record in hand; :meth:`save` writes it."""
        self._unsaved |= changes
        self.instance = replace(self.instance, **changes)

    async def save(self, expected_task_states: tuple[TaskState | None, ...] | None = None) -> None:
        """Write what was changed, if the stored record is as it was last seen (or in an expected task state).

        :raises StateConflict: it is not; nothing was written.
        :raises RecordNotFound: it is gone.
        """
        expected = Expected((self._stored.vm_state,), expected_task_states or (self._stored.task_state,))
        await self._store.save(self.instance.uuid, self._unsaved, expected=expected)
        self._stored = self.instance
        self._unsaved = {}

    async def destroy(self) -> None:
        """Delete the row.

        :raises RecordNotFound: it is gone already.
        """
        await self._store.destroy(self.instance.uuid)
        self.deleted = True
