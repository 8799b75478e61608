"""What the tests call is what `.ci/run` installs."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import programs
from support.programs import PACKAGES

REPOSITORY = Path(__file__).parents[1]
CALLED_BY_NO_TEST = {
    "busybox-static": "is put into a guest",
    "fonts-dejavu-core": "what the browser writes with",
    "libc6-dev": "headers, for the clock that jumps",
    "libvirt-dev": "headers, for libvirt-python",
    "linux-image-cloud-amd64": "is booted in a guest",
    "pkg-config": "finds libvirt-dev",
    "python3-dev": "headers, for libvirt-python",
    "python3-venv": "makes the environments",
}
ON_EVERY_DEBIAN = {"coreutils", "dash", "dpkg", "libc-bin", "tar"}
"""``.ci/run`` needs them itself."""


def listed() -> list[str]:
    return re.findall(r"^[a-z0-9].*$", (REPOSITORY / ".ci/packages").read_text(), re.MULTILINE)


def test_every_package_with_a_program_that_is_called_is_installed_by_its_name() -> None:
    assert set(PACKAGES.values()) - ON_EVERY_DEBIAN - set(listed()) == set()


def test_no_package_is_installed_that_nothing_calls_or_that_is_named_twice() -> None:
    assert sorted(listed()) == sorted({*PACKAGES.values(), *CALLED_BY_NO_TEST} - ON_EVERY_DEBIAN)


def paths() -> dict[str, str]:
    """Return where each program is that a package can have put there."""
    found = {program: programs.find(program) or "" for program in PACKAGES}
    return {program: path for program, path in found.items() if path.startswith(("/usr/bin", "/usr/sbin", "/usr/lib"))}


def owners() -> Iterator[tuple[str, str]]:
    """Return programs that are installed, each with the package that has it, as dpkg says."""
    there = paths()
    real = {program: Path(path).resolve() for program, path in there.items()}
    command = ["dpkg-query", "--search", *(f"*/{program}" for program in there), *map(str, real.values())]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout  # as much as it knows
    for line in said.splitlines():
        package, _, path = line.rpartition(": ")
        for program, place in real.items():
            if Path(path).resolve() == place and "diversion" not in package:
                yield program, package.partition(":")[0]


def needed_by(package: str) -> set[str]:
    """Return the package itself and what it depends on."""
    command = ["dpkg-query", "--show", "--showformat=${Pre-Depends},${Depends}", package]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {package, *re.findall(r"(?:^|[,|])\s*([a-z0-9][a-z0-9.+-]+)", said)}


@pytest.mark.skipif(programs.find("dpkg-query") is None, reason="only Debian knows its packages")
def test_each_program_is_in_the_package_that_the_table_names_or_in_one_that_comes_with_it() -> None:
    found = set(owners())
    wrong = [f"{program}: {owner}" for program, owner in found if owner not in needed_by(PACKAGES[program])]

    assert wrong == []
    assert {program for program, _ in found} == set(paths())


def test_a_test_that_starts_a_program_without_a_package_fails() -> None:
    for command in (["sha256sum", "--version"], ["/usr/bin/sha256sum", "--version"]):
        with pytest.raises(pytest.fail.Exception, match=r"sha256sum is not in support/programs\.py"):
            subprocess.run(command, check=True)
    with pytest.raises(pytest.fail.Exception, match="sha256sum"):
        programs.path_of("sha256sum")


def test_only_one_module_looks_for_programs() -> None:
    looking = [
        f"{path.relative_to(REPOSITORY)}:{node.lineno}"
        for folder in ("tests", "benchmarks")
        for path in (REPOSITORY / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr == "which"
    ]
    assert {place.split(":")[0] for place in looking} == {"tests/support/programs.py"}
