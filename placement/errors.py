"""Errors, a class for each reaction of the caller.

::

    PlacementError          a request or the gate failed
      Unreachable           transient: no answer, or one that says "not now"; the same request may succeed later
      Unauthorized          permanent: an operator must correct the credentials or the role (401, 403)
      NotFound              permanent: there is no such thing (404)
      Conflict              permanent: another writer was faster; read again (409)
      NotUnderstood         permanent: one side does not understand the other (HTML, no microversion in common, 400)
      ProviderMissing       permanent: this host has no resource provider, and none may be created
      ProviderMisnamed      permanent: it has, or may have, another name, and a second one must not be created
      GateClosed            permanent: a transient error lasted longer than the budget

Only ``placement/error_mapping.py`` chooses among the first five.  No message contains a token.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from bringup.placement.microversions import Offer

__all__ = [
    "Conflict",
    "GateClosed",
    "KeystoneWait",
    "NotFound",
    "NotUnderstood",
    "PlacementError",
    "ProviderMisnamed",
    "ProviderMissing",
    "Unauthorized",
    "Unreachable",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeystoneWait:
    """How long a host has waited for Keystone."""

    failures: int = 0
    """Attempts in a row that Keystone did not respond to."""
    queued_s: float | None = None
    """Seconds since it was first busy; None while it does not respond."""
    took_s: float = 0.0
    """What the last response took."""


class PlacementError(Exception):
    """A failed request; ``str()`` is one sentence that ends with the request id."""

    transient: ClassVar[bool] = False
    """Whether the same request may succeed later."""

    def __init__(
        self,
        what: str,
        why: str,
        *,
        status: int | None = None,
        request_id: str | None = None,
        code: str | None = None,
    ) -> None:
        """Build the sentence from the operation ("GET / of Placement at ..."), the cause and the response's ids."""
        tail = "" if request_id is None else f" (request {request_id})"
        super().__init__(f"cannot {what}: {why}{tail}")
        self.what = what
        self.why = why
        self.status = status
        self.request_id = request_id
        self.code = code
        """Placement's error code, such as ``placement.duplicate_name``; from microversion 1.23 on."""

    @property
    def message(self) -> str:
        """The sentence."""
        return str(self)


class Unreachable(PlacementError):
    """No response, or a transient error: 5xx, 429, 408."""

    transient = True
    retry_after_s: float | None = None
    """The ``Retry-After`` of the response, in seconds."""
    took_s: float | None = None
    """What the server needed for the response, where that was measured."""
    is_late: bool = False
    """Whether the response did not come in time: the server may still work on the request."""
    of_keystone: KeystoneWait | None = None
    """How long Keystone has been waited for, where the request was one for a token; None where it was another."""


class Unauthorized(PlacementError):
    """The token is missing, wrong or expired, or its user lacks the role."""


class NotFound(PlacementError):
    """The resource does not exist."""


class Conflict(PlacementError):
    """Another writer was faster."""


class NotUnderstood(PlacementError):
    """One side does not understand the other: repeating the request changes nothing."""

    offers: Sequence[Offer] = ()
    """The microversions that the server offers in a 406."""


class ProviderMissing(PlacementError):
    """This host has no resource provider, and none may be created."""


class ProviderMisnamed(PlacementError):
    """This host's resource provider has, or may have, another name than the one that is set."""


class GateClosed(PlacementError):
    """Placement was not ready within the budget; the cause is the last error, if any request was completed."""
