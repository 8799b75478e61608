"""Mapping of failed requests to errors, transient or permanent, in two tables: httpx's exceptions, and status codes.

A test proves that the first is complete.  TLS and name errors count as transient: at boot the clock may not be set yet,
and the resolver may not run.
"""

import errno
import os
import socket
import ssl
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Final

import httpx

from bringup.placement.error_body import parse_error_body, plain
from bringup.placement.errors import Conflict, NotFound, NotUnderstood, PlacementError, Unauthorized, Unreachable
from bringup.placement.microversions import read_refusal
from bringup.placement.response import Response
from bringup.placement.retry_after import retry_after_of

BY_EXCEPTION: Final[Mapping[type[Exception], tuple[type[PlacementError], str]]] = MappingProxyType(
    {
        httpx.ConnectTimeout: (Unreachable, "no connection in time"),
        httpx.ReadTimeout: (Unreachable, "no answer in time"),
        httpx.WriteTimeout: (Unreachable, "the request was not taken in time"),
        httpx.PoolTimeout: (Unreachable, "no free connection in time"),
        httpx.ConnectError: (Unreachable, "no connection"),
        httpx.ReadError: (Unreachable, "the connection broke"),
        httpx.WriteError: (Unreachable, "the connection broke"),
        httpx.CloseError: (Unreachable, "the connection broke"),
        httpx.RemoteProtocolError: (Unreachable, "the answer broke off, or is not HTTP"),
        httpx.ProxyError: (Unreachable, "the proxy did not let it through"),
        httpx.LocalProtocolError: (NotUnderstood, "the request cannot be sent over HTTP"),
        httpx.UnsupportedProtocol: (NotUnderstood, "placement.url must begin with http:// or https://"),
        httpx.DecodingError: (NotUnderstood, "the answer is not in the encoding that it names"),
        httpx.TooManyRedirects: (NotUnderstood, "it redirects in a circle"),
        httpx.InvalidURL: (NotUnderstood, "this is not a URL"),
        TimeoutError: (Unreachable, "no whole answer in time"),
        ssl.SSLError: (Unreachable, "TLS cannot be agreed on"),
        UnicodeError: (NotUnderstood, "the host name of placement.url is not one"),
    }
)
"""``TimeoutError`` is the deadline of the whole request.  httpx does not wrap ``ssl.SSLError``, of a server that
requires a certificate and reports it after the handshake (TLS 1.3), and ``UnicodeError``, the resolver's for a label of
a host name that is too long.
"""

BY_STATUS: Final[Mapping[int, type[PlacementError]]] = MappingProxyType(
    {
        401: Unauthorized,
        403: Unauthorized,
        404: NotFound,
        407: Unauthorized,
        408: Unreachable,
        409: Conflict,
        425: Unreachable,
        429: Unreachable,
        501: NotUnderstood,
        505: NotUnderstood,
    }
)
"""Other 5xx are transient, all other statuses are not understood."""

ADVICE: Final[Mapping[int, str]] = MappingProxyType(
    {
        401: "check the token",
        403: "its user needs the role admin or service",
        406: "the microversion is not one of the server's",
    }
)


_NO_ISSUER = "set placement.ca_file to the CA that signed it"
BY_CERTIFICATE: Final[Mapping[int, str]] = MappingProxyType(
    {
        9: "check the clock of this host",
        10: "renew it, or the CA that signed it, and check the clock of this host",
        18: _NO_ISSUER,
        19: _NO_ISSUER,
        20: _NO_ISSUER,
        62: "the address that is asked must be one of its names",
        64: "the address that is asked must be one of its names",
    }
)
"""Advice by OpenSSL's code of a certificate error."""


_OURS = "it does not accept our certificate; check placement.cert_file"
BY_ALERT: Final[Mapping[str, str]] = MappingProxyType(
    {
        "WRONG_VERSION_NUMBER": "it does not speak TLS; check whether its address begins with http://",
        "CERTIFICATE_REQUIRED": "it asks for our certificate; set placement.cert_file",
        "HANDSHAKE_FAILURE": "TLS cannot be agreed on; if it asks for our certificate, set placement.cert_file",
        "UNKNOWN_CA": _OURS,
        "BAD_CERTIFICATE": _OURS,
        "UNSUPPORTED_CERTIFICATE": _OURS,
        "CERTIFICATE_EXPIRED": _OURS,
        "CERTIFICATE_REVOKED": _OURS,
        "CERTIFICATE_UNKNOWN": _OURS,
    }
)
"""TLS errors other than those of a certificate, by the end of OpenSSL's name."""


def error_from_exception(error: Exception, what: str, *, request_id: str | None = None) -> PlacementError:
    """Return the error for an exception that ended a request before or within its response."""
    kind, why = next(BY_EXCEPTION[base] for base in type(error).__mro__ if base in BY_EXCEPTION)
    failure = kind(what, _cause(error) or why, request_id=request_id)
    if isinstance(failure, Unreachable):
        failure.is_late = isinstance(error, httpx.ReadTimeout | TimeoutError)
    return failure


def error_from_response(answer: Response, *, secrets: Collection[str] = ()) -> PlacementError:
    """Return the error for a response that is not a 2xx, without ``secrets``."""
    problem = parse_error_body(answer.body, secrets=secrets)
    request_id = answer.request_id or problem.request_id
    kind = error_class_of(answer.status)
    parts = (f"answered {answer.status}", _redirect(answer) or problem.words, ADVICE.get(answer.status, ""))
    why = "; ".join(part for part in parts if part)
    error = kind(answer.what, why, status=answer.status, request_id=request_id, code=problem.code)
    if isinstance(error, NotUnderstood) and answer.status == httpx.codes.NOT_ACCEPTABLE:
        with suppress(NotUnderstood):
            error.offers = read_refusal(answer.json())
    if isinstance(error, Unreachable):
        error.retry_after_s = retry_after_of(answer.headers)
    return error


def error_class_of(status: int) -> type[PlacementError]:
    """Return the class of error for a status that is not a 2xx."""
    return BY_STATUS.get(status, Unreachable if httpx.codes.is_server_error(status) else NotUnderstood)


def _redirect(answer: Response) -> str:
    location = answer.headers.get("Location")
    if not httpx.codes.is_redirect(answer.status) or location is None:
        return ""
    must = f"check that {answer.named} itself"
    try:
        target = httpx.URL(location).copy_with(username=None, password=None, query=None, fragment=None)
    except httpx.InvalidURL:
        return f"it redirects elsewhere; {must}"
    return f"it redirects to {plain(str(target))}; {must}"


def _cause(error: Exception) -> str | None:
    """Return the message of TLS or the operating system from the chain of causes; None where there is none."""
    for inner in _chain(error):
        if isinstance(inner, ssl.SSLCertVerificationError):
            # An error that OpenSSL did not raise has no code.
            advice = BY_CERTIFICATE.get(getattr(inner, "verify_code", 0))
            message = f"its certificate is not accepted: {plain(inner.verify_message)}"
            return message if advice is None else f"{message}; {advice}"
        if isinstance(inner, ssl.SSLError):
            reason = getattr(inner, "reason", None) or ""
            return BY_ALERT.get(reason.rpartition("ALERT_")[2], "TLS cannot be agreed on")
        if isinstance(inner, socket.gaierror):
            return "its host name cannot be resolved"
        if isinstance(inner, OSError) and inner.errno is not None and inner.errno in errno.errorcode:
            return os.strerror(inner.errno).lower()
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        if isinstance(error, BaseExceptionGroup):
            yield from _chain(error.exceptions[0])
        error = error.__cause__ or error.__context__
