"""Directory of waiting reports: one file per report, in the order of writing.

::

    outbox/20261123T223100.123456Z-<report_id>.json   to be sent; the names sort in the order of writing
    outbox/.20261123T223100.123456Z-<report_id>.tmp   being written, or left by a crash while it was
    outbox/rejected/                                  the receiver will never accept these
    outbox/corrupt/                                   these cannot be read

To have a rejected report sent again, move its file back.  Calls block; one at a time is up to the caller.
"""

import contextlib
import errno
import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import structlog

from bringup.daemon.storage.files import make_private_directory, sync_directory, write_durably
from bringup.daemon.storage.outbox.report import Report, is_report, is_superseded, uuids_in
from bringup.drivers.files import read_file

log = structlog.get_logger(__name__)

STAMP: Final = "%Y%m%dT%H%M%S.%fZ"
STAMP_LENGTH: Final = len("20261123T223100.123456Z")
NOT_NOW: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR, errno.EAGAIN, errno.ESTALE})
"""Errors that prove nothing about the file: this process, the host or a file server lacks resources."""


class OutboxError(Exception):
    """The directory of the outbox could not be read or written; the report is not stored there."""


class Spool:
    """Files of the directory; at most ``keep`` wait, unless each has what no later one has."""

    def __init__(self, directory: Path, *, keep: int = 100) -> None:
        """Store the directory; the first write creates it."""
        self.directory = directory
        self._keep = keep

    def write(self, report: Report) -> None:
        """Add a report behind those that wait, on disk when this returns; only once, if it waits already.

        :raises OutboxError: it is not safely on disk.
        """
        report_id = report["report_id"]
        try:
            waiting = self._waiting()
            make_private_directory(self.directory)
            if any(path.name.endswith(f"-{report_id}.json") for path in waiting):
                sync_directory(self.directory)
                return
            name = f"{_next_stamp(report, waiting)}-{report_id}"
            data = json.dumps(report, separators=(",", ":")).encode("ascii")
            write_durably(self.directory / f"{name}.json", data, draft=self.directory / f".{name}.tmp")
        except OSError as error:
            raise OutboxError(f"cannot write report {report_id} to {self.directory}") from error
        self._drop_superseded()

    def waiting(self) -> list[Path]:
        """List the files to be sent, oldest first.

        :raises OutboxError: the directory cannot be read.
        """
        try:
            return self._waiting()
        except OSError as error:
            raise OutboxError(f"cannot list the reports in {self.directory}") from error

    def read(self, path: Path) -> Report | None:
        """Read a report; None if it is no longer there or was set aside, because it cannot be read.

        :raises OutboxError: it cannot be read now, or neither read nor set aside.
        """
        try:
            report = json.loads(read_file(path))
            # What cannot be written cannot be sent, and would block all that follow.
            json.dumps(report, ensure_ascii=False, allow_nan=False).encode()
            problem = "it is not a report of a format that this version knows"
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            if isinstance(error, OSError) and error.errno in NOT_NOW:
                raise OutboxError(f"cannot read {path} now") from error
            report, problem = None, f"{type(error).__name__}: {error}"
        if is_report(report):
            return report
        kept = self._set_aside(path, "corrupt")
        log.error("outbox.corrupt", file=str(path), kept=str(kept), problem=problem)
        return None

    def remove(self, path: Path) -> None:
        """Remove a report that was acknowledged; a missing one is no error.

        :raises OutboxError: it may come back.
        """
        try:
            path.unlink(missing_ok=True)
            sync_directory(path.parent)
        except OSError as error:
            raise OutboxError(f"cannot remove {path}, which was acknowledged") from error

    def reject(self, path: Path) -> Path:
        """Set a report aside that the receiver will never accept; return its new path.

        :raises OutboxError: it is still among those to be sent.
        """
        return self._set_aside(path, "rejected")

    def tidy(self) -> None:
        """Remove files that a crash left half written."""
        with contextlib.suppress(OSError):
            for path in self.directory.glob(".*.tmp"):
                path.unlink(missing_ok=True)

    def _waiting(self) -> list[Path]:
        try:
            return sorted(path for path in self.directory.iterdir() if _is_report_file(path))
        except FileNotFoundError:
            return []

    def _set_aside(self, path: Path, folder: str) -> Path:
        kept = self.directory / folder / path.name
        try:
            make_private_directory(kept.parent)
            path.rename(kept)
            sync_directory(kept.parent)
            sync_directory(path.parent)
            for old in sorted(kept.parent.iterdir())[: -self._keep]:
                log.warning("outbox.dropped", file=str(old), because=f"more than {self._keep} {folder}")
                old.unlink()
        except OSError as error:
            raise OutboxError(f"cannot move {path} to {kept.parent}") from error
        return kept

    def _drop_superseded(self) -> None:
        try:
            waiting = self._waiting()
            if len(waiting) <= self._keep:
                return
            dropped = list(self._superseded(waiting))
            for path in dropped:
                path.unlink(missing_ok=True)
        except (OSError, OutboxError) as error:
            log.warning("outbox.not_pruned", directory=str(self.directory), error=str(error))
            return
        # None dropped: each of the files has what no later one has, and is kept.
        log.warning("outbox.pruned", keep=self._keep, waiting=len(waiting), dropped=[path.name for path in dropped])

    def _superseded(self, waiting: list[Path]) -> Iterator[Path]:
        named: set[str] = set()
        complete = False
        for index, path in enumerate(reversed(waiting)):
            report = self.read(path)
            if report is None:
                continue
            if index and is_superseded(report, named_later=named, complete_later=complete):
                yield path
            named |= uuids_in(report)
            complete = complete or report["complete"]


def _is_report_file(path: Path) -> bool:
    return path.suffix == ".json" and not path.name.startswith(".")


def _next_stamp(report: Report, waiting: list[Path]) -> str:
    stamp = datetime.fromisoformat(report["created_at"]).strftime(STAMP)
    last = waiting[-1].name[:STAMP_LENGTH] if waiting else ""
    if stamp > last:
        return stamp
    # The clock went back, as clocks do between a boot and the first answer of a time server.
    with contextlib.suppress(ValueError):
        return (datetime.strptime(last, STAMP) + timedelta(microseconds=1)).strftime(STAMP)  # noqa: DTZ007 - a name
    return stamp
