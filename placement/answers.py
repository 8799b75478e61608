"""One whole answer of Placement."""

import json
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

from bringup.placement.errors import NotUnderstood

REQUEST_ID: Final = "x-openstack-request-id"


def request_id_of(headers: httpx.Headers) -> str | None:
    """Give what Placement's own log calls the request that these headers answer."""
    value: str | None = headers.get(REQUEST_ID)
    return None if value is None else value[:100]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back for one request."""

    what: str
    """What was asked of whom, without secrets: "GET /resource_providers of Placement at ..."."""
    status: int
    headers: httpx.Headers = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def request_id(self) -> str | None:
        """What Placement's own log calls this request."""
        return request_id_of(self.headers)

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
        """Make the error that says that this answer is not one of Placement."""
        hint = "check that placement.url names Placement and not another service or a page of a proxy"
        return NotUnderstood(self.what, f"{why}; {hint}", status=self.status, request_id=self.request_id)
