"""``bringup run`` as a command in this process; as a process it is in acceptance/."""

import json
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from bringup.daemon.cli.run import LogPresenter
from bringup.daemon.cli.run_on_terminal import REPORT, TerminalPresenter
from bringup.daemon.decisions.run_events import PhaseBegan
from bringup.daemon.service.process import Ending
from bringup.daemon.status.progress import Progress
from bringup.daemon.status.terminal import Terminal
from bringup.daemon.storage.outbox.outbox import Delivery
from bringup.drivers.simulated import Scenario, SimulatedGuest
from support.command_lines import Site
from support.placement import fresh_name, real_placement
from support.records import instance, uuid_of
from support.scheduler import a_result, an_outcome

SCENARIO = Scenario(guests=(SimulatedGuest(uuid=uuid_of(1)),))


@pytest.fixture
def site(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Site:
    return Site(tmp_path, capsys)


@pytest.fixture
def placement() -> str:
    lines = ["[placement]", f'url = "{real_placement()}"', f'resource_provider = "{fresh_name()}"']
    return "\n".join([*lines, "create_resource_provider = true"])


def watched() -> tuple[TerminalPresenter, StringIO]:
    out = StringIO()
    return TerminalPresenter(Terminal(Console(file=out, width=160))), out


@pytest.mark.parametrize("style", [(), ("--json",)], ids=["not asked for", "asked for"])
def test_output_is_json_without_a_terminal(site: Site, placement: str, style: tuple[str, ...]) -> None:
    settings = site.settings(placement, scenario=SCENARIO)
    site.run("import", site.records([instance(1)]), *settings)

    ended = site.run("run", "--once", *style, *settings)

    events = [document["event"] for document in ended.documents]
    assert (ended.code, ended.err) == (0, "")
    assert events.count("instance.initialized") == 1
    assert events[-1] == "service.stopped"


def test_log_level_is_applied(site: Site, placement: str) -> None:
    settings = site.settings(f'{placement}\n[log]\nlevel = "warning"', scenario=Scenario())

    ended = site.run("run", "--once", "--json", *settings)

    assert ended.code == 0
    assert {document["level"] for document in ended.documents} <= {"warning", "error"}


def test_required_settings_are_checked_first(site: Site, placement: str) -> None:
    no_placement = site.run("run", "--once", *site.settings(scenario=SCENARIO))
    no_scenario = site.run("run", "--once", *site.settings(placement))

    assert (no_placement.code, no_scenario.code) == (78, 78)
    assert "placement.url is missing" in no_placement.err
    assert "driver.scenario is missing" in no_scenario.err
    assert not (site.directory / "state").exists()


def test_error_is_a_json_line_with_json(site: Site) -> None:
    settings = site.settings('[placement]\nurl = "http://127.0.0.1:1"\nwait = 0', scenario=SCENARIO)

    ended = site.run("run", "--once", "--json", *settings)

    error = json.loads(ended.err)
    assert (ended.code, error["exit_code"], error["error"]) == (69, 69, "Unavailable")


def test_each_delivery_has_its_sentence() -> None:
    assert REPORT.keys() == {*Delivery, None}
    assert len(set(REPORT.values())) == len(REPORT)


@pytest.mark.parametrize("delivery", [*Delivery, None], ids=str)
def test_terminal_shows_outcomes_and_delivery(delivery: Delivery | None) -> None:
    shown, out = watched()

    shown.show_ending(Ending(result=a_result(an_outcome(1)), delivery=delivery), stays=False)

    assert "1 instances in 2.5 s" in out.getvalue()
    assert REPORT[delivery] in out.getvalue()
    assert "Ready" not in out.getvalue()


def test_terminal_shows_that_the_daemon_stays() -> None:
    shown, out = watched()

    shown.show_ending(Ending(result=a_result(), delivery=None), stays=True)

    assert "Stop with Ctrl-C" in out.getvalue()


@pytest.mark.anyio
async def test_terminal_shows_progress_during_the_block() -> None:
    shown, _ = watched()
    progress = Progress()

    async with shown.showing(progress):
        progress.observe(PhaseBegan("placement"))

    assert progress.phase == "placement"


@pytest.mark.anyio
async def test_log_presenter_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    presenter = LogPresenter()
    async with presenter.showing(Progress()):
        pass
    presenter.show_ending(Ending(result=a_result(), delivery=None), stays=True)

    assert capsys.readouterr() == ("", "")
