"""What a preloaded process does: it forks a process for each command line that it is handed; see preloaded.py.

Of the standard library alone: it runs under Nova's Python too.
"""

import ctypes
import gc
import importlib
import json
import os
import signal
import socket
from typing import Any

MOST = 1 << 20
MOST_DESCRIPTORS = 1024
PR_SET_PDEATHSIG = 1
surroundings = importlib.import_module("surroundings")
"""Beside this one too."""


def serve(descriptor: int) -> list[str]:
    """Return in each new process that is to be a command, and never else; give its arguments.

    It ends when nobody holds the other end of the socket any more.
    """
    gc.collect()
    gc.freeze()
    channel = socket.socket(fileno=descriptor)
    # Nobody waits for those who wait.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        message, descriptors, _, _ = socket.recv_fds(channel, MOST, 4)
        if not message:
            os._exit(0)
        if os.fork() == 0:
            _end_with_parent()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            channel.close()
            return _wait_for_the_command(json.loads(message), *descriptors)
        for each in descriptors:
            os.close(each)


def _wait_for_the_command(request: dict[str, Any], told: int, *streams: int) -> list[str]:
    """Return in the process of the command; in its parent tell its PID, and its end."""
    pid = os.fork()
    if pid == 0:
        _end_with_parent()
        for place, stream in enumerate(streams):
            os.dup2(stream, place)
        os.closerange(3, MOST_DESCRIPTORS)
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(request["directory"])
        if request["within"] is not None:
            surroundings.enter(request["within"])
        arguments: list[str] = request["arguments"]
        return arguments
    for stream in streams:
        os.close(stream)
    os.write(told, f"{pid}\n".encode())
    _, status = os.waitpid(pid, 0)
    os.write(told, f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _end_with_parent() -> None:
    """Receive SIGTERM when the parent ends, however it does."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
