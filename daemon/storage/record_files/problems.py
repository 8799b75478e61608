"""Types of the fields of a record, and the collected problems of the records of a file."""

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, Field, ValidationError
from pydantic_core import ErrorDetails

from bringup.daemon.errors import UsageError
from bringup.daemon.text import printable, short
from bringup.drivers.identifiers import uuid_in_any_spelling

T = TypeVar("T")

MOST_LEVELS = 50
"""Most levels of nested objects and lists; Nova's have a dozen, and later readers recurse."""
_INT32 = 2**31


def _uuid(text: str) -> str:
    try:
        return uuid_in_any_spelling(text)
    except ValueError:
        raise ValueError("a UUID is required") from None


def _text(text: str) -> str:
    # JSON can spell half of a surrogate pair; no database and no terminal accepts it.
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError("text that UTF-8 can hold is required") from None
    return text


def _number_of_state(number: int) -> int:
    if not -_INT32 <= number < _INT32:
        raise ValueError("a number of Nova's, such as 1 for RUNNING, is required")
    return number


def not_too_deep(value: T) -> T:
    """Return a value of JSON, if reading it recursively is safe.  Raises ``ValueError``."""
    level: list[Any] = [value]
    for _ in range(MOST_LEVELS):
        level = [
            inner
            for each in level
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return value
    raise ValueError(f"at most {MOST_LEVELS} levels are required")


Uuid = Annotated[str, AfterValidator(_uuid)]
"""A UUID in any spelling; kept in lower case, with dashes."""
Text = Annotated[str, AfterValidator(_text)]
Word = Annotated[str, Field(min_length=1), AfterValidator(_text)]
State = Word
"""A state as Nova writes it; an unknown one is kept."""
Objects = Annotated[list[dict[str, Any]], AfterValidator(not_too_deep)]
"""Objects of JSON, such as the VIFs of an info cache."""
PowerNumber = Annotated[int, AfterValidator(_number_of_state)]


SHOWN = 20
MOST = 10_000
"""Most wrong records that are counted; a file with more is not one of records, and is read no further."""
_LONGEST_VALUE = 60
_LONGEST_SENTENCE = 2000
_MAY_BE_SECRET = frozenset({"metadata", "system_metadata"})
"""Fields whose values are shown by type only: tenants and operators keep passwords there."""

_WANTED = {
    "string_type": "text is required",
    "string_unicode": "text that UTF-8 can hold is required",
    "string_too_short": "text that is not empty is required",
    "int_type": "a whole number is required",
    "bool_type": "true or false is required",
    "dict_type": "an object is required",
    "list_type": "a list is required",
    "model_type": "an object is required",
}


class RecordProblems:
    """Sentences, each about one field of one record; of a file that is wrong throughout only the first."""

    def __init__(self, name: str) -> None:
        """Start without any; ``name`` is the name of the file."""
        self._name = name
        self._by_record: dict[str, list[str]] = {}
        self._more = 0
        self._last = ""

    def add(self, where: str, sentence: str) -> None:
        """Add a problem of the record at ``where``, such as ``servers[3]``; beyond the first ones only count it.

        :raises UsageError: so many are wrong that the others need not be read.
        """
        if self._is_shown(where):
            sentences = self._by_record.setdefault(where, [])
            if len(sentences) < SHOWN:
                sentences.append(f"  {printable(_cut(where + sentence))}")

    def add_invalid(self, where: str, error: ValidationError, hints: Mapping[str, str]) -> None:
        """Add every field that a model refused; ``hints`` tell where a missing field comes from.

        :raises UsageError: as :meth:`add`.
        """
        if not self._is_shown(where):
            return
        for detail in error.errors(include_url=False, include_context=True):
            self.add(where, _sentence(detail, hints))

    def _is_shown(self, where: str) -> bool:
        """Check whether the problem of a record is shown in words; count it if not."""
        if where in self._by_record or len(self._by_record) < SHOWN:
            return True
        if where != self._last:
            # Those of one record come one after the other.
            self._more += 1
            self._last = where
            if len(self._by_record) + self._more >= MOST:
                self.raise_if_any()
        return False

    def raise_if_any(self) -> None:
        """Raise an error with all of them, the first twenty records in words.

        :raises UsageError: there is at least one.
        """
        if not self._by_record:
            return
        count = len(self._by_record) + self._more
        heading = "record is" if count == 1 else "records are"
        at_least, rest = ("", "") if count < MOST else ("at least ", "; the rest was not checked")
        lines = [f"cannot take records from {self._name}: {at_least}{count} {heading} wrong, nothing was stored"]
        for sentences in self._by_record.values():
            lines += sentences
        if count > SHOWN:
            lines.append(f"  and {at_least}{count - SHOWN} more{rest}")
        raise UsageError(*lines)


def sentences_of(error: ValidationError) -> str:
    """Return one line per field that a model refused of one record."""
    details = error.errors(include_url=False, include_context=True)
    return "; ".join(printable(_sentence(detail, {}).removeprefix(".")) for detail in details[:SHOWN])


def _sentence(detail: ErrorDetails, hints: Mapping[str, str]) -> str:
    path = _path(detail["loc"])
    field = str(detail["loc"][0]) if detail["loc"] else ""
    if detail["type"] == "missing":
        hint = hints.get(field, "")
        return f"{path} is missing: {hint}" if hint else f"{path} is missing"
    if detail["type"] == "extra_forbidden":
        return f"{path}: there is no such field"
    wanted = _WANTED.get(detail["type"], detail["msg"])
    if detail["type"] == "value_error":
        wanted = str(detail["ctx"]["error"])
    return f"{path} is {_shown(field, detail['input'])}: {wanted}"


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_SENTENCE else f"{text[:_LONGEST_SENTENCE]}..."


def _path(location: tuple[str | int, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{short(part)}" for part in location if part != "[key]")


def _shown(field: str, value: Any) -> str:
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    if field in _MAY_BE_SECRET:
        return {str: "text", bool: "true or false", int: "a number", float: "a number"}.get(type(value), "null")
    text = (
        {None: "null", True: "true", False: "false"}[value]
        if value is None or isinstance(value, bool)
        else repr(value[:_LONGEST_VALUE] if isinstance(value, str) else value)
    )
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."
