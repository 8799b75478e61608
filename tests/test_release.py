"""What is installed and released: from files with hashes, the same bytes for everybody, and said in an SBOM."""

import hashlib
import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).parents[1]
FOLDER = REPOSITORY / "requirements"
FILES = sorted(path.stem for path in FOLDER.glob("*.txt"))
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
GIT = ("git", "-c", f"safe.directory={REPOSITORY}", "-C", REPOSITORY)
EXTRAS = PROJECT["project"]["optional-dependencies"]
BUILDS = PROJECT["build-system"]["requires"]
ENTRY = re.compile(
    r"(?P<name>[a-z0-9-]+)==(?P<version>\S+)(?P<marker> ; [^\\]+)? (?P<hashes>(\\\n    --hash=sha256:[0-9a-f]{64}\s?)+)"
)


def entries(name: str) -> dict[str, re.Match[str]]:
    """Return the entries of a file and of those that it names, by name."""
    text = (FOLDER / f"{name}.txt").read_text()
    found = {entry["name"]: entry for entry in ENTRY.finditer(text)}
    for other in re.findall(r"^-r (.+)\.txt$", text, re.MULTILINE):
        found |= entries(other)
    return found


def closure(wanted: list[str]) -> Iterator[str]:
    """Return the names of all that is needed here, as what is installed says."""
    seen = set[tuple[str, str]]()
    left = [(Requirement(each), "") for each in wanted]
    while left:
        requirement, extra = left.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        yield name
        for each in ("", *requirement.extras):
            if (name, each) not in seen:
                seen.add((name, each))
                left += [(Requirement(text), each) for text in importlib.metadata.requires(name) or ()]


def run(*command: str | Path, code: int = 0, **options: Any) -> str:
    ended = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert ended.returncode == code, ended.stdout + ended.stderr
    return str(ended.stdout + ended.stderr)


@pytest.mark.parametrize("name", FILES)
def test_each_file_has_versions_and_hashes_and_names_no_other_place(name: str) -> None:
    text = (FOLDER / f"{name}.txt").read_text()

    assert re.sub(r"^(#.*|-r [a-z-]+\.txt)\n", "", ENTRY.sub("", text), flags=re.MULTILINE).strip() == ""
    assert ENTRY.search(text) is not None


@pytest.mark.parametrize("name", FILES)
def test_each_version_is_the_one_that_is_pinned(name: str) -> None:
    lines = (REPOSITORY / "constraints.txt").read_text().split()
    pinned = {str(canonicalize_name(line.partition("==")[0])): line.partition("==")[2] for line in lines}

    versions = {each: entry["version"] for each, entry in entries(name).items()}
    assert versions == {each: pinned[each] for each in versions}


WANTED = {
    "build": BUILDS,
    "host": [*PROJECT["project"]["dependencies"], *BUILDS],
    "placement": EXTRAS["demo"],
} | {
    name: [*PROJECT["project"]["dependencies"], *BUILDS, *EXTRAS[name]]
    for name in ("clouds", "network", "nova-conf", "openstack", "postgresql")
}


def test_every_extra_of_a_host_has_a_file() -> None:
    # libvirt's binding comes from the distribution: it has no wheel.
    assert set(FILES) == WANTED.keys()
    assert EXTRAS.keys() - WANTED.keys() == {"demo", "libvirt"}


@pytest.mark.parametrize("name", WANTED)
def test_each_file_has_all_that_is_needed_and_nothing_else(name: str) -> None:
    here = {
        each
        for each, entry in entries(name).items()
        if entry["marker"] is None or Requirement(f"x{entry['marker']}").marker.evaluate()  # type: ignore[union-attr]
    }

    assert here == set(closure(WANTED[name]))


def test_a_package_that_was_changed_on_its_way_is_not_installed(tmp_path: Path) -> None:
    entry = entries("host")["idna"]
    (tmp_path / "one.txt").write_text(entry[0])
    wheel = tmp_path / f"idna-{entry['version']}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        info = f"idna-{entry['version']}.dist-info"
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: idna\nVersion: {entry['version']}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    pip = (sys.executable, "-m", "pip", "install", "--no-index", "--find-links", tmp_path, "--no-deps")
    place = ("--target", tmp_path / "place")

    said = run(*pip, *place, "--require-hashes", "--only-binary", ":all:", "-r", tmp_path / "one.txt", code=1)

    assert "DO NOT MATCH THE HASHES" in said
    run(*pip, *place, wheel)  # but for its hash it would have been


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the build programs where Python looks first."""
    folder = tmp_path_factory.mktemp("builder")
    pip = (sys.executable, "-m", "pip", "install", "--no-compile", "--target", folder)
    run(*pip, "--require-hashes", "--only-binary", ":all:", "-r", FOLDER / "build.txt")
    return folder


@pytest.fixture(scope="module")
def released(builder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Release this commit twice, under what differs from machine to machine."""
    folders = (tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("other"))
    for folder, umask, zone in zip(folders, (0o022, 0o077), ("UTC", "Asia/Tokyo"), strict=True):
        environment = {"PATH": "/usr/bin:/bin", "TZ": zone, "HOME": str(folder), "PYTHONPATH": str(builder)}
        command = (sys.executable, REPOSITORY / "release/build.py", "HEAD", folder)
        run(*command, umask=umask, cwd=folder, env=environment)
    return folders


def test_who_builds_a_commit_again_gets_the_same_bytes(released: tuple[Path, Path]) -> None:
    one, other = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in released)

    assert one == other
    assert {Path(name).suffix for name in one} == {".whl", ".json", ""}


def test_sha256sums_and_the_statement_name_what_was_built_of_which_commit(released: tuple[Path, Path]) -> None:
    folder = released[0]
    lines = (folder / "SHA256SUMS").read_text().splitlines()
    sums = {name: digest for digest, name in (line.split("  ") for line in lines)}
    [path] = folder.glob("*.intoto.json")
    statement = json.loads(path.read_text())
    commit = run(*GIT, "rev-parse", "HEAD").strip()

    assert sums == {
        each.name: hashlib.sha256(each.read_bytes()).hexdigest()
        for each in folder.iterdir()
        if each.name != "SHA256SUMS"
    }
    assert {each["name"]: each["digest"]["sha256"] for each in statement["subject"]} == {
        name: digest for name, digest in sums.items() if name != path.name
    }
    assert statement["predicate"]["buildDefinition"]["externalParameters"]["commit"] == commit


def test_the_wheel_has_all_files_of_the_program(released: tuple[Path, Path]) -> None:
    [wheel] = released[0].glob("*.whl")
    there = set(zipfile.ZipFile(wheel).namelist())
    tracked = run(*GIT, "ls-tree", "-r", "--name-only", "HEAD", "daemon", "drivers", "placement")

    assert {f"bringup/{name}" for name in tracked.split()} <= there


def test_the_sbom_of_the_wheel_names_every_package_with_its_hashes_and_bringup_with_its_own(
    released: tuple[Path, Path],
) -> None:
    """It was validated against CycloneDX's schema when it was written."""
    [path], [wheel] = released[0].glob("*.cdx.json"), released[0].glob("*.whl")
    bom = json.loads(path.read_text())

    found = {
        each["name"]: (each["version"], {one["content"] for one in each["externalReferences"][0]["hashes"]})
        for each in bom["components"]
    }
    assert (bom["bomFormat"], bom["specVersion"]) == ("CycloneDX", "1.6")
    assert found == {
        name: (entry["version"], set(re.findall(r"sha256:(\w+)", entry["hashes"])))
        for extra in WANTED.keys() - {"placement"}
        for name, entry in entries(extra).items()
    }
    subject = bom["metadata"]["component"]
    assert (subject["name"], subject["version"]) == ("bringup", "0.1.0")
    assert subject["hashes"] == [{"alg": "SHA-256", "content": hashlib.sha256(wheel.read_bytes()).hexdigest()}]


def test_what_is_in_an_image_without_a_hash_is_refused(tmp_path: Path) -> None:
    (tmp_path / "debian").write_text("base-files 12.4+deb12u11 amd64\n")
    (tmp_path / "python").write_text("idna==0.1\n")
    listings = ("--python", tmp_path / "python", "--debian", tmp_path / "debian")

    said = run(sys.executable, REPOSITORY / "release/sbom.py", *listings, code=1)

    assert said == "idna==0.1 is in the image, and requirements/ has no hash of it\n"
