"""The page at ``/``, in a real browser, over a real run."""

import signal
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from anyio import to_thread

from bringup.daemon.decisions.instances import Instance
from bringup.daemon.decisions.pace import Sighting
from bringup.daemon.decisions.readiness import Readiness
from bringup.daemon.decisions.run_events import InstanceBoots, InstanceReady, InstanceVerified, PaceSeen
from bringup.daemon.decisions.verdicts import GuestVerdict
from bringup.daemon.status.listener.app import make_app
from bringup.daemon.status.listener.server import running_server
from bringup.drivers.simulated import Fault
from support.browser import Browser, browser
from support.computer import Computer, a_computer
from support.ports import free_port
from support.process import Running
from support.records import instance, uuid_of
from support.status import ManualRun

HANGS = Fault(verb="plug_vifs", uuid=uuid_of(2), hang=True)
# Messages come from hypervisors: what looks like markup is text.
MARKUP = "<img src=x onerror=document.title='run'> </script>"
FAILS = Fault(verb="plug_vifs", uuid=uuid_of(3), error="VirtualInterfacePlugError", message=MARKUP)
DOWN, UP, END = "\ue015", "\ue013", "\ue010"
# What the page shows of a tile, by its name.
TILES = (
    "return Object.fromEntries([...document.querySelectorAll('#tiles div')].map("
    "(box) => [box.querySelector('dt').textContent, box.querySelector('dd').textContent]))"
)

IS_AT_END = (
    "const box = document.getElementById('scroll');"
    "return box.scrollTop > 0 && box.scrollTop + box.clientHeight >= box.scrollHeight - 1"
)


@pytest.fixture(scope="module")
def window() -> Iterator[Browser]:
    with browser() as found:
        yield found


def a_host(directory: Path, instances: list[Instance], *faults: Fault, deadline_s: float = 60) -> tuple[Computer, str]:
    port = free_port()
    computer = a_computer(directory).guests(instances, *faults).records(instances)
    computer.having(
        limits={"instance_deadline": deadline_s}, placement={"wait": 60}, status={"listen": f"127.0.0.1:{port}"}
    )
    return computer, f"http://127.0.0.1:{port}/"


def drawn(window: Browser, rows: int) -> None:
    window.until(f"return document.body.dataset.drawn === '{rows}'")


def tiles(window: Browser) -> dict[str, Any]:
    found: dict[str, Any] = window.run(TILES)
    return found


def colours(window: Browser) -> int:
    """Count the colours in the rows of the timeline: what is drawn there is seen."""
    script = (
        "const c = document.getElementById('canvas');"
        "const d = new Uint32Array(c.getContext('2d').getImageData(0, 0, c.width, c.height).data.buffer);"
        "return new Set(d).size"
    )
    found: int = window.run(script)
    return found


def test_the_page_shows_a_run_live_with_what_hangs_what_failed_and_the_end(tmp_path: Path, window: Browser) -> None:
    computer, url = a_host(tmp_path, [instance(number) for number in range(1, 31)], HANGS, FAILS, deadline_s=8)
    with computer.stay() as daemon:
        daemon.until("status.listens")
        window.open(url)
        window.until("return document.querySelector('#state').dataset.state === 'initializing'")
        window.until("return document.querySelectorAll('#attention li').length === 1")
        first = window.run("return document.querySelector('#attention li').innerText")
        window.until(f"return document.querySelector('#running li')?.innerText.includes('{uuid_of(2)}')")
        drawn(window, 30)

        window.until("return document.querySelector('#state').dataset.state === 'ready'")
        window.until("return document.querySelectorAll('#attention li').length === 2")
        shown = tiles(window)
        hidden = window.until("return document.querySelector('#running').hidden")
        seen = colours(window)
        said = window.complaints()
        daemon.end(signal.SIGTERM)
        window.until("return !document.querySelector('#lost').hidden")

    assert "failed" in first
    assert uuid_of(3) in first
    assert f"plug_vifs: {MARKUP}" in first
    assert (shown["settled"], shown["failed"], shown["waiting"]) == ("30 of 30", "2", "0")
    assert hidden
    assert seen > 5
    assert said == []


BOOTS = (
    "const shown = (id) => [...document.querySelectorAll(`#${id} li`)].map((each) => each.innerText);"
    "return [document.querySelector('#pace .text').innerText, shown('pace'), shown('unreachable')]"
)
# Rows of the picture, from the top, in which the line of the limit is at the left and at the right end.
LINE = (
    "const canvas = document.getElementById('limits'), pen = canvas.getContext('2d');"
    "const dark = (x) => { const d = pen.getImageData(x, 0, 1, canvas.height).data;"
    " return [...Array(canvas.height).keys()].filter((y) => d[4 * y + 3] * (255 - d[4 * y]) > 15000) };"
    "return [Math.max(...dark(1)), Math.max(...dark(canvas.width - 2))]"
)


def shown_of_boots(window: Browser, url: str) -> tuple[Any, Any, list[str]]:
    window.open(url)
    window.prefers("light")
    window.until("return document.querySelectorAll('#pace li').length === 2")
    # Before the picture is read back, of which the browser has an opinion.
    said = window.complaints()
    return window.run(BOOTS), window.run(LINE), said


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_page_shows_guests_that_boot_and_the_limit_over_time(window: Browser) -> None:
    manual = ManualRun()
    manual.begin(4)
    for number in range(1, 4):
        manual.instance(number)
        manual.observe(InstanceBoots(uuid_of(number)))
    for limit in (2, 4, 8):
        manual.clock.now_s += 5
        manual.observe(PaceSeen(Sighting(1.25, booting=3, limit=limit)))
    times = Readiness(by="agent", at_s=10.0, queued_s=1.0, start_s=1.0, boot_s=8.0, read_s=7.0)
    manual.observe(InstanceReady(uuid_of(1), times))
    manual.observe(InstanceReady(uuid_of(2), replace(times, by=None, at_s=20.0)))
    manual.observe(InstanceVerified(uuid_of(1), GuestVerdict("broken", "disk vda: I/O error")))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        async with running_server(listener, lambda: make_app(manual.source)):
            (text, slowest, unreachable), (left, right), said = await to_thread.run_sync(shown_of_boots, window, url)
            manual.recorder.feed.close()

    assert text.startswith("1 booting, limit 8, 1.2 times slower than alone, 1 of 3 ready, the first after 10 s")
    assert [each.split("\n")[0] for each in slowest] == ["no sign", "agent"]
    assert "it waited for its disks" in slowest[1]
    assert unreachable == [f"broken\nweb-1 ({uuid_of(1)})\ndisk vda: I/O error"]
    assert right < left
    assert said == []


def test_the_page_can_be_used_by_keyboard_alone(tmp_path: Path, window: Browser) -> None:
    computer, url = a_host(tmp_path, [instance(number) for number in range(1, 101)], FAILS)
    with computer.stay() as daemon:
        daemon.until("service.ready")
        window.open(url)
        drawn(window, 100)
        window.run("document.getElementById('scroll').focus()")
        window.press(DOWN)
        first = window.until("return document.getElementById('chosen').innerText")
        window.press(DOWN + DOWN + UP)
        second = window.run("return document.getElementById('chosen').innerText")
        window.press(END)
        last = window.run("return document.getElementById('chosen').innerText")
        scrolled = window.run("return document.getElementById('scroll').scrollTop")
        named = window.run(
            "return [...document.querySelectorAll('button, select, input, #scroll')].filter((each) =>"
            " !(each.innerText || each.getAttribute('aria-label') || each.closest('label')?.innerText"
            " || each.getAttribute('aria-labelledby'))).map((each) => each.id)"
        )
        daemon.end(signal.SIGTERM)

    assert len({first, second, last}) == 3
    assert all("because vifs" in each or "failed (set to error) after" in each for each in (first, second, last))
    assert scrolled > 0
    assert named == []


def test_the_timeline_can_be_filtered_by_outcome_and_by_instance(tmp_path: Path, window: Browser) -> None:
    computer, url = a_host(tmp_path, [instance(number) for number in range(1, 41)], FAILS)
    with computer.stay() as daemon:
        daemon.until("service.ready")
        window.open(url)
        drawn(window, 40)
        window.run(
            "const box = document.getElementById('filter'); box.value = 'attention';"
            "box.dispatchEvent(new Event('change'))"
        )
        drawn(window, 1)
        # The list follows the events; the timeline may be drawn before the first of them.
        window.until("return document.querySelector('#attention button') !== null")
        window.run("document.querySelector('#attention button').click()")
        chosen = window.until("return document.getElementById('chosen').innerText")
        drawn(window, 40)
        window.run("document.getElementById('find').focus()")
        window.press(uuid_of(7))
        drawn(window, 1)
        daemon.end(signal.SIGTERM)

    assert uuid_of(3) in chosen
    assert "plug_vifs" in chosen


def test_of_ten_thousand_instances_only_rows_in_sight_are_drawn(tmp_path: Path, window: Browser) -> None:
    computer, url = a_host(tmp_path, [instance(number) for number in range(1, 10_001)], HANGS, deadline_s=600)
    computer.having(limits={"concurrency": 64, "host_deadline": 600})
    with computer.stay() as daemon:
        settled(daemon, 9_999)
        window.open(url)
        drawn(window, 10_000)
        nodes = window.run("return document.getElementsByTagName('*').length")
        tall = window.run("return document.getElementById('spacer').offsetHeight")
        window.until(IS_AT_END)
        window.run("document.getElementById('scroll').scrollTop = 90000")
        redrawn(window)
        top = window.run("return document.getElementById('scroll').scrollTop")
        seen = colours(window)
        said = window.complaints()
        daemon.end(signal.SIGTERM)

    assert nodes < 500
    assert tall > 10_000 * 10
    # It shows the end as long as nobody scrolls, and then what was scrolled to.
    assert top == 90000
    assert seen > 5
    assert said == []


def redrawn(window: Browser) -> None:
    """Wait until the page has shown what came since: it makes each tile anew."""
    window.until("const tile = document.querySelector('#tiles div'); if (tile) tile.dataset.old = 'yes'; return tile")
    window.until("return !document.querySelector('#tiles [data-old]')")


def settled(daemon: Running, count: int) -> None:
    for _ in range(count):
        daemon.until("instance.initialized")


def test_the_page_is_dark_where_the_browser_prefers_dark(tmp_path: Path, window: Browser) -> None:
    computer, url = a_host(tmp_path, [instance(1)])
    grounds = []
    with computer.stay() as daemon:
        daemon.until("service.ready")
        window.open(url)
        drawn(window, 1)
        for scheme in ("dark", "light"):
            window.prefers(scheme)
            grounds.append(window.run("return getComputedStyle(document.body).backgroundColor"))
        daemon.end(signal.SIGTERM)

    assert grounds == ["rgb(14, 17, 22)", "rgb(246, 247, 249)"]
