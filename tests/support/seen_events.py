"""Events of a run that a test waits for."""

import anyio

from bringup.daemon.decisions.run_events import InstanceBegan, InstanceEnded, InstanceReady, InstanceVerified, RunEvent


class Seen:
    """What observers see, to be waited for."""

    def __init__(self) -> None:
        self.events: list[RunEvent] = []
        self._changed = anyio.Event()

    def observe(self, event: RunEvent) -> None:
        self.events.append(event)
        self._changed.set()
        self._changed = anyio.Event()

    @property
    def began(self) -> list[str]:
        return [event.uuid for event in self.events if isinstance(event, InstanceBegan)]

    @property
    def ended(self) -> list[str]:
        return [event.outcome.uuid for event in self.events if isinstance(event, InstanceEnded)]

    @property
    def ready(self) -> dict[str, str | None]:
        return {event.uuid: event.readiness.by for event in self.events if isinstance(event, InstanceReady)}

    @property
    def verdicts(self) -> dict[str, str]:
        return {event.uuid: event.verdict.text for event in self.events if isinstance(event, InstanceVerified)}

    async def until(self, *, ended: int = 0, ready: int = 0, verdicts: int = 0) -> None:
        """Wait for so many outcomes, so many guests that are ready or were waited for, and so many verdicts."""
        with anyio.fail_after(30):
            while len(self.ended) < ended or len(self.ready) < ready or len(self.verdicts) < verdicts:
                await self._changed.wait()
        await anyio.wait_all_tasks_blocked()
