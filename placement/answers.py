"""One whole answer of Placement."""

import json
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

from bringup.placement.auth import TOKEN_HEADER
from bringup.placement.errors import NotUnderstood
from bringup.placement.reading import NotReadable, clean_id, read_bounded

REQUEST_ID: Final = "x-openstack-request-id"
BODY_LIMIT: Final = 32 * 1024 * 1024
"""Bytes of one answer; the allocations of a host with 10 000 instances are about 2 MB."""

DRAIN_LIMIT: Final = 64 * 1024


def request_id_of(headers: httpx.Headers, *, secrets: Collection[str] = ()) -> str | None:
    """Give what Placement's own log calls the request that these headers answer."""
    return clean_id(headers.get(REQUEST_ID), secrets=secrets)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back for one request."""

    what: str
    """What was asked of whom, without secrets: "GET /resource_providers of Placement at ..."."""
    status: int
    headers: httpx.Headers = field(repr=False)
    body: bytes = field(repr=False)
    named: str = "placement.url names Placement"
    """What an operator checks where this is an answer of something else."""
    secrets: Collection[str] = field(default=(), repr=False)
    """What must not come out of it, should it echo one."""

    @property
    def request_id(self) -> str | None:
        """What Placement's own log calls this request."""
        return request_id_of(self.headers, secrets=self.secrets)

    def json(self) -> Any:
        """Read the body.

        :raises NotUnderstood: it is not JSON, or not all of it.
        """
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError) as error:
            kind = self.headers.get("content-type", "no content type").partition(";")[0]
            raise self.not_understood(
                f"answered {self.status} with {len(self.body)} bytes of {kind} where JSON was expected"
            ) from error

    def not_understood(self, why: str) -> NotUnderstood:
        """Make the error that says that this answer is not one of whom it should be."""
        hint = f"check that {self.named} and not another service or a page of a proxy"
        return NotUnderstood(self.what, f"{why}; {hint}", status=self.status, request_id=self.request_id)


async def read_whole(response: httpx.Response, what: str) -> bytes:
    """Read an answer that was opened as a stream.

    :raises NotUnderstood: it is too long, or encoded though nobody asked for that.
    """
    try:
        return await read_bounded(response, BODY_LIMIT)
    except NotReadable as error:
        sent = response.request.headers.get(TOKEN_HEADER, "")
        request_id = request_id_of(response.headers, secrets=[sent])
        raise NotUnderstood(what, str(error), status=response.status_code, request_id=request_id) from None


async def drain(response: httpx.Response) -> None:
    """Read away a short answer of which only the head is of use, so that its connection serves on; else close it."""
    length = response.headers.get("Content-Length", "")
    try:
        if length.isdecimal() and int(length) <= DRAIN_LIMIT:
            async for _ in response.aiter_raw():
                pass
    finally:
        await response.aclose()
