import httpx
import pytest

from bringup.placement.auth import NoAuth


@pytest.mark.parametrize("token", ["admin", "admin:project"])
def test_the_token_is_a_header_of_the_request(token: str) -> None:
    request = next(NoAuth(token).auth_flow(httpx.Request("GET", "http://p/")))
    assert request.headers["X-Auth-Token"] == token


@pytest.mark.parametrize("show", [repr, str, lambda auth: f"{auth}"])
def test_the_token_is_never_shown(show: object) -> None:
    assert callable(show)
    assert show(NoAuth("s3cr3t")) == "NoAuth(***)"


@pytest.mark.parametrize("token", ["", "s3cr3t\r\nX-Roles: admin", "s3cr3t ü", "s3cr3t more", "s3cr3t\x00"])
def test_a_token_that_a_header_cannot_hold_is_refused_without_showing_it(token: str) -> None:
    with pytest.raises(ValueError, match="must be ASCII without spaces") as caught:
        NoAuth(token)
    assert "s3cr3t" not in str(caught.value)
