"""``transport_url``, as oslo.messaging writes it."""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bringup.daemon.openstack.rpc.transport_url import TRUST, Broker, BrokerAddress, parse_transport_url

NOVA = ("nova", "s3cr3t")
GUEST = ("guest", "guest")


def endpoint(host: str = "controller", port: int = 5672, login: tuple[str, str] = NOVA) -> BrokerAddress:
    return BrokerAddress(host=host, port=port, username=login[0], password=login[1])


@pytest.mark.parametrize(
    ("url", "broker"),
    [
        ("rabbit://nova:s3cr3t@controller:5672/", Broker(endpoints=(endpoint(),))),
        ("rabbit://nova:s3cr3t@controller", Broker(endpoints=(endpoint(),))),
        (
            "rabbit://nova:s3cr3t@a:5673,nova:s3cr3t@b/cell1",
            Broker(endpoints=(endpoint("a", 5673), endpoint("b")), virtual_host="cell1"),
        ),
        ("rabbit://nova:s3cr3t@controller//", Broker(endpoints=(endpoint(),), virtual_host="/")),
        ("rabbit://nova:s3cr3t@controller/%2Fnova", Broker(endpoints=(endpoint(),), virtual_host="/nova")),
        (
            "rabbit://n%40va:p%3Aw%2Fd@[2001:db8::1]:5671/",
            Broker(endpoints=(endpoint("2001:db8::1", 5671, ("n@va", "p:w/d")),)),
        ),
        ("rabbit://controller/", Broker(endpoints=(endpoint(login=GUEST),))),
        ("rabbit:///", Broker(endpoints=(endpoint("localhost", login=GUEST),))),
        (
            "rabbit://nova:s3cr3t@controller/?ssl=1&ssl_ca_file=/etc/ca.pem&heartbeat_timeout_threshold=30",
            Broker(endpoints=(endpoint(),), tls=replace(TRUST, ca_file=Path("/etc/ca.pem")), heartbeat_s=30),
        ),
        ("rabbit://nova:s3cr3t@controller/?ssl=false", Broker(endpoints=(endpoint(),))),
    ],
)
def test_a_transport_url_is_read_as_oslo_messaging_reads_it(url: str, broker: Broker) -> None:
    assert parse_transport_url(url) == broker


def test_the_url_stands_above_the_options_of_the_file() -> None:
    options = {"ssl": "True", "ssl_ca_file": "/etc/ca.pem", "ssl_cert_file": None, "heartbeat_timeout_threshold": "20"}
    tls = parse_transport_url("rabbit://nova:s3cr3t@controller/?ssl_ca_file=/etc/other.pem", options)
    plain = parse_transport_url("rabbit://nova:s3cr3t@controller/?ssl=0", options)

    assert (tls.tls, tls.heartbeat_s) == (replace(TRUST, ca_file=Path("/etc/other.pem")), 20)
    assert plain.tls is None


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("kafka://nova:s3cr3t@controller", "must begin with rabbit://"),
        ("nova:s3cr3t@controller", "must begin with rabbit://"),
        ("rabbit://nova:s3cr3t@controller,other/", "names a user for some of its hosts only"),
        ("rabbit://nova:s3cr3t@controller:port/", "has a host that cannot be read"),
        ("rabbit://nova:s3cr3t@controller:0/", "has a host that cannot be read"),
        ("rabbit://nova:s3cr3t@:5672/", "has a host that cannot be read"),
        ("rabbit://nova:s3cr3t@[::1/", "cannot be read"),
        ("rabbit://nova:s3cr3t@controller/?heartbeat_timeout_threshold=soon", "heartbeat_timeout_threshold"),
        ("rabbit://nova:s3cr3t@controller/?heartbeat_timeout_threshold=\u00b2", "that is no whole number"),
        ("rabbit://nova:s3cr3t@controller/?ssl=tru", "give ssl=true or ssl=false"),
        ("rabbit://nova:s3cr3t@controller/?ssl=y", "give ssl=true or ssl=false"),
    ],
)
def test_what_is_wrong_is_reported_and_no_password_shown(url: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        parse_transport_url(url)
    assert "s3cr3t" not in str(caught.value)
    assert caught.value.__cause__ is None


@given(st.text(max_size=30))
def test_any_text_is_a_broker_or_an_error_of_its_own(text: str) -> None:
    with suppress(ValueError):
        assert parse_transport_url(f"rabbit://{text}").endpoints


def test_a_password_is_in_no_repr() -> None:
    assert "s3cr3t" not in repr(parse_transport_url("rabbit://nova:s3cr3t@controller/"))


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("rabbit://nova:s3cr3t@controller", "controller:5672"),
        ("rabbit://nova:s3cr3t@localhost,nova:s3cr3t@[2001:db8::1]:5671", "[2001:db8::1]:5671"),
        ("rabbit://nova:s3cr3t@localhost.", "localhost.:5672"),
    ],
)
def test_it_is_reported_where_a_password_goes_over_the_network_unencrypted(url: str, said: str) -> None:
    sentence = parse_transport_url(url).unencrypted
    assert sentence is not None
    assert sentence.startswith(f"user, password and records go to RabbitMQ at {said} unencrypted: ")
    assert "s3cr3t" not in sentence


@pytest.mark.parametrize("url", ["rabbit://n:p@controller/?ssl=true", "rabbit://n:p@127.0.0.1", "rabbit://n:p@[::1]"])
def test_nothing_is_reported_with_tls_or_on_this_host(url: str) -> None:
    assert parse_transport_url(url).unencrypted is None
