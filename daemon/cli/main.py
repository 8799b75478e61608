"""The parser of the whole command line, and what its end looks like."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn, TextIO

from bringup import __version__
from bringup.daemon.cli import (
    accept,
    check,
    demo,
    explain,
    from_nova_conf,
    history,
    import_records,
    plan,
    plot,
    release,
    retry,
    run,
    status,
)
from bringup.daemon.errors import WHO_MAY, BringupError, Refused, Temporary, chain_of
from bringup.daemon.library_logs import keep_out
from bringup.daemon.text import printable

COMMANDS = (
    run,
    plan,
    explain,
    check,
    status,
    history,
    plot,
    release,
    retry,
    accept,
    import_records,
    from_nova_conf,
    demo,
)
INTERRUPTED = 130


class _Parser(argparse.ArgumentParser):
    """Exits with 64, as sysexits.h has it, where argparse would exit with 2."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(os.EX_USAGE, f"{self.prog}: {printable(message)}\n")


def parser() -> argparse.ArgumentParser:
    """Make the parser of the whole command line."""
    top = _Parser(
        prog="bringup",
        description="Bring every virtual machine of a compute host back after the host booted.",
        epilog=(
            "exit codes: 0 done, 64 wrong command line or file, 69 something this host needs is unavailable, "
            "75 try again later, 77 refused, 78 wrong settings"
        ),
    )
    top.add_argument("--version", action="version", version=f"bringup {__version__}")
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_to(commands)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out a command line; give the exit code."""
    _open_missing_streams()
    try:
        return _carried_out(argv)
    finally:
        # Python flushes once more at the end, and its exit code would be the one that counts.
        for stream in (sys.stdout, sys.stderr):
            _give_up_if_full(stream)


def _carried_out(argv: Sequence[str] | None) -> int:
    arguments = parser().parse_args(argv)
    if argv is None:  # the process is ours
        keep_out()
    code = os.EX_OK
    try:
        code = arguments.execute(arguments)
        sys.stdout.flush()
    except BringupError as error:
        _say(error, as_json=getattr(arguments, "json", False))
        return error.exit_code
    except BrokenPipeError:
        # Whoever read our output has seen enough; Python must not fail once more when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ExceptionGroup) as error:
        if full := _give_up_if_full(sys.stdout, trying="\n"):
            _say(Temporary(f"standard output cannot be written ({full}); write it elsewhere"), as_json=False)
            return Temporary.exit_code
        refused = _refused(error)
        if refused is None:
            raise
        _say(refused, as_json=getattr(arguments, "json", False))
        return refused.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    return code


def _give_up_if_full(stream: TextIO, *, trying: str = "") -> str | None:
    """Let go of what a stream cannot be rid of, and say why it cannot; None: nothing is left in it."""
    try:
        # Without a buffer (PYTHONUNBUFFERED) nothing is left of what could not be written.
        stream.write(trying)
        stream.flush()
    except BrokenPipeError:
        why = None
    except OSError as error:
        why = error.strerror
    except ValueError:
        return None  # closed
    else:
        return None
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        stream.flush()
    return why


def _refused(error: Exception) -> Refused | None:
    """Say that this user may not, where that is what an error says; None: it says something else."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if not isinstance(error, PermissionError):
        return None
    where = f" {error.filename}" if error.filename else ""
    return Refused(f"this user may not use{where} ({error.strerror}): {WHO_MAY}")


def _open_missing_streams() -> None:
    """Give a process that was started without standard output or error ones that nobody reads."""
    if sys.__stdout__ is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - open as long as the process is
    if sys.__stderr__ is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - open as long as the process is


def _say(error: BringupError, *, as_json: bool) -> None:
    line = f"bringup: {chain_of(error)}"
    if as_json:
        line = json.dumps({"error": type(error).__name__, "exit_code": error.exit_code, "message": chain_of(error)})
    # Where nobody can be told, the exit code still tells.
    with suppress(OSError):
        print(line, file=sys.stderr)  # noqa: T201 - the command's own words
