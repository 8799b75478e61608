"""Types of fields that more than one format of records has."""

from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, Field

from bringup.drivers.identifiers import uuid_in_any_spelling

T = TypeVar("T")

MOST_LEVELS = 50
"""Of objects and lists in each other; Nova's have a dozen, and what reads them later goes on a stack."""
_INT32 = 2**31


def _uuid(text: str) -> str:
    try:
        return uuid_in_any_spelling(text)
    except ValueError:
        raise ValueError("a UUID is wanted") from None


def _text(text: str) -> str:
    # JSON can spell half of a surrogate pair; no database and no terminal takes it.
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError("text that UTF-8 can hold is wanted") from None
    return text


def _number_of_state(number: int) -> int:
    if not -_INT32 <= number < _INT32:
        raise ValueError("a number of Nova's, such as 1 for RUNNING, is wanted")
    return number


def not_too_deep(value: T) -> T:
    """Give a value of JSON, where nobody who reads it runs out of stack.  Raises ``ValueError``."""
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
    raise ValueError(f"at most {MOST_LEVELS} levels are wanted")


Uuid = Annotated[str, AfterValidator(_uuid)]
"""A UUID in any spelling; kept in lower case, with dashes."""
Text = Annotated[str, AfterValidator(_text)]
Word = Annotated[str, Field(min_length=1), AfterValidator(_text)]
State = Word
"""A state as Nova writes it; one that is not known is kept."""
Objects = Annotated[list[dict[str, Any]], AfterValidator(not_too_deep)]
"""Objects of JSON, such as the VIFs of an info cache."""
PowerNumber = Annotated[int, AfterValidator(_number_of_state)]
