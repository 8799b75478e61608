"""Errors, a class per reaction of the caller.

::

    PlacementError          what came of one request, or of the gate
      Unreachable           transient: no answer, or one that says "not now"; the same request may succeed later
      Unauthorized          permanent: an operator mends the credentials or the role (401, 403)
      NotFound              permanent: there is no such thing (404)
      Conflict              permanent: somebody else was there first; read again (409)
      NotUnderstood         permanent: one side does not understand the other (HTML, no microversion in common, 400)
      ProviderMissing       permanent: this host has no resource provider, and none is to be made
      ProviderMisnamed      permanent: it is, or may be, there under another name, and a second one must not be made
      GateClosed            permanent: what was transient lasted longer than the budget

Only ``placement/reactions.py`` decides which of the first five it is.  No message holds a token.
"""

from collections.abc import Sequence
from typing import ClassVar

from bringup.placement.microversions import Offer

__all__ = [
    "Conflict",
    "GateClosed",
    "NotFound",
    "NotUnderstood",
    "PlacementError",
    "ProviderMisnamed",
    "ProviderMissing",
    "Unauthorized",
    "Unreachable",
]


class PlacementError(Exception):
    """Something could not be had from Placement; ``str()`` is one sentence that ends with the request id."""

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
        """Take what could not be done ("GET / of Placement at ..."), why, and what the answer said of itself."""
        tail = "" if request_id is None else f" (request {request_id})"
        super().__init__(f"cannot {what}: {why}{tail}")
        self.what = what
        self.why = why
        self.status = status
        self.request_id = request_id
        self.code = code
        """Placement's own, such as ``placement.duplicate_name``; given from microversion 1.23 on."""

    @property
    def message(self) -> str:
        """The sentence."""
        return str(self)


class Unreachable(PlacementError):
    """There was no answer, or one that says "not now"."""

    transient = True
    retry_after_s: float | None = None
    """What the answer's ``Retry-After`` asks for, in seconds."""
    is_late: bool = False
    """Whether it was asked, and did not answer in time: it may be working on that still."""
    of_keystone: bool = False
    """Whether it was Keystone that was asked, for a token."""


class Unauthorized(PlacementError):
    """The token is missing, wrong or expired, or its user has not the role."""


class NotFound(PlacementError):
    """There is no such thing."""


class Conflict(PlacementError):
    """Somebody else was there first."""


class NotUnderstood(PlacementError):
    """One side does not understand the other: repeating the request changes nothing."""

    offers: Sequence[Offer] = ()
    """The microversions that a 406 says the server has."""


class ProviderMissing(PlacementError):
    """This host has no resource provider, and none is to be made."""


class ProviderMisnamed(PlacementError):
    """This host's resource provider is, or may be, there under another name than the one that is set."""


class GateClosed(PlacementError):
    """Placement was not ready within the budget; the cause is the last error, if any request came to an end."""
