"""Reader of a file of records: all of it, or none."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from bringup.daemon.decisions.instances import Instance, Migration
from bringup.daemon.storage.record_files.documents import MOST_ENTRIES, has_too_many_entries, read_documents, refusal_of
from bringup.daemon.storage.record_files.shapes import (
    COMMAND,
    is_line_of_a_list,
    servers_in,
    unparsed_texts,
    with_nova_names,
)
from bringup.daemon.storage.record_files.writing import FORMAT
from bringup.daemon.storage.store.base import Records
from bringup.daemon.text import short

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
