"""What a process leaves for the next one: read back as it was, and nothing of it where anything is odd."""

import json
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from bringup.placement.catalogue import Endpoint
from bringup.placement.credentials import ApplicationCredential, GivenToken, Login, Method, Named, Password
from bringup.placement.kept_login import LoginState, NotOurs, Token, decode, encode, keep_login, key_of

NOW = 1000.0
BOOT = "2c7c4ba8-1111-4111-8111-111111111111"
TOKEN = "gAAAA-s3cr3t"
PLACEMENT = Endpoint(service_type="placement", interface="public", region="One", url="http://placement")
OTHER = Endpoint(service_type="identity", interface="public", region="One", url="http://keystone")
KEPT = LoginState(token=Token(TOKEN, NOW + 60, (PLACEMENT,)), failures=3, queued_since=NOW - 7)
PASSWORD = Password(user=Named(name="nova"), secret="s3cr3t")
LOGIN = Login(auth_url="http://keystone:5000/v3", method=PASSWORD, project=Named(name="service"))
KEY = key_of(LOGIN, BOOT)

STATES = st.builds(
    LoginState,
    token=st.none()
    | st.builds(
        Token,
        st.text("abcXYZ019-_", min_size=1),
        st.floats(NOW, 1e9, exclude_min=True),
        st.lists(st.builds(Endpoint, service_type=st.just("placement"), interface=..., region=..., url=...)).map(tuple),
    ),
    failures=st.integers(0, 10**9),
    queued_since=st.none() | st.floats(0, NOW),
)


@dataclass
class Memory:
    """A shelf in memory."""

    text: str | None = None

    def read(self) -> str | None:
        return self.text

    def write(self, text: str) -> None:
        self.text = text

    def remove(self) -> None:
        self.text = None


@given(STATES)
def test_what_was_kept_is_found(state: LoginState) -> None:
    assert decode(encode(state, KEY), KEY, now=NOW) == state


def test_only_the_way_to_placement_is_kept_of_a_catalogue() -> None:
    state = LoginState(token=Token(TOKEN, NOW + 1, (OTHER, PLACEMENT)))
    found = decode(encode(state, KEY), KEY, now=NOW).token
    assert found is not None
    assert found.catalogue == (PLACEMENT,)


def test_a_token_that_has_expired_is_not_found_and_how_long_was_waited_is() -> None:
    assert decode(encode(KEPT, KEY), KEY, now=NOW + 60) == replace(KEPT, token=None)


OTHERS: dict[str, Login] = {
    "secret": replace(LOGIN, method=replace(PASSWORD, secret="another")),
    "user": replace(LOGIN, method=replace(PASSWORD, user=Named(name="other"))),
    "the same word as an id": replace(LOGIN, method=replace(PASSWORD, user=Named(id="nova"))),
    "domain": replace(LOGIN, method=replace(PASSWORD, user=Named(name="nova", domain_name="other"))),
    "project": replace(LOGIN, project=Named(name="other")),
    "scope": replace(LOGIN, project=None, system=True),
    "address": replace(LOGIN, auth_url="http://other:5000/v3"),
    "method": replace(LOGIN, method=ApplicationCredential(id="nova", secret="s3cr3t")),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS.keys())
def test_what_others_kept_is_not_used_and_removed(other: Login) -> None:
    shelf = Memory(encode(KEPT, KEY))
    kept = keep_login(other, boot_id=BOOT, shelf=shelf)
    assert kept is not None
    with capture_logs() as logs:
        assert kept.load(now=NOW) == LoginState()
    assert shelf.text is None
    [line] = logs
    assert (line["event"], line["reason"]) == (
        "keystone.kept_login_ignored",
        "it is of other credentials, or of another boot",
    )


def test_what_was_kept_on_another_boot_is_not_used() -> None:
    with pytest.raises(NotOurs, match="another boot"):
        decode(encode(KEPT, KEY), key_of(LOGIN, "another"), now=NOW)


@pytest.mark.parametrize(
    "method", [PASSWORD, ApplicationCredential(name="x", user=Named(name="nova"), secret="s3cr3t")], ids=str
)
def test_the_name_of_an_identity_tells_too_little_of_its_secret_to_find_it(method: Method) -> None:
    secrets = [replace(LOGIN, method=replace(method, secret=f"secret {number}")) for number in range(3000)]
    names = [key_of(login, BOOT) for login in secrets]
    # Some share one: of 65 536 names.
    assert 2000 < len(set(names)) < 3000
    # Another boot tells those apart no better.
    later = [key_of(login, "another") for login in secrets]
    assert len(set(zip(names, later, strict=True))) == len(set(names))


def test_nothing_is_kept_for_a_token_that_was_given() -> None:
    assert keep_login(replace(LOGIN, method=GivenToken(secret=TOKEN)), boot_id=BOOT, shelf=Memory()) is None


DOCUMENT = json.loads(encode(KEPT, KEY))
DAMAGED = {
    "nothing": "",
    "no JSON": "{",
    "no object": "[]",
    "a number": "7",
    "deep": "[" * 100_000,
    "another format": {"format": "bringup.login/2"},
    "no format": {"format": None},
    "failures as text": {"failures": "3"},
    "negative failures": {"failures": -1},
    "waits since the future": {"queued_since": NOW + 1},
    "waits since never": {"queued_since": "nan"},
    "expires never": {"stale_at": "inf"},
    "expires later than any float": {"stale_at": 10**400},
    "waits since before any float": {"queued_since": -(10**400)},
    "no expiry": {"stale_at": None},
    "a token with a line end": {"token": "a\r\nX-Other: b"},
    "a token of two words": {"token": "a b"},
    "a token that no header can hold": {"token": "ä"},
    "a number for a token": {"token": 7},
    "no catalogue": {"catalogue": None},
    "an odd endpoint": {"catalogue": [{"url": "http://x"}]},
    "an endpoint of numbers": {"catalogue": [{"service_type": 1, "interface": 2, "region": 3, "url": 4}]},
}


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED.keys())
def test_what_is_damaged_is_not_used_and_not_shown(damage: Any) -> None:
    text = damage if isinstance(damage, str) else json.dumps(DOCUMENT | damage)
    with pytest.raises(NotOurs) as caught:
        decode(text, KEY, now=NOW)
    assert TOKEN not in str(caught.value)
    assert str(caught.value) in {"it is damaged", "it has another format"}


@example("2000", "stale_at")
@given(st.recursive(st.none() | st.integers() | st.text() | st.floats(), st.lists), st.sampled_from(sorted(DOCUMENT)))
def test_any_value_in_any_place_is_read_or_refused(value: Any, key: str) -> None:
    try:
        found = decode(json.dumps(DOCUMENT | {key: value}), KEY, now=NOW)
    except NotOurs:
        return
    assert found.token is None or (found.token.value.isprintable() and found.token.stale_at > NOW)
    assert found.failures >= 0


def test_a_token_is_shown_by_no_repr() -> None:
    assert TOKEN not in repr(KEPT)


def test_a_wait_begins_when_keystone_is_first_busy_and_ends_when_it_does_not_respond() -> None:
    state = LoginState()
    for failures in (1, 2):
        state = state.after_failure(is_queued=False, now=NOW)
        assert state == LoginState(failures=failures)
    for later_s in (0, 5):
        state = state.after_failure(is_queued=True, now=NOW + later_s)
        assert state == LoginState(queued_since=NOW)
    assert state.after_failure(is_queued=False, now=NOW) == LoginState(failures=1)
