"""What may become a path, a word of nft or a call of libvirt: a canonical UUID and nothing else."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bringup.drivers.base import DriverError
from bringup.drivers.identifiers import canonical_uuid, uuid_in_any_spelling
from bringup.drivers.libvirt.disks import KEPT, Disks
from bringup.drivers.network.rules.ruleset import instance_of

UUID = "132d660e-1520-470b-9cc6-0045deb34bed"
WRONG = [
    "",
    "..",
    "../victim",
    "/etc",
    "*",
    f"{UUID}/..",
    f"../{UUID}",
    f"{UUID}\n",
    f"{UUID} ",
    UUID[:-1] + "*",
    "{" + UUID + "}",
    f"urn:uuid:{UUID}",
    UUID.replace("-", ""),
    UUID.replace("1", "\uff11"),
    "\ud800",
]
MAY_LOOK_ANYWHERE: dict[str, Callable[[Disks, str], Any]] = {
    "of": lambda disks, uuid: disks.folder_of(uuid),
    "before_resize": lambda disks, uuid: disks.folder_before_resize(uuid),
    "delete": lambda disks, uuid: disks.delete(uuid),
    "keep": lambda disks, uuid: disks.keep(uuid),
    "delete_kept": lambda disks, uuid: disks.delete_kept(uuid, [str(disks.instances_path / KEPT / f"{uuid}.1")]),
    "take_back": lambda disks, uuid: disks.restore_before_resize(uuid),
    "definition": lambda disks, uuid: disks.definition(uuid),
    "mark": lambda disks, uuid: disks.mark(uuid),
}


def test_upper_case_is_corrected() -> None:
    assert canonical_uuid(UUID.upper()) == UUID


@pytest.mark.parametrize("wrong", [*WRONG, None, 7, [UUID], b"x"], ids=ascii)
def test_nothing_else_is_one(wrong: object) -> None:
    with pytest.raises(ValueError, match="is no UUID"):
        canonical_uuid(wrong)
    if isinstance(wrong, str):
        with pytest.raises(DriverError, match="is no UUID"):
            instance_of(wrong)


@pytest.mark.parametrize(
    "spelled", [UUID, UUID.upper(), UUID.replace("-", ""), "{" + UUID + "}", f"urn:uuid:{UUID}", f"URN:UUID:{UUID}"]
)
def test_an_operator_may_spell_one_otherwise(spelled: str) -> None:
    assert uuid_in_any_spelling(spelled) == UUID


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "..",
        UUID[:-1],
        f"{UUID}0",
        f" {UUID}",
        f"{UUID}\n",
        "+" + UUID[1:],
        "0x" + UUID[2:],
        UUID[:2] + "_" + UUID[3:],
        UUID.replace("1", "\uff11"),
        "\ud800",
        "urn:" * 9,
    ],
    ids=ascii,
)
def test_what_python_takes_for_a_part_of_one_is_none(wrong: str) -> None:
    with pytest.raises(ValueError, match="is no UUID"):
        uuid_in_any_spelling(wrong)


@given(st.text())
def test_whatever_is_one_is_made_of_these_characters(text: str) -> None:
    found = ""
    with suppress(ValueError):
        found = canonical_uuid(text)
    assert set(found) <= set("0123456789abcdef-")


@pytest.mark.parametrize("wrong", [*WRONG, UUID.upper()], ids=ascii)
@pytest.mark.parametrize("verb", MAY_LOOK_ANYWHERE)
def test_disks_are_touched_for_a_canonical_uuid_alone(tmp_path: Path, verb: str, wrong: str) -> None:
    for folder in ("victim", f"instances/{UUID}", f"instances/{UUID}_resize", f"instances/{KEPT}/{UUID}.1"):
        (tmp_path / folder).mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))

    with pytest.raises(DriverError, match=r"did not (touch any disk|delete)"):
        MAY_LOOK_ANYWHERE[verb](Disks(tmp_path / "instances"), wrong)

    assert sorted(tmp_path.rglob("*")) == before


def test_what_lies_beside_the_kept_ones_is_nobody_of_ours(tmp_path: Path) -> None:
    disks = Disks(tmp_path)
    (tmp_path / UUID).mkdir()
    for name in (f"{UUID}.x", f"{UUID}.01", f"{UUID}.1.2", "readme"):
        (tmp_path / KEPT / name).mkdir(parents=True)
    assert disks.keep(UUID) == (str(tmp_path / KEPT / f"{UUID}.1"),)
    with pytest.raises(DriverError, match="did not delete"):
        disks.delete_kept(UUID, [str(tmp_path / KEPT / f"{UUID}.x")])
