"""A JSON array that is parsed at each access."""

import pytest

from bringup.daemon.storage.store.rows import JsonSequence, text_of
from support.records import instance

VIFS = JsonSequence('[{"id":"a"},{"id":"b"}]')


def test_it_reads_as_a_sequence_of_what_the_text_holds() -> None:
    assert list(VIFS) == [{"id": "a"}, {"id": "b"}]
    assert (len(VIFS), VIFS[1], VIFS[:1]) == (2, {"id": "b"}, [{"id": "a"}])
    assert not JsonSequence("[]")


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (({"id": "a"}, {"id": "b"}), True),
        ([{"id": "a"}, {"id": "b"}], True),
        (JsonSequence('[{"id":"a"},{"id":"b"}]'), True),
        (JsonSequence('[ {"id": "a"}, {"id": "b"} ]'), True),
        (({"id": "a"},), False),
        (5, False),
        ("[]", False),
    ],
    ids=["tuple", "list", "same text", "other spacing", "shorter", "number", "text"],
)
def test_it_equals_any_sequence_of_the_same_objects(other: object, same: bool) -> None:  # noqa: FBT001 - a column of the table
    for one, another in ((other, VIFS), (VIFS, other)):
        assert (one == another) is same


def test_what_is_taken_from_it_can_be_changed_without_changing_it() -> None:
    dict(VIFS[0])["id"] = "changed"
    list(VIFS).clear()

    assert VIFS[0] == {"id": "a"}


def test_it_shows_its_text_and_is_stored_as_it_is() -> None:
    assert repr(VIFS) == 'JsonSequence([{"id":"a"},{"id":"b"}])'
    assert text_of(VIFS) == '[{"id":"a"},{"id":"b"}]'


def test_a_record_that_holds_one_equals_a_record_that_holds_a_tuple() -> None:
    assert instance(network_info=VIFS) == instance(network_info=({"id": "a"}, {"id": "b"}))
