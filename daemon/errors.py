"""Errors, a class per reaction of the caller.

::

    BringupError               ends the command; carries the exit code (sysexits.h) and what to do
      SettingsError       78   the operator changes the settings
      UsageError          64   the operator changes the command or the file that it was given
      Unavailable         69   something that this host needs did not answer in time
      Temporary           75   the same command may work later
      Refused             77   continuing could do harm, or this user may not
    StoreError                 one read or write of a record did not happen
      StateConflict            somebody else changed the record: their change stands, the outcome is Superseded
        LeaseHeld              another daemon works for this host
        NotOursToStart         the guest must not be started here any more
      RecordNotFound           the record is gone
      StoreUnavailable         the store as a whole is away or full: records stay as they are
    JournalError               it could not be written down what is about to be done

The text of an inner error is never repeated in the outer one: the chain carries it.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from bringup.daemon.text import LONGEST_LINE, line, short

WHO_MAY: Final = "run it as root, or as the user bringup"
"""The end of a sentence about what this user may not."""


class BringupError(Exception):
    """Ends the command with ``exit_code``; each line that it is given is one line of the message."""

    exit_code = 70

    def __init__(self, *lines: str) -> None:
        """Store lines; text of others in them may have any characters, line breaks too, and any length."""
        super().__init__("\n".join(map(line, lines)))


class SettingsError(BringupError):
    """The settings are wrong; ``problems`` has one sentence a wrong key."""

    exit_code = 78

    def __init__(self, problems: Sequence[str]) -> None:
        """Store one sentence for each wrong key, with the key, its value and what would be right."""
        super().__init__(*problems)
        self.problems = tuple(map(line, problems))


class UsageError(BringupError):
    """The command line, or a file named on it, is wrong."""

    exit_code = 64


class Unavailable(BringupError):
    """A service that this host cannot start without did not answer within its budget."""

    exit_code = 69


class Temporary(BringupError):
    """It did not work now and may work later."""

    exit_code = 75


class Refused(BringupError):
    """Nothing was touched, because continuing could do harm."""

    exit_code = 77


class StoreError(Exception):
    """A record could not be read or written."""


class StoreUnavailable(StoreError):
    """The store as a whole is away, full or damaged; nothing is wrong with the record that is known."""


class StateConflict(StoreError):
    """The record is not in a state that the decision was made on (Nova's ``UnexpectedTaskStateError``)."""


class RecordNotFound(StoreError):
    """There is no such record, or it was deleted (Nova's ``InstanceNotFound``)."""


class LeaseHeld(StateConflict):
    """Another daemon holds the lease of this host: nothing may be started or destroyed here."""


class NotOursToStart(StateConflict):
    """Between the decision and the start somebody else has taken the instance over, or is about to."""


class JournalError(Exception):
    """The journal could not be written or read."""


WITHOUT_WORDS: Mapping[str, str] = {
    "TimeoutError": "it was not over in time",
    "ClosedResourceError": "the connection was closed",
    "BrokenResourceError": "the connection was broken",
    "EndOfStream": "the connection was ended",
    "IncompleteRead": "the connection was ended",
    "ConnectionRefusedError": "connection refused",
    "ConnectionResetError": "connection reset",
    "BrokenPipeError": "the connection was broken",
    "PermissionError": "permission denied",
    "FileNotFoundError": "no such file or directory",
    "MemoryError": "out of memory",
    "RecursionError": "it is nested too deeply",
}
"""What errors mean that come without words."""


def _unsaid(text: str, said: Sequence[str]) -> str:
    """Leave out what an error begins with where one before it begins with the same, as "cannot connect to libvirt"."""
    head, colon, rest = text.partition(": ")
    return rest if colon and any(each.startswith(f"{head}: ") and each != text for each in said) else text


def chain_of(error: BaseException) -> str:
    """Put an error with its whole chain of causes into one text, outermost first, nothing said twice.

    How a deadline is carried out (a scope that was cancelled) is nobody's business.
    """
    texts: list[str] = []
    seen: set[int] = set()  # an error may be its own cause, by way of others
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        text = _unsaid(_text_of(link), texts)
        if text and text not in texts:
            texts.append(text)
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    text = ": ".join(texts) or type(error).__name__
    return "\n".join(short(each, LONGEST_LINE) for each in text.split("\n"))


def _text_of(link: BaseException) -> str:
    if not isinstance(link, Exception):
        return ""
    if isinstance(link, BringupError):
        return str(link)
    return line(str(link)) or WITHOUT_WORDS.get(type(link).__name__, type(link).__name__)
