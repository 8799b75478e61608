"""``make bench-boots``: N real Linux guests that are off are brought back, with several paces, in one run.

A guest reads its disk, computes for a while, says so on its console, and has a guest agent or, every third in the last
row, none.  Ready is what its console says, whatever bringup sees of it.  With ``--verify`` there is that row alone, the
guests have a NIC and send packets, and the verdicts on them are counted: all are healthy.  Arguments: how many guests,
and MB of the checksum that each computes.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any, Final

import anyio
from hosts import uuid_of
from libvirt_host import command, store

from bringup.daemon.cli.demo_site.children import serving
from support.agent_linux import AgentLinux, Does, make_agent_linux
from support.browser import browser
from support.libvirtd import Libvirtd
from support.ports import free_port

TODAY: Final = "fixed, free when started"
ADAPTIVE: Final = "adaptive"
SILENT: Final = "adaptive, a third has no agent"
WAYS: Final[Mapping[str, Mapping[str, str]]] = {
    TODAY: {"limits.pace": "fixed", "pace.hold": "0"},
    "fixed, free when ready": {"limits.pace": "fixed"},
    ADAPTIVE: {},
    SILENT: {},
}
CONCURRENCY: Final = 16
SETTLES_S: Final = 15
"""So much later than a guest says it the daemon knows that it is ready."""
PATIENCE_S: Final = 600.0
POLL_S: Final = 0.05


@dataclass(slots=True)
class Came:
    """How the guests came back; seconds since the command began."""

    run_s: float = 0.0
    ready_s: list[float] = field(default_factory=list)
    boot_s: list[float] = field(default_factory=list)
    limits: list[tuple[float | None, int]] = field(default_factory=list)
    seen: dict[str, int] = field(default_factory=dict)

    @property
    def half_s(self) -> float:
        """When half of them were ready."""
        return quantile(self.ready_s, 0.5)

    @property
    def all_s(self) -> float:
        """When all of them were ready."""
        return max(self.ready_s)

    @property
    def boot_p95_s(self) -> float:
        """How long 95 % took at most from their start until they were ready."""
        return quantile(self.boot_s, 0.95)

    def row(self, name: str) -> str:
        """Return a row of the table."""
        return (
            f"{name:32}{self.run_s:8.1f}{self.half_s:8.1f}{self.all_s:8.1f}{quantile(self.boot_s, 0.5):10.1f}"
            f"{self.boot_p95_s:10.1f}  {self.seen}  load {os.getloadavg()[0]:.1f}"
        )


def quantile(values: Sequence[float], share: float) -> float:
    """Return a quantile."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def compared(found: Mapping[str, Sequence[Came]]) -> Iterator[str]:
    """Return a line for each way that is compared with another, by the medians of all rounds."""
    for name, other, aim in (
        (ADAPTIVE, TODAY, "p50 <= 0.60, all <= 1.05, boot p95 <= 0.50"),
        (SILENT, ADAPTIVE, "p50 and all <= 1.15"),
        (SILENT, TODAY, "the first ones, and 15 %"),
    ):
        ratios = (
            median(getattr(each, key) for each in found[name]) / median(getattr(each, key) for each in found[other])
            for key in ("half_s", "all_s", "boot_p95_s")
        )
        p50, everything, p95 = ratios
        yield f"{name} / {other}: p50 {p50:.2f}, all {everything:.2f}, boot p95 {p95:.2f} (aim: {aim})"


class Bench:
    """A libvirtd with guests that are off."""

    def __init__(self, server: Libvirtd, linux: AgentLinux, placement: str, *, guests: int, verify_s: int) -> None:
        """Name the guests."""
        self.server, self.linux, self.placement, self.verify_s = server, linux, placement, verify_s
        self.names = {uuid_of(number): f"guest-{number}" for number in range(guests)}

    def define(self, *, silent: bool) -> None:
        """Define the guests; ``silent``: every third has no agent."""
        does: tuple[Does, ...] = ("network",) if self.verify_s else ()
        with self.server.connected() as connection:
            for number, (uuid, name) in enumerate(self.names.items()):
                agent = not silent or number % 3 != 0
                connection.defineXML(self.linux.domain_xml(uuid, name, *does, agent=agent, nic=bool(self.verify_s)))

    def bring_back(self, values: Mapping[str, str], *, picture: Path | None = None) -> Came:
        """Run the command, wait until all guests are ready, and stop them again.

        ``picture`` is written then: how the status page shows them.
        """
        for name in self.names.values():
            self.linux.console(name).unlink(missing_ok=True)
        came = Came()
        with tempfile.TemporaryDirectory() as directory:
            anyio.run(store, Path(directory), list(self.names))
            began, wall = time.monotonic(), time.time()
            # The daemon stays until all are ready: what it sees of them is part of what is measured.
            address = f"127.0.0.1:{free_port()}"
            values = values if picture is None else {**values, "status.listen": address}
            with subprocess.Popen(self._command(Path(directory), values), stdout=subprocess.PIPE, text=True) as child:
                ready = self._until_ready(began)
                if picture is not None:
                    picture.write_bytes(_picture(f"http://{address}/"))
                time.sleep(self.verify_s + SETTLES_S if self.verify_s else 1)
                child.terminate()
                lines = [json.loads(line) for line in child.communicate()[0].splitlines()]
        started = {line["instance"]: _at(line, wall) for line in lines if line["event"] == "instance.initialized"}
        came.run_s = next(_at(line, wall) for line in lines if line["event"] == "run.ended")
        came.ready_s = list(ready.values())
        came.boot_s = [at - started[uuid] for uuid, at in ready.items()]
        came.limits = [(line["stretch"], line["limit"]) for line in lines if line["event"] == "pace.changed"]
        for line in lines:
            if line["event"] in ("instance.ready", "instance.not_ready"):
                came.seen[str(line["by"])] = came.seen.get(str(line["by"]), 0) + 1
            if line["event"] in ("instance.verified", "instance.broken"):
                word = f"{line.get('verdict', 'broken')}: {line['why']}".removesuffix(": ")
                came.seen[word] = came.seen.get(word, 0) + 1
        with self.server.connected() as connection:
            for domain in connection.listAllDomains():
                if domain.isActive():
                    domain.destroy()
        return came

    def _until_ready(self, began: float) -> dict[str, float]:
        ready: dict[str, float] = {}
        while len(ready) < len(self.names):
            if time.monotonic() - began > PATIENCE_S:
                sys.exit(f"{len(ready)} of {len(self.names)} guests are ready after {PATIENCE_S:g} s")
            for uuid, name in self.names.items():
                console = self.linux.console(name)
                if uuid not in ready and console.exists() and "ready" in console.read_text(errors="replace"):
                    ready[uuid] = time.monotonic() - began
            time.sleep(POLL_S)
        return ready

    def _command(self, directory: Path, given: Mapping[str, str]) -> list[str]:
        values = {
            "network.plug_vifs": "false",
            "limits.concurrency": str(CONCURRENCY),
            "verify.within": str(self.verify_s),
            **given,
        }
        return command(directory, self.server.uri, self.placement, values)


DRAWN: Final = (
    "const [ready, of] = document.querySelector('#pace .count').textContent.split(' of ');"
    "const bar = document.getElementById('bar');"
    "return parseInt(ready) === parseInt(of) && bar.firstElementChild.offsetWidth >= bar.clientWidth - 1"
)


def _picture(url: str) -> bytes:
    """Return the status page once all guests are known to be ready, as PNG."""
    with browser(width=1280, height=720) as window:
        window.open(url)
        window.until(DRAWN)
        return window.picture()


def _at(line: Mapping[str, Any], wall: float) -> float:
    return datetime.fromisoformat(str(line["timestamp"])).timestamp() - wall


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("guests", type=int, nargs="?", default=14)
    parser.add_argument("compute_mb", type=int, nargs="?", default=24)
    parser.add_argument("--verify", type=int, default=0, metavar="SECONDS", help="watch them after their boot")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--picture", type=Path, metavar="FILE", help="only: adaptive; write the status page as PNG")
    options = parser.parse_args()
    print(f"{'way':32}{'started':>8}{'p50':>8}{'all':>8}{'boot p50':>10}{'boot p95':>10}  seen by bringup")
    server = Libvirtd()
    try:
        server.start()
        linux = make_agent_linux(server.directory, compute_mb=options.compute_mb)
        with serving("bringup.daemon.cli.demo_site.placement_server", ["--database", "memory"]) as placement:
            # Once without the table: the first guest of all finds kernel, QEMU and libvirt not in memory yet.
            first = Bench(server, linux, placement, guests=1, verify_s=0)
            first.define(silent=False)
            first.bring_back(WAYS[TODAY])
            bench = Bench(server, linux, placement, guests=options.guests, verify_s=options.verify)
            ways = [SILENT] if options.verify else [ADAPTIVE] if options.picture else [*WAYS]
            found: dict[str, list[Came]] = {name: [] for name in ways}
            for name in ways * options.rounds:
                bench.define(silent=name == SILENT)
                came = bench.bring_back(WAYS[name], picture=options.picture)
                found[name].append(came)
                print(came.row(name), flush=True)
                if came.limits:
                    print("    stretch, limit:", came.limits, flush=True)
            for line in compared(found) if len(ways) > 1 else ():
                print(line)
    finally:
        server.stop()


if __name__ == "__main__":
    main()
