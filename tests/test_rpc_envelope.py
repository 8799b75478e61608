"""Messages of oslo.messaging and versioned objects of Nova, to bytes and back."""

import json
from typing import Any

import pytest

from bringup.daemon.openstack.rpc.envelope import ReplyTo, message, parse_reply
from bringup.daemon.openstack.rpc.errors import Unreadable
from bringup.daemon.openstack.rpc.objects import field, primitive, read, read_each


def opened(body: bytes) -> dict[str, Any]:
    outer = json.loads(body)
    assert outer.keys() == {"oslo.version", "oslo.message"}
    assert outer["oslo.version"] == "2.0"
    inner: dict[str, Any] = json.loads(outer["oslo.message"])
    return inner


def sealed(inner: Any, version: str = "2.0") -> bytes:
    return json.dumps({"oslo.version": version, "oslo.message": json.dumps(inner)}).encode()


def test_a_cast_has_what_nova_sends_and_asks_for_no_answer() -> None:
    inner = opened(message("sync_instance_info", {"host_name": "a"}, version="4.2", unique_id="u1"))

    context = {key: inner.pop(key) for key in list(inner) if key.startswith("_context_")}
    assert inner == {"method": "sync_instance_info", "args": {"host_name": "a"}, "version": "4.2", "_unique_id": "u1"}
    assert context == {
        "_context_is_admin": True,
        "_context_roles": ["admin"],
        "_context_read_deleted": "no",
        "_context_request_id": "req-u1",
    }


def test_a_call_names_where_its_answer_goes() -> None:
    reply_to = ReplyTo(queue="reply_1", message_id="m1", alive_every_s=10)
    inner = opened(message("object_action", {}, version="3.0", unique_id="u1", reply_to=reply_to))
    assert (inner["_reply_q"], inner["_msg_id"], inner["_timeout"]) == ("reply_1", "m1", 10)


def test_an_answer_is_a_result_a_failure_or_a_sign_of_life() -> None:
    result = parse_reply(sealed({"_msg_id": "m1", "result": [1], "failure": None, "ending": True}))
    alive = parse_reply(sealed({"_msg_id": "m1", "result": None, "failure": None, "ending": False}))
    said = {"class": "InstanceNotFound", "module": "nova.exception", "message": "no such", "tb": ["File 1\n", "File 2"]}
    failed = parse_reply(sealed({"_msg_id": "m1", "failure": json.dumps(said), "result": None, "ending": True}))

    assert (result.message_id, result.result, result.is_last, result.failure) == ("m1", [1], True, None)
    assert not alive.is_last
    assert failed.failure is not None
    assert (failed.failure.remote_class, str(failed.failure)) == ("InstanceNotFound", "InstanceNotFound: no such")
    assert failed.traceback == "File 1\nFile 2"
    assert "File 1" not in str(failed.failure)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"oslo.version": 2}',
        b'{"oslo.version": "2.0", "oslo.message": {}}',
        sealed([]),
        sealed({"result": 1}),
        sealed({"_msg_id": "m1", "failure": "no json"}),
        sealed({"_msg_id": "m1", "failure": "{}"}),
    ],
)
def test_what_is_no_answer_is_reported_as_none(body: bytes) -> None:
    with pytest.raises(Unreadable, match=r"no answer of oslo\.messaging"):
        parse_reply(body)


def test_an_envelope_of_another_major_version_is_not_read() -> None:
    with pytest.raises(Unreadable, match=r"version 3.0 of oslo.messaging's envelope; this version reads 2.x"):
        parse_reply(sealed({"_msg_id": "m1"}, version="3.0"))


def test_an_object_is_written_as_nova_writes_it() -> None:
    assert primitive("Instance", "2.0", {"uuid": "1"}, ["uuid"]) == {
        "nova_object.name": "Instance",
        "nova_object.namespace": "nova",
        "nova_object.version": "2.0",
        "nova_object.data": {"uuid": "1"},
        "nova_object.changes": ["uuid"],
    }
    assert "nova_object.changes" not in primitive("Instance", "2.0", {})


def test_an_object_of_a_later_minor_version_is_read_and_its_new_fields_with_it() -> None:
    later = primitive("Instance", "2.9", {"uuid": "1", "invented": True})
    assert read(later, "Instance", "2.0") == {"uuid": "1", "invented": True}


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (primitive("Instance", "3.0", {}), "the answer is a Instance of version 3.0, where 2.0 was asked for"),
        (primitive("Flavor", "2.0", {}), "the answer is Flavor, where a Instance was asked for"),
        ([], "the answer is list, where a Instance was asked for"),
        (None, "the answer is NoneType"),
        (
            {**primitive("Instance", "2.0", {}), "nova_object.data": None},
            "Instance of version 2.0 in the answer has no f",
        ),
    ],
)
def test_what_cannot_be_read_names_object_and_version(value: Any, says: str) -> None:
    with pytest.raises(Unreadable, match=says):
        read(value, "Instance", "2.0")


def test_a_list_is_read_object_by_object() -> None:
    versions = {"MigrationList": "1.0", "Migration": "1.5"}
    objects: list[Any] = [
        primitive("Migration", "1.7", {"uuid": "1"}),
        primitive("Migration", "2.0", {"uuid": "2", "instance_uuid": "3"}),
        "text",
    ]
    of_objects = primitive("MigrationList", "1.4", {"objects": objects})
    # Of one that cannot be read, whose it is.
    found = [{"uuid": "1"}, {"instance_uuid": "3"}, {"instance_uuid": None}]
    assert read_each(of_objects, "MigrationList", "Migration", versions) == found
    for wrong in (None, "text"):
        with pytest.raises(Unreadable):
            read_each(primitive("MigrationList", "1.4", {"objects": wrong}), "MigrationList", "Migration", versions)


def test_a_field_that_is_missing_is_named() -> None:
    with pytest.raises(Unreadable, match="a Instance in the answer has no field host"):
        field({}, "host", "Instance")
