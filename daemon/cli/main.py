"""Entry point: the parser of the command line, exit codes and error output."""

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
    pause_and_resume,
    plan,
    plot,
    release_and_retry,
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
    release_and_retry,
    pause_and_resume,
    accept,
    import_records,
    from_nova_conf,
    demo,
)
INTERRUPTED = 130


class _Parser(argparse.ArgumentParser):
    """Parser whose usage errors exit with 64, as in sysexits.h, instead of 2."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(os.EX_USAGE, f"{self.prog}: {printable(message)}\n")


def parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
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
    """Run a command line; return the exit code."""
    _open_missing_streams()
    try:
        return _execute(argv)
    finally:
        # Python flushes once more at exit, and would replace the exit code.
        for stream in (sys.stdout, sys.stderr):
            _discard_if_full(stream)


def _execute(argv: Sequence[str] | None) -> int:
    arguments = parser().parse_args(argv)
    if argv is None:  # not called by a test
        keep_out()
    code = os.EX_OK
    try:
        code = arguments.execute(arguments)
        sys.stdout.flush()
    except BringupError as error:
        _print_error(error, as_json=getattr(arguments, "json", False))
        return error.exit_code
    except BrokenPipeError:
        # The reader of our output closed it; Python must not raise again when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ExceptionGroup) as error:
        if full := _discard_if_full(sys.stdout, trying="\n"):
            _print_error(Temporary(f"cannot write standard output ({full}); redirect it elsewhere"), as_json=False)
            return Temporary.exit_code
        refused = _refused(error)
        if refused is None:
            raise
        _print_error(refused, as_json=getattr(arguments, "json", False))
        return refused.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    return code


def _discard_if_full(stream: TextIO, *, trying: str = "") -> str | None:
    """Discard what a stream cannot write, and return the reason; None if it has written everything."""
    try:
        # Without a buffer (PYTHONUNBUFFERED) a failed write leaves nothing to flush.
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
    """Return the refusal for an error that means missing rights; None for another error."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if not isinstance(error, PermissionError):
        return None
    where = f" {error.filename}" if error.filename else ""
    return Refused(f"this user may not use{where} ({error.strerror}): {WHO_MAY}")


def _open_missing_streams() -> None:
    """Open the null device for a process that was started without standard output or error."""
    if sys.__stdout__ is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - open as long as the process is
    if sys.__stderr__ is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - open as long as the process is


def _print_error(error: BringupError, *, as_json: bool) -> None:
    line = f"bringup: {chain_of(error)}"
    if as_json:
        line = json.dumps({"error": type(error).__name__, "exit_code": error.exit_code, "message": chain_of(error)})
    # If standard error is closed, the exit code remains.
    with suppress(OSError):
        print(line, file=sys.stderr)  # noqa: T201 - the command's own output
