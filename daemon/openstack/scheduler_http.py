"""Transport of reports over HTTP: a POST of JSON, acknowledged by any 2xx.

400, 409, 410, 413, 415, 422 and other 4xx reject the report (:class:`Rejected`).  ``NOT_ABOUT_THE_REPORT`` concerns the
address, the credentials or the moment: an operator corrects it or it passes, and the report is kept.  It is also kept
after any other response, and without one.
"""

from typing import Final

import anyio
import httpx

from bringup.daemon.storage.outbox.base import NotAcknowledged, Rejected
from bringup.daemon.storage.outbox.report import Report
from bringup.daemon.text import VISIBLE
from bringup.placement.bounded_body import IDENTITY, NotReadable, read_bounded
from bringup.placement.error_body import plain
from bringup.placement.retry_after import retry_after_of

NOT_ABOUT_THE_REPORT: Final = frozenset({401, 403, 404, 405, 407, 408, 421, 423, 425, 429})
"""4xx that do not concern the report itself."""
BODY_LIMIT: Final = 64 * 1024
"""Bytes of a response that are read."""


class HttpTransport:
    """Transport over HTTP; the token is in a header that httpx shows as ``[secure]``."""

    def __init__(self, client: httpx.AsyncClient, url: str, *, token: str | None = None, timeout_s: float = 10) -> None:
        """Store an open client; ``timeout_s`` bounds one whole request.

        :raises ValueError: the URL or the token cannot be used.
        """
        self._client = client
        self._timeout_s = timeout_s
        self._url = _http_url(url)
        self._headers = httpx.Headers({} if token is None else {"Authorization": f"Bearer {_checked_token(token)}"})
        self._token = self._headers.get("Authorization", "").removeprefix("Bearer ")

    def __repr__(self) -> str:
        """Return a text with the address, without credentials."""
        return f"<HttpTransport to {_shown(self._url)}>"

    async def send(self, report: Report) -> None:
        """POST a report.

        :raises NotAcknowledged: no response in time, or one that does not concern the report.
        :raises Rejected: the receiver will not take this report.
        """
        what = f"report {report['report_id']} to {_shown(self._url)}"
        headers = httpx.Headers(self._headers)
        headers.update(IDENTITY)
        headers["Idempotency-Key"] = report["report_id"]
        try:
            with anyio.fail_after(self._timeout_s):
                response, words = await self._post(report, headers)
        except TimeoutError as error:
            raise NotAcknowledged(f"cannot send {what}: no answer in {self._timeout_s:g} s") from error
        except httpx.HTTPError as error:
            raise NotAcknowledged(f"cannot send {what}") from error
        if not response.is_success:
            raise self._error_of(response, words, what)

    async def _post(self, report: Report, headers: httpx.Headers) -> tuple[httpx.Response, str]:
        """Send a report; return the response and the text of its body."""
        request = self._client.build_request("POST", self._url, json=report, headers=headers, timeout=self._timeout_s)
        response = await self._client.send(request, stream=True)
        try:
            return response, (await read_bounded(response, BODY_LIMIT)).decode("utf-8", "replace")
        except NotReadable as error:
            return response, str(error)
        finally:
            await response.aclose()

    def _error_of(self, response: httpx.Response, words: str, what: str) -> NotAcknowledged | Rejected:
        text = plain(f"{response.reason_phrase} {words}", secrets=[self._token or ""])
        message = f"cannot send {what}: answered {response.status_code} {text}"
        if response.is_client_error and response.status_code not in NOT_ABOUT_THE_REPORT:
            return Rejected(message.rstrip())
        return NotAcknowledged(message.rstrip(), retry_after_s=retry_after_of(response.headers))


def _http_url(url: str) -> httpx.URL:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        # The original error may contain a password.
        raise ValueError("cannot send reports: the URL of the scheduler is not a URL") from None
    if parsed.userinfo:
        raise ValueError(
            f"cannot send reports to {_shown(parsed)}: credentials belong into the token, not into the URL"
        )
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise ValueError(f"cannot send reports to {_shown(parsed)}: must be http://... or https://...")
    return parsed


def _shown(url: httpx.URL) -> str:
    return str(url.copy_with(username=None, password=None, query=None, fragment=None))


def _checked_token(token: str) -> str:
    token = token.strip()
    if not VISIBLE.fullmatch(token):
        raise ValueError(
            "cannot send reports: the scheduler's token is empty, or has characters that a header cannot hold"
        )
    return token
