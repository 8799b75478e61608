"""Authentication with a fixed token, as an ``httpx.Auth`` like :class:`KeystoneAuth`; none at all is ``None``."""

from collections.abc import Generator

import httpx

TOKEN_HEADER = "X-Auth-Token"  # noqa: S105 - the name of a header

PUBLIC_TOKEN = "admin"  # noqa: S105 - the administrator of a Placement with noauth2


class NoAuth(httpx.Auth):
    """A fixed token for a Placement with ``auth_strategy = noauth2``: ``user`` or ``user:project``.

    Only the user ``admin`` has the role that is needed.
    """

    __slots__ = ("_token",)

    def __init__(self, token: str) -> None:
        """Store the token.

        :raises ValueError: a header cannot hold it.
        """
        if not token or not token.isascii() or not token.isprintable() or " " in token:
            raise ValueError(
                "cannot use the token for Placement: must be ASCII without spaces, such as admin or admin:project"
            )
        self._token = token

    @property
    def is_public(self) -> bool:
        """Whether the token is the well-known ``admin``, which is no secret."""
        return self._token == PUBLIC_TOKEN

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Add the token to a request."""
        request.headers[TOKEN_HEADER] = self._token
        yield request

    def __repr__(self) -> str:
        """Return a text without the token."""
        return "NoAuth(***)"
