from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bringup.placement.catalogue import Endpoint, NotInCatalogue, WantedEndpoint, find, read_catalogue


def an_endpoint(interface: str, region: str, url: str, service: str = "placement") -> dict[str, Any]:
    return {"type": service, "endpoints": [{"interface": interface, "region_id": region, "region": region, "url": url}]}


TWO_REGIONS = read_catalogue(
    [
        an_endpoint("public", "One", "http://one.public"),
        an_endpoint("internal", "One", "http://one.internal"),
        an_endpoint("public", "Two", "http://two.public"),
        an_endpoint("public", "One", "http://nova", "compute"),
    ]
)


@pytest.mark.parametrize(
    ("wanted", "url"),
    [
        (WantedEndpoint(region="One"), "http://one.internal"),
        (WantedEndpoint(region="One", interfaces=("public", "internal")), "http://one.public"),
        (WantedEndpoint(region="One", interfaces=("publicURL",)), "http://one.public"),
        (WantedEndpoint(region="Two"), "http://two.public"),
        (WantedEndpoint(interfaces=("internal",)), "http://one.internal"),
    ],
)
def test_the_preferred_interface_of_the_region_is_taken(wanted: WantedEndpoint, url: str) -> None:
    assert find(TWO_REGIONS, wanted) == url


@pytest.mark.parametrize(
    ("endpoints", "wanted", "said"),
    [
        (TWO_REGIONS, WantedEndpoint(), "in the regions One, Two; set placement.region"),
        (TWO_REGIONS, WantedEndpoint(region="Three"), "in region Three; it has One (internal, public), Two (public)"),
        (
            TWO_REGIONS,
            WantedEndpoint(region="Two", interfaces=("admin",)),
            "no admin endpoint of Placement in region Two",
        ),
        (
            read_catalogue([an_endpoint("public", "One", "u", "compute")]),
            WantedEndpoint(),
            "of type placement; it has compute",
        ),
        ((), WantedEndpoint(), "it is empty: the token has no scope with a role in it"),
    ],
)
def test_what_is_missing_is_reported_with_what_is_there(
    endpoints: tuple[Endpoint, ...], wanted: WantedEndpoint, said: str
) -> None:
    with pytest.raises(NotInCatalogue) as caught:
        find(endpoints, wanted)
    assert said in str(caught.value)


@given(st.recursive(st.none() | st.text() | st.integers(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)))
def test_whatever_a_catalogue_is_it_is_read(document: object) -> None:
    assert read_catalogue(document) == ()
    assert read_catalogue([document, an_endpoint("public", "One", "u")])[-1].url == "u"
