"""From process start to "gate passed", with the real Keystone and Placement, beside the ecosystem's own client.

Requests are counted by a proxy that stands before each of the two.  ``python gates.py`` prints one JSON object: by who,
seconds with a cold token (imports and process start included), seconds with a warm one, and the requests of each.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))

import httpx  # noqa: E402 - the tests' own servers are used

from support.faulty_proxy import Proxy, a_proxy  # noqa: E402
from support.keystone import PASSWORD, REGION, Cloud, a_cloud  # noqa: E402

PROVIDER = "compute-1"
# As an operator installs it: what the tests need would be imported too.
PYTHON = os.environ.get("BENCH_PYTHON", sys.executable)


@dataclass
class Watched:
    """A cloud whose catalogue leads through two proxies."""

    auth_url: str
    proxies: tuple[Proxy, Proxy]

    def requests(self) -> int:
        """Return the number of requests since the last call."""
        count = sum(len(proxy.requests) for proxy in self.proxies)
        for proxy in self.proxies:
            proxy.requests.clear()
        return count


@contextmanager
def watched(cloud: Cloud) -> Iterator[Watched]:
    """Open two proxies before a cloud, with its catalogue leading to them."""
    with a_proxy(cloud.auth_url.removesuffix("/v3")) as keystone, a_proxy(cloud.placement_url) as placement:
        for interface in ("public", "internal"):
            endpoint = {"endpoint": {"url": placement.url}}
            cloud.call("PATCH", f"/endpoints/{REGION}-{interface}", endpoint)
        headers = {"X-Auth-Token": cloud.token(), "OpenStack-API-Version": "placement 1.28"}
        httpx.post(f"{cloud.placement_url}/resource_providers", json={"name": PROVIDER}, headers=headers, timeout=30)
        yield Watched(f"{keystone.url}/v3", (keystone, placement))


def pass_twice(cloud: Watched, script: str) -> dict[str, float]:
    """Start a process that passes the gate twice; return seconds and requests of each time."""
    cloud.requests()
    command = [PYTHON, str(HERE / script), cloud.auth_url, REGION, PROVIDER]
    began = time.perf_counter()
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
        env={**os.environ, "OS_PASSWORD": PASSWORD},
    ) as child:
        assert child.stdin is not None  # noqa: S101 - they are pipes
        assert child.stdout is not None  # noqa: S101 - same
        found: dict[str, float] = {}
        for token in ("cold", "warm"):
            child.stdin.write("\n")
            line = child.stdout.readline()
            took = time.perf_counter() - began
            assert line == "passed\n", f"{script} did not pass"  # noqa: S101 - else this measures nothing
            found |= {f"{token}_s": took, f"{token}_requests": cloud.requests()}
            began = time.perf_counter()
        child.stdin.close()
    return found


def main(runs: int) -> dict[str, list[dict[str, float]]]:
    """Measure both in turn, so that other load of the machine affects both."""
    found: dict[str, list[Any]] = {"ours": [], "peer": []}
    with watched(a_cloud()) as cloud:
        for script in ("gate_ours.py", "gate_peer.py"):
            pass_twice(cloud, script)  # byte code and file cache
        for _ in range(runs):
            found["ours"].append(pass_twice(cloud, "gate_ours.py"))
            found["peer"].append(pass_twice(cloud, "gate_peer.py"))
    return found


if __name__ == "__main__":
    print(json.dumps(main(*(int(text) for text in sys.argv[1:]))))
