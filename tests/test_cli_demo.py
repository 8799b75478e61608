"""The parts of the demonstration; all of it, as a process, is in acceptance/."""

import os
import stat
from pathlib import Path

import pytest
from anyio import to_thread

from bringup.daemon.cli.demo import MARK, prepare
from bringup.daemon.cli.demo_site.children import serving
from bringup.daemon.cli.demo_site.crashed_host import HOST, crashed_host
from bringup.daemon.errors import Unavailable
from bringup.daemon.settings import load
from support.command_lines import Site
from support.process import children_of
from support.stores import open_sqlite

RECEIVER = "bringup.daemon.cli.demo_site.scheduler_receiver"
PLACEMENT, SCHEDULER = "http://127.0.0.1:1", "http://127.0.0.1:2"


@pytest.fixture
def site(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Site:
    return Site(tmp_path, capsys)


def test_demo_settings_are_valid_and_name_the_services(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings, config = prepare(tmp_path, PLACEMENT, SCHEDULER, quiet=False)

    assert load(config, environment={}, overrides=()) == settings
    assert (settings.placement.url, settings.scheduler.url) == (PLACEMENT, f"{SCHEDULER}/reports")
    assert settings.host.name == HOST
    assert settings.warnings == ()
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    out = capsys.readouterr().out
    for said in (PLACEMENT, SCHEDULER, str(tmp_path), HOST):
        assert said in out


@pytest.mark.anyio
async def test_demo_directory_with_special_characters_works(tmp_path: Path) -> None:
    directory = tmp_path / 'it is "mine"\\here, ü'
    directory.mkdir()

    settings, _ = await to_thread.run_sync(lambda: prepare(directory, PLACEMENT, SCHEDULER, quiet=True))

    assert settings.host.state_directory == directory / "state"
    assert settings.store.path is not None
    async with open_sqlite(settings.store.path, must_exist=True) as store:
        stored = await store.load_instances(HOST)
    assert {one.uuid for one in stored} == {one.uuid for one in crashed_host()[0].instances if one.host == HOST}


def test_quiet_prints_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepare(tmp_path, PLACEMENT, SCHEDULER, quiet=True)

    assert capsys.readouterr() == ("", "")


def test_directory_with_other_files_is_refused_first(site: Site) -> None:
    (site.directory / "thesis.tex").touch()
    before = children_of(os.getpid())

    ended = site.run("demo", "--directory", str(site.directory))

    assert (ended.code, ended.out) == (64, "")
    assert "thesis" not in ended.err
    assert "name another directory" in ended.err
    assert children_of(os.getpid()) == before
    assert not (site.directory / MARK).exists()


def test_child_serves_during_the_block(tmp_path: Path) -> None:
    before = set(children_of(os.getpid()))
    with serving(RECEIVER, ["--directory", str(tmp_path)]) as url:
        [child] = set(children_of(os.getpid())) - before
        assert url.startswith("http://127.0.0.1:")
        # Ctrl-C on our terminal is not for it.
        assert os.getpgid(child) == child != os.getpgid(0)

    assert not Path(f"/proc/{child}").exists()


def test_failing_block_stops_its_child(tmp_path: Path) -> None:
    before = children_of(os.getpid())
    with pytest.raises(LookupError), serving(RECEIVER, ["--directory", str(tmp_path)]):
        raise LookupError

    assert children_of(os.getpid()) == before


def test_child_that_exits_early_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    said = r"cannot start bringup\.nothing: it exited with code 1"
    with pytest.raises(Unavailable, match=said), serving("bringup.nothing", []):
        pass

    assert "No module named bringup.nothing" in capfd.readouterr().err
