"""The pages that say how to install: what they must never say, and settings that bring guests back."""

import re
import textwrap
import tomllib
from pathlib import Path

import pytest

from bringup.daemon.cli.main import parser
from bringup.daemon.settings import load

REPOSITORY = Path(__file__).parents[1]
PLAIN = REPOSITORY / "systemd/plain-host"
PAGES = sorted([REPOSITORY / "README.md", *(REPOSITORY / "docs").glob("*.md")])
FENCED = re.compile(r"^ *```(\w+)[^\n]*\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
SETTINGS = "/etc/bringup/bringup.toml"


def blocks(page: Path, *languages: str) -> list[str]:
    return [textwrap.dedent(text) for kind, text in FENCED.findall(page.read_text()) if kind in languages]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_command_takes_bringup_from_an_index_masks_libvirt_guests_or_overwrites_settings(page: Path) -> None:
    for block in blocks(page, "sh", "console", "text"):
        for line in block.splitlines():
            if "pip install" in line:
                assert not re.search(r"""pip install .*['" ]bringup\b""", line), line
            assert not re.search(r"mask .*libvirt-guests", line), line
            assert not re.search(rf"(>|\bcp\b.*)\s*{SETTINGS}", line), line
            if re.search(rf"\binstall .*{SETTINGS}", line):
                assert line.lstrip().startswith(f"[ -e {SETTINGS} ] || "), line


@pytest.mark.parametrize("name", ["README.md", "docs/libvirt.md", "docs/openstack.md", "docs/operating.md"])
def test_what_comes_from_an_index_has_a_hash_and_what_is_built_asks_none(name: str) -> None:
    lines = [line for block in blocks(REPOSITORY / name, "sh") for line in block.splitlines() if "/pip install" in line]

    for line in lines:
        if line.endswith(" ."):
            assert " --no-index --no-deps --no-build-isolation" in line
            continue
        assert " --require-hashes --only-binary :all: -r " in line
        for path in re.findall(r"-r (\S+)", line):
            assert (REPOSITORY / path).is_file()
    # Nothing is built but bringup itself, in the line after.
    assert len(lines) > 1


@pytest.mark.parametrize("name", ["README.md", "docs/operating.md", "docs/libvirt.md"])
def test_the_first_settings_of_an_installation_bring_guests_back(name: str, tmp_path: Path) -> None:
    first = blocks(REPOSITORY / name, "toml")[0]
    (tmp_path / "bringup.toml").write_text(first)

    settings = load(tmp_path / "bringup.toml", environment={}, overrides=())

    assert settings.resume.guests == "on_host_boot"
    assert settings.driver.name == "libvirt"


def test_the_example_says_at_its_beginning_what_will_come_back() -> None:
    head = (REPOSITORY / "daemon/example.toml").read_text()[:900]

    assert "no guest comes back" in head
    assert 'guests = "on_host_boot"' in head


def test_the_settings_of_the_plain_hosts_page_are_those_that_are_installed() -> None:
    shown = blocks(REPOSITORY / "docs/libvirt.md", "toml")[0]

    assert tomllib.loads(shown) == tomllib.loads((PLAIN / "bringup.toml").read_text())


def values(unit: str, key: str) -> list[str]:
    lines = re.findall(rf"^{key}=(.*)$", (PLAIN / unit).read_text(), re.MULTILINE)
    return [word for line in lines for word in line.split()]


@pytest.mark.parametrize("unit", ["bringup-guests.service", "bringup-import.service"])
def test_what_writes_the_records_ends_before_guests_are_shut_down(unit: str) -> None:
    assert {"libvirt-guests.service", "virt-guest-shutdown.target", "systemd-machined.service"} <= set(
        values(unit, "After")
    )
    assert "virt-guest-shutdown.target" in values(unit, "Wants")


def test_the_plain_hosts_unit_is_tried_again_as_the_other_one_is() -> None:
    other = (REPOSITORY / "systemd/bringup.service").read_text()

    for key in ("Restart", "RestartSec", "RestartPreventExitStatus", "StartLimitIntervalSec", "StartLimitBurst"):
        [line] = re.findall(rf"^{key}=.*$", other, re.MULTILINE)
        assert line in (PLAIN / "bringup-guests.service").read_text()


def test_the_command_lines_of_the_plain_hosts_units_are_ones() -> None:
    for unit in PLAIN.glob("bringup-*.service"):
        for line in re.findall(r"^Exec\w+=(/opt/bringup/\S+ .*)$", unit.read_text(), re.MULTILINE):
            assert callable(parser().parse_args(line.split()[1:]).execute)


def test_an_import_that_may_pass_by_itself_is_no_failure_of_its_unit() -> None:
    assert values("bringup-import.service", "SuccessExitStatus") == ["69", "75"]


@pytest.mark.parametrize("name", ["docs/safety.md", "docs/security.md"])
def test_what_keeps_a_promise_is_there(name: str) -> None:
    named = set(re.findall(r"`((?:\w+/)?test_\w+\.py)", (REPOSITORY / name).read_text()))

    assert named
    assert sorted(each for each in named if not (REPOSITORY / "tests" / each).is_file()) == []
