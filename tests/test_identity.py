"""The identity of the host to which a state directory belongs."""

import json
import os
import resource
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from bringup.daemon.errors import SettingsError, Temporary
from bringup.daemon.storage.identity import (
    FILE,
    CurrentIdentity,
    Identity,
    differences,
    read_current,
    read_identity,
    store_identity,
)
from bringup.daemon.storage.state_directory import hold_lock, is_private
from bringup.drivers.simulated import Scenario, SimulatedGuest
from support.command_lines import Site
from support.drivers import uuid_of
from support.files import no_files_left
from support.hosts import now
from support.records import HOST, instance

OTHER = "compute-7"
MACHINE = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def site(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Site:
    return Site(tmp_path, capsys)


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    path = tmp_path / "machine-id"
    path.write_text(f"{MACHINE}\n")
    return path


@pytest.fixture
def state(tmp_path: Path) -> Path:
    path = tmp_path / "state"
    path.mkdir(mode=0o700)
    return path


def start(state: Path, machine: Path, *, host: str = HOST, node_uuid: str | None = None) -> Identity:
    return store_identity(state, read_current(host=host, node_uuid=node_uuid, machine_id=machine), at=now)


def test_the_first_start_remembers_and_the_next_finds_the_same(state: Path, machine: Path) -> None:
    first = start(state, machine)

    assert first.host == HOST
    assert (
        start(state, machine)
        == read_identity(state)
        == Identity(host=HOST, node_uuid=first.node_uuid, machine=first.machine, changed_at="2026-01-01T00:00:00+00:00")
    )
    assert stat.S_IMODE((state / FILE).stat().st_mode) == 0o600


def test_two_hosts_are_two_nodes(tmp_path: Path, machine: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert start(tmp_path / "a", machine).node_uuid != start(tmp_path / "b", machine).node_uuid


def test_the_machines_id_is_not_in_the_file(state: Path, machine: Path) -> None:
    """machine-id(5): it must not be published."""
    start(state, machine)
    assert MACHINE not in (state / FILE).read_text()
    assert json.loads((state / FILE).read_text())["machine"]


@pytest.mark.parametrize("what", ["host", "node", "machine"])
def test_what_changed_is_refused_with_the_way_out_and_nothing_is_written(state: Path, machine: Path, what: str) -> None:
    start(state, machine, node_uuid=uuid_of(1))
    before = (state / FILE).read_bytes()
    if what == "machine":
        machine.write_text("f" * 32)

    with pytest.raises(SettingsError, match="run bringup accept") as raised:
        start(state, machine, host=OTHER if what == "host" else HOST, node_uuid=uuid_of(2 if what == "node" else 1))

    assert raised.value.exit_code == 78
    key = {"host": "host.name", "node": "host.node_uuid", "machine": "host.machine_id"}[what]
    [problem] = raised.value.problems
    assert problem.startswith(key)
    assert (state / FILE).read_bytes() == before


def test_all_that_changed_is_reported_at_once() -> None:
    known = Identity(host=HOST, node_uuid=uuid_of(1), machine="a")
    assert len(differences(known, CurrentIdentity(host=OTHER, node_uuid=uuid_of(2), machine="b"))) == 3
    assert differences(known, CurrentIdentity(host=HOST, node_uuid=None, machine=None)) == []


@pytest.mark.parametrize("content", [None, "", "uninitialized\n"])
def test_a_machine_without_an_id_is_not_compared_until_it_has_one(
    state: Path, tmp_path: Path, machine: Path, content: str | None
) -> None:
    nothing = tmp_path / "none"
    if content is not None:
        nothing.write_text(content)

    assert start(state, nothing).machine is None
    known = start(state, machine).machine
    assert known is not None
    assert start(state, nothing).machine == known


@pytest.mark.parametrize(
    "content",
    ["", "{}", "[]", "null", '{"format": "bringup.identity/2"}', "\ufffe", '{"format": "bringup.identity/1"}'],
)
def test_a_file_that_is_none_is_refused_and_left(state: Path, machine: Path, content: str) -> None:
    (state / FILE).write_text(content, encoding="utf-16" if content == "\ufffe" else "utf-8")
    before = (state / FILE).read_bytes()

    with pytest.raises(SettingsError, match="bringup accept"):
        start(state, machine)

    assert (state / FILE).read_bytes() == before


def test_a_file_that_cannot_be_read_now_is_waited_for_and_never_to_be_removed(state: Path, machine: Path) -> None:
    start(state, machine)

    with no_files_left(), pytest.raises(Temporary, match=r"identity\.json cannot be read \(Too many open") as raised:
        start(state, machine)

    assert raised.value.exit_code == 75
    assert "remove" not in str(raised.value)


def test_a_directory_in_the_place_of_the_file_is_for_an_operator(state: Path, machine: Path) -> None:
    (state / FILE).mkdir()
    with pytest.raises(SettingsError, match=r"cannot be read \(Is a directory\); a file is required there"):
        start(state, machine)


def test_a_directory_that_knows_its_name_only_learns_the_rest(state: Path, machine: Path) -> None:
    (state / "host").write_text(f"{HOST}\n")
    assert start(state, machine).node_uuid
    assert not (state / "host").exists()


def test_a_directory_that_knows_another_name_only_is_refused(state: Path, machine: Path) -> None:
    (state / "host").write_text(f"{OTHER}\n")
    with pytest.raises(SettingsError, match=OTHER):
        start(state, machine)
    assert (state / "host").exists()


def test_a_full_disk_leaves_nothing_half_written(state: Path, machine: Path) -> None:
    code = (
        "import sys; from datetime import datetime, UTC; from pathlib import Path; from bringup.daemon.storage "
        "import identity;"
        "now = identity.read_current(host='a', node_uuid=None, machine_id=Path(sys.argv[2]));"
        "identity.store_identity(Path(sys.argv[1]), now, at=lambda: datetime.now(UTC))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(state), str(machine)],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)),
        capture_output=True,
        timeout=60,
        check=False,
    )

    assert b"OSError" in done.stderr
    assert list(state.iterdir()) == []


@pytest.mark.parametrize("mode", [0o700, 0o500, 0o710, 0o701, 0o750, 0o755, 0o770], ids=oct)
def test_private_is_what_only_its_owner_can_look_into(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    try:
        assert is_private(tmp_path) == (mode in (0o700, 0o500))
    finally:
        tmp_path.chmod(0o700)


def test_accept_stores_what_changed_and_reports_it(site: Site, machine: Path) -> None:
    settings = [*site.settings(), "--set", f"host.machine_id={machine}"]
    start(_state_of(site), machine, host=OTHER)

    ended = site.run("accept", *settings)

    assert (ended.code, ended.lines) == (0, [f"host: {OTHER} -> {HOST}"])
    assert start(_state_of(site), machine).host == HOST
    assert site.run("accept", *settings).lines == ["nothing to accept: this host is as recorded"]


def test_accept_takes_over_another_machine(site: Site, machine: Path) -> None:
    node = start(_state_of(site), machine).node_uuid
    machine.write_text("f" * 32)

    ended = site.run("accept", "--json", *site.settings(), "--set", f"host.machine_id={machine}")

    assert ended.documents == [{"changed": ["machine"], "host": HOST, "node_uuid": node, "accepted_guests": []}]
    assert start(_state_of(site), machine).node_uuid == node


def test_accept_takes_over_guests_that_no_record_names(site: Site, machine: Path) -> None:
    scenario = Scenario(guests=tuple(SimulatedGuest(uuid=uuid_of(number)) for number in (1, 2, 3)))
    settings = [*site.settings(scenario=scenario), "--set", f"host.machine_id={machine}"]
    file = site.records([instance(1), instance(3, host="compute-2", display_name="web")])
    assert site.run("import", file, *settings).code == 0

    ended = site.run("accept", "--guests", *settings)

    assert ended.lines[-3:] == ["guests accepted: 2", f"  {uuid_of(2)}", f"  web ({uuid_of(3)})"]
    assert start(_state_of(site), machine).accepted_guests == {uuid_of(2), uuid_of(3)}


def test_nothing_is_accepted_while_a_daemon_runs(site: Site, machine: Path) -> None:
    settings = site.settings()
    start(_state_of(site), machine, host=OTHER)
    with hold_lock(_state_of(site)):
        ended = site.run("accept", *settings)

    assert ended.code == os.EX_TEMPFAIL
    known = read_identity(_state_of(site))
    assert known is not None
    assert known.host == OTHER


def test_a_check_of_another_hosts_directory_fails_and_continues(site: Site, machine: Path) -> None:
    settings = site.settings()
    start(_state_of(site), machine, host=OTHER)

    ended = site.run("check", "--json", *settings, "--set", f"host.machine_id={machine}")

    failed = [each for each in ended.documents if each["check"] == "settings" and each["status"] == "failed"]
    assert ended.code == os.EX_CONFIG
    assert [each["exit_code"] for each in failed] == [os.EX_CONFIG]
    assert repr(HOST) in failed[0]["message"]
    assert repr(OTHER) in failed[0]["message"]
    assert {"store", "driver", "placement", "scheduler"} <= {each["check"] for each in ended.documents}


def test_who_only_looks_or_imports_neither_minds_nor_remembers(site: Site, machine: Path) -> None:
    settings = site.settings(scenario=Scenario())
    file = site.records([instance(1)])

    assert site.run("import", file, *settings).code == 0
    assert site.run("plan", *settings).code == 0
    site.run("check", *settings)
    assert not (_state_of(site) / FILE).exists()

    start(_state_of(site), machine, host=OTHER)
    assert site.run("import", file, *settings).code == 0
    planned = site.run("plan", *settings)
    assert planned.code == 0
    assert "a run would be refused: host.name" in planned.out + planned.err


def _state_of(site: Site) -> Path:
    directory = site.store.parent
    directory.mkdir(mode=0o700, exist_ok=True)
    return directory


@pytest.mark.parametrize("text", ["[" * 100_000, '{"format":' * 50_000, "9" * 5_000, "\\x00", ""])
def test_an_identity_that_cannot_be_read_is_reported_whatever_is_in_it(state: Path, text: str) -> None:
    (state / FILE).write_text(text)
    with pytest.raises(SettingsError, match=r"host\.state_directory: .*; if the directory is this host's, remove"):
        read_identity(state)
