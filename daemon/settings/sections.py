"""Validation of a section: a model of pydantic for each dataclass, made from its fields.

The kinds of ``bringup.drivers.kinds`` know nothing of pydantic: what turns text into a time span or a path is
added here.
"""

from collections.abc import Mapping
from dataclasses import fields
from functools import reduce
from operator import or_
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin, get_type_hints

from annotated_types import Unit
from pydantic import BaseModel, BeforeValidator, ConfigDict, create_model

from bringup.daemon.settings.model import SECTIONS
from bringup.daemon.settings.values import parse_path, parse_time_span
from bringup.drivers.kinds import Parsed


class _Strict(BaseModel):
    """Strict: a number in quotes is a mistake, not a number.  ``hide_input``: an inner error must not show a token.

    ``defer_build``: the validator of a section is built for its first value, not while a booting host waits.
    """

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        hide_input_in_errors=True,
        allow_inf_nan=False,
        frozen=True,
        defer_build=True,
    )


def validate(section: str, values: Mapping[str, Any]) -> Any:
    """Return a section with values of its keys; what is not given has its default.

    :raises pydantic.ValidationError: some of them are wrong.
    """
    if not values:
        return SECTIONS[section]()
    found = MODELS[section].model_validate(values)
    return SECTIONS[section](**{key: getattr(found, key) for key in found.model_fields_set})


def _model(section: type[Any]) -> type[BaseModel]:
    hints = get_type_hints(section, include_extras=True)
    # The defaults are those of the dataclass.
    keys: dict[str, Any] = {key.name: (_readable(hints[key.name]), None) for key in fields(section)}
    return create_model(section.__name__, __base__=_Strict, **keys)


def _readable(kind: Any) -> Any:
    """Add to a type what turns the text of an operator into a value of it."""
    if get_origin(kind) in {Union, UnionType}:
        return reduce(or_, map(_readable, get_args(kind)))
    if get_origin(kind) is not Annotated:
        return kind
    for each in kind.__metadata__:
        if isinstance(each, Parsed):
            return Annotated[kind, BeforeValidator(each.parse)]
    if any(isinstance(each, Unit) for each in kind.__metadata__):
        return Annotated[kind, BeforeValidator(parse_time_span)]
    return Annotated[kind, BeforeValidator(parse_path)] if kind.__origin__ is Path else kind


MODELS: Final[Mapping[str, type[BaseModel]]] = {name: _model(section) for name, section in SECTIONS.items()}
