"""The page at ``/``: one document, put together of its files; nothing else is loaded or may run."""

import base64
import hashlib
from functools import lru_cache
from importlib import resources


@lru_cache(maxsize=1)
def page() -> tuple[str, str]:
    """Give the document, and the content security policy that lets just its own style and script in."""
    style, script = _read("page.css"), _read("page_timeline.js") + _read("page.js")
    text = _read("page.html").replace("/* style */", style).replace("/* script */", script)
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return text, policy


def _read(name: str) -> str:
    return resources.files("bringup.daemon.status.listener").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
