"""Write ``status.png`` and ``plot.svg``: the page of the demonstration in a real browser, and its run in the journal.

``PYTHONPATH=tests python docs/draw_status.py``; needs Debian's chromium and chromium-driver.
"""

import re
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio

from bringup.daemon import logs
from bringup.daemon.cli.demo import prepare
from bringup.daemon.cli.demo_site.children import serving
from bringup.daemon.cli.main import main as bringup
from bringup.daemon.service.process import Ending, serve
from bringup.daemon.settings import load
from bringup.daemon.status.progress import Progress
from support.browser import Browser, browser
from support.ports import free_port

HERE = Path(__file__).parent
SETTLED = 0.97
"""Share of settled instances at the picture: one hangs, some have failed."""


class Photographer:
    """Presenter that photographs the status page."""

    def __init__(self, window: Browser, url: str) -> None:
        """Photograph the page at ``url``."""
        self._window = window
        self._url = url

    @asynccontextmanager
    async def showing(self, progress: Progress) -> AsyncIterator[None]:
        """Write the picture once most instances are settled."""

        async def take() -> None:
            # A run has no event for it: the page is polled.
            while not progress.total or progress.done < SETTLED * progress.total:  # noqa: ASYNC110
                await anyio.sleep(0.05)
            await anyio.to_thread.run_sync(self._picture)

        async with anyio.create_task_group() as group:
            group.start_soon(take)
            yield

    def _picture(self) -> None:
        window = self._window
        window.open(self._url)
        window.until("return document.body.dataset.drawn > 60 && !document.querySelector('#attention').hidden")
        # As if a user had scrolled: otherwise the running instances are in sight, which are the last.
        window.run("document.getElementById('scroll').dispatchEvent(new Event('wheel'))")
        window.run("document.getElementById('scroll').scrollTop = 0")
        (HERE / "status.png").write_bytes(window.picture())

    def show_ending(self, ending: Ending, *, stays: bool) -> None:
        """Show nothing more."""


def main() -> None:
    """Run the demonstration, and make both pictures."""
    logs.configure(level="error", style="json", stream=Path("/dev/null").open("w"))  # noqa: SIM115
    address = f"127.0.0.1:{free_port()}"
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        with (
            serving("bringup.daemon.cli.demo_site.placement_server", ["--database", "memory"]) as placement,
            serving(
                "bringup.daemon.cli.demo_site.scheduler_receiver", ["--directory", str(directory / "s")]
            ) as scheduler,
            browser(width=1280, height=1060) as window,
        ):
            _, config = prepare(directory, placement, scheduler, quiet=True)
            # Slow enough for a browser to come up meanwhile.
            settings = load(
                config, environment={}, overrides=[f"status.listen={address}", "limits.instance_deadline=25"]
            )

            async def run() -> int:
                return await serve(settings, Photographer(window, f"http://{address}/"), once=True)

            anyio.run(run)
        bringup(["plot", "-c", str(config), "-o", str(HERE / "plot.svg")])
    picture = HERE / "plot.svg"
    picture.write_text(re.sub(r"run [0-9a-f-]{36}", "run 6f1b7c0e", picture.read_text("utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
