"""Properties of a key that do not depend on its value: its name, whether it is text or secret, what would be right."""

import difflib
import re
from types import UnionType
from typing import Final, Literal, Union, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from bringup.daemon.settings.sections import MODELS
from bringup.daemon.settings.values import Token
from bringup.drivers.kinds import Right

SECRET = re.compile(
    r"token(?!_file)|passw|pass$|passphrase|pwd|\bpw$|secret|credential|transport_url(?!_file)|api.?key|\bauth$|authori|"
    r"bearer|\bdsn$|private_?key$|login",
    re.IGNORECASE,
)
RENAMED: Final = {
    "inventory.put_right": "inventory.update",
    "limits.last_word_deadline": "limits.shutdown_report_deadline",
}
"""Former names of keys, and what each is called now.  Using a former name is an error, in every layer."""
KEYS = {f"{section}.{key}": field for section, model in MODELS.items() for key, field in model.model_fields.items()}


def is_text(key: str) -> bool:
    """Check whether a value of the environment or the command line is used as it is, not parsed as TOML."""
    field = KEYS.get(key)
    return field is not None and not (_types(field) & {bool, int, float, tuple})


def is_secret(key: str) -> bool:
    """Check whether the value must not be shown; an unknown key with the name of a secret counts as one."""
    if key in KEYS:
        return SecretStr in _types(KEYS[key])
    known = nearest(key)
    return bool(SECRET.search(key)) or (known in KEYS and SecretStr in _types(KEYS[known]))


def is_token(key: str) -> bool:
    """Check whether a known key holds a token, which has no spaces."""
    return Token in _members(KEYS[key].annotation)


def right(key: str) -> str:
    """Return what the value of a known key may be, as words that follow "give"."""
    field = KEYS[key]
    words = _annotated(field)
    if words:
        return words
    choices = [each for part in _members(field.annotation) if get_origin(part) is Literal for each in get_args(part)]
    if choices:
        return "one of " + ", ".join(f'"{choice}"' for choice in choices)
    return "true or false"


def nearest(key: str) -> str | None:
    """Return the known key that was probably meant: in the same section, of the same name elsewhere, or similar."""
    section, _, name = key.partition(".")
    names = list(MODELS[section].model_fields) if section in MODELS else []
    alike = difflib.get_close_matches(name or section, names, n=1)
    if alike:
        return f"{section}.{alike[0]}"
    named = [known for known in KEYS if known.partition(".")[2] == (name or section)]
    # A misspelt section is nearer than the same key in a section that looks quite different.
    return next(iter(difflib.get_close_matches(key, named or list(KEYS), n=1, cutoff=0 if named else 0.6)), None)


def nearest_section(section: str) -> str | None:
    """Return the section that was probably meant."""
    return next(iter(difflib.get_close_matches(section, list(MODELS), n=1)), None)


def _annotated(field: FieldInfo) -> str | None:
    """Return the text of the ``Right`` of a field or, if the field is optional, of a part of its type."""
    parts = [field.metadata, *(getattr(part, "__metadata__", ()) for part in _members(field.annotation))]
    return next((word.text for part in parts for word in part if isinstance(word, Right)), None)


def _types(field: FieldInfo) -> set[object]:
    return {getattr(part, "__origin__", part) for part in _members(field.annotation)}


def _members(annotation: object) -> tuple[object, ...]:
    return get_args(annotation) if get_origin(annotation) in {Union, UnionType} else (annotation,)
