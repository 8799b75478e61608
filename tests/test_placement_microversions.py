from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bringup.placement.microversions import NEEDED, NEWEST_KNOWN, OLDEST, Microversion, negotiate

MICROVERSIONS = st.builds(Microversion, st.just(1), st.integers(0, 60))


def a_document(lowest: object, highest: object) -> dict[str, Any]:
    return {"versions": [{"id": "v1.0", "min_version": str(lowest), "max_version": str(highest)}]}


OFFERS = {
    "all that we need": ("1.0", "1.39", "1.20"),
    "newer than we know": ("1.0", "1.77", "1.20"),
    "older than we need": ("1.0", "1.6", "1.6"),
    "the first": ("1.0", "1.0", "1.0"),
    "lowest above what we need": ("1.25", "1.50", "1.25"),
    "the last that we know": ("1.39", "2.5", "1.39"),
    "exactly what we need": ("1.20", "1.20", "1.20"),
}


@pytest.mark.parametrize(("lowest", "highest", "expected"), OFFERS.values(), ids=OFFERS.keys())
def test_the_lowest_that_has_what_we_need_is_chosen(lowest: str, highest: str, expected: str) -> None:
    assert str(negotiate(a_document(lowest, highest))) == expected


@given(MICROVERSIONS, MICROVERSIONS)
def test_the_choice_is_one_that_both_sides_know(lowest: Microversion, highest: Microversion) -> None:
    assume(lowest <= highest and lowest <= NEWEST_KNOWN)
    chosen = negotiate(a_document(lowest, highest))
    assert lowest <= chosen <= highest
    assert OLDEST <= chosen <= NEWEST_KNOWN
    assert chosen >= NEEDED or chosen == highest


@pytest.mark.parametrize(("lowest", "highest"), [("1.40", "1.50"), ("2.0", "2.3"), ("0.1", "0.9")])
def test_a_server_that_has_nothing_that_we_know_is_refused_with_what_both_have(lowest: str, highest: str) -> None:
    with pytest.raises(ValueError, match=rf"it has {lowest} to {highest}, this bringup knows 1\.0 to 1\.39"):
        negotiate(a_document(lowest, highest))


DOCUMENTS = {
    "nova": {"versions": [{"id": "v2.1", "min_version": "2.1", "version": "2.100", "status": "CURRENT"}]},
    "keystone": {"versions": {"values": [{"id": "v3.14", "status": "stable"}]}},
    "glance": {"versions": [{"id": "v2.16", "status": "CURRENT"}]},
    "no versions": {"versions": []},
    "numbers": {"versions": [{"min_version": 1.0, "max_version": 1.39}]},
    "not microversions": a_document("one", "two"),
    "upside down": a_document("1.30", "1.20"),
    "a list": [],
    "null": None,
    "other text": "hello",
}


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS.keys())
def test_a_version_document_of_another_service_is_refused(document: object) -> None:
    with pytest.raises(ValueError, match="not Placement's"):
        negotiate(document)


def test_microversions_are_ordered_as_numbers() -> None:
    assert Microversion.parse("1.9") < Microversion.parse("1.20") < Microversion.parse("2.0")


@pytest.mark.parametrize("text", ["", "1", "1.", "1.2.3", "latest", "1.²", "-1.0", "1." + "9" * 5000])
def test_what_is_not_two_numbers_is_not_a_microversion(text: str) -> None:
    with pytest.raises(ValueError, match="not a microversion"):
        Microversion.parse(text)
