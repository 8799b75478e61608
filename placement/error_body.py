"""Body of an error response.  Pure; any body is parsed without an error.

Placement alone sends three shapes: its own ``{"errors": [{...}]}``, keystonemiddleware's ``{"error": {...}}``, and
webob's ``{"message", "code", "title"}``.  A proxy in front of it adds HTML, text, nothing, and parts of these.
"""

import html
import json
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, quote_plus

from bringup.placement.bounded_body import clean_id

SEARCHED: Final = 4000
"""Characters of a body that are searched for a message."""
WORDS_LIMIT: Final = 200
"""Characters of the message that are used."""

CODE: Final = re.compile(r"placement\.[a-z_.]{1,60}")


@dataclass(frozen=True, slots=True)
class ErrorText:
    """Message, code and request id of an error response; empty where it has none."""

    words: str = ""
    code: str | None = None
    request_id: str | None = None


def parse_error_body(body: bytes, *, secrets: Collection[str] = ()) -> ErrorText:
    """Parse the body of an error response; ``secrets`` that it echoes are removed."""
    text = body.decode("utf-8", "replace")
    entry = _entry(_parse_json(text))
    if entry is None:
        return ErrorText(plain(_page_title(text) or text, secrets=secrets))
    words = next((entry[key] for key in ("detail", "message", "title") if _is_text(entry.get(key))), "")
    if _is_text(entry.get("min_version")) and _is_text(entry.get("max_version")):
        words += f" (it has {entry['min_version']} to {entry['max_version']})"
    code, request_id = entry.get("code"), entry.get("request_id")
    return ErrorText(
        plain(words, secrets=secrets),
        code if isinstance(code, str) and CODE.fullmatch(code) else None,
        clean_id(request_id, secrets=secrets) if isinstance(request_id, str) else None,
    )


def plain(text: str, *, secrets: Collection[str] = ()) -> str:
    """Return a text in one bounded line, without tags, control characters and secrets."""
    # Before the text is cut: half of a secret is one too.
    for form in sorted({form for secret in filter(None, secrets) for form in _forms(secret)}, key=len, reverse=True):
        text = text.replace(form, "***")
    text = re.sub(r"<[^<>]*>", " ", text[:SEARCHED])
    words = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return words if len(words) <= WORDS_LIMIT else words[:WORDS_LIMIT] + "..."


def _forms(secret: str) -> set[str]:
    """Return the forms of a secret in a response: as it is, or encoded for JSON, a URL, HTML, Python or a header."""
    octets = secret.encode("utf-8", "replace")
    quoted = {quote(octets, safe=""), quote(octets), quote_plus(octets)}
    return {
        secret,
        *quoted,
        *(each.lower() for each in quoted if "%" in each),
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        repr(secret)[1:-1],
        html.escape(secret),
        html.escape(secret, quote=False),
        b64encode(octets).decode(),
        urlsafe_b64encode(octets).decode(),
    }


def _parse_json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _entry(document: Any) -> dict[str, Any] | None:
    match document:
        case {"errors": [dict(entry), *_]} | {"error": dict(entry)}:
            return entry
        case {"message": str()}:
            return dict(document)
        case _:
            return None


def _page_title(text: str) -> str | None:
    found = re.search(r"<title[^>]*>([^<]*)</title>", text[:SEARCHED], re.IGNORECASE)
    return f'a page "{found[1].strip()}"' if found else None


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())
