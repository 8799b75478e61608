"""Every log event of the code, read from its source: what the catalogue in docs/events.md is compared with."""

import ast
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import bringup

ROOT = Path(bringup.__file__).parents[1]
FOLDERS = ("daemon", "drivers", "placement")
LEVELS = {"debug": "debug", "info": "info", "warning": "warning", "error": "error", "exception": "error"}
# What is put together in the code, spelt out: an event is a constant for who searches for it.
PUT_TOGETHER = {
    "instance.{outcome.kind.value}": {
        "instance.initialized": "info",
        "instance.skipped": "info",
        "instance.superseded": "info",
        "instance.held": "warning",
        "instance.deferred": "warning",
        "instance.failed": "error",
    }
}


@dataclass(frozen=True, slots=True)
class Call:
    """One place that logs."""

    event: str
    level: str
    keys: frozenset[str]
    where: str


@functools.cache
def calls() -> list[Call]:
    """Find them all: a second and a half, for whoever asks first."""
    found: list[Call] = []
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            for node in ast.walk(tree):
                if isinstance(node, ast.Call):
                    found += _calls(node, f"{path.relative_to(ROOT)}:{node.lineno}")
    return found


def _calls(node: ast.Call, where: str) -> Iterator[Call]:
    level = _level(node)
    if level is None:
        return
    keys = frozenset(keyword.arg for keyword in node.keywords if keyword.arg not in (None, "exc_info"))
    for event, its_level in _events(node.args[0], level):
        yield Call(event, its_level, keys, where)


def _level(node: ast.Call) -> str | None:
    match node:
        case ast.Call(func=ast.Name(id="write"), args=[ast.JoinedStr(), *_]):
            return ""  # chosen among the levels before; PUT_TOGETHER has it
        case ast.Call(func=ast.Attribute(value=ast.Name(id="log" | "logger"), attr=method), args=[_, *_]):
            return LEVELS.get(method)
        case _:
            return None


def _events(name: ast.expr, level: str) -> Iterator[tuple[str, str]]:
    match name:
        case ast.Constant(value=str(text)):
            yield text, level
        case ast.IfExp(body=body, orelse=orelse):
            yield from _events(body, level)
            yield from _events(orelse, level)
        case ast.JoinedStr():
            yield from PUT_TOGETHER[ast.unparse(name)[2:-1]].items()
        case _:
            raise AssertionError(f"an event that is no constant: {ast.unparse(name)}")
