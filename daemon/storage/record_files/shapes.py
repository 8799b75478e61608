"""The shapes of server documents: Nova's own answers, and what clients make of them.

- ``GET /servers/detail`` and ``GET /servers/{id}``: ``{"servers": [...]}``, ``{"server": {...}}``;
- ``openstack server show -f json``: one object, with ``properties`` and ``volumes_attached``;
- openstacksdk, and Ansible's ``openstack.cloud.server_info``: ``compute_host``, ``vm_state``, ``attached_volumes``.

Each is converted to Nova's answer; what was lost on the way (MAC addresses above all) stays empty.  The output of
``openstack server list`` has lost the states and cannot be read.  Pure.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

HOST = "OS-EXT-SRV-ATTR:host"
VM_STATE = "OS-EXT-STS:vm_state"
TASK_STATE = "OS-EXT-STS:task_state"
POWER_STATE = "OS-EXT-STS:power_state"
VOLUMES = "os-extended-volumes:volumes_attached"
LISTS = ("servers", "openstack_servers")
"""Keys of a list of servers: Nova's and Ansible's, and Ansible's former one."""
OTHER_NAMES: Mapping[str, tuple[str, ...]] = {
    HOST: ("compute_host",),
    "OS-EXT-SRV-ATTR:hypervisor_hostname": ("hypervisor_hostname",),
    "OS-EXT-SRV-ATTR:instance_name": ("instance_name",),
    VM_STATE: ("vm_state",),
    TASK_STATE: ("task_state",),
    POWER_STATE: ("power_state",),
    "OS-SRV-USG:terminated_at": ("terminated_at",),
    "tenant_id": ("project_id",),
    "metadata": ("properties",),
    VOLUMES: ("volumes_attached", "attached_volumes"),
}
"""By Nova's name of a field, its names in clients."""
POWER_WORDS = {"nostate": 0, "running": 1, "paused": 3, "shutdown": 4, "crashed": 6, "suspended": 7}
NULLS = ("", "-", "None")
"""Texts that older clients write for null."""
MAY_BE_NULL = (HOST, TASK_STATE, "OS-SRV-USG:terminated_at")
_PAIR = re.compile(r"([^=]+)='(.*?)'(?:, (?=[^=,']+=')|$)", re.DOTALL)
"""One of ``key='value', key='value'``; the value may hold anything, as nothing is escaped."""
_ANY_ID = re.compile(r"(?<!\w)id=")
_VOLUME_ID = re.compile(r"(?<!\w)id='([0-9A-Fa-f-]{32,36})'")
LONGEST_TEXT = 1024 * 1024
"""Most characters of volumes or properties as text: parsed they take far more memory."""
ON_NO_HOST = ("shelved_offloaded", "deleted")
LINE_OF_A_LIST = frozenset({"ID", "Name", "Status"})
COMMAND = (
    "openstack server list --all-projects --host HOST -f value -c ID | xargs -n 1 openstack server show -f json "
    "> servers.json"
)
"""Command that writes a file with all that is needed, with the client that operators have."""


def servers_in(document: Any) -> Iterator[tuple[str, Any]] | None:
    """Return the servers of a document, each with its position; None if it is not one of servers."""
    if not isinstance(document, dict):
        return None
    for name in LISTS:
        if isinstance(document.get(name), list):
            return ((f"{name}[{index}]", server) for index, server in enumerate(document[name]))
    if isinstance(document.get("server"), dict):
        return iter((("server", document["server"]),))
    if "format" not in document and "id" in document and (VM_STATE in document or "vm_state" in document):
        return iter((("", document),))
    return None


def is_line_of_a_list(document: Any) -> bool:
    """Check whether this is a line of ``openstack server list``."""
    return isinstance(document, dict) and document.keys() >= LINE_OF_A_LIST


def with_nova_names(data: Any) -> Any:
    """Return a server with Nova's names of its fields; Nova's own answer is left as it is."""
    if not isinstance(data, dict):
        return data
    others = {ours: next((name for name in names if name in data), None) for ours, names in OTHER_NAMES.items()}
    renamed = {ours: other for ours, other in others.items() if other is not None and ours not in data}
    # In Nova's own answers flavors, addresses and volumes are what they should be.
    if not renamed:
        return data
    found = {**data, **{ours: data[other] for ours, other in renamed.items()}}
    found |= {name: None for name in MAY_BE_NULL if found.get(name) in NULLS}
    if found.get(HOST) is None and found.get(VM_STATE) not in ON_NO_HOST:
        # A client writes null also if Nova names hosts to administrators only.
        found.pop(HOST, None)
    power_state = found.get(POWER_STATE)
    if isinstance(power_state, str):
        found[POWER_STATE] = POWER_WORDS.get(power_state.lower(), power_state)
    found |= {"addresses": _addresses(found.get("addresses")), VOLUMES: _volumes(found.get(VOLUMES))}
    found["metadata"] = _properties(found.get("metadata"))
    if not isinstance(found.get("flavor"), dict):
        found.pop("flavor", None)
    return found


def _addresses(given: Any) -> dict[str, Any]:
    """Keep the networks whose addresses come with a MAC: without one NICs cannot be distinguished."""
    networks = given.items() if isinstance(given, dict) else ()
    return {
        label: addresses
        for label, addresses in networks
        if isinstance(addresses, list) and all(isinstance(address, dict) for address in addresses)
    }


def _volumes(given: Any) -> Any:
    """Parse volumes that a client has written as text: ``id='...'``.  What cannot be parsed stays text."""
    if not isinstance(given, str) or not given.strip():
        return given if given and not isinstance(given, str) else []
    if len(given) > LONGEST_TEXT:
        return given
    found = _VOLUME_ID.findall(given)
    # One that is not parsed would be a hidden disk.
    return [{"id": each} for each in found] if found and len(found) == len(_ANY_ID.findall(given)) else given


def _properties(given: Any) -> Any:
    """Parse properties that a client has written as text: ``key='value'``.  What cannot be parsed stays text."""
    if not isinstance(given, str) or not given.strip():
        return given if given and not isinstance(given, str) else {}
    if len(given) > LONGEST_TEXT:
        return given
    found: dict[str, str] = {}
    end = 0
    while end < len(given):
        pair = _PAIR.match(given, end)
        # A key that is there twice was part of a value.
        if pair is None or pair[1] in found:
            return given
        found[pair[1]] = pair[2]
        end = pair.end()
    return found


def unparsed_texts(data: Any, read: Any) -> Iterator[str]:
    """Describe the fields of a server that stayed text in ``read``; values are not shown."""
    if not isinstance(data, dict) or read is data:
        return
    for ours in (VOLUMES, "metadata"):
        if isinstance(read.get(ours), str):
            theirs = next((name for name in (ours, *OTHER_NAMES[ours]) if name in data), ours)
            yield (
                f".{theirs} is a text that cannot be read: an object or a list is required, as newer clients write it "
                f"({COMMAND}), or ask Nova: GET /servers/{{id}}"
            )
