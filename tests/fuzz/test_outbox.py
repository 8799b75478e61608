"""Files of the outbox: reports that wait, as they were written or as something else has left them."""

import json
from pathlib import Path
from random import Random
from typing import Any, Final

import anyio
import httpx
import pytest
from hypothesis import given

from bringup.daemon.openstack.scheduler_http import HttpTransport
from bringup.daemon.storage.outbox.outbox import Outbox
from bringup.daemon.storage.outbox.spool import OutboxError, Spool
from support.fuzzing import CHANCES, Border, fuzz
from support.mutating import mutated, written
from support.scheduler import a_report, an_outcome, receiver, waiting

BORDER = "outbox files"
NAME: Final = "20250101T000000.000000Z-a.json"
BASE: Final[Any] = json.loads(json.dumps(a_report(an_outcome(1))))


def put(directory: Path, data: bytes) -> Path:
    directory.mkdir(exist_ok=True)
    for old in (*directory.glob("*.json"), *directory.glob("*/*.json")):
        old.unlink()
    path = directory / NAME
    path.write_bytes(data)
    return path


@fuzz(150)
@given(chance=CHANCES)
def test_a_file_is_a_report_or_set_aside(border: Border, tmp_path: Path, chance: Random) -> None:
    path = put(tmp_path / "outbox", written(chance, mutated(chance, BASE)))
    spool = Spool(tmp_path / "outbox", keep=1)
    with border.one(OutboxError):
        if spool.read(path) is None:
            assert not path.exists()
        # It is looked at again where there are too many.
        spool.write(a_report(minute=1))
        spool.write(a_report(minute=2))


FOUND: Final[dict[str, dict[str, Any]]] = {
    "an id that no header can hold": {"report_id": "\u2603"},
    "an id of two lines": {"report_id": "a\r\nX: y"},
    "half of a surrogate": {"error": "\ud800"},
    "a number that JSON does not have": {"took_s": float("inf")},
    "a path": {"report_id": "../../x"},
}


@pytest.mark.parametrize("changes", FOUND.values(), ids=FOUND)
def test_a_report_that_cannot_be_sent_keeps_no_other_back(
    border: Border, tmp_path: Path, changes: dict[str, Any]
) -> None:
    directory = tmp_path / "outbox"
    put(directory, json.dumps(BASE | changes).encode())
    good = a_report(minute=3)

    async def go(url: str) -> None:
        outbox = Outbox(directory)
        await outbox.put(good)
        async with httpx.AsyncClient(trust_env=False) as client:
            assert await outbox.drain(HttpTransport(client, f"{url}/reports"), timeout_s=30) is None

    with receiver(tmp_path / "received") as scheduler, border.one():
        anyio.run(go, scheduler.url)
    assert waiting(directory) == []
    assert (directory / "corrupt" / NAME).exists()
