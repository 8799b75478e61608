"""A real HAProxy before a Keystone of the tests' own, with the recipe of docs/placement.md."""

import contextlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from support.debian import REPOSITORY
from support.polling import until
from support.ports import free_port
from support.programs import path_of

RECIPE = re.compile(r"```text\n(frontend keystone\n.*?)```", re.DOTALL)
AROUND = "defaults\n    mode http\n    timeout connect 5s\n    timeout client 3m\n"


def recipe(*, port: int, server: str, longest: int, retry_after_s: int) -> str:
    """Return the recipe for one server with one worker; the page has other addresses, numbers and TLS."""
    found = RECIPE.search((REPOSITORY / "docs/placement.md").read_text(encoding="utf-8"))
    assert found is not None
    text = found[1]
    for pattern, replacement, times in (
        (r"bind .*", f"bind 127.0.0.1:{port}", 1),
        (r" gt \d+ ", f" gt {longest} ", 1),
        (r"Retry-After \d+ ", f"Retry-After {retry_after_s} ", 1),
        (r"server controller-1 .*", f"server controller-1 {server} maxconn 1", 1),
        (r"server controller-2 .*", "", 1),
    ):
        text, changed = re.subn(pattern, replacement, text)
        assert changed == times, pattern
    return AROUND + text


@contextlib.contextmanager
def a_haproxy(directory: Path, server: str, *, longest: int, retry_after_s: int) -> Iterator[str]:
    """Run it before ``host:port``; give its address."""
    program, port, file = path_of("haproxy"), free_port(), directory / "haproxy.cfg"
    file.write_text(recipe(port=port, server=server, longest=longest, retry_after_s=retry_after_s))
    # Its limit of connections follows from that of descriptors, which may be huge.
    command = [program, "-db", "-n", "200", "-f", str(file)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        until(lambda: _listens(process, port), "the socket of haproxy")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.communicate(timeout=30)


def _listens(process: "subprocess.Popen[str]", port: int) -> bool:
    assert process.poll() is None, process.communicate()[1]
    return f":{port:04X} " in Path("/proc/net/tcp").read_text(encoding="ascii")
