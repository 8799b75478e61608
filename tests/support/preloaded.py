"""The command in a process of its own that need not import anything: a second of CPU time less for each.

It is forked from one that has imported what the command imports and has done nothing else.  Only where nothing of how
a process starts is asked for, and where this one is as it was: the rest starts as it does for an operator.
"""

import functools
import json
import os
import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

CHILD = Path(__file__).with_name("preloaded_child.py")
READ_AT_THE_START = ("PYTHON", "LANG", "LC_", "TZ", "LD_", "MALLOC_", "COVERAGE_", "OPENSSL_")
"""How variables begin that Python and its libraries read before the command does."""


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
    """The process that is forked from."""

    def __init__(self) -> None:
        self._surroundings = _surroundings()
        self._at_the_start = _at_the_start(os.environ)
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, str(CHILD), str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                # A pipe, as the command's are.
                stdout=subprocess.PIPE,
                cwd=CHILD.parents[2],
            )

    def fits(self, environment: Mapping[str, str]) -> bool:
        """Check whether a process that is forked from it is as one that would be started here."""
        same = _at_the_start(environment) == self._at_the_start and _surroundings() == self._surroundings
        return same and self._process.poll() is None

    def start(self, arguments: Sequence[str], environment: Mapping[str, str]) -> "Forked":
        """Start a command line."""
        request = {"arguments": list(arguments), "environment": dict(environment), "directory": str(Path.cwd())}
        out, err, told = os.pipe(), os.pipe(), os.pipe()
        try:
            socket.send_fds(self._channel, [json.dumps(request).encode()], [out[1], err[1], told[1]])
        finally:
            for _, end in (out, err, told):
                os.close(end)
        return Forked(out[0], err[0], told[0])


class Forked:
    """A command that runs; its streams are to be read to their ends."""

    def __init__(self, out: int, err: int, told: int) -> None:
        self.code: int | None = None
        self.texts = ["", ""]
        self._told = os.fdopen(told)
        self._pid = int(self._told.readline())
        self._readers = [
            threading.Thread(target=self._read, args=(place, descriptor), daemon=True)
            for place, descriptor in enumerate((out, err))
        ]
        self._readers.append(threading.Thread(target=self._wait, daemon=True))
        for reader in self._readers:
            reader.start()

    def _read(self, place: int, descriptor: int) -> None:
        with os.fdopen(descriptor) as stream:
            self.texts[place] = stream.read()

    def _wait(self) -> None:
        with self._told as told:
            self.code = int(told.readline())

    def end(self, patience_s: float) -> tuple[int, str, str]:
        """Wait for the end; return the code and what was written."""
        for reader in self._readers:
            reader.join(patience_s)
        if self.code is None:
            os.kill(self._pid, 9)
            raise AssertionError(f"it did not end in {patience_s:g} s: {self.texts}")
        return self.code, self.texts[0], self.texts[1]


@functools.cache
def the_preloaded() -> Preloaded:
    """Return the one of this process, started when first asked for."""
    return Preloaded()
