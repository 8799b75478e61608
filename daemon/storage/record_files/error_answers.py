"""Answers of a service that are no records: what went wrong, in the service's own words, and what to do."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from bringup.placement.problems import plain

WORDS = ("message", "detail", "title")
ADVICE: Mapping[int, str] = {
    HTTPStatus.UNAUTHORIZED: "log in and ask again: the token is missing, wrong or has run out",
    HTTPStatus.FORBIDDEN: "ask again as an administrator",
    HTTPStatus.NOT_FOUND: "ask again at the address that `openstack catalog show nova` gives",
}
LATER = "ask again later; the log of the service says more"
OTHERWISE = "mend that, and ask again"
VERSIONS = "is a list of API versions: the address ends too early; ask for .../v2.1/servers/detail?all_tenants=1"


def refusal_of(document: Any) -> str | None:
    """Say what a service has answered instead of servers; None: this is no such answer."""
    if not isinstance(document, dict):
        return None
    if any(isinstance(document.get(name), list | dict) for name in ("choices", "versions", "version")):
        return VERSIONS
    for candidate in _candidates(document):
        words = next((candidate[key] for key in WORDS if isinstance(candidate.get(key), str)), None)
        if words is not None:
            code = next((candidate[key] for key in ("code", "status") if isinstance(candidate.get(key), int)), 0)
            return f'is the answer of a service that refused: {code or ""} "{plain(words)}"; {_advice(code)}'
    return None


def _candidates(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Give where it may be said: a list of errors, the one object (``{"forbidden": {...}}``), the document itself."""
    found: list[Any] = list(document["errors"][:1]) if isinstance(document.get("errors"), list) else []
    if len(document) == 1:
        [inner] = document.values()
        found.append({"message": inner} if "error" in document and isinstance(inner, str) else inner)
    if document.keys() & {"code", "status", "error"}:
        found.append(document)
    return [each for each in found if isinstance(each, dict)]


def _advice(code: int) -> str:
    if code >= HTTPStatus.INTERNAL_SERVER_ERROR or code == HTTPStatus.TOO_MANY_REQUESTS:
        return LATER
    return ADVICE.get(code, OTHERWISE)
