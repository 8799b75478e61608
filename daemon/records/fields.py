"""Types of fields that more than one format of records has."""

import uuid
from typing import Annotated

from pydantic import AfterValidator, Field

_INT32 = 2**31


def _uuid(text: str) -> str:
    try:
        return str(uuid.UUID(text))
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


Uuid = Annotated[str, AfterValidator(_uuid)]
"""A UUID in any spelling; kept in lower case, with dashes."""
Text = Annotated[str, AfterValidator(_text)]
Word = Annotated[str, Field(min_length=1), AfterValidator(_text)]
State = Word
"""A state as Nova writes it; one that is not known is kept."""
PowerNumber = Annotated[int, AfterValidator(_number_of_state)]
