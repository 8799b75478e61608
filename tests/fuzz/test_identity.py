"""The file that remembers whose state directory it is."""

from pathlib import Path
from random import Random
from typing import Any, Final

from hypothesis import given

from bringup.daemon.errors import SettingsError, Temporary
from bringup.daemon.storage.identity import FILE, FORMAT, CurrentIdentity, differences, read_identity, require_same
from support.drivers import uuid_of
from support.fuzzing import CHANCES, Border, fuzz
from support.mutating import mutated, written

BORDER = "identity file"
BASE: Final[Any] = {
    "format": FORMAT,
    "host": "compute-1",
    "node_uuid": uuid_of(1),
    "machine": "ab" * 32,
    "accepted_guests": [uuid_of(2)],
    "changed_at": "2026-01-01T00:00:00+00:00",
}
NOW: Final = CurrentIdentity(host="compute-1", node_uuid=uuid_of(1), machine="ab" * 32)


@fuzz(300)
@given(chance=CHANCES)
def test_an_identity_is_the_same_or_refused_with_a_sentence(border: Border, tmp_path: Path, chance: Random) -> None:
    (tmp_path / FILE).write_bytes(written(chance, mutated(chance, BASE)))
    with border.one(SettingsError, Temporary):
        known = read_identity(tmp_path)
        assert known is not None
        differences(known, NOW)
        require_same(known, NOW)
