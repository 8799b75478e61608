"""Settings in tests: a file to load, and the sentences of what is wrong with them."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from bringup.daemon.errors import SettingsError
from bringup.daemon.settings import Settings, load

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def given_text(file: Path, text: str) -> Path:
    file.write_text(text)
    return file


def problems(
    config: Path | None, *, environment: Mapping[str, str] | None = None, overrides: Sequence[str] = ()
) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        load(config, environment=environment or {}, overrides=overrides)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    return caught.value.problems


def value_of(settings: Settings, key: str) -> Any:
    section, _, name = key.partition(".")
    return getattr(getattr(settings, section), name)


def answers(config: Path, *, environment: Mapping[str, str], overrides: Sequence[str]) -> bool:
    """Return whether there are settings; otherwise check that the error is printable sentences."""
    try:
        return isinstance(load(config, environment=environment, overrides=overrides), Settings)
    except SettingsError as error:
        return bool(error.problems) and not any(CONTROL.search(problem) for problem in error.problems)
