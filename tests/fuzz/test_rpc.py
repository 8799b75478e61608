"""What comes over RabbitMQ: envelopes as bytes, and Nova's objects in them."""

import copy
import json
from collections.abc import Mapping
from random import Random
from typing import Any, Final

import anyio
import pytest
from hypothesis import given

from bringup.daemon.decisions.instances import Instance, UnreadableInstance
from bringup.daemon.errors import StoreError, chain_of
from bringup.daemon.openstack.conductor import NovaConductorStore
from bringup.daemon.openstack.conductor.decoding import instance_row, migration, record_state
from bringup.daemon.openstack.rpc.envelope import parse_reply
from bringup.daemon.openstack.rpc.errors import RpcError, Unreadable
from bringup.daemon.openstack.rpc.objects import primitive
from support.drivers import uuid_of
from support.fuzzing import CHANCES, Border, fuzz, must_be_a_sentence
from support.hosts import HOST
from support.mutating import mutated, written
from support.nova_objects import info_cache, instance_object, migration_data

BORDER = "RPC"
GOOD, BAD = uuid_of(1), uuid_of(2)
FAILURE: Final = {"class": "InstanceNotFound", "module": "nova.exception", "message": "no such", "tb": ["a", "b"]}


def row_of(uuid: str) -> dict[str, Any]:
    vif = {
        "id": uuid_of(9),
        "address": "fa:16:3e:00:00:01",
        "network": {"bridge": "br", "subnets": []},
        "type": "bridge",
    }
    return instance_object(
        uuid,
        display_name="one",
        metadata={"a": "b"},
        system_metadata={"image_os": "linux", "empty": None},
        info_cache=info_cache(json.dumps([vif])),
    )


MOVE: Final = migration_data(BAD, updated_at="2026-01-01T00:00:00Z")
DEVICE: Final = {
    "id": 3,
    "instance_uuid": BAD,
    "boot_index": 0,
    "volume_id": uuid_of(5),
    "connection_info": json.dumps({"driver_volume_type": "rbd", "data": {"name": "volumes/x"}}),
}


def sealed(chance: Random, inner: Any) -> bytes:
    text = written(chance, inner).decode(errors="surrogateescape") if chance.randrange(3) else json.dumps(inner)
    return written(chance, {"oslo.version": "2.0", "oslo.message": text})


@fuzz(250)
@given(chance=CHANCES)
def test_an_envelope_is_an_answer_or_unreadable(border: Border, chance: Random) -> None:
    failure = written(chance, mutated(chance, FAILURE)).decode(errors="replace") if chance.randrange(2) else None
    inner = {"_msg_id": "m1", "result": row_of(GOOD), "failure": failure, "ending": True}
    with border.one(Unreadable):
        answer = parse_reply(sealed(chance, mutated(chance, inner)))
        assert isinstance(answer.message_id, str)
        assert isinstance(answer.traceback, str)
        if answer.failure is not None:
            must_be_a_sentence(chain_of(answer.failure))


@fuzz(300)
@given(chance=CHANCES)
def test_an_object_is_a_record_or_unreadable(border: Border, chance: Random) -> None:
    with border.one(Unreadable):
        found = instance_row(mutated(chance, row_of(BAD)), name_template="instance-%08x").instance
        repr((found, list(found.network_info), list(found.block_devices))).encode()
    with border.one(Unreadable):
        record_state(mutated(chance, row_of(BAD)))
    with border.one(Unreadable):
        changed = mutated(chance, MOVE)
        migration(changed if isinstance(changed, dict) else {})


class Peer:
    """Whoever has the password of the cell's RabbitMQ: each answer is another one than was asked for."""

    where = "a peer"

    def __init__(self, chance: Random) -> None:
        self._chance = chance

    async def call(
        self, method: str, arguments: Mapping[str, Any], *, repeatable: bool, deadline_s: float | None = None
    ) -> Any:
        del method, repeatable, deadline_s
        name, asked = arguments["objname"], arguments["objmethod"]
        answer: Any = [GOOD, BAD]
        if asked != "get_uuids_by_host":
            rows = {
                "InstanceList": [row_of(GOOD), row_of(BAD)],
                "MigrationList": [primitive("Migration", "1.7", MOVE)],
                "BlockDeviceMappingList": [primitive("BlockDeviceMapping", "1.20", DEVICE)],
            }
            version = {"InstanceList": "2.0"}.get(name, "1.0")
            answer = primitive(name, version, {"objects": copy.deepcopy(rows.get(name, []))})
        return mutated(self._chance, answer) if self._chance.randrange(2) else answer


@fuzz(100)
@given(chance=CHANCES)
def test_what_a_hostile_conductor_answers_is_records_or_an_error_of_the_store(border: Border, chance: Random) -> None:
    async def ask() -> None:
        store = NovaConductorStore(Peer(chance))
        with border.one(StoreError, RpcError):
            for found in await store.load_instances(HOST):
                assert isinstance(found, Instance | UnreadableInstance)
                assert len(found.uuid) == len(GOOD)
        with border.one(StoreError, RpcError):
            await store.get_instance(BAD)
        with border.one(StoreError, RpcError):
            await store.load_migrations(HOST, ["running"])

    anyio.run(ask)


FOUND: Final[dict[str, Any]] = {
    "an id that is an object": {"_msg_id": {}, "result": 1},
    "a failure with a class that is an object": {"_msg_id": "m1", "failure": json.dumps(FAILURE | {"class": {}})},
    "a failure of a class without a name": {"_msg_id": "m1", "failure": json.dumps(FAILURE | {"class": " "})},
    "a failure that says a list": {"_msg_id": "m1", "failure": json.dumps(FAILURE | {"message": ["a"]})},
    "a failure with a traceback of numbers": {"_msg_id": "m1", "failure": json.dumps(FAILURE | {"tb": [1]})},
}


@pytest.mark.parametrize("inner", FOUND.values(), ids=FOUND)
def test_what_was_found(border: Border, inner: Any) -> None:
    with border.one(Unreadable):
        parse_reply(json.dumps({"oslo.version": "2.0", "oslo.message": json.dumps(inner)}).encode())
    assert border.refused
