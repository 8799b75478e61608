"""Advisories that are kept here: no pin and no floor is one of them, and the check can tell."""

import datetime as dt
import json
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

REPOSITORY = Path(__file__).parents[1]
SCRIPT = REPOSITORY / "release/audit.py"
KEPT = json.loads((REPOSITORY / "release/advisories.json").read_text())
BY_ID = {each["id"]: each["affected"][0] for each in KEPT["advisories"]}


def audited(
    tmp_path: Path, *, pins: str = "", floors: str = "", of: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Audit a repository that has other pins or floors, or advisories of another day."""
    folder = tmp_path / "release"
    folder.mkdir()
    (folder / "audit.py").write_text(SCRIPT.read_text())
    (folder / "advisories.json").write_text(json.dumps(KEPT | {"of": of or KEPT["of"]}))
    (tmp_path / "constraints.txt").write_text(pins)
    (tmp_path / "pyproject.toml").write_text(
        f"build-system.requires = []\nproject.dependencies = [{floors}]\nproject.optional-dependencies = {{}}\n"
    )
    return subprocess.run([sys.executable, folder / "audit.py"], capture_output=True, text=True, check=False)


def test_none_applies_to_what_is_pinned_or_let_in_and_it_says_of_which_day_they_are() -> None:
    ended = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, check=False)
    days = (dt.datetime.now(dt.UTC).date() - dt.date.fromisoformat(KEPT["of"])).days

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert f"0 of {len(BY_ID)} advisories apply" in ended.stdout
    assert any(f"written down on {KEPT['of']}, {each} days ago" in ended.stdout for each in (days, days + 1))


@pytest.mark.parametrize("advisory", BY_ID)
def test_a_version_before_the_one_that_mends_it_is_found_and_that_one_is_not(advisory: str) -> None:
    applying = runpy.run_path(str(SCRIPT))["applying"]
    name = BY_ID[advisory]["package"]["name"]
    [introduced, fixed] = BY_ID[advisory]["ranges"][0]["events"]
    mended = Version(fixed["fixed"])
    before = max(Version(introduced["introduced"]), Version(f"{mended}.dev0"))

    assert advisory in "".join(applying(KEPT["advisories"], {name: before}))
    assert advisory not in "".join(applying(KEPT["advisories"], {name: mended}))


RANGES = [{"type": "ECOSYSTEM", "events": [{"introduced": "3"}, {"introduced": "0"}, {"fixed": "4"}, {"fixed": "1"}]}]
LAST = [{"type": "ECOSYSTEM", "events": [{"last_affected": "2"}, {"introduced": "1"}]}]
GIT = [{"type": "GIT", "repo": "https://x", "events": [{"introduced": "0"}, {"fixed": "6879efc2c1596d11a6a6ad"}]}]
SHAPES = {
    "events in any order": ({"ranges": RANGES}, {"0.5", "3", "3.5"}),
    "a last one": ({"ranges": LAST}, {"1", "2"}),
    "a list": ({"versions": ["2", "3.5"]}, {"2", "3.5"}),
    "a list beside commits": ({"versions": ["2"], "ranges": GIT}, {"2"}),
    "a list beside a range": ({"versions": ["5"], "ranges": LAST}, {"1", "2", "5"}),
    "nothing that says which": ({}, {"0.5", "1", "2", "3", "3.5", "4", "5"}),
}


@pytest.mark.parametrize(("says", "affected"), SHAPES.values(), ids=SHAPES)
def test_whatever_of_osvs_format_an_advisory_uses_it_is_understood(says: dict[str, object], affected: set[str]) -> None:
    applying = runpy.run_path(str(SCRIPT))["applying"]

    def found(version: str, ecosystem: str = "PyPI", **more: object) -> bool:
        one = {"package": {"ecosystem": ecosystem, "name": "x"}, **says}
        return bool(list(applying([{"id": "i", "summary": "s", "affected": [one], **more}], {"x": Version(version)})))

    versions = ("0.5", "1", "2", "3", "3.5", "4", "5")
    assert {version for version in versions if found(version)} == affected
    assert not any(found(version, "npm") or found(version, withdrawn="2026-01-01T00:00:00Z") for version in versions)


def test_a_pin_to_which_one_applies_is_found_however_its_name_is_written(tmp_path: Path) -> None:
    found = audited(tmp_path, pins="anyio==4.16.0\nPyYAML==5.3\n")

    assert (found.returncode, "pinned: pyyaml 5.3: CVE-2020-14343" in found.stdout) == (1, True)


@pytest.mark.parametrize("floor", ["starlette>=0.46", "starlette"])
def test_a_floor_that_lets_one_in_is_found(floor: str, tmp_path: Path) -> None:
    found = audited(tmp_path, floors=f'"{floor}"')

    assert found.returncode == 1
    assert "let in by pyproject.toml: starlette" in found.stdout
    assert "CVE-2025-62727" in found.stdout or floor == "starlette"


def test_how_old_they_are_is_reported(tmp_path: Path) -> None:
    ended = audited(tmp_path, of="2020-01-01")

    assert "on 2020-01-01, " in ended.stdout
    assert int(ended.stdout.partition("2020-01-01, ")[2].split()[0]) > 2500


def test_every_package_that_speaks_to_the_network_for_us_has_a_floor() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(each for extra in project["optional-dependencies"].values() for each in extra),
    ]
    without = {canonicalize_name(each.name) for each in map(Requirement, wanted) if not each.specifier}

    assert without == set()
