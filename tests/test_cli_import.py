import json
import sqlite3
from pathlib import Path

import pytest

from bringup.daemon.decisions.states import VmState
from bringup.daemon.storage import state_directory
from support.command_lines import Site
from support.records import HOST, instance, migration, uuid_of


@pytest.fixture
def site(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Site:
    return Site(tmp_path, capsys)


def stored(site: Site) -> dict[str, str]:
    with sqlite3.connect(site.store) as connection:
        found = dict(connection.execute("SELECT uuid, vm_state FROM instances"))
    connection.close()
    return found


def test_records_of_all_files_are_stored_and_counted_by_host(site: Site) -> None:
    settings = site.settings()
    here = site.records([instance(1), instance(2)], [migration(1)], name="here.json")
    elsewhere = site.records([instance(3, host="compute-2"), instance(4, host=None)], name="elsewhere.json")

    ended = site.run("import", here, elsewhere, *settings, "--json")

    assert ended.code == 0
    assert ended.documents == [
        {
            "added": 4,
            "updated": 0,
            "migrations_added": 1,
            "migrations_updated": 0,
            "by_host": [
                {"host": HOST, "instances": 2},
                {"host": "compute-2", "instances": 1},
                {"host": None, "instances": 1},
            ],
            "host": HOST,
            "not_ours": 2,
            "kept": 0,
            "transient": [],
            "store": str(site.store),
        }
    ]
    assert set(stored(site)) == {uuid_of(number) for number in (1, 2, 3, 4)}


def test_records_that_are_there_are_overwritten(site: Site) -> None:
    settings = site.settings()
    site.run("import", site.records([instance(1)]), *settings)

    ended = site.run("import", site.records([instance(1, vm_state=VmState.STOPPED), instance(2)]), *settings)

    assert ended.lines[0] == f"instances: 1 added, 1 updated in {site.store}"
    assert stored(site) == {uuid_of(1): "stopped", uuid_of(2): "active"}


def test_records_of_other_hosts_are_a_warning(site: Site) -> None:
    ended = site.run("import", site.records([instance(1, host="compute-9")]), *site.settings())

    assert ended.code == 0
    assert ended.lines[-1].startswith(f"warning: 1 of them are not on this host, {HOST},")


def test_records_of_this_host_are_no_warning(site: Site) -> None:
    ended = site.run("import", site.records([instance(1)], [migration(1)]), *site.settings())

    assert ended.lines[1:] == ["migrations: 1 added, 0 updated", f"  1 on {HOST} (this host)"]


def test_one_wrong_record_refuses_all_files(site: Site) -> None:
    right = site.records([instance(1)])
    wrong = site.directory / "wrong.json"
    wrong.write_text(json.dumps({"format": "bringup.records/1", "instances": [{"uuid": "x", "host": HOST}]}))

    ended = site.run("import", right, str(wrong), *site.settings())

    assert ended.code == 64
    assert "instances[0].uuid" in ended.err
    assert "instances[0].vm_state" in ended.err
    assert not site.store.exists()


def test_an_instance_in_two_files_is_refused(site: Site) -> None:
    one, other = site.records([instance(1)], name="one.json"), site.records([instance(1)], name="other.json")

    ended = site.run("import", one, other, *site.settings())

    assert (ended.code, ended.out) == (64, "")
    assert f"instance {uuid_of(1)} is in {one} too" in ended.err
    assert not site.store.exists()


def test_a_missing_file_is_named(site: Site) -> None:
    ended = site.run("import", str(site.directory / "none.json"), *site.settings())

    assert ended.code == 64
    assert str(site.directory / "none.json") in ended.err


def test_nothing_is_imported_while_a_daemon_runs_for_the_host(site: Site) -> None:
    settings, file = site.settings(), site.records([instance(1)])
    state = site.directory / "state"
    state_directory.prepare(state)

    with state_directory.hold_lock(state):
        ended = site.run("import", file, *settings)

    assert ended.code == 75
    assert "another bringup" in ended.err
    assert not site.store.exists()


def test_locked_store_is_temporary(site: Site) -> None:
    settings, file = site.settings('[store]\nbusy_timeout = "100ms"'), site.records([instance(1)])
    site.run("import", file, *settings)
    holder = sqlite3.connect(site.store, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")

    ended = site.run("import", site.records([instance(2)]), *settings)

    holder.close()
    assert ended.code == 75
    assert str(site.store) in ended.err
    assert set(stored(site)) == {uuid_of(1)}


def test_records_come_from_standard_input_too(site: Site) -> None:
    settings = site.settings()
    content = Path(site.records([instance(1)])).read_bytes()

    ended = site.run_process("import", "-", *settings, stdin=content)

    assert (ended.code, ended.err) == (0, "")
    assert set(stored(site)) == {uuid_of(1)}


@pytest.mark.parametrize("content", [b"", b'{"servers": [', b"\xff\xfe", b"[1, 2]"], ids=repr)
def test_standard_input_that_holds_no_records_is_refused(site: Site, content: bytes) -> None:
    ended = site.run_process("import", "-", *site.settings(), stdin=content)

    assert (ended.code, ended.out) == (64, "")
    assert "Traceback" not in ended.err
    assert not site.store.exists()


def test_nova_answer_without_hosts_requires_host_option(site: Site) -> None:
    server = {
        "id": uuid_of(1),
        "OS-EXT-STS:vm_state": "active",
        "OS-EXT-STS:task_state": None,
        "OS-EXT-STS:power_state": 1,
    }
    file = site.directory / "servers.json"
    file.write_text(json.dumps({"servers": [server]}))

    refused = site.run("import", str(file), *site.settings())
    taken = site.run("import", str(file), "--host", HOST, *site.settings(), "--json")

    assert refused.code == 64
    assert "--host" in refused.err
    assert taken.documents[0]["by_host"] == [{"host": HOST, "instances": 1}]


def test_wrong_settings_end_an_import_before_anything_is_read(site: Site) -> None:
    ended = site.run("import", "none.json", "-s", "limits.concurrency=0")

    assert ended.code == 78
    assert "limits.concurrency" in ended.err
