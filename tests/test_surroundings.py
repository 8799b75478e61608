"""A command that is forked with its imports done has the surroundings of one that is started in them."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.process import PATIENCE_S, started
from support.surroundings import (
    Within,
    at_most,
    full,
    nobody,
    read_only,
    refused,
    without_locks,
    without_rights_of_root,
)

RIGHTS = ("Uid:", "Gid:", "Groups:", "Cap", "NoNewPrivs:", "Seccomp", "Umask:")
SIGNALS = ("SigBlk:", "SigIgn:")
OF_THE_C_LIBRARY = 0b11 << 31
"""Signals 32 and 33: from Python 3.13 on glibc's posix_spawn, which knows them alone, ignores one in what it starts."""
REPOSITORY = Path(__file__).parents[1]
DIRECTORY = "/var/tmp"  # noqa: S108 - what is mounted there is mounted for one process
ANY = {
    "as here": None,
    "small files": Within(at_most, 4096),
    "no calls": Within(refused, (0x7FFF, errno.EPERM), (0x7FFE, errno.EPERM, 1, 5)),
    "no locks": Within(without_locks, "flock", "fcntl"),
}
OF_ROOT = {
    "no rights": Within(without_rights_of_root),
    "nobody": Within(nobody),
    "read-only": Within(read_only, DIRECTORY),
    "full": Within(full, DIRECTORY),
}
SURROUNDINGS = ANY | (OF_ROOT if os.geteuid() == 0 else {})


def seen(pid: int) -> dict[str, object]:
    """Return the rights and limits that the kernel has for a process, and what it has mounted that we have not."""
    process, ours = Path("/proc", str(pid)), Path("/proc/self")
    mounts = [line.split() for line in (process / "mountinfo").read_text().splitlines()]
    # Others mount something meanwhile.
    places = {DIRECTORY, *(str(top) for path in (Path(sys.base_prefix), REPOSITORY) for top in (path, *path.parents))}
    status = (process / "status").read_text().splitlines()
    masks = dict(line.split() for line in status if line.startswith(SIGNALS))
    return {
        "rights": [line for line in status if line.startswith(RIGHTS)],
        "signals": {name: int(mask, 16) & ~OF_THE_C_LIBRARY for name, mask in masks.items()},
        "limits": (process / "limits").read_text().splitlines(),
        "own mounts": (process / "ns" / "mnt").readlink() != (ours / "ns" / "mnt").readlink(),
        # The first three words number the mount.
        "mounts": [" ".join(words[3:]) for words in mounts if words[4] in places],
    }


def seen_of(within: Within | None, *, afresh: bool) -> dict[str, object]:
    """Return what is seen of a command that waits for its input."""
    command = started(["explain", "--json"], within=within, afresh=afresh, stdin=subprocess.PIPE)
    assert command.stdin is not None
    assert command.stdout is not None
    assert command.stderr is not None
    with command.stdout, command.stderr:
        with command.stdin:
            command.stdin.write('{"vm_state": "active"}\n')
            command.stdin.flush()
            assert command.stdout.readline(), command.stderr.read()
            found = seen(command.pid)
        assert command.wait(PATIENCE_S) == 0
    return found


@pytest.mark.parametrize("within", SURROUNDINGS.values(), ids=SURROUNDINGS)
def test_what_is_forked_is_as_what_is_started(within: Within | None) -> None:
    forked = seen_of(within, afresh=False)

    assert forked == seen_of(within, afresh=True)
    if within is not None:
        assert forked != seen_of(None, afresh=False)
