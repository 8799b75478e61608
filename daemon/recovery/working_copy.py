"""Working copy of a record: what is stored, what was changed and not saved yet, and what was done to the instance."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Unpack

from bringup.daemon.decisions.did import NOTHING_WAS_BEGUN, after_look, combined
from bringup.daemon.decisions.instances import Changes, Expected, Instance, Migration
from bringup.daemon.decisions.outcomes import Did
from bringup.daemon.decisions.states import PowerState, TaskState, UnknownState, VmState
from bringup.daemon.storage.store.base import Store


class WorkingCopy:
    """Working copy of a record.

    A save that fails keeps its changes, and the next save carries them: Nova's ``Instance`` does the same, and
    the rows of the oracle with two saves depend on it.
    """

    __slots__ = ("_store", "_stored", "_unsaved", "deleted", "did", "instance", "left_over", "look")

    def __init__(self, instance: Instance, store: Store, moves: Iterable[Migration] = ()) -> None:
        """Start from ``instance`` as it was read from ``store``, with rows of migrations that nobody works on."""
        self.left_over = frozenset((move.uuid, move.status) for move in moves)
        self.instance = instance
        self.deleted = False
        self.did: Did | None = None
        """What was done to the instance so far; None: nothing that counts."""
        self.look: PowerState | None = None
        """The last power state that was read of the guest."""
        self._store = store
        self._stored = instance
        self._unsaved: Changes = {}

    @property
    def stored(self) -> Instance:
        """The record as it was last read or written."""
        return self._stored

    def saw(self, look: PowerState) -> None:
        """Store the power state that was read of the guest."""
        self.look, self.did = look, after_look(self.did, look)

    @contextmanager
    def doing(self, did: Did | None) -> Iterator[None]:
        """Record what the call in the block does: it is done when the call has returned, and unknown where it fails."""
        before, self.did = self.did, combined(self.did, Did.UNKNOWN)
        try:
            yield
        except NOTHING_WAS_BEGUN:
            self.did = before
            raise
        self.did = combined(before, did)

    def found(self, instance: Instance) -> None:
        """Store the record as it was read afresh, and drop what was not saved."""
        self.instance = self._stored = instance
        self._unsaved = {}

    def change(self, **changes: Unpack[Changes]) -> None:
        """Change the working copy; :meth:`save` writes it."""
        self._unsaved |= changes
        self.instance = replace(self.instance, **changes)

    async def save(self, expected_task_states: tuple[TaskState | None, ...] | None = None) -> None:
        """Write what was changed, if the stored record is as it was last seen (or in an expected task state).

        :raises StateConflict: it is not; nothing was written.
        :raises RecordNotFound: it is gone.
        """
        with self.doing(Did.SET_TO_ERROR) if self._unsaved.get("vm_state") is VmState.ERROR else nullcontext():
            await self._write(expected_task_states)

    async def _write(self, expected_task_states: tuple[TaskState | None, ...] | None = None) -> None:
        expected = Expected((self._stored.vm_state,), expected_task_states or (self._stored.task_state,))
        await self._store.save(self.instance.uuid, self._unsaved, expected=expected)
        self._stored = self.instance
        self._unsaved = {}

    async def restore(self, before: Instance) -> None:
        """Drop what was not saved, and write back what was saved since the record was as in ``before``.

        :raises StoreError: it could not be written, or somebody else has changed the record meanwhile.
        """
        self.found(self._stored)
        changed: Changes = {}
        if self._stored.vm_state != before.vm_state and isinstance(before.vm_state, VmState):
            changed["vm_state"] = before.vm_state
        if self._stored.task_state != before.task_state and not isinstance(before.task_state, UnknownState):
            changed["task_state"] = before.task_state
        if self._stored.power_state != before.power_state and isinstance(before.power_state, PowerState):
            changed["power_state"] = before.power_state
        if self._stored.system_metadata != before.system_metadata:
            changed["system_metadata"] = before.system_metadata
        if changed:
            self.change(**changed)
            await self._write()

    async def destroy(self) -> None:
        """Delete the row.

        :raises RecordNotFound: it is gone already.
        """
        with self.doing(Did.DELETED):
            await self._store.destroy(self.instance.uuid)
        self.deleted = True
