"""The words of code, messages and documentation are those of the table in ``CONTRIBUTING.md``."""

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
LIST = "CONTRIBUTING.md"
HEADING = "\n## Words\n"
ROW = re.compile(r"^\| ((?:`[^`]+`(?:, )?)+) \| ([^|]+) \|$", re.MULTILINE)
TEXTS = (".md", ".py", ".toml", ".service", ".timer", ".conf", ".yaml", ".container", ".rules", ".js", ".html", ".json")
NAMED = ("Makefile", "Containerfile")
NOT_OURS = ("release/advisories.json",)
TESTS = "tests/"
"""Their docstrings begin as all do."""
RENAMED_SETTINGS = ("limits.last_word_deadline", "inventory.put_right")
"""Their error names the new key."""


@cache
def table() -> dict[str, str]:
    return {old: new for olds, new in rows() for old in re.findall("`([^`]+)`", olds)}


def rows() -> list[tuple[str, str]]:
    return ROW.findall((REPOSITORY / LIST).read_text().partition(HEADING)[2])


@cache
def first_words() -> dict[str, str]:
    """Return the rows that begin with a capital: words that no docstring begins with."""
    return {old: new for old, new in table().items() if old[0].isupper()}


@cache
def phrases() -> re.Pattern[str]:
    """Return a pattern of all other rows, which also finds them in names and across the lines of a comment."""
    olds = sorted((old for old in table() if old[0].islower()), key=len, reverse=True)
    gap = r"(?:_|\s+(?:(?:#:?|//|\*)\s+)?)"
    return re.compile(rf"(?<![A-Za-z])({'|'.join(old.replace(' ', gap) for old in olds)})(?![A-Za-z]|=)", re.IGNORECASE)


def files() -> Iterator[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout  # noqa: S607
    for name in listed.split():
        path = REPOSITORY / name
        if name.endswith((*TEXTS, *NAMED)) and not name.startswith(NOT_OURS) and path.is_file():
            yield name


def without_old_names(name: str, text: str) -> str:
    """Return the text without names that are kept: the table, renamed settings, files of tests, the list of renames."""
    if name == LIST:
        text = text.partition(HEADING)[0]
    for allowed in (*RENAMED_SETTINGS, ".wants"):  # the latter are folders of systemd
        text = text.replace(allowed, "")
    text = re.sub(r"\btest_\w+\.py\b", "", text)
    return re.sub(r"^#+ Renamed$.*?(?=^#|\Z)", "", text, flags=re.DOTALL | re.MULTILINE)


def found_phrases(name: str, text: str) -> Iterator[str]:
    for match in phrases().finditer(without_old_names(name, text)):
        old = " ".join(re.sub(r"[_\s#/*]+", " ", match[1]).lower().split())
        yield f"{name}: {old!r} -> {table()[old]}"


def found_first_words(name: str, text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            words = (ast.get_docstring(node) or "").replace(".", " ").replace(",", " ").split()
            if words and (new := first_words().get(words[0])):
                line = getattr(node, "lineno", 1)
                yield f"{name}:{line}: a docstring begins with {words[0]!r} -> {new}"


def test_what_is_written_has_the_words_of_the_list() -> None:
    texts = [(name, (REPOSITORY / name).read_text()) for name in files()]
    found = [line for name, text in texts if not name.startswith(TESTS) for line in found_phrases(name, text)]
    found += [line for name, text in texts if name.endswith(".py") for line in found_first_words(name, text)]

    assert found == []


def test_the_list_is_short_enough_to_be_read() -> None:
    assert 15 <= len(rows()) <= 25
    assert {"Give", "Tell", "Say", "Take"} <= set(first_words())


@pytest.mark.parametrize("text", ["it Goes on.", "def goes_on() -> None:", "# it goes\n    # on", '"x.goes_on"'])
def test_a_phrase_is_found_in_texts_names_and_broken_lines(text: str) -> None:
    assert list(found_phrases("a.py", text)) == [f"a.py: 'goes on' -> {table()['goes on']}"]


def test_the_first_word_of_a_docstring_is_found() -> None:
    (found,) = found_first_words("a.py", 'def f() -> int:\n    """Give one."""\n')

    assert found.startswith("a.py:1: a docstring begins with 'Give'")


def test_a_renamed_key_may_be_named_as_it_was() -> None:
    assert list(found_phrases("a.md", "`limits.last_word_deadline` is now ...\n### Renamed\n\n- `it.goes_on`\n")) == []
