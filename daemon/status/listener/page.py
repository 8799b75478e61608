"""The page at ``/``: one document, put together of its files; nothing else is loaded or may run."""

import base64
import hashlib
import re
from functools import lru_cache
from importlib import resources
from typing import Final

MODULES: Final = ("page_state.js", "page_pace.js", "page_timeline.js", "page_events.js", "page.js")
"""The script, each module after those that it imports; all of them become one module."""
IMPORT_OR_EXPORT: Final = re.compile(r'^import \{[^}]*\} from "\./\w+\.js";\n|^export ', re.MULTILINE)


@lru_cache(maxsize=1)
def page() -> tuple[str, str]:
    """Return the document, and the content security policy that allows its own style and script and nothing else."""
    style, script = _read("page.css"), IMPORT_OR_EXPORT.sub("", "".join(map(_read, MODULES)))
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
