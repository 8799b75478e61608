"""Nova's answer to ``GET /servers/detail``, of any microversion.

The answer has no system metadata, no port UUIDs, no bridges, no local disks and no ``shutdown_terminate``: those stay
empty.  ``docs/records.md`` has the mapping, field by field.
"""

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bringup.daemon.decisions.instances import Instance
from bringup.daemon.decisions.states import power_state, task_state, vm_state
from bringup.daemon.storage.record_files.problems import PowerNumber, RecordProblems, State, Text, Uuid, Word
from bringup.daemon.storage.record_files.shapes import HOST

_HOST = HOST
_STATES = ("OS-EXT-STS:vm_state", "OS-EXT-STS:task_state", "OS-EXT-STS:power_state")
_HINTS = {"id": "the UUID of the server"} | dict.fromkeys(
    _STATES, "GET /servers/detail gives it, GET /servers does not"
)
_NO_HOST = f".{_HOST} is missing: ask Nova as an administrator, or name the host with --host"


class NetworkAddress(BaseModel):
    """One of a network's ``addresses``."""

    model_config = ConfigDict(strict=True)

    addr: Word
    version: int = 4
    kind: Text = Field("fixed", alias="OS-EXT-IPS:type")
    mac: Text | None = Field(None, alias="OS-EXT-IPS-MAC:mac_addr")


class AttachedVolume(BaseModel):
    """One of ``os-extended-volumes:volumes_attached``."""

    model_config = ConfigDict(strict=True)

    id: Word
    # From microversion 2.3 on.
    delete_on_termination: bool | None = None


class ServerDocument(BaseModel):
    """One of ``servers``; unused fields are ignored."""

    model_config = ConfigDict(strict=True, extra="ignore")

    id: Uuid
    vm_state: State = Field(alias="OS-EXT-STS:vm_state")
    task_state: State | None = Field(alias="OS-EXT-STS:task_state")
    power_state: PowerNumber | None = Field(alias="OS-EXT-STS:power_state")
    host: Word | None = Field(None, alias="OS-EXT-SRV-ATTR:host")
    node: Text | None = Field(None, alias="OS-EXT-SRV-ATTR:hypervisor_hostname")
    instance_name: Text | None = Field(None, alias="OS-EXT-SRV-ATTR:instance_name")
    name: Text | None = None
    tenant_id: Text | None = None
    user_id: Text | None = None
    flavor: dict[str, Any] = Field(default_factory=dict)
    metadata: dict[Text, Text] = Field(default_factory=dict)
    addresses: dict[Text, list[NetworkAddress]] = Field(default_factory=dict)
    volumes: Annotated[list[AttachedVolume], Field(alias="os-extended-volumes:volumes_attached", default_factory=list)]
    terminated_at: Text | None = Field(None, alias="OS-SRV-USG:terminated_at")


def instance(data: Any, where: str, problems: RecordProblems, *, host: str | None) -> Instance | None:
    """Parse one of ``servers``, of ``host`` if it names none; None if it is wrong."""
    if isinstance(data, dict) and data.get("status") == "UNKNOWN" and _STATES[0] not in data:
        missing = ", ".join(field for field in (*_STATES, _HOST) if field not in data)
        problems.add(
            where, f" ({data.get('id')}) has no {missing}: the cell that it is in is down; ask again when it is up"
        )
        return None
    try:
        server = ServerDocument.model_validate(data)
    except ValidationError as error:
        problems.add_invalid(where, error, _HINTS)
        server = None
    # null is an answer (the instance is on no host), a missing field is not.
    names_host = isinstance(data, dict) and _HOST in data
    if isinstance(data, dict) and not names_host and host is None:
        problems.add(where, _NO_HOST)
        return None
    return None if server is None else _instance(server, server.host if names_host else host)


def _instance(server: ServerDocument, host: str | None) -> Instance:
    return Instance(
        uuid=server.id,
        host=host,
        vm_state=vm_state(server.vm_state),
        task_state=task_state(server.task_state),
        power_state=power_state(server.power_state),
        node=server.node,
        name=server.instance_name or "",
        display_name=server.name or "",
        project_id=server.tenant_id,
        user_id=server.user_id,
        flavor=server.flavor,
        metadata=server.metadata,
        network_info=tuple(_vifs(server.addresses)),
        block_devices=tuple(_volume(volume) for volume in server.volumes),
        terminated_at=server.terminated_at,
    )


def _vifs(addresses: dict[str, list[NetworkAddress]]) -> Iterable[dict[str, Any]]:
    """Yield VIFs in the shape of Nova's info cache; one per network and MAC address, without floating addresses."""
    for label, of_network in addresses.items():
        by_mac: dict[str | None, list[dict[str, Any]]] = {}
        for address in of_network:
            ips = by_mac.setdefault(address.mac, [])
            if address.kind == "fixed":
                ips.append({"address": address.addr, "type": "fixed", "version": address.version})
        for mac, ips in by_mac.items():
            yield {"address": mac, "network": {"label": label, "subnets": [{"ips": ips}]}}


def _volume(volume: AttachedVolume) -> dict[str, Any]:
    device: dict[str, Any] = {"source_type": "volume", "destination_type": "volume", "volume_id": volume.id}
    if volume.delete_on_termination is not None:
        device["delete_on_termination"] = volume.delete_on_termination
    return device
