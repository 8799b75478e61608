"""What a file of records may cost: memory in proportion to the file, and few words, whatever is in it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bringup.daemon.errors import UsageError
from bringup.daemon.storage.record_files import LIMIT_BYTES, read_records
from bringup.daemon.storage.record_files.problems import MOST, SHOWN
from bringup.daemon.storage.record_files.reading import HEAVIEST, OF_A_COMMA, OF_A_CONTAINER, weight_of
from support.memory_child import MIB, READ, REFUSED, own

DATA = Path(__file__).parent / "data"
SAMPLES = [*sorted(DATA.glob("api-samples/servers-*.json")), *sorted(DATA.glob("**/*.records.json"))]
MOST_TIMES = 24
"""A file whose values are made takes at most so many times its size, as docs/records.md says."""


@pytest.fixture(scope="module")
def measured() -> dict[str, dict[str, Any]]:
    child = Path(__file__).parent / "support" / "memory_child.py"
    ended = subprocess.run([sys.executable, str(child)], check=True, capture_output=True, text=True)
    return {found["name"]: found for found in map(json.loads, ended.stdout.splitlines())}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_take_far_more_memory_than_records_is_refused_before_it_is_made(
    name: str, measured: dict[str, dict[str, Any]]
) -> None:
    found = measured[name]

    assert "the limit is 512 MiB" in found["said"]
    assert found["took"] <= 3 * found["size"]


@pytest.mark.parametrize("name", READ)
def test_what_is_read_takes_memory_in_proportion_and_is_refused_in_few_words(
    name: str, measured: dict[str, dict[str, Any]]
) -> None:
    found = measured[name]

    assert found["took"] <= MOST_TIMES * found["size"]
    assert len(found["said"]) < 50_000


def test_there_are_samples_of_both_formats() -> None:
    assert len(SAMPLES) > 3  # else the next test says nothing


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_the_largest_file_of_records_such_as_these_is_not_too_heavy(path: Path) -> None:
    compact = json.dumps(json.loads(path.read_text()), separators=(",", ":"))

    assert weight_of(compact) / len(compact) * LIMIT_BYTES < HEAVIEST


JSON = st.recursive(
    st.none() | st.integers() | st.text(alphabet='[]{},"\\:\u0101 a'),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(alphabet='[{,"\\'), inner),
)


def counted(value: Any) -> int:
    if not isinstance(value, dict | list):
        return 0
    inner = list(value.values()) if isinstance(value, dict) else value
    return OF_A_CONTAINER + max(len(value) - 1, 0) * OF_A_COMMA + sum(counted(each) for each in inner)


@given(value=JSON, chunk=st.integers(1, 12))
def test_what_stands_in_a_text_weighs_nothing_wherever_it_is_cut(value: Any, chunk: int) -> None:
    assert weight_of(json.dumps(value), chunk=chunk) == counted(value)


def refusal(content: str) -> list[str]:
    with pytest.raises(UsageError) as caught:
        read_records(content.encode(), host=None)
    return str(caught.value).splitlines()


@pytest.mark.parametrize("count", [SHOWN, SHOWN + 1, MOST - 1])
def test_of_many_wrong_records_the_first_are_reported_and_the_others_counted(count: int) -> None:
    lines = refusal(own(",".join(["0"] * count)))

    assert lines[0].endswith(f": {count} records are wrong, nothing was stored")
    assert lines[SHOWN + 1 :] == ([f"  and {count - SHOWN} more"] if count > SHOWN else [])


@pytest.mark.parametrize("more", [0, 1, 50_000])
def test_a_file_that_is_wrong_throughout_is_read_no_further(more: int) -> None:
    lines = refusal(own(",".join(["0"] * (MOST + more))))

    assert lines[0].endswith(f": at least {MOST} records are wrong, nothing was stored")
    assert lines[-1] == f"  and at least {MOST - SHOWN} more; the rest was not checked"


def test_of_one_record_as_many_problems_are_reported() -> None:
    [_, *lines] = refusal(own("{" + ",".join(f'"{number}":0' for number in range(1000)) + "}"))

    assert len(lines) == SHOWN


def test_a_tenant_cannot_make_a_file_too_heavy_by_what_is_in_a_text() -> None:
    text = "[{," * (4 * MIB)
    found = read_records(
        own(f'{{"uuid":"{"1" * 32}","host":"h","vm_state":"active","name":"{text}"}}').encode(), host=None
    )

    assert found.instances[0].name == text
