"""A real browser without a window: Chromium, driven by chromedriver over WebDriver (https://www.w3.org/TR/webdriver2/).

Skips the test where Debian's chromium and chromium-driver are not installed.
"""

import base64
import contextlib
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from support.polling import PATIENCE_S, until
from support.ports import free_port
from support.programs import path_of

FLAGS = (
    "--headless=new",
    # Root has no sandbox, and a container no /dev/shm that is large enough.
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    # It must not ask anybody but the daemon.
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


class Browser:
    """One window."""

    def __init__(self, client: httpx.Client, session: str) -> None:
        self._client = client
        self._session = session

    def _post(self, path: str, **body: Any) -> Any:
        answer = self._client.post(f"/session/{self._session}/{path}", json=body).json()["value"]
        assert not (isinstance(answer, dict) and "error" in answer), answer
        return answer

    def open(self, url: str) -> None:
        """Open a page; earlier complaints are dropped."""
        self._post("url", url="about:blank")
        self.complaints()
        self._post("url", url=url)

    def run(self, script: str, *arguments: Any) -> Any:
        """Run a script in the page; return what it returns."""
        return self._post("execute/sync", script=script, args=list(arguments))

    def until(self, script: str) -> Any:
        """Wait until a script returns something that is true; return it."""
        found: Any = None

        def is_true() -> bool:
            nonlocal found
            found = self.run(script)
            return bool(found)

        try:
            until(is_true, script)
        except AssertionError as error:
            error.add_note(f"the page: {self.run('return document.body.innerText')}")
            raise
        return found

    def press(self, keys: str) -> None:
        """Press keys where the focus is."""
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self._post("actions", actions=[{"type": "key", "id": "keyboard", "actions": actions}])

    def prefers(self, scheme: str) -> None:
        """Want light or dark pages."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self._post("goog/cdp/execute", cmd="Emulation.setEmulatedMedia", params={"features": features})

    def complaints(self) -> list[str]:
        """What the page was told by the browser: errors of scripts, and what its policy kept from being loaded."""
        return [entry["message"] for entry in self._post("se/log", type="browser")]

    def picture(self) -> bytes:
        """Return a screenshot, as PNG."""
        answer = self._client.get(f"/session/{self._session}/screenshot").json()["value"]
        return base64.b64decode(answer)


@contextlib.contextmanager
def browser(*, width: int = 1360, height: int = 1020) -> Iterator[Browser]:
    """Provide a window for as long as the block lasts."""
    chromium, driver = path_of("chromium"), path_of("chromedriver")
    port = free_port()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        log = Path(folder) / "chromedriver.log"
        with log.open("w") as out:
            process = subprocess.Popen([driver, f"--port={port}"], stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S, trust_env=False) as client:
                _until_ready(client, process)
                flags = [*FLAGS, f"--user-data-dir={folder}/profile", f"--window-size={width},{height}"]
                session = _session(client, chromium, flags)
                try:
                    yield Browser(client, session)
                finally:
                    client.delete(f"/session/{session}")
        finally:
            process.terminate()
            process.wait(PATIENCE_S)


def _until_ready(client: httpx.Client, process: "subprocess.Popen[bytes]") -> None:
    def is_ready() -> bool:
        assert process.poll() is None, "chromedriver has ended"
        with contextlib.suppress(httpx.TransportError):
            return bool(client.get("/status").json()["value"]["ready"])
        return False

    until(is_ready, "chromedriver")


def _session(client: httpx.Client, chromium: str, flags: list[str]) -> str:
    wanted = {
        "browserName": "chrome",
        "goog:chromeOptions": {"binary": chromium, "args": flags},
        "goog:loggingPrefs": {"browser": "ALL"},
    }
    answer = client.post("/session", json={"capabilities": {"alwaysMatch": wanted}}).json()["value"]
    assert "sessionId" in answer, answer
    session: str = answer["sessionId"]
    return session
