"""Response of Placement or Keystone, read whole."""

import json
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

from bringup.placement.auth import TOKEN_HEADER
from bringup.placement.bounded_body import NotReadable, clean_id, read_bounded
from bringup.placement.errors import NotUnderstood

REQUEST_ID: Final = "x-openstack-request-id"
BODY_LIMIT: Final = 32 * 1024 * 1024
"""Bytes of a response; the allocations of a host with 10 000 instances are about 2 MB."""

DRAIN_LIMIT: Final = 64 * 1024


def request_id_of(headers: httpx.Headers, *, secrets: Collection[str] = ()) -> str | None:
    """Return the request id in the headers, as in Placement's log."""
    return clean_id(headers.get(REQUEST_ID), secrets=secrets)


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """Response to one request."""

    what: str
    """The request, without secrets: "GET /resource_providers of Placement at ..."."""
    status: int
    headers: httpx.Headers = field(repr=False)
    body: bytes = field(repr=False)
    named: str = "placement.url names Placement"
    """The setting to check where another service responded."""
    secrets: Collection[str] = field(default=(), repr=False)
    """Secrets that an echo must not reveal."""

    @property
    def request_id(self) -> str | None:
        """The request id, as in Placement's log."""
        return request_id_of(self.headers, secrets=self.secrets)

    def json(self) -> Any:
        """Parse the body as JSON.

        :raises NotUnderstood: it is not JSON, or incomplete.
        """
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError) as error:
            kind = self.headers.get("content-type", "no content type").partition(";")[0]
            raise self.not_understood(
                f"answered {self.status} with {len(self.body)} bytes of {kind} where JSON was expected"
            ) from error

    def not_understood(self, why: str) -> NotUnderstood:
        """Return the error for a response of another service."""
        hint = f"check that {self.named} and not another service or a page of a proxy"
        return NotUnderstood(self.what, f"{why}; {hint}", status=self.status, request_id=self.request_id)


async def read_body(response: httpx.Response, what: str) -> bytes:
    """Read the body of a response that was opened as a stream.

    :raises NotUnderstood: it is too long, or encoded although that was not requested.
    """
    try:
        return await read_bounded(response, BODY_LIMIT)
    except NotReadable as error:
        sent = response.request.headers.get(TOKEN_HEADER, "")
        request_id = request_id_of(response.headers, secrets=[sent])
        raise NotUnderstood(what, str(error), status=response.status_code, request_id=request_id) from None


async def drain(response: httpx.Response) -> None:
    """Discard a short body, so that the connection can be used again; close a longer one."""
    length = response.headers.get("Content-Length", "")
    try:
        if length.isdecimal() and int(length) <= DRAIN_LIMIT:
            async for _ in response.aiter_raw():
                pass
    finally:
        await response.aclose()
