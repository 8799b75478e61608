"""Credentials for Keystone, and the request body of a login.  Pure.

The words are Keystone's v3 API's: a method (password, application credential, token), and a scope.  No ``repr`` shows a
secret.
"""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A user or a project: its id, or its name and the id or name of its domain."""

    id: str | None = None
    name: str | None = None
    domain_id: str | None = None
    domain_name: str | None = None

    def document(self) -> dict[str, Any]:
        """Return the JSON object of the API."""
        if self.id is not None:
            return {"id": self.id}
        domain = {"name": self.domain_name} if self.domain_name is not None else {"id": self.domain_id or "default"}
        return {"name": self.name, "domain": domain}

    def __str__(self) -> str:
        """Return a text for an operator, without secrets."""
        if self.id is not None:
            return self.id
        return f"{self.name} (domain {self.domain_name or self.domain_id or 'default'})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Password:
    """A user and a password."""

    user: Named
    secret: str = field(repr=False)

    def document(self) -> dict[str, Any]:
        """Return the JSON object of the API."""
        user = self.user.document() | {"password": self.secret}
        return {"methods": ["password"], "password": {"user": user}}

    def __str__(self) -> str:
        """Return a text for an operator, without secrets."""
        return f"user {self.user}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplicationCredential:
    """An application credential: its id, or its name and its user.  It brings its own scope."""

    id: str | None = None
    name: str | None = None
    user: Named | None = None
    secret: str = field(repr=False)

    def document(self) -> dict[str, Any]:
        """Return the JSON object of the API."""
        named: dict[str, Any] = {"id": self.id}
        if self.id is None and self.user is not None:
            named = {"name": self.name, "user": self.user.document()}
        return {"methods": ["application_credential"], "application_credential": named | {"secret": self.secret}}

    def __str__(self) -> str:
        """Return a text for an operator, without secrets."""
        return f"application credential {self.id or self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenToken:
    """A token from outside; a token that it obtains expires no later."""

    secret: str = field(repr=False)

    def document(self) -> dict[str, Any]:
        """Return the JSON object of the API."""
        return {"methods": ["token"], "token": {"id": self.secret}}

    def __str__(self) -> str:
        """Return a text for an operator, without secrets."""
        return "the token"


Method = Password | ApplicationCredential | GivenToken


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """All that a login needs: address, method, scope."""

    auth_url: str
    """Keystone's address, with or without ``/v3``."""
    method: Method
    project: Named | None = None
    """The scope; without it and without ``system`` the scope is what the method brings."""
    system: bool = False
    """Whether the scope is the whole system (``all``)."""

    @property
    def version_url(self) -> str:
        """Address of the version document, which needs no token."""
        base = self.auth_url.rstrip("/").removesuffix("/auth/tokens")
        return base if base.endswith("/v3") else f"{base.removesuffix('/v2.0')}/v3"

    @property
    def token_url(self) -> str:
        """Address of the token request."""
        return f"{self.version_url}/auth/tokens"

    def document(self) -> dict[str, Any]:
        """Return the body of the token request."""
        auth: dict[str, Any] = {"identity": self.method.document()}
        if isinstance(self.method, ApplicationCredential):
            return {"auth": auth}
        if self.system:
            auth["scope"] = {"system": {"all": True}}
        elif self.project is not None:
            auth["scope"] = {"project": self.project.document()}
        return {"auth": auth}

    def __str__(self) -> str:
        """Return user and scope as text."""
        if self.system:
            return f"{self.method}, system scope"
        return str(self.method) if self.project is None else f"{self.method}, project {self.project}"
