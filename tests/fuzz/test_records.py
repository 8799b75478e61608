"""Files of records, as ``bringup import`` reads them."""

import json
from pathlib import Path
from random import Random
from typing import Any, Final

import pytest
from hypothesis import given

from bringup.daemon.errors import UsageError
from bringup.daemon.storage.record_files import dump_records, read_records
from support.fuzzing import CHANCES, Border, fuzz
from support.mutating import mutated, written
from support.records import HOST, instance, migration, records

BORDER = "records"
SAMPLES = Path(__file__).parents[1] / "data" / "api-samples"
OWN: Final[Any] = json.loads(dump_records(records(instance(1), instance(2), migrations=(migration(1),))))
BASES: Final[tuple[Any, ...]] = (OWN, *(json.loads(path.read_text()) for path in sorted(SAMPLES.glob("*.json"))))


@fuzz(300)
@given(chance=CHANCES)
def test_a_file_of_records_is_read_or_refused_with_a_sentence(border: Border, chance: Random) -> None:
    data = written(chance, mutated(chance, chance.choice(BASES)))
    with border.one(UsageError):
        read_records(data, host=HOST)


FOUND: Final = {
    "half of a surrogate": b'{"format": "bringup.records/1", "instances": [{"uuid": "\\ud800"}]}',
    "nested too deep": b"[" * 100_000,
    "a number of 5000 digits": b'{"servers": [' + b"1" * 5000 + b"]}",
    "the name of a field of 70000 characters": b'{"format": "bringup.records/1", "' + b"x" * 70_000 + b'": 1}',
    "nothing": b"",
}


@pytest.mark.parametrize("data", FOUND.values(), ids=FOUND)
def test_what_was_found(border: Border, data: bytes) -> None:
    with border.one(UsageError):
        read_records(data, host=HOST)
    assert border.refused
