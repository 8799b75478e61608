"""The map of the code is the code: each room says its purpose, and a module that a text names is there."""

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest

REPOSITORY = Path(__file__).parents[1]
DAEMON = REPOSITORY / "daemon"
ROOMS = sorted(path.parent.name for path in DAEMON.glob("*/__init__.py"))
TEXTS = (".md", ".py", ".toml", ".service", ".timer", ".conf", ".yaml", ".container")
HISTORY = "CHANGELOG.md"
"""It tells of what was."""
PATH = re.compile(r"(?<![\w/.-])((?:daemon|drivers|placement)/[\w/]+(?:\.schema)?\.(?:py|json|toml|js|css|html))\b")
DOTTED = re.compile(r"\bbringup\.(?:daemon|drivers|placement)(?:\.[A-Za-z_]\w*)+")


def purpose(room: str) -> str:
    text = ast.get_docstring(ast.parse((DAEMON / room / "__init__.py").read_text())) or ""
    return text.split("\n")[0]


def as_one_line(path: str) -> str:
    return " ".join((REPOSITORY / path).read_text().replace("``", "`").split())


@pytest.mark.parametrize("path", ["bringup/__init__.py", "docs/architecture.md"])
@pytest.mark.parametrize("room", ROOMS)
def test_the_purpose_of_a_room_stands_in_the_map_and_in_the_document(room: str, path: str) -> None:
    assert purpose(room).endswith(".")
    assert purpose(room).replace("``", "`") in as_one_line(path)


def tracked() -> Iterator[tuple[str, str]]:
    listed = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout  # noqa: S607
    for name in listed.split():
        path = REPOSITORY / name
        if name.endswith(TEXTS) and name != HISTORY and path.is_file() and not path.is_symlink():
            yield name, path.read_text()


@cache
def source(name: str) -> str | None:
    """Return the text of a module; None where there is none of that name."""
    place = REPOSITORY.joinpath(*name.split(".")[1:])
    found = (path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file())
    return next((path.read_text() for path in found), None)


@cache
def is_there(name: str) -> bool:
    """Whether a dotted name leads to a module, or to a name that stands in one."""
    parts = name.split(".")
    for end in range(len(parts), 2, -1):
        if (text := source(".".join(parts[:end]))) is not None:
            made = r"^(?:async def |def |class |import |from .* import .*|    )?\b{}\b"
            return end == len(parts) or re.search(made.format(parts[end]), text, re.MULTILINE) is not None
    return False


def test_a_file_or_a_module_that_a_text_names_is_there() -> None:
    named = [
        (name, found)
        for name, text in tracked()
        for pattern, exists in ((PATH, lambda path: (REPOSITORY / path).exists()), (DOTTED, is_there))
        for found in set(pattern.findall(text))
        if not exists(found)
    ]
    assert named == []


def test_no_two_classes_have_one_name() -> None:
    places: dict[str, list[str]] = {}
    for room in ("daemon", "drivers", "placement"):
        for path in sorted((REPOSITORY / room).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ClassDef):
                    places.setdefault(node.name, []).append(f"{path.relative_to(REPOSITORY)}:{node.lineno}")
    assert len(places) > 100
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = grimp.build_graph("bringup", cache_dir=None)
    assert len(graph.modules) > 250

    # Raises CycleError, which names them.
    TopologicalSorter({name: graph.find_modules_directly_imported_by(name) for name in graph.modules}).prepare()
