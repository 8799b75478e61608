import json
import re
from pathlib import Path

import pytest

from bringup import __version__
from support.command_lines import Site
from support.process import started
from support.records import instance

COMMANDS = (
    *("run", "plan", "explain", "check", "import", "demo"),
    *("status", "history", "plot", "release", "accept"),
)


@pytest.fixture
def site(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Site:
    return Site(tmp_path, capsys)


def test_version_is_printed(site: Site) -> None:
    assert site.run("--version").out == f"bringup {__version__}\n"


def test_help_names_every_command_and_the_exit_codes(site: Site) -> None:
    ended = site.run("--help")

    assert ended.code == 0
    for word in (*COMMANDS, "64", "69", "75", "77", "78"):
        assert re.search(rf"\b{word}\b", ended.out), word


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_json(site: Site, command: str) -> None:
    ended = site.run(command, "--help")

    assert ended.code == 0
    assert "--json" in ended.out


@pytest.mark.parametrize(
    "arguments",
    [[], ["fly"], ["plan", "--fly"], ["import", "--host"], ["explain", "--vm-state"]],
    ids=lambda arguments: " ".join(arguments) or "nothing",
)
def test_a_wrong_command_line_ends_with_64(site: Site, arguments: list[str]) -> None:
    ended = site.run(*arguments)

    assert (ended.code, ended.out) == (64, "")
    assert ended.err.startswith("usage: bringup")


def test_import_without_source_is_a_usage_error(site: Site) -> None:
    ended = site.run("import")

    assert (ended.code, ended.out) == (64, "")
    assert ended.err == "bringup: cannot import: name files of records or use --from-libvirt, one of the two\n"


def test_error_is_a_json_line_with_json(site: Site) -> None:
    ended = site.run("plan", "--records", "none.json", "--json")

    error = json.loads(ended.err)
    assert (ended.code, ended.out) == (64, "")
    assert (error["error"], error["exit_code"]) == ("UsageError", 64)
    assert "none.json" in error["message"]
    assert "No such file" in error["message"]


def test_error_is_one_sentence_with_its_causes_without_json(site: Site) -> None:
    ended = site.run("plan", "--records", "none.json")

    assert ended.err.startswith("bringup: cannot read records from none.json")
    assert "No such file" in ended.err


@pytest.mark.parametrize("style", [[], ["--json"]], ids=["words", "json"])
def test_closed_pipe_is_no_error(site: Site, style: list[str]) -> None:
    # More than a pipe holds.
    file = site.records([instance(number) for number in range(1, 2000)])
    plan = started(["plan", "--records", file, *style])
    assert plan.stdout is not None
    assert plan.stderr is not None

    first = plan.stdout.readline()
    plan.stdout.close()
    said = plan.stderr.read()
    plan.stderr.close()

    assert plan.wait(timeout=60) == 0
    assert first
    assert said == ""
