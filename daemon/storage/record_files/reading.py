"""Files of records, read as a whole or refused as a whole; and our own JSON, ``bringup.records/1``, written.

A file is parsed into JSON documents: one, several one after the other (JSON lines too), or a list.  Two bytes of a file
(``[]``) can become more than a hundred of a process, so the memory that its values will take is estimated before they
are created.  A text in quotes costs its length: no tenant can make a file heavy by metadata.  A document may also be an
error that a service has answered instead of servers.
"""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import fields
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from bringup.daemon.decisions.instances import Instance, Migration
from bringup.daemon.errors import UsageError
from bringup.daemon.storage.record_files.shapes import (
    COMMAND,
    is_line_of_a_list,
    servers_in,
    unparsed_texts,
    with_nova_names,
)
from bringup.daemon.storage.store.base import Records
from bringup.daemon.text import short
from bringup.drivers.files import open_input
from bringup.placement.error_body import parse_error_body, plain

_MIB = 1024 * 1024
HEAVIEST = 512 * _MIB
"""Most bytes of memory that the values of a file may take; those of records take some five times the file."""


def read_documents(source: Path | bytes, name: str, *, limit_bytes: int) -> Iterator[tuple[str, Any]]:
    """Yield each document with its position (empty if it is the only one).

    :raises UsageError: it cannot be read, is larger than ``limit_bytes``, is not UTF-8, is not JSON, or would take more
        memory than records do.
    """
    text = _text(_content(source, name, limit_bytes), name)
    _check_weight(text, name)
    found = list(_decoded(text, name))
    if len(found) == 1 and isinstance(found[0], list):
        found = found[0]
        return ((f"[{index}]", document) for index, document in enumerate(found))
    if len(found) == 1:
        return iter((("", found[0]),))
    return ((f"[{index}]", document) for index, document in enumerate(found))


def _content(source: Path | bytes, name: str, limit_bytes: int) -> bytes:
    if isinstance(source, bytes):
        _check_size(len(source), name, limit_bytes)
        return source
    try:
        with open_input(source) as file:
            _check_size(os.fstat(file.fileno()).st_size, name, limit_bytes)
            # A pipe has no size, and a file may grow.
            content = file.read(limit_bytes + 1)
    except OSError as error:
        raise UsageError(f"cannot read records from {name}: it must be a file that this user can read") from error
    _check_size(len(content), name, limit_bytes)
    return content


def _check_size(size: int, name: str, limit_bytes: int) -> None:
    if size <= limit_bytes:
        return
    raise UsageError(
        f"cannot read records from {name}: it has at least {size / _MIB:.1f} MiB, the limit is "
        f"{limit_bytes / _MIB:g} MiB; ask Nova for pages (GET /servers/detail?limit=1000, then &marker= with the last "
        "id) and import page by page"
    )


def _text(content: bytes, name: str) -> str:
    try:
        return content.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"cannot read records from {name}: byte {error.start} (0x{content[error.start]:02x}) is not UTF-8"
        ) from error


def _check_weight(text: str, name: str) -> None:
    if (weight := weight_of(text)) > HEAVIEST:
        raise UsageError(
            f"cannot read records from {name}: its objects, lists and values would take up to {weight / _MIB:.0f} MiB "
            f"of memory, the limit is {HEAVIEST / _MIB:g} MiB, and records take some five times their file: check "
            "whether it is one of records, or import it in parts"
        )


def _decoded(text: str, name: str) -> Iterator[Any]:
    decoder = json.JSONDecoder(parse_constant=_refuse_constant)
    position = _skip_space(text, 0)
    if position == len(text):
        raise UsageError(f"cannot read records from {name}: it is empty; the command that should write it has failed")
    while position < len(text):
        try:
            document, position = decoder.raw_decode(text, position)
        except json.JSONDecodeError as error:
            if text.startswith("<", position):
                page = parse_error_body(text.encode()).words
                raise UsageError(
                    f"cannot read records from {name}: it is a page of HTML and not JSON, of a proxy probably: "
                    f'"{page}"; ask again'
                ) from None
            ends_early = error.msg.startswith("Unterminated") or error.pos >= len(text.rstrip()) - 1
            cut = ", the file may be cut short" if ends_early else ""
            raise UsageError(
                f"cannot read records from {name}: it is not JSON at line {error.lineno}, column {error.colno}{cut}"
            ) from error
        except (ValueError, RecursionError) as error:
            raise UsageError(f"cannot read records from {name}: it has a value that is not JSON's") from error
        yield document
        position = _skip_space(text, position)


def _skip_space(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    return position


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


OF_A_CONTAINER = 240
"""Bytes of a small object of CPython with one key; a list takes less, more keys have commas."""
OF_A_COMMA = 80
"""Bytes of a number, a short text, or a key and its slot."""
MOST_ENTRIES = 10_000
"""Most entries in the objects and lists of one record; a record of Nova has some hundred."""
LEVELS = 4
"""Depth of the count: a record, its addresses, those of a network, the entries of one of them."""
CHUNK = 1 << 20


def weight_of(text: str, *, chunk: int = CHUNK) -> int:
    """Estimate from above how many bytes the objects, lists, numbers and short texts of a JSON text will take."""
    containers = commas = 0
    for outside in _outside_of_texts(text, chunk):
        containers += outside.count("[") + outside.count("{")
        commas += outside.count(",")
    return containers * OF_A_CONTAINER + commas * OF_A_COMMA


def has_too_many_entries(record: Any) -> bool:
    """Check whether a record has more entries than any real one: each wrong entry would be a problem of its own."""
    level: list[Any] = [record] if isinstance(record, dict | list) else []
    count = 0
    for _ in range(LEVELS):
        inner: list[Any] = []
        for each in level:
            count += len(each)
            if count > MOST_ENTRIES:
                return True
            values = each.values() if isinstance(each, dict) else each
            inner += (value for value in values if isinstance(value, dict | list))
        level = inner
    return False


def _outside_of_texts(text: str, size: int) -> Iterator[str]:
    """Yield the text outside quotes, a chunk at a time: a large file is not copied whole."""
    inside = False
    escape = ""
    for start in range(0, len(text), size):
        # An escape that the chunk cuts in two is completed by the next one.
        chunk = (escape + text[start : start + size]).replace("\\\\", "")
        escape = "\\" if chunk.endswith("\\") else ""
        parts = chunk.removesuffix(escape).replace('\\"', "").split('"')
        yield "".join(parts[1 if inside else 0 :: 2])
        inside ^= len(parts) % 2 == 0


WORDS = ("message", "detail", "title")
ADVICE: Mapping[int, str] = {
    HTTPStatus.UNAUTHORIZED: "log in and ask again: the token is missing, wrong or has run out",
    HTTPStatus.FORBIDDEN: "ask again as an administrator",
    HTTPStatus.NOT_FOUND: "ask again at the address that `openstack catalog show nova` gives",
}
LATER = "ask again later; the log of the service says more"
OTHERWISE = "correct that, and ask again"
VERSIONS = "is a list of API versions: the address ends too early; ask for .../v2.1/servers/detail?all_tenants=1"


def refusal_of(document: Any) -> str | None:
    """Describe the error that a service has answered instead of servers; None if it is not one."""
    if not isinstance(document, dict):
        return None
    if any(isinstance(document.get(name), list | dict) for name in ("choices", "versions", "version")):
        return VERSIONS
    for candidate in _candidates(document):
        words = next((candidate[key] for key in WORDS if isinstance(candidate.get(key), str)), None)
        if words is not None:
            code = next((candidate[key] for key in ("code", "status") if isinstance(candidate.get(key), int)), 0)
            return f'is the answer of a service that refused: {code or ""} "{plain(words)}"; {_advice(code)}'
    return None


def _candidates(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return where the error may be: a list of errors, the one object (``{"forbidden": {...}}``), the document."""
    found: list[Any] = list(document["errors"][:1]) if isinstance(document.get("errors"), list) else []
    if len(document) == 1:
        [inner] = document.values()
        found.append({"message": inner} if "error" in document and isinstance(inner, str) else inner)
    if document.keys() & {"code", "status", "error"}:
        found.append(document)
    return [each for each in found if isinstance(each, dict)]


def _advice(code: int) -> str:
    if code >= HTTPStatus.INTERNAL_SERVER_ERROR or code == HTTPStatus.TOO_MANY_REQUESTS:
        return LATER
    return ADVICE.get(code, OTHERWISE)


if TYPE_CHECKING:
    from bringup.daemon.storage.record_files.problems import RecordProblems

LIST = "what openstack server list writes"
LIMIT_BYTES = 64 * 1024 * 1024


def read_records(source: Path | bytes, *, host: str | None, limit_bytes: int = LIMIT_BYTES) -> Records:
    """Read Nova's answers to ``GET /servers/detail``, what clients make of them, or our own JSON, or documents of each.

    ``host`` is the host of instances whose record names none (Nova names hosts to administrators only).  Blocks.

    :raises UsageError: the file cannot be read or a record is wrong; every wrong record is named.
    """
    # Pydantic is imported when records are read, not with this package.
    from bringup.daemon.storage.record_files.problems import RecordProblems  # noqa: PLC0415 - see above

    name = "what was given" if isinstance(source, bytes) else str(source)
    reading = _ParsedFile(host, RecordProblems(name))
    for where, document in read_documents(source, name, limit_bytes=limit_bytes):
        reading.add(where, document)
    reading.problems.raise_if_any()
    return Records(instances=tuple(reading.instances), migrations=tuple(reading.migrations))


class _ParsedFile:
    """Records that were read so far, and their problems."""

    def __init__(self, host: str | None, problems: "RecordProblems") -> None:
        self._host = host
        self._seen: dict[str, str] = {}
        self._reported_list = False
        self.problems = problems
        self.instances: list[Instance] = []
        self.migrations: list[Migration] = []

    def add(self, where: str, document: Any) -> None:
        """Add the records of one document."""
        prefix = f"{where}." if where else ""
        servers = servers_in(document)
        if servers is not None:
            for name, data in servers:
                at = f"{prefix}{name}" if name else where or "the server"
                self._take_server(data, at)
            return
        if is_line_of_a_list(document):
            # Every line of it is one: it is reported once.
            if not self._reported_list:
                self.problems.add(
                    LIST, f" does not say what is needed: vm_state, host and name; write it with: {COMMAND}"
                )
            self._reported_list = True
            return
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            self.problems.add(where or "the document", f" {_not_records(document)}")
            return
        self._take_own(document, prefix)

    def _take_own(self, document: dict[str, Any], prefix: str) -> None:
        from bringup.daemon.storage.record_files import own  # noqa: PLC0415 - pydantic, as above

        for name in document.keys() - {"format", "instances", "migrations"}:
            self.problems.add(f"{prefix}{short(name)}", ": there is no such field")
        for index, data in enumerate(self._list(document, "instances", prefix)):
            at = f"{prefix}instances[{index}]"
            if not self._is_too_large(data, at):
                self._add_instance(own.instance(data, at, self.problems), at)
        for index, data in enumerate(self._list(document, "migrations", prefix)):
            at = f"{prefix}migrations[{index}]"
            if self._is_too_large(data, at):
                continue
            migration = own.migration(data, at, self.problems)
            if migration is not None and self._is_new(f"migration {migration.uuid}", at):
                self.migrations.append(migration)

    def _take_server(self, data: Any, at: str) -> None:
        from bringup.daemon.storage.record_files import servers_detail  # noqa: PLC0415 - pydantic, as above

        said = with_nova_names(data)
        if self._is_too_large(said, at):
            return
        unread = list(unparsed_texts(data, said))
        for sentence in unread:
            self.problems.add(at, sentence)
        if not unread:
            self._add_instance(servers_detail.instance(said, at, self.problems, host=self._host), at)

    def _is_too_large(self, data: Any, at: str) -> bool:
        found = has_too_many_entries(data)
        if found:
            self.problems.add(at, f" has more than {MOST_ENTRIES} entries: no record of Nova has so many")
        return found

    def _list(self, document: dict[str, Any], name: str, prefix: str) -> list[Any]:
        found = document.get(name, [])
        if isinstance(found, list):
            return found
        self.problems.add(f"{prefix}{name}", " is not a list")
        return []

    def _add_instance(self, instance: Instance | None, at: str) -> None:
        if instance is not None and self._is_new(f"instance {instance.uuid}", at):
            self.instances.append(instance)

    def _is_new(self, what: str, at: str) -> bool:
        first = self._seen.setdefault(what, at)
        if first != at:
            self.problems.add(at, f" is {what}, which {first} is too: a UUID may be there once")
        return first == at


def _not_records(document: Any) -> str:
    refusal = refusal_of(document)
    if refusal is not None:
        return refusal
    wanted = (
        f'Nova\'s answer to GET /servers/detail (with "servers") or our own JSON (with "format": "{FORMAT}") is wanted '
        f"or what this writes: {COMMAND}"
    )
    if not isinstance(document, dict):
        return f"is not an object: {wanted}"
    if "format" in document:
        return f"has the format {str(document['format'])[:60]!r}: {wanted}"
    keys = ", ".join(repr(key[:60]) for key in sorted(document)[:5]) or "nothing"
    return f"holds {keys}: {wanted}"


FORMAT = "bringup.records/1"

_STATES = frozenset({"vm_state", "task_state", "power_state"})
_MAPPINGS = frozenset({"flavor", "metadata", "system_metadata"})
_SEQUENCES = frozenset({"network_info", "block_devices"})
_INSTANCE_FIELDS = tuple(field.name for field in fields(Instance))
# When Nova last wrote a row is not stored: it is meaningful only while it is fresh.
_MIGRATION_FIELDS = tuple(field.name for field in fields(Migration) if field.compare)


def dump_records(records: Records, *, indent: int | None = None) -> str:
    """Return records as one JSON document, which ``read_records`` parses back unchanged."""
    document = {
        "format": FORMAT,
        "instances": [_instance(instance) for instance in records.instances],
        "migrations": [
            {name: getattr(migration, name) for name in _MIGRATION_FIELDS} for migration in records.migrations
        ],
    }
    return json.dumps(document, indent=indent)


def _instance(instance: Instance) -> dict[str, Any]:
    return {name: _plain(name, getattr(instance, name)) for name in _INSTANCE_FIELDS}


def _plain(name: str, value: Any) -> Any:
    if value is None:
        return None
    if name in _STATES:
        return value.value
    if name in _MAPPINGS:
        return dict(value)
    if name in _SEQUENCES:
        return [dict(entry) for entry in value]
    return value
