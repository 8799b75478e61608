"""Reads records of wild shapes and tells what of memory each took at most.  One process: it is imported once.

Writes a line of JSON a shape: its name, bytes of the file, bytes of memory at the peak, what was said.
"""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

from bringup.daemon.errors import UsageError
from bringup.daemon.storage.record_files import FORMAT, read_records

MIB = 1 << 20
ID = "00000000-0000-0000-0000-000000000001"
STATES = f'"id":"{ID}","vm_state":"active","task_state":null,"power_state":1,"compute_host":"h"'
UUIDS = "{:08x}-0000-0000-0000-000000000001"


def own(body: str) -> str:
    return f'{{"format":"{FORMAT}","instances":[{body}]}}'


def field(name: str, body: str) -> str:
    return own(f'{{"uuid":"{ID}","host":"h","vm_state":"active","{name}":{body}}}')


def client(name: str, text: str) -> str:
    return f'{{{STATES},"{name}":"{text}"}}'


def keys(size: int, value: str = "0") -> str:
    return ",".join(f'"{number:x}":{value}' for number in range(size // 9))


def volumes(size: int) -> str:
    each = "id='a'," * 4500
    return "\n".join(
        client("volumes_attached", each).replace(ID, UUIDS.format(number)) for number in range(size // len(each))
    )


def instances(size: int) -> str:
    record = '{{"uuid":"{:08x}-0000-0000-0000-000000000001","host":null,"vm_state":"a"}}'
    return own(",".join(record.format(number) for number in range(size // 70)))


REFUSED: dict[str, Callable[[int], str]] = {
    "lists": lambda size: "[" + "[]," * (size // 3) + "[]]",
    "lists, one a line": lambda size: "[]\n" * (size // 3),
    "objects": lambda size: "[" + "{}," * (size // 3) + "{}]",
    "objects of objects": lambda size: "[" + '{"":{"":0}},' * (size // 12) + "0]",
    "lists of lists": lambda size: "[" + "[[[]]]," * (size // 7) + "0]",
    "deep lists": lambda size: "[" * size,
    "deep objects": lambda size: '{"":' * (size // 4),
    "servers": lambda size: '{"servers":[' + "{}," * (size // 3) + "{}]}",
    "instances": lambda size: own("{}," * (size // 3) + "{}"),
    "lists of a flavor": lambda size: field("flavor", '{"a":[' + "[]," * (size // 3) + "[]]}"),
    "lists of a VIF": lambda size: field("network_info", '[{"a":[' + "[]," * (size // 3) + "[]]}]"),
}
"""What is refused before it is made."""
READ: dict[str, Callable[[int], str]] = {
    "numbers": lambda size: "[" + "999," * (size // 4) + "0]",
    "servers that are numbers": lambda size: '{"servers":[' + "999," * (size // 4) + "0]}",
    "texts": lambda size: '["' + '\u0101","' * (size // 5) + '"]',
    "a wide text": lambda size: '"\U0001f600' + "a" * size + '"',
    "escapes": lambda size: '"' + "\\u0001" * (size // 6) + '"',
    "a long number": lambda size: "1" * size,
    "keys": lambda size: "{" + keys(size) + "}",
    "unknown fields": lambda size: own("{" + keys(size) + "}"),
    "a long field": lambda size: own('{"' + "\x80" * (size // 2) + '":0}'),
    "wrong VIFs": lambda size: field("network_info", "[" + "9," * (size // 2) + "9]"),
    "metadata": lambda size: field("metadata", "{" + keys(size) + "}"),
    "texts of volumes": volumes,
    "a text of properties": lambda size: client("properties", ", ".join(f"{n:x}='a'" for n in range(size // 11))),
    "instances that are right": instances,
}
"""What is made, and refused or taken then."""


def peak(name: str, content: bytes) -> None:
    Path("/proc/self/clear_refs").write_text("5")  # what was the most until now is forgotten
    before = _kib("VmRSS")
    try:
        said = f"took {len(read_records(content, host=None).instances)}"
    except UsageError as error:
        said = str(error)
    took = (_kib("VmHWM") - before) * 1024
    sys.stdout.write(json.dumps({"name": name, "size": len(content), "took": took, "said": said}) + "\n")


def _kib(what: str) -> int:
    found = re.search(rf"{what}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1])


if __name__ == "__main__":
    # What is imported with the first record is no record's.
    peak("warm", own(f'{{"uuid":"{ID}","host":null,"vm_state":"a"}}').encode())
    for name, shape in REFUSED.items():
        peak(name, shape(20 * MIB).encode())
    for name, shape in READ.items():
        peak(name, shape(2 * MIB).encode())
