"""Sentences on wrong settings: the key, its value, where it was set, what would be right."""

import difflib
import json
from typing import Any

from bringup.daemon.settings.keys import KEYS, RENAMED, is_secret, nearest, nearest_section, right
from bringup.daemon.settings.sections import MODELS
from bringup.daemon.text import without_login

LONGEST_VALUE = 300


def wrong_value(key: str, value: Any, *, source: str, instead: str | None = None) -> str:
    """Return the sentence on a wrong value of a known key."""
    return f"{key} = {shown(key, value)} ({source}): give {instead or right(key)}"


def unknown_key(key: str, value: Any, *, source: str) -> str:
    """Return the sentence on a key that does not exist: its new name, or which key was probably meant."""
    section, _, name = key.partition(".")
    if not section:
        return f"{name} = {shown(name, value)} ({source}): it stands in no section; {_meant(nearest(name))}"
    text = f"{key} = {shown(key, value)} ({source}): "
    if key in RENAMED:
        return text + f"this key was renamed; set {RENAMED[key]} instead{_variable_of(RENAMED[key], source)}"
    if section not in MODELS:
        return text + f"there is no section [{section}]; {_meant(_elsewhere(section, name))}"
    return text + f"there is no such key; {_meant(nearest(key), section)}"


def unknown_section(section: str, *, source: str) -> str:
    """Return the sentence on a section that does not exist."""
    meant = nearest_section(section)
    return f"[{section}] ({source}): there is no such section; " + (
        f"did you mean [{meant}]?" if meant else _sections()
    )


def wrong_section(section: str, value: Any, *, source: str) -> str:
    """Return the sentence on a section that is not a table."""
    return f"{section} = {shown(section, value)} ({source}): give a table: [{section}] and its keys below"


def unknown_variable(variable: str) -> str:
    """Return the sentence on an unknown variable of the environment; its value may be a secret and is not shown."""
    known = {key.upper().replace(".", "__") for key in KEYS} | {"CONFIG"}
    alike = difflib.get_close_matches(variable.removeprefix("BRINGUP_").upper(), sorted(known), n=1)
    return f"{variable} (environment): there is no such setting; " + (
        f"did you mean BRINGUP_{alike[0]}?"
        if alike
        else "the name is BRINGUP_<SECTION>__<KEY>, such as BRINGUP_LOG__LEVEL"
    )


def wrong_override(text: str) -> str:
    """Return the sentence on an override without key and value."""
    return f"{shown(text, text)} (--set): give section.key=value, such as limits.concurrency=4"


def shown(key: str, value: Any) -> str:
    """Write a value for a message: one line, bounded; never one that is secret."""
    if is_secret(key):
        return "***"
    try:
        text = json.dumps(value, default=str, ensure_ascii=False)
    except (ValueError, RecursionError):
        return type(value).__name__
    text = without_login(text)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"


def _variable_of(key: str, source: str) -> str:
    """Return the environment variable of a key in parentheses, for a value that came from the environment."""
    return f" (BRINGUP_{key.upper().replace('.', '__')})" if source.startswith("BRINGUP_") else ""


def _elsewhere(section: str, name: str) -> str | None:
    meant = nearest_section(section)
    return nearest(f"{meant or section}.{name}")


def _meant(key: str | None, section: str | None = None) -> str:
    if key:
        return f"did you mean {key}?"
    if section:
        return f"the keys of [{section}] are " + ", ".join(MODELS[section].model_fields)
    return _sections()


def _sections() -> str:
    return "the sections are " + ", ".join(MODELS)
