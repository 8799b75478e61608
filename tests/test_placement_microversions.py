from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bringup.placement.microversions import (
    NEEDED,
    NEWEST_KNOWN,
    OLDEST,
    Microversion,
    Offer,
    microversion_of,
    negotiate,
    read_refusal,
)

MICROVERSIONS = st.builds(Microversion, st.just(1), st.integers(0, 60))


def a_refusal(lowest: object, highest: object) -> dict[str, Any]:
    return {"errors": [{"status": 406, "min_version": str(lowest), "max_version": str(highest)}]}


def offers(lowest: object, highest: object) -> tuple[Offer, ...]:
    return read_refusal(a_refusal(lowest, highest))


OFFERS = {
    "all that we need": ("1.0", "1.39", "1.28"),
    "newer than we know": ("1.0", "1.77", "1.28"),
    "older than we need": ("1.0", "1.6", "1.6"),
    "the first": ("1.0", "1.0", "1.0"),
    "lowest above what we need": ("1.30", "1.50", "1.30"),
    "the last that we know": ("1.39", "2.5", "1.39"),
    "exactly what we need": ("1.28", "1.28", "1.28"),
}


@pytest.mark.parametrize(("lowest", "highest", "expected"), OFFERS.values(), ids=OFFERS.keys())
def test_the_lowest_that_has_what_we_need_is_chosen(lowest: str, highest: str, expected: str) -> None:
    assert str(negotiate(offers(lowest, highest))) == expected


@given(MICROVERSIONS, MICROVERSIONS)
def test_the_choice_is_one_that_both_sides_know(lowest: Microversion, highest: Microversion) -> None:
    assume(lowest <= highest and lowest <= NEWEST_KNOWN)
    chosen = negotiate(offers(lowest, highest))
    assert lowest <= chosen <= highest
    assert OLDEST <= chosen <= NEWEST_KNOWN
    assert chosen >= NEEDED or chosen == highest


@pytest.mark.parametrize(("lowest", "highest"), [("1.40", "1.50"), ("2.0", "2.3"), ("0.1", "0.9")])
def test_a_server_that_has_nothing_that_we_know_is_refused_with_what_both_have(lowest: str, highest: str) -> None:
    with pytest.raises(ValueError, match=rf"it has {lowest} to {highest}, this bringup knows 1\.0 to 1\.39"):
        negotiate(offers(lowest, highest))


DOCUMENTS = {
    "keystone": {"error": {"code": 406, "title": "Not Acceptable"}},
    "no errors": {"errors": []},
    "numbers": {"errors": [{"min_version": 1.0, "max_version": 1.39}]},
    "not microversions": a_refusal("one", "two"),
    "upside down": a_refusal("1.30", "1.20"),
    "a list": [],
    "null": None,
    "other text": "hello",
}


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS.keys())
def test_a_refusal_that_says_no_microversions_offers_none(document: object) -> None:
    assert read_refusal(document) == ()


@pytest.mark.parametrize(
    ("header", "version"),
    [("placement 1.28", "1.28"), ("placement 1.0", "1.0"), ("compute 2.1", None), ("placement", None), ("", None)],
)
def test_an_answer_reports_what_it_was_served_in(header: str, version: str | None) -> None:
    found = microversion_of({"openstack-api-version": header})
    assert (None if found is None else str(found)) == version


def test_microversions_are_ordered_as_numbers() -> None:
    assert Microversion.parse("1.9") < Microversion.parse("1.20") < Microversion.parse("2.0")


@pytest.mark.parametrize("text", ["", "1", "1.", "1.2.3", "latest", "1.²", "-1.0", "1." + "9" * 5000])
def test_what_is_not_two_numbers_is_not_a_microversion(text: str) -> None:
    with pytest.raises(ValueError, match="not a microversion"):
        Microversion.parse(text)
