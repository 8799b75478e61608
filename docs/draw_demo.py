"""Draw ``docs/demo.svg``: the demonstration, half-way and complete.  ``python docs/draw_demo.py``."""

import re
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
from rich.console import Console

from bringup.daemon import logs
from bringup.daemon.cli.demo import prepare
from bringup.daemon.cli.demo_site.children import serving
from bringup.daemon.service.process import Ending, serve
from bringup.daemon.status.progress import Progress
from bringup.daemon.status.terminal import live_view, summary

HALF_WAY = 0.55
PICTURE = Path(__file__).with_name("demo.svg")


class Painter:
    """Presenter on a recorded console."""

    def __init__(self, console: Console) -> None:
        """Draw on ``console``."""
        self._console = console

    @asynccontextmanager
    async def showing(self, progress: Progress) -> AsyncIterator[None]:
        """Draw it once, when a little more than half is done."""

        async def draw() -> None:
            # A view has no events: it is polled.
            while not progress.total or progress.done < HALF_WAY * progress.total:  # noqa: ASYNC110
                await anyio.sleep(0.01)
            self._console.print(live_view(progress.snapshot()))
            self._console.print()

        async with anyio.create_task_group() as group:
            group.start_soon(draw)
            yield

    def show_ending(self, ending: Ending, *, stays: bool) -> None:
        """Draw the table."""
        del stays
        if ending.result is not None:
            self._console.print(summary(ending.result))


def main() -> None:
    """Run the demonstration and write the picture."""
    console = Console(record=True, width=112, force_terminal=True)
    logs.configure(level="error", style="json", stream=Path("/dev/null").open("w"))  # noqa: SIM115
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        with (
            serving("bringup.daemon.cli.demo_site.placement_server", ["--database", "memory"]) as placement,
            serving(
                "bringup.daemon.cli.demo_site.scheduler_receiver", ["--directory", str(directory / "s")]
            ) as scheduler,
        ):
            settings, _ = prepare(directory, placement, scheduler, quiet=True)

            async def run() -> int:
                return await serve(settings, Painter(console), once=True)

            anyio.run(run)
    # Without the fonts that rich would have it fetch.
    drawing = re.sub(r"@font-face \{.*?\}\n", "", console.export_svg(title="bringup run"), flags=re.DOTALL)
    PICTURE.write_text(drawing, encoding="utf-8")


if __name__ == "__main__":
    main()
