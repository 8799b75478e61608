import inspect
import socket
import ssl
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from bringup.placement.error_mapping import (
    BY_EXCEPTION,
    BY_STATUS,
    error_class_of,
    error_from_exception,
    error_from_response,
)
from bringup.placement.errors import Conflict, NotFound, NotUnderstood, PlacementError, Unauthorized, Unreachable
from bringup.placement.response import Response
from bringup.placement.retry_after import parse_retry_after
from support.placement import an_answer

GROUPS = {
    httpx.HTTPError,
    httpx.RequestError,
    httpx.TransportError,
    httpx.TimeoutException,
    httpx.NetworkError,
    httpx.ProtocolError,
    httpx.StreamError,
}
"""Never raised themselves."""
NOT_OF_A_REQUEST = {
    httpx.HTTPStatusError: "only raise_for_status() raises it",
    httpx.CookieConflict: "only reading a cookie raises it",
    httpx.StreamConsumed: "our mistake, must be seen",
    httpx.StreamClosed: "our mistake, must be seen",
    httpx.ResponseNotRead: "our mistake, must be seen",
    httpx.RequestNotRead: "our mistake, must be seen",
}
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def a_refusal(status: int, content: object = None, **headers: str) -> PlacementError:
    given = httpx.Headers({name.replace("_", "-"): value for name, value in headers.items()})
    body = an_answer(content=content).partition(b"\r\n\r\n")[2]
    return error_from_response(Response(what="GET / of Placement at http://p", status=status, headers=given, body=body))


def test_every_exception_of_httpx_has_a_reaction() -> None:
    every = {
        thing
        for name in httpx.__all__
        if inspect.isclass(thing := getattr(httpx, name)) and issubclass(thing, Exception)
    }
    ours = {kind for kind in BY_EXCEPTION if kind.__module__.startswith("httpx")}
    assert every == GROUPS | set(NOT_OF_A_REQUEST) | ours


TRANSIENT_EXCEPTIONS = [
    httpx.ConnectTimeout,
    httpx.ReadTimeout,
    httpx.WriteTimeout,
    httpx.PoolTimeout,
    httpx.ConnectError,
    httpx.ReadError,
    httpx.WriteError,
    httpx.CloseError,
    httpx.RemoteProtocolError,
    httpx.ProxyError,
    TimeoutError,
    ssl.SSLError,
]


@pytest.mark.parametrize("kind", BY_EXCEPTION, ids=lambda kind: kind.__name__)
def test_what_time_can_repair_is_transient_and_the_rest_is_not(kind: type[Exception]) -> None:
    error = error_from_exception(kind.__new__(kind), "GET / of Placement at http://p", request_id="req-9")
    assert error.transient is (kind in TRANSIENT_EXCEPTIONS)
    assert str(error).startswith("cannot GET / of Placement at http://p: ")
    assert str(error).endswith(" (request req-9)")


def test_an_exception_that_httpx_may_add_is_taken_for_its_base() -> None:
    class NewReadError(httpx.ReadError):
        pass

    assert isinstance(error_from_exception(NewReadError("?"), "GET /"), Unreachable)


UNTRUSTED = ssl.SSLCertVerificationError(1, "x")
UNTRUSTED.verify_message = "self-signed certificate"
CAUSES = {
    "certificate": (UNTRUSTED, "its certificate is not accepted: self-signed certificate"),
    "refused": (ConnectionRefusedError(111, "x"), "connection refused"),
    "reset": (ConnectionResetError(104, "x"), "connection reset by peer"),
    "name": (socket.gaierror(-2, "x"), "its host name cannot be resolved"),
    "TLS": (ssl.SSLError(1, "x"), "TLS cannot be agreed on"),
    "in a group": (ExceptionGroup("all", [ConnectionRefusedError(111, "x")]), "connection refused"),
    "unknown": (OSError("All connection attempts failed"), "no connection"),
}


@pytest.mark.parametrize(("inner", "expected"), CAUSES.values(), ids=CAUSES.keys())
def test_the_reason_is_the_one_of_the_operating_system(inner: Exception, expected: str) -> None:
    error = httpx.ConnectError("All connection attempts failed")
    middle = OSError("All connection attempts failed")
    error.__cause__, middle.__cause__ = middle, inner
    assert error_from_exception(error, "GET /").why == expected


STATUSES = {
    **dict.fromkeys((408, 425, 429, 500, 502, 503, 504, 507, 520), Unreachable),
    **dict.fromkeys((401, 403, 407), Unauthorized),
    404: NotFound,
    409: Conflict,
    **dict.fromkeys((301, 302, 307, 308, 400, 405, 406, 410, 415, 501, 505), NotUnderstood),
}


@pytest.mark.parametrize(("status", "expected"), STATUSES.items())
def test_a_status_has_one_reaction(status: int, expected: type[PlacementError]) -> None:
    error = a_refusal(
        status, {"errors": [{"detail": "Because.", "code": "placement.x"}]}, x_openstack_request_id="req-1"
    )
    assert type(error) is expected is error_class_of(status)
    assert (error.status, error.request_id, error.code) == (status, "req-1", "placement.x")
    assert f"answered {status}; Because." in error.message
    assert error.message.endswith("(request req-1)")


def test_every_row_of_the_table_of_statuses_is_tried() -> None:
    assert set(BY_STATUS) <= set(STATUSES)


def test_a_request_id_that_only_the_body_has_is_kept() -> None:
    assert a_refusal(500, {"errors": [{"detail": "x", "request_id": "req-2"}]}).request_id == "req-2"


def test_a_redirect_reports_where_to_without_credentials() -> None:
    error = a_refusal(301, b"", location="https://user:s3cr3t@other/placement?token=s3cr3t")
    assert "it redirects to https://other/placement; check that placement.url names Placement itself" in str(error)


def test_a_redirect_to_nonsense_is_reported_too() -> None:
    assert "it redirects elsewhere" in str(a_refusal(302, b"", location="http://nonsense:port/"))


RETRY_AFTER = {
    "none": (None, None),
    "seconds": ("17", 17.0),
    "a date": ("Mon, 23 Nov 2026 12:00:30 GMT", 30.0),
    "a date without a zone": ("Mon, 23 Nov 2026 12:00:30 -0000", 30.0),
    "a date that has passed": ("Mon, 23 Nov 2026 11:00:00 GMT", 0.0),
    "words": ("soon", None),
    "negative": ("-3", None),
    "nothing": ("", None),
    "very long": ("9" * 400, float("inf")),
    "not quite digits": ("²", None),
}


@pytest.mark.parametrize(("value", "expected"), RETRY_AFTER.values(), ids=RETRY_AFTER.keys())
def test_retry_after_is_read_as_seconds_from_now(value: str | None, expected: float | None) -> None:
    assert parse_retry_after(value, now=NOON) == expected


def test_only_a_transient_refusal_has_a_time_to_come_back() -> None:
    later = (datetime.now(UTC) + timedelta(hours=1)).strftime("%a, %d %b %Y %H:%M:%S GMT")
    error = a_refusal(503, b"", retry_after=later)
    assert isinstance(error, Unreachable)
    assert error.retry_after_s is not None
    assert 3500 < error.retry_after_s <= 3600
    assert not hasattr(a_refusal(404, b"", retry_after="5"), "retry_after_s")
