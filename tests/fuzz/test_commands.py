"""Commands over hostile files: each ends with a documented code, and with sentences for a terminal."""

import json
import shutil
from pathlib import Path
from random import Random
from typing import Any, Final

import anyio
import pytest
from hypothesis import given

from bringup.daemon.storage.identity import FILE, FORMAT
from bringup.daemon.storage.journal import NewRun
from bringup.daemon.storage.journal.sqlite import open_journal
from bringup.daemon.storage.record_files import dump_records
from bringup.drivers.simulated import Scenario, SimulatedGuest, dump_scenario
from support.command_lines import Ended, Site
from support.drivers import uuid_of
from support.fuzzing import CHANCES, Border, fuzz, must_be_a_sentence
from support.hosts import now
from support.mutating import TEXTS, changed_lines, mangled, mutated, written
from support.records import HOST, instance, migration, records

BORDER = "commands"
CODES: Final = frozenset({0, 64, 69, 75, 77, 78})
RECORDS: Final[Any] = json.loads(dump_records(records(instance(1), instance(2), migrations=(migration(1),))))
SCENARIO: Final[Any] = json.loads(dump_scenario(Scenario(guests=(SimulatedGuest(uuid=uuid_of(1)),))))
IDENTITY: Final[Any] = {
    "format": FORMAT,
    "host": HOST,
    "node_uuid": uuid_of(1),
    "machine": None,
    "accepted_guests": [],
    "changed_at": "",
}
NOVA_CONF: Final = f"[DEFAULT]\nhost = {HOST}\ncompute_driver = libvirt.LibvirtDriver\n[libvirt]\nvirt_type = kvm\n"


@pytest.fixture
def site(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Site:
    return Site(tmp_path, capsys)


def ends(border: Border, ended: Ended) -> None:
    """Count how a command ended, and look at what it said."""
    with border.one():
        assert ended.code in CODES
        assert "Traceback" not in ended.err
        assert all(line.isprintable() for line in (*ended.out.split("\n"), *ended.err.split("\n")))
        if ended.code:
            must_be_a_sentence(ended.err or ended.out)


@fuzz(40)
@given(chance=CHANCES)
def test_import_ends_with_a_documented_code(border: Border, site: Site, chance: Random) -> None:
    file = site.directory / "records.json"
    file.write_bytes(written(chance, mutated(chance, RECORDS)))
    # What an argument cannot hold: a NUL, and half of a surrogate pair.
    named = chance.choice(TEXTS).replace("\0", "").replace("\ud800", "")[:5000]
    name = chance.choice((str(file), str(file), str(file), named))
    ends(border, site.run("import", *site.settings(), name))


@fuzz(32)
@given(chance=CHANCES)
def test_plan_ends_with_a_documented_code_whatever_file_is_hostile(border: Border, site: Site, chance: Random) -> None:
    arguments = site.settings(scenario=Scenario(guests=(SimulatedGuest(uuid=uuid_of(1)),)))
    site.run("import", *arguments, site.records([instance(1), instance(2)]))
    state = site.directory / "state"
    match chance.randrange(4):
        case 0:
            (state / FILE).write_bytes(written(chance, mutated(chance, IDENTITY)))
        case 1:
            (site.directory / "scenario.json").write_bytes(written(chance, mutated(chance, SCENARIO)))
        case 2:
            site.store.write_bytes(mangled(chance, site.store.read_bytes(), most=5))
        case _:
            config = site.directory / "bringup.toml"
            config.write_bytes(changed_lines(chance, config.read_text(), quoted=True))
    ends(border, site.run("plan", *arguments, *chance.choice(([], ["--json"]))))
    shutil.rmtree(state, ignore_errors=True)


def with_a_damaged_name(path: Path, name: bytes) -> None:
    """Damage the name of a column where SQLite keeps what made the table: what it says of that is no UTF-8."""
    data = path.read_bytes()
    assert name in data
    path.write_bytes(data.replace(name, b"\xc6\xfe(" + name[3:]))


def test_a_damaged_name_in_the_store_is_damage(border: Border, site: Site) -> None:
    arguments = site.settings(scenario=Scenario(guests=(SimulatedGuest(uuid=uuid_of(1)),)))
    site.run("import", *arguments, site.records([instance(1)]))
    with_a_damaged_name(site.store, b"uuid VARCHAR")
    for command in ("plan", "import"):
        ended = site.run(command, *arguments, *([site.records([instance(1)])] if command == "import" else []))
        ends(border, ended)
        assert (ended.code, "it is damaged" in ended.err) == (77, True), ended.err


@fuzz(24)
@given(chance=CHANCES)
def test_history_ends_with_a_documented_code(border: Border, site: Site, chance: Random) -> None:
    arguments = site.settings()
    state = site.directory / "state"
    state.mkdir(mode=0o700, exist_ok=True)
    path = state / "journal.sqlite"

    async def fill() -> None:
        async with open_journal(path, boot_id=uuid_of(8), keep_runs=9, keep_days=9, now=now) as journal:
            await journal.begin_run(NewRun(run_id=uuid_of(9), boot_id=uuid_of(8), host=HOST, began_at=now()))

    anyio.run(fill)
    path.write_bytes(mangled(chance, path.read_bytes(), most=5))
    ends(border, site.run(chance.choice(("history", "plot")), *arguments))
    shutil.rmtree(state, ignore_errors=True)


@fuzz(24)
@given(chance=CHANCES)
def test_from_nova_conf_ends_with_a_documented_code(border: Border, site: Site, chance: Random) -> None:
    file = site.directory / "nova.conf"
    file.write_bytes(changed_lines(chance, NOVA_CONF))
    ends(border, site.run("from-nova-conf", str(file)))
