"""A person at a console knows an instance by its name: it is taken where a UUID is."""

import os
from pathlib import Path

import pytest

from bringup.drivers.simulated import Scenario, SimulatedGuest
from support.command_lines import Site
from support.records import instance, uuid_of


@pytest.fixture
def site(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Site:
    return Site(tmp_path, capsys)


@pytest.mark.parametrize(
    "command",
    [("plan", "--uuid"), ("history", "--instance"), ("release",)],
    ids=lambda command: command[0],
)
def test_unique_name_is_accepted_and_ambiguous_name_is_refused(site: Site, command: tuple[str, ...]) -> None:
    guests = tuple(SimulatedGuest(uuid=uuid_of(number), name=f"g{number}") for number in (1, 2, 3))
    settings = site.settings(scenario=Scenario(guests=guests))
    names = {1: "db", 2: "twin", 3: "twin"}
    records = [instance(number, name=f"g{number}", display_name=name) for number, name in names.items()]
    site.run("import", site.records(records), *settings)

    for name in ("db", "g1"):
        known = site.run(*command, name, *settings)
        # Nothing was run and nothing is held: what it says is of the instance.
        assert "no instance of" not in known.err
        assert known.code == 0 or uuid_of(1) in known.err
    nobody = site.run(*command, "web", *settings)
    several = site.run(*command, "twin", *settings)

    assert (nobody.code, several.code) == (os.EX_USAGE, os.EX_USAGE)
    assert "no instance of" in nobody.err
    assert uuid_of(2) in several.err
    assert uuid_of(3) in several.err
