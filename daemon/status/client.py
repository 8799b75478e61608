"""Client of the status socket, for ``bringup status``."""

import json
import ssl
from pathlib import Path
from typing import Any

import anyio
import httpx

from bringup.daemon.errors import Unavailable
from bringup.daemon.status.endpoint.sockets import CLIENT, short
from bringup.placement.bounded_body import IDENTITY, NotReadable, read_bounded

ANSWER_S = 10.0
LIMIT = 32 * 1024 * 1024
"""Bytes of an answer, which has a few lines for each instance that is being worked on."""


async def ask(path: Path) -> dict[str, Any]:
    """Request the status of the daemon that listens at a socket.

    :raises Unavailable: no daemon listens there, or it does not answer.
    """
    try:
        # For the whole answer: each byte may arrive in time, and the answer never.
        with anyio.fail_after(ANSWER_S), short(path) as name:
            # Nothing is encrypted here: to load the certificates of the system takes longer than the answer.
            transport = httpx.AsyncHTTPTransport(uds=name, verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
            async with httpx.AsyncClient(transport=transport, base_url=f"http://{CLIENT}", timeout=ANSWER_S) as client:
                response = await client.send(client.build_request("GET", "/status", headers=IDENTITY), stream=True)
                try:
                    answer = json.loads(await read_bounded(response.raise_for_status(), LIMIT))
                finally:
                    await response.aclose()
    except (FileNotFoundError, NotADirectoryError, httpx.ConnectError) as error:
        raise Unavailable(_nobody(path, error)) from None
    except PermissionError:
        raise Unavailable(_may_not(path)) from None
    except (httpx.HTTPError, NotReadable, ValueError, RecursionError, TimeoutError) as error:
        raise Unavailable(f"the daemon that listens at {path} does not answer") from error
    found: dict[str, Any] = answer if isinstance(answer, dict) else {}
    if not str(found.get("format")).startswith("bringup.status/") or not isinstance(found.get("state"), str):
        raise Unavailable(f"the process that listens at {path} is not bringup; check status.socket")
    return found


def _nobody(path: Path, error: Exception) -> str:
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, PermissionError):
            return _may_not(path)
        link = link.__cause__ or link.__context__
    return (
        f"no daemon listens at {path}: it is not running, or has another status.socket; "
        "bringup history shows what earlier runs did"
    )


def _may_not(path: Path) -> str:
    return f"this user may not connect to {path}; run as root, or join the group that status.socket_mode allows"
