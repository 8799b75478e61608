"""The command in a process of its own that need not import anything: a second of CPU time less for each.

It is forked from one that has imported what the command imports and has done nothing else, and enters its surroundings
itself (surroundings.py).  Only where nothing of how a process starts is asked for, and where this one is as it was: the
rest starts as it does for an operator.
"""

import contextlib
import functools
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from support.surroundings import Within

CHILD = Path(__file__).with_name("preloaded_child.py")
READ_AT_THE_START = ("PYTHON", "LANG", "LC_", "TZ", "LD_", "MALLOC_", "COVERAGE_", "OPENSSL_")
"""How variables begin that Python and its libraries read before the command does."""
Stream = IO[str] | IO[bytes] | int
"""What :class:`subprocess.Popen` takes as one: PIPE, DEVNULL, a descriptor, a file."""
STREAMS = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}


def _surroundings() -> tuple[object, ...]:
    """What a process has of the one that starts it."""
    spaces = [Path("/proc/thread-self/ns", name).readlink() for name in ("mnt", "net", "pid", "user", "uts")]
    limits = [resource.getrlimit(which) for which in (resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE)]
    status = Path("/proc/thread-self/status").read_text().splitlines()
    rights = [line for line in status if line.startswith(("Uid:", "Gid:", "Groups:", "Cap", "NoNewPrivs:", "Seccomp:"))]
    masks = [line for line in status if line.startswith(("Umask:", "SigBlk:", "SigIgn:"))]
    return (*spaces, *limits, *rights, *masks)


def _at_the_start(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(READ_AT_THE_START)}


class Preloaded:
    """The process that is forked from: a Python that runs a script, which calls :func:`support.forking.serve`."""

    def __init__(self, *python: str, child: Path, imports: Sequence[str] = ()) -> None:
        self._surroundings = _surroundings()
        self._at_the_start = _at_the_start(os.environ)
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [*python, str(child), *imports, str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                # A pipe, as the command's are.
                stdout=subprocess.PIPE,
                cwd=child.parents[2],
            )

    def fits(self, environment: Mapping[str, str]) -> bool:
        """Check whether a process that is forked from it is as one that would be started here."""
        same = _at_the_start(environment) == self._at_the_start and _surroundings() == self._surroundings
        return same and self._process.poll() is None

    def start(
        self,
        arguments: Sequence[str],
        env: Mapping[str, str],
        cwd: Path | None = None,
        within: Within | None = None,
        **streams: Stream,
    ) -> "Forked":
        """Start a command line; what it writes can be read, unless that goes elsewhere."""
        request = {
            "arguments": list(arguments),
            "environment": dict(env),
            "directory": str(cwd or Path.cwd()),
            "within": within and within.request,
        }
        chosen = [streams.get(name, usual) for name, usual in STREAMS.items()]
        told, tells = os.pipe()
        with contextlib.ExitStack() as held:
            held.callback(os.close, tells)
            ours, theirs = zip(*(_ends(each, held, place) for place, each in enumerate(chosen)), strict=True)
            socket.send_fds(self._channel, [json.dumps(request).encode()], [tells, *theirs])
        forked = Forked(told)
        forked.stdin, forked.stdout, forked.stderr = ours
        return forked


def _ends(stream: Stream, held: contextlib.ExitStack, place: int) -> tuple[IO[str] | None, int]:
    """Return our end of a stream, if it has one, and that of the process, which is closed with what is held."""
    if not isinstance(stream, int):
        return None, stream.fileno()
    if stream == subprocess.DEVNULL:
        return None, held.enter_context(Path(os.devnull).open("r+b", buffering=0)).fileno()
    if stream != subprocess.PIPE:
        return None, stream
    reads, writes = os.pipe()
    ours, theirs = (writes, reads) if place == 0 else (reads, writes)
    held.callback(os.close, theirs)
    return os.fdopen(ours, "w" if place == 0 else "r"), theirs


def _rest(stream: IO[str] | None) -> str | None:
    """Read a stream of one that has ended, and close it."""
    if stream is None:
        return None
    with stream:
        return stream.read()


class Forked:
    """A command that runs: what is used of :class:`subprocess.Popen`."""

    def __init__(self, told: int) -> None:
        self.stdin: IO[str] | None = None
        self.stdout: IO[str] | None = None
        self.stderr: IO[str] | None = None
        self._told = os.fdopen(told)
        self.pid = int(self._told.readline())
        self._code: int | None = None
        self._waits = threading.Thread(target=self._wait, daemon=True)
        self._waits.start()

    def _wait(self) -> None:
        with self._told as told:
            self._code = int(told.readline())

    def poll(self) -> int | None:
        """Return how it ended; None: it runs."""
        return self._code

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end."""
        self._waits.join(timeout)
        if self._code is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
        return self._code

    @property
    def returncode(self) -> int | None:
        """How it ended; None: it runs."""
        return self._code

    def communicate(self, *, timeout: float) -> tuple[str, str | None]:
        """Close its input and wait for its end; return what else it has written, which its pipes can hold."""
        if self.stdin is not None:
            self.stdin.close()
        self.wait(timeout)
        out, errors = (_rest(stream) for stream in (self.stdout, self.stderr))
        return out or "", errors

    def send_signal(self, number: int) -> None:
        """Send a signal to what runs."""
        if self._code is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Request its end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


@functools.cache
def the_preloaded() -> Preloaded:
    """Return the one of this process, started when first asked for."""
    return Preloaded(sys.executable, child=CHILD)


@functools.cache
def preloaded_cloud(imports: str) -> Preloaded:
    """Return what a Keystone or a Placement is forked from; neither option nor database is known to it."""
    return Preloaded(sys.executable, "-P", child=CHILD.with_name("cloud_child.py"), imports=[imports])
