"""From layers to settings that are valid as a whole, or to one error with every wrong key."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bringup.daemon.errors import SettingsError
from bringup.daemon.settings.cross_checks import crossed
from bringup.daemon.settings.keys import KEYS, is_secret, is_token
from bringup.daemon.settings.layers import Layers, read_layers
from bringup.daemon.settings.model import (
    SECTIONS,
    STATUS_SOCKET,
    Settings,
    StoreSettings,
    default_concurrency,
    libvirt_concurrency,
    sqlite_url,
)
from bringup.daemon.settings.problems import unknown_key, unknown_section, wrong_value
from bringup.daemon.settings.secret_files import file_problem, read_secret
from bringup.daemon.settings.sections import validate
from bringup.daemon.text import printable
from bringup.drivers.kinds import WrongEntries

# What openstack-placement with auth_strategy = noauth2 takes for an administrator; it is public, not a secret.
NOAUTH_TOKEN = "admin"  # noqa: S105 - see above
# Whoever exits and is started again asks for another token, which is what a Keystone that is behind has no time for.
# systemd is notified all the while that the start continues.
WAIT_UNDER_SYSTEMD_S = 3600.0
FROM_FILES = tuple(tuple(key.split(".")) for key in KEYS if is_secret(key) and f"{key}_file" in KEYS)
"""Secrets, section and key, each with a key for the file that holds it."""
PRIVATE_KEY = "key_file"
"""Read by the TLS library; only checked here."""
CREDENTIALS = "CREDENTIALS_DIRECTORY"
"""Where systemd puts what ``LoadCredential=`` and its kin name; nobody but the service can read it."""

SHOWN = 50
"""Number of wrong keys that are reported: one list can have thousands of wrong entries."""


def load(
    config: Path | None, *, environment: Mapping[str, str], overrides: Sequence[str], nova_conf: Sequence[str] = ()
) -> Settings:
    """Return the settings, valid as a whole.

    ``config`` is the file of the command line; without it ``BRINGUP_CONFIG``, ``/etc/bringup/bringup.toml`` if that
    exists, or no file.  ``overrides`` are the ``section.key=value`` of ``--set``, ``nova_conf`` the paths of
    ``--nova-conf``.
    Raises ``SettingsError`` with one sentence for every wrong key of all layers.
    """
    layers = read_layers(config, environment=environment, overrides=overrides, nova_conf=nova_conf)
    return settings_of(layers, environment=environment)


def settings_of(layers: Layers, *, environment: Mapping[str, str]) -> Settings:
    """Build the settings from layers.

    :raises SettingsError: one sentence for every wrong key of all layers.
    """
    unreadable = bool(layers.problems)
    _fill_in(layers, environment)
    problems = list(layers.problems)
    sections = _validate(layers, problems)
    warnings: list[str] = []
    # What could not be read may be what is missing.
    crossed(sections, layers.sources, problems=problems if not unreadable else [], warnings=warnings)
    directory = environment.get(CREDENTIALS)
    for section, key in FROM_FILES:
        problem = _read_secret_file(section, key, sections, layers.sources, problems=problems)
        warnings.extend(_file_warning(f"{section}.{key}_file", problem, sections, layers.sources, directory))
    for section in sections:
        path = getattr(sections[section], PRIVATE_KEY, None)
        problem = None if path is None else file_problem(path)
        warnings.extend(_file_warning(f"{section}.{PRIVATE_KEY}", problem, sections, layers.sources, directory))
    problems.extend(
        f"{key} (--set): the command line is there for everybody to read; give {key}_file"
        for key, source in layers.sources.items()
        if source == "--set" and key in (f"{section}.{name}" for section, name in FROM_FILES if section in sections)
    )
    if problems:
        raise SettingsError([printable(problem) for problem in _not_too_many(problems)])
    return Settings(**sections, warnings=tuple(map(printable, warnings)), sources=layers.sources)


def _fill_in(layers: Layers, environment: Mapping[str, str]) -> None:
    """Put in the defaults that follow from other settings or from systemd."""
    host = layers.values.setdefault("host", {})
    placement = layers.values.setdefault("placement", {})
    given = environment.get("STATE_DIRECTORY", "").split(":")[0]
    if given and "state_directory" not in host:
        layers.put("host", "state_directory", given, source="STATE_DIRECTORY")
    directory = host.get("state_directory")
    if isinstance(directory, str) and directory:
        layers.values.setdefault("store", {}).setdefault("url", sqlite_url(Path(directory)))
        layers.values.setdefault("status", {}).setdefault("socket", str(Path(directory) / STATUS_SOCKET))
    if "name" in host:
        placement.setdefault("resource_provider", host["name"])
    if any(key.startswith("keystone.") for key in layers.sources):
        placement.setdefault("auth", "keystone")
    is_libvirt = layers.values.get("driver", {}).get("name") == "libvirt"
    limits = layers.values.setdefault("limits", {})
    is_adaptive = limits.get("pace", "adaptive") == "adaptive"
    cpus = len(os.sched_getaffinity(0))
    concurrency = libvirt_concurrency(cpus, is_adaptive=is_adaptive) if is_libvirt else default_concurrency()
    limits.setdefault("concurrency", concurrency)
    if environment.get("NOTIFY_SOCKET", "").startswith(("/", "@")):
        placement.setdefault("wait", WAIT_UNDER_SYSTEMD_S)
    _find_credentials(layers, environment)
    if placement.get("auth", "noauth") == "noauth" and not placement.keys() & {"token", "token_file"}:
        placement["token"] = NOAUTH_TOKEN


def _find_credentials(layers: Layers, environment: Mapping[str, str]) -> None:
    """Find systemd's credentials: by ``%d/`` at the beginning of a path, as in a unit file, or by the name of a key."""
    directory = environment.get(CREDENTIALS)
    for section, values in layers.values.items():
        for key, value in values.items():
            if not (isinstance(value, str) and value.startswith("%d/") and key.endswith("_file")):
                continue
            if directory:
                values[key] = f"{directory}/{value.removeprefix('%d/')}"
                continue
            given = "a path, or start it as a service with LoadCredential="
            layers.problems.append(
                wrong_value(f"{section}.{key}", value, source=layers.sources[f"{section}.{key}"], instead=given)
                + f" ({CREDENTIALS} is not set)"
            )
    for section, what in FROM_FILES:
        path = Path(directory or "", f"{section}.{what}")
        if directory and _may_be_there(path) and not layers.values.get(section, {}).keys() & {what, f"{what}_file"}:
            layers.put(section, f"{what}_file", str(path), source=CREDENTIALS)


def _may_be_there(path: Path) -> bool:
    try:
        return path.exists()
    except PermissionError:
        raise
    except OSError:
        # Whoever reads it says why it cannot be read.
        return True


def _not_too_many(problems: list[str]) -> list[str]:
    if len(problems) <= SHOWN:
        return problems
    return [*problems[:SHOWN], f"and {len(problems) - SHOWN} more, reported once these are corrected"]


def _validate(layers: Layers, problems: list[str]) -> dict[str, Any]:
    """Validate each section by itself, so that a wrong one does not hide what is wrong between the others."""
    sections: dict[str, Any] = {}
    for name, values in layers.values.items():
        if name in SECTIONS:
            continue
        problems.extend(
            unknown_key(f"{name}.{key}", value, source=layers.sources[f"{name}.{key}"]) for key, value in values.items()
        )
        if not values:
            problems.append(unknown_section(name, source=layers.sources[name]))
    for name in SECTIONS:
        try:
            sections[name] = validate(name, layers.values.get(name, {}))
        except ValidationError as error:
            problems.extend(_sentences(name, error, layers, host_is_right="host" in sections))
    return sections


def _sentences(section: str, error: ValidationError, layers: Layers, *, host_is_right: bool) -> list[str]:
    """Return what is wrong, one sentence per key, in the order of the file."""
    sentences: dict[str, list[str]] = {}
    for detail in error.errors(include_url=False, include_context=True):
        name = str(detail["loc"][0])
        key = f"{section}.{name}"
        value: Any = layers.values[section][name]
        source = layers.sources.get(key, "it follows from [host]")
        cause = detail.get("ctx", {}).get("error")
        if key not in layers.sources and not host_is_right:
            continue
        if detail["type"] == "extra_forbidden":
            sentences[key] = [unknown_key(key, value, source=source)]
        elif isinstance(cause, WrongEntries):
            sentences[key] = [
                wrong_value(f"{key}{path}", found, source=source, instead=instead)
                for path, found, instead in cause.problems
            ]
        else:
            sentences[key] = [wrong_value(key, value, source=source)]
    return [sentence for group in sentences.values() for sentence in group]


def _read_secret_file(
    name: str, what: str, sections: dict[str, Any], sources: Mapping[str, str], *, problems: list[str]
) -> str | None:
    """Store the content of the file as the secret; return a warning about a file that is used all the same."""
    section = sections.get(name)
    path: Path | None = getattr(section, f"{what}_file", None)
    if section is None or path is None:
        return None
    key = f"{name}.{what}_file"
    source = sources[key]
    try:
        found = read_secret(path, is_token=is_token(f"{name}.{what}"))
    except OSError as error:
        reason = error.strerror or type(error).__name__
        if isinstance(error, FileNotFoundError) and _is_unused(section):
            return f"it cannot be read, and is not used ({reason})"
        named = str(path) if "/" in str(path) else "***"  # what is no path may be the secret itself
        problems.append(wrong_value(key, named, source=source, instead=f"a file that can be read ({reason})"))
        return None
    except ValueError as error:
        problems.append(wrong_value(key, str(path), source=source, instead=str(error)))
        return None
    sections[name] = replace(section, **{what: found.secret})
    return found.problem


def _is_unused(section: Any) -> bool:
    return isinstance(section, StoreSettings) and not section.is_postgresql


def _file_warning(
    key: str, problem: str | None, sections: Mapping[str, Any], sources: Mapping[str, str], credentials: str | None
) -> list[str]:
    section, _, name = key.partition(".")
    path: Path | None = getattr(sections.get(section), name, None)
    if problem is None or path is None:
        return []
    # In systemd's directory the bits of the group are the mask of an ACL that lets the service in.
    if credentials and path.is_relative_to(credentials):
        return []
    return [f'{key} = "{path}" ({sources[key]}): {problem}']
