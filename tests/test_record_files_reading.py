"""Files of records, good and bad."""

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings

from bringup.daemon.decisions.instances import Instance, Migration
from bringup.daemon.decisions.states import UnknownState
from bringup.daemon.errors import UsageError
from bringup.daemon.storage.record_files import FORMAT, Records, dump_records, read_records
from support.records import files_of_records, instance, migration, records, uuid_of

SCHEMA = json.loads((Path(__file__).parents[1] / "daemon/storage/record_files/records.schema.json").read_text())
# Made once: to check the schema itself takes longer than to check a file with it.
jsonschema.Draft202012Validator.check_schema(SCHEMA)
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
MINIMAL = {"uuid": uuid_of(1), "host": "h", "vm_state": "active"}


def own(**document: Any) -> bytes:
    return json.dumps({"format": FORMAT} | document).encode()


def refusal(content: bytes, *, host: str | None = None) -> str:
    with pytest.raises(UsageError) as caught:
        read_records(content, host=host)
    assert caught.value.exit_code == 64
    return str(caught.value)


@given(files_of_records)
@settings(max_examples=60, deadline=None)
def test_what_is_dumped_is_read_back_as_it_was_and_fits_the_schema(found: Records) -> None:
    text = dump_records(found)

    assert read_records(text.encode(), host=None) == found
    VALIDATOR.validate(json.loads(text))


@pytest.mark.parametrize(("kind", "name"), [(Instance, "instance"), (Migration, "migration")])
def test_the_schema_has_every_field_of_the_record(kind: Any, name: str) -> None:
    assert set(SCHEMA["$defs"][name]["properties"]) == {field.name for field in fields(kind) if field.compare}


def test_an_instance_needs_no_more_than_uuid_host_and_vm_state() -> None:
    assert read_records(own(instances=[MINIMAL]), host=None).instances[0].metadata == {}
    VALIDATOR.validate(json.loads(own(instances=[MINIMAL])))


def test_a_uuid_in_capitals_is_read_in_lower_case() -> None:
    upper = MINIMAL | {"uuid": "ABCDEF00-0000-0000-0000-00000000000A"}

    assert read_records(own(instances=[upper]), host=None).instances[0].uuid == upper["uuid"].lower()


def test_states_that_are_not_known_are_kept_as_they_were_written() -> None:
    unknown = MINIMAL | {"vm_state": "hibernated", "task_state": "dreaming", "power_state": 9}

    found = read_records(own(instances=[unknown]), host=None).instances[0]

    assert (found.vm_state, found.task_state, found.power_state) == (
        UnknownState("hibernated"),
        UnknownState("dreaming"),
        UnknownState(9),
    )


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "uuid": ({"uuid": "42"}, "instances[0].uuid is '42': a UUID is required"),
    "vm_state": ({"vm_state": 3}, "instances[0].vm_state is 3: text is required"),
    "no vm_state": ({"vm_state": None}, "instances[0].vm_state is null: text is required"),
    "empty host": ({"host": ""}, "instances[0].host is '': text that is not empty is required"),
    "power_state": ({"power_state": "1"}, "instances[0].power_state is '1': a whole number is required"),
    "huge power_state": ({"power_state": 2**40}, "instances[0].power_state is 1099511627776: a number of Nova's"),
    "true as a number": ({"power_state": True}, "instances[0].power_state is true: a whole number is required"),
    "flag": ({"shutdown_terminate": 1}, "instances[0].shutdown_terminate is 1: true or false is required"),
    "list": ({"network_info": {}}, "instances[0].network_info is an object: a list is required"),
    "entry": ({"block_devices": [{}, 7]}, "instances[0].block_devices[1] is 7: an object is required"),
    "long": ({"uuid": "x" * 500}, f"instances[0].uuid is '{'x' * 59}...: a UUID is required"),
    "half a character": ({"name": "\ud800"}, r"instances[0].name is '\ud800': text that UTF-8 can hold is required"),
    "misspelt field": ({"vmstate": "active"}, "instances[0].vmstate: there is no such field"),
}


@pytest.mark.parametrize(("change", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_field_is_named_with_its_index_its_value_and_what_is_wanted(
    change: dict[str, Any], message: str
) -> None:
    assert message in refusal(own(instances=[MINIMAL | change]))


@pytest.mark.parametrize(
    "change", [WRONG[key][0] for key in WRONG if key != "half a character"], ids=WRONG.keys() - {"half a character"}
)
def test_what_is_refused_does_not_fit_the_schema_either(change: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(json.loads(own(instances=[MINIMAL | change])))


@pytest.mark.parametrize("field", ["metadata", "system_metadata"])
def test_a_wrong_value_that_may_be_a_secret_is_not_repeated(field: str) -> None:
    message = refusal(own(instances=[MINIMAL | {field: {"admin_pass": 271828}}]))

    assert f"instances[0].{field}.admin_pass is a number: text is required" in message
    assert "271828" not in message


def test_a_migration_of_a_type_that_nova_does_not_have_is_refused() -> None:
    document = json.loads(dump_records(records(migrations=(migration(),))))
    document["migrations"][0]["migration_type"] = "evacuate"

    message = refusal(json.dumps(document).encode())

    assert "migrations[0].migration_type is 'evacuate'" in message
    assert "'evacuation'" in message


def test_all_wrong_records_are_reported_together_the_first_twenty_in_words() -> None:
    wrong = [MINIMAL | {"uuid": f"bad {number}"} for number in range(23)]

    lines = refusal(own(instances=[*wrong, MINIMAL])).splitlines()

    assert lines[0].endswith("23 records are wrong, nothing was stored")
    assert [line for line in lines if "is 'bad" in line][-1].startswith("  instances[19].uuid is 'bad 19'")
    assert lines[-1] == "  and 3 more"


@pytest.mark.parametrize("kind", ["instances", "migrations"])
def test_a_uuid_that_is_there_twice_is_refused_with_both_indexes(kind: str) -> None:
    document = json.loads(dump_records(records(instance(1), instance(2), migrations=(migration(1), migration(2)))))
    again = document[kind][0]
    document[kind].append(again | {"uuid": again["uuid"].upper()})

    message = refusal(json.dumps(document).encode())

    assert f"{kind}[2] is {kind[:-1]} {again['uuid']}, which {kind}[0] is too" in message


BROKEN: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "it is empty"),
    "white": (b" \n ", "it is empty"),
    "truncated": (b'{"servers": [\n {"id": "x",', "not JSON at line 2, column 13, the file may be cut short"),
    "truncated text": (b'{"servers": [\n {"id": "x', "not JSON at line 2, column 9"),
    "broken inside": (b'{"servers" []}     \n\n  ', "not JSON at line 1, column 12"),
    "second document": (b'{"servers": []}\n{"servers": [', "not JSON at line 2, column 14"),
    "not UTF-8": (b'{"servers": ["\xff"]}', "byte 14 (0xff) is not UTF-8"),
    "UTF-16": ('{"servers": []}'.encode("utf-16"), "byte 0 (0xff) is not UTF-8"),
    "NaN": (b'{"servers": [NaN]}', "it has a value that is not JSON's"),
    "deep": (b"[" * 200_000, "it has a value that is not JSON's"),
    "huge number": (b'{"servers": [' + b"9" * 10_000 + b"]}", "it has a value that is not JSON's"),
    "number": (b"5", "the document is not an object: Nova's answer to GET /servers/detail"),
    "other answer": (b'{"computeFault": {}}', "the document holds 'computeFault': Nova's answer"),
    "servers is no list": (b'{"servers": 5}', "the document holds 'servers': Nova's answer"),
    "other format": (b'{"format": "bringup.records/2"}', "has the format 'bringup.records/2'"),
    "other field": (own(instance=[]), "instance: there is no such field"),
    "instances is no list": (own(instances={}), "instances is not a list"),
    "instance is no object": (own(instances=[5]), "instances[0] is 5: an object is required"),
    "server is no object": (b'{"servers": [[]]}', "servers[0] is a list: an object is required"),
}


@pytest.mark.parametrize(("content", "message"), BROKEN.values(), ids=BROKEN)
def test_a_file_that_does_not_hold_records_is_refused_with_the_place(content: bytes, message: str) -> None:
    assert message in refusal(content)


def test_a_byte_order_mark_is_no_error() -> None:
    assert read_records(b"\xef\xbb\xbf" + own(), host=None) == Records()


def test_a_file_that_is_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "records.json"
    with path.open("wb") as file:
        file.truncate(200 * 1024 * 1024)

    with pytest.raises(UsageError, match=r"has at least 200.0 MiB, the limit is 64 MiB; ask Nova for pages .*marker="):
        read_records(path, host=None)


def test_a_file_without_a_size_is_read_up_to_the_limit_and_no_further() -> None:
    with pytest.raises(UsageError, match=r"/dev/zero: it has at least 0.0 MiB, the limit is 0.0009"):
        read_records(Path("/dev/zero"), host=None, limit_bytes=1000)


@pytest.mark.parametrize("at_limit", [0, 1])
def test_the_limit_is_the_most_bytes_that_are_read(at_limit: int) -> None:
    content = own()

    if at_limit:
        with pytest.raises(UsageError, match="the limit is"):
            read_records(content, host=None, limit_bytes=len(content) - 1)
        return
    assert read_records(content, host=None, limit_bytes=len(content)) == Records()


@pytest.mark.parametrize("name", ["missing.json", "."], ids=["not there", "a directory"])
def test_a_file_that_cannot_be_read_is_named_with_the_cause_behind_it(tmp_path: Path, name: str) -> None:
    path = tmp_path / name

    with pytest.raises(UsageError, match=re.escape(str(path))) as caught:
        read_records(path, host=None)

    assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.parametrize("depth", [50, 300, *range(900, 1000, 9), 2_000])
@pytest.mark.parametrize("key", ["instances", "servers", "server", "metadata", "id", "errors", "forbidden"])
def test_what_is_nested_is_refused_in_a_sentence_however_deeply(key: str, depth: int) -> None:
    for opened, closed in (("[", "]"), ('{"a":', "}")):
        nested = opened * depth + "1" + closed * depth
        for document in (f'{{"{key}": {nested}}}', f'{{"format": "{FORMAT}", "{key}": {nested}}}', nested):
            assert "cannot" in refusal(document.encode())
