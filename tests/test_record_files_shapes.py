"""The JSON that operators have: read where it has what is needed, else refused with what gives it."""

import json
from typing import Any

import pytest

from bringup.daemon.decisions.instances import Instance
from bringup.daemon.decisions.states import PowerState, TaskState, VmState
from bringup.daemon.errors import UsageError
from bringup.daemon.storage.record_files import read_records
from bringup.daemon.storage.record_files.shapes import COMMAND
from support.records import uuid_of

UUID = uuid_of(1)
API = {
    "id": UUID,
    "name": "web-1",
    "tenant_id": "p1",
    "user_id": "u1",
    "metadata": {"role": "web"},
    "addresses": {},
    "OS-EXT-SRV-ATTR:host": "compute-1",
    "OS-EXT-SRV-ATTR:hypervisor_hostname": "compute-1.example.com",
    "OS-EXT-SRV-ATTR:instance_name": "instance-0000002a",
    "OS-EXT-STS:vm_state": "active",
    "OS-EXT-STS:task_state": "rebooting",
    "OS-EXT-STS:power_state": 1,
    "os-extended-volumes:volumes_attached": [{"id": UUID, "delete_on_termination": False}],
}
OSC = {
    **{key: value for key, value in API.items() if key not in {"tenant_id", "metadata", "addresses"}},
    "project_id": "p1",
    "properties": {"role": "web"},
    "addresses": {"net1": ["10.0.0.12"]},
    "flavor": {"name": "m1.small", "vcpus": 1},
    "volumes_attached": [{"delete_on_termination": False, "id": UUID}],
}
del OSC["os-extended-volumes:volumes_attached"]
OLD_OSC = OSC | {
    "properties": "",
    "addresses": "net1=10.0.0.12",
    "volumes_attached": f"delete_on_termination='False', id='{UUID}'",
    "flavor": "m1.small (1)",
    "OS-EXT-STS:power_state": "Running",
}
SDK = {
    "id": UUID,
    "name": "web-1",
    "compute_host": "compute-1",
    "hypervisor_hostname": "compute-1.example.com",
    "instance_name": "instance-0000002a",
    "vm_state": "active",
    "task_state": "rebooting",
    "power_state": 1,
    "metadata": {"role": "web"},
    "addresses": {
        "net1": [
            {"addr": "10.0.0.12", "version": 4, "OS-EXT-IPS-MAC:mac_addr": "fa:16:3e:0:0:1", "OS-EXT-IPS:type": "fixed"}
        ]
    },
    "attached_volumes": [{"id": UUID, "attachment_id": "a", "delete_on_termination": False}],
    "project_id": "p1",
    "user_id": "u1",
}


def read(*documents: Any, host: str | None = None) -> tuple[Instance, ...]:
    return read_records("\n".join(json.dumps(document) for document in documents).encode(), host=host).instances


def refusal(content: Any) -> str:
    with pytest.raises(UsageError) as caught:
        read_records(content if isinstance(content, bytes) else json.dumps(content).encode(), host=None)
    return str(caught.value)


SHAPES = {
    "GET /servers/detail": {"servers": [API]},
    "GET /servers/{id}": {"server": API},
    "openstack server show": OSC,
    "openstacksdk": [SDK],
    "Ansible": {"changed": False, "servers": [SDK]},
    "Ansible, as it was": {"openstack_servers": [SDK], "changed": False},
}


@pytest.mark.parametrize("document", SHAPES.values(), ids=SHAPES.keys())
def test_each_shape_gives_the_same_record(document: Any) -> None:
    [found] = read(document)
    assert (found.uuid, found.host, found.node) == (UUID, "compute-1", "compute-1.example.com")
    assert (found.name, found.display_name) == ("instance-0000002a", "web-1")
    assert (found.vm_state, found.task_state, found.power_state) == (
        VmState.ACTIVE,
        TaskState.REBOOTING,
        PowerState.RUNNING,
    )
    assert (found.project_id, found.user_id, found.metadata) == ("p1", "u1", {"role": "web"})
    [volume] = found.block_devices
    assert (volume["volume_id"], volume["delete_on_termination"]) == (UUID, False)


def test_what_older_clients_made_a_text_of_is_read_too() -> None:
    [found] = read(OLD_OSC)
    assert (found.power_state, found.metadata, found.flavor) == (PowerState.RUNNING, {}, {})
    assert [volume["volume_id"] for volume in found.block_devices] == [UUID]


@pytest.mark.parametrize(
    ("text", "metadata"),
    [
        ("a='b'", {"a": "b"}),
        ("a='b', c='d'", {"a": "b", "c": "d"}),
        ("a='', b c='it's, so=1', d='x\ny'", {"a": "", "b c": "it's, so=1", "d": "x\ny"}),
    ],
)
def test_properties_that_are_a_text_are_read(text: str, metadata: dict[str, str]) -> None:
    [found] = read(OLD_OSC | {"properties": text})
    assert found.metadata == metadata


@pytest.mark.parametrize("text", ["password: s3cr3t", "{'password': 's3cr3t'}", "a='s3cr3t', a='2'", "a='s3cr3t' b"])
def test_properties_that_are_another_text_are_refused_by_their_name_and_not_shown(text: str) -> None:
    said = refusal(OLD_OSC | {"properties": text})
    assert "the server.properties is a text that cannot be read" in said
    assert COMMAND in said
    assert "s3cr3t" not in said


@pytest.mark.parametrize("text", ["[{'id': 'x'}]", UUID, "attachment_id='x'", "-", "id='x'\nid=y"])
def test_volumes_that_are_a_text_without_an_id_are_refused_for_they_would_be_hidden(text: str) -> None:
    assert "the server.volumes_attached is a text that cannot be read" in refusal(OLD_OSC | {"volumes_attached": text})


def test_several_volumes_in_a_text_are_several() -> None:
    text = f"attachment_id='a', id='{UUID}'\nid='{uuid_of(2)}'"
    [found] = read(OLD_OSC | {"volumes_attached": text})
    assert [volume["volume_id"] for volume in found.block_devices] == [UUID, uuid_of(2)]
    assert not read(OLD_OSC | {"volumes_attached": ""})[0].block_devices


@pytest.mark.parametrize("text", ["None", "-", ""])
def test_what_clients_write_for_null_is_null(text: str) -> None:
    assert read(OLD_OSC | {"OS-EXT-STS:task_state": text})[0].task_state is None
    assert "name the host with --host" in refusal(OLD_OSC | {"OS-EXT-SRV-ATTR:host": text})


def test_addresses_with_a_mac_are_kept_and_others_are_not() -> None:
    [show], [sdk] = read(OSC), read(SDK)
    assert list(show.network_info) == []
    assert [vif["address"] for vif in sdk.network_info] == ["fa:16:3e:0:0:1"]


def test_several_one_after_the_other_are_several() -> None:
    other = OSC | {"id": uuid_of(2)}
    assert [one.uuid for one in read(OSC, other)] == [UUID, uuid_of(2)]


@pytest.mark.parametrize("shape", [OSC | {"OS-EXT-SRV-ATTR:host": None}, SDK | {"compute_host": None}])
def test_a_host_that_is_hidden_from_a_user_is_missing(shape: dict[str, Any]) -> None:
    assert "ask Nova as an administrator, or name the host with --host" in refusal(shape)
    assert read(shape, host="compute-9")[0].host == "compute-9"


@pytest.mark.parametrize(
    "shape",
    [
        OSC | {"OS-EXT-SRV-ATTR:host": None, "OS-EXT-STS:vm_state": "shelved_offloaded"},
        SDK | {"compute_host": None, "vm_state": "shelved_offloaded"},
    ],
)
def test_an_instance_that_is_on_no_host_stays_on_none(shape: dict[str, Any]) -> None:
    assert read(shape, host="compute-9")[0].host is None


LINE = {"ID": UUID, "Name": "web-1", "Status": "ACTIVE", "Networks": {}}


@pytest.mark.parametrize(
    "lines", [[LINE], [LINE | {"Task State": None, "Power State": 1, "Host": "compute-1"}] * 3], ids=["short", "long"]
)
def test_what_server_list_writes_is_refused_once_with_the_command_that_gives_more(lines: list[Any]) -> None:
    said = refusal(lines)
    assert said.count(COMMAND) == 1
    assert "1 record is wrong" in said


ANSWERS = {
    "Keystone, no token": (
        {"error": {"code": 401, "message": "The request you have made requires authentication.", "title": "x"}},
        '401 "The request you have made requires authentication."; log in and ask again',
    ),
    "Nova, policy": (
        {"forbidden": {"code": 403, "message": "Policy does not allow it to be performed."}},
        '403 "Policy does not allow it to be performed."; ask again as an administrator',
    ),
    "Nova, bug": ({"computeFault": {"code": 500, "message": "Unexpected API Error."}}, '"Unexpected API Error."; ask'),
    "Nova, gone": ({"itemNotFound": {"code": 404, "message": "Instance x could not be found."}}, "could not be found."),
    "too many": ({"overLimit": {"code": 429, "message": "Slow down"}}, '429 "Slow down"; ask again later'),
    "guidelines": ({"errors": [{"status": 503, "detail": "No cell answers."}]}, '503 "No cell answers."; ask again'),
    "gateway": ({"message": "no Route matched", "code": 404}, '404 "no Route matched"; ask again at the address'),
    "one word": ({"error": "unauthorized"}, '"unauthorized"'),
    "versions": ({"choices": [{"id": "v2.1"}]}, "ask for .../v2.1/servers/detail"),
    "the root": ({"versions": [{"id": "v2.1"}]}, "ask for .../v2.1/servers/detail"),
}


@pytest.mark.parametrize(("document", "says"), ANSWERS.values(), ids=ANSWERS.keys())
def test_a_saved_error_answer_is_refused_with_the_sentence_of_the_service(document: Any, says: str) -> None:
    assert says in refusal(document)


def test_the_sentence_of_a_service_is_bounded_and_printable() -> None:
    said = refusal({"forbidden": {"code": 403, "message": "\x1b]0;ready\x07\u202e\n" + "no " * 10_000}})
    assert all(line.isprintable() for line in said.splitlines())
    assert len(said) < 500


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (
            b"<html><body><h1>503 Service Unavailable</h1>\nNo server</body></html>",
            '"503 Service Unavailable No server"',
        ),
        (b"<!doctype html><title>Login</title>", 'a page "Login"'),
        (b"", "it is empty; the command that should write it has failed"),
    ],
)
def test_what_is_no_json_is_reported_in_words(content: bytes, says: str) -> None:
    assert says in refusal(content)


@pytest.mark.parametrize("document", [{"id": UUID}, {"server": [API]}, {"servers": {}}, {"errors": []}, {"a": 1}, [1]])
def test_anything_else_is_refused_with_what_is_wanted(document: Any) -> None:
    assert "GET /servers/detail" in refusal(document)
