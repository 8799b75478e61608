"""What is doubtful about the state directory: it takes no writes, keeps no locks, its journal is damaged."""

import errno
import os
from collections.abc import Iterator

from bringup.daemon.errors import BringupError, chain_of
from bringup.daemon.service import assembly
from bringup.daemon.settings import Settings
from bringup.daemon.storage import state_directory

WITHOUT = (
    "a run goes on without a journal: it holds what must be on record first (destroying, deleting, rebooting, resuming)"
)


def doubts(settings: Settings) -> Iterator[str]:
    """Give a sentence each.  Nothing is made: a directory that is not there yet is made by the first start.

    :raises NewerJournal: a run would refuse the journal.
    """
    directory = settings.host.state_directory
    if not directory.is_dir():
        return
    if state_directory.is_read_only(directory):
        yield f"{directory} takes no writes ({os.strerror(errno.EROFS)}): {WITHOUT}"
    elif reason := _full(settings):
        yield f"{directory} takes no writes ({reason}): {WITHOUT}"
    elif reason := state_directory.without_locks(directory):
        yield f"{directory} is on a file system that keeps no locks ({reason}): {WITHOUT}; name one of this host"
    from bringup.daemon.storage.journal.history import NewerJournal

    try:
        yield from _journal(settings)
    except NewerJournal:
        raise
    except BringupError as error:
        yield chain_of(error)


def _full(settings: Settings) -> str | None:
    found = os.statvfs(settings.host.state_directory)
    # Some file systems have no fixed number of files.
    no_files = found.f_files > 0 and found.f_favail == 0
    return "No space left on device" if found.f_bavail == 0 or no_files else None


def _journal(settings: Settings) -> Iterator[str]:
    from bringup.daemon.storage.journal.history import damage

    path = settings.host.state_directory / assembly.JOURNAL
    if (found := damage(path)) is not None:
        yield f"the journal {path} is damaged ({found}): the next start sets it aside and goes on from the records"
