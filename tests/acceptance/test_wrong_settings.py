"""Settings that are wrong: 78, every wrong key in one go, and nothing has happened."""

import json
from pathlib import Path
from typing import Any

import pytest

from support.computer import Computer, a_computer
from support.process import ENVIRONMENT, WITHOUT_ROOTS_RIGHTS, Ended, run

COMMANDS = (("run", "--once"), ("run",), ("plan",), ("check",))


@pytest.fixture
def computer(tmp_path: Path) -> Computer:
    return a_computer(tmp_path, placement="http://127.0.0.1:1").guests([])


def assert_refused(computer: Computer, ended: Ended, *said: str) -> None:
    text = ended.err + ended.out
    assert ended.code == 78
    assert "Traceback" not in text
    for words in said:
        assert words in text, words
    assert not computer.state.exists()


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_wrong_key_is_named_together(computer: Computer, command: tuple[str, ...]) -> None:
    wrong: dict[str, Any] = {
        "limits": {
            "concurrency": 0,
            "instance_deadline": "-1s",
            "host_deadline": "soon",
            "shutdown_report_deadline": 0,
        },
        "placement": {"url": "ftp://controller", "colour": "blue", "wait": True},
        "scheduler": {"transport": "http", "retry_initial": 5, "retry_max": 1},
        "resume": {"guests": "always"},
        "planets": {"mars": 4},
        "log": {"level": 7},
    }
    environment = ENVIRONMENT | {"BRINGUP_STORE__URL": "mysql://root@db", "BRINGUP_HOST__COLOR": "red"}
    computer.having(**wrong)

    ended = run(*command, *computer.arguments, "--set", "guests.shutdown_timeout=never", env=environment)

    keys = [f"{section}.{key}" for section, values in wrong.items() for key in values if section != "scheduler"]
    assert_refused(computer, ended, *keys, "scheduler.url", "scheduler.retry_max")
    assert_refused(computer, ended, "store.url", "host.color", "guests.shutdown_timeout")
    # What would be right, and where it was set.
    assert_refused(computer, ended, "1 to 1024", "BRINGUP_STORE__URL", "--set", "bringup.toml")


@pytest.mark.parametrize("command", [*COMMANDS, ("status",), ("history",)], ids=" ".join)
def test_a_former_name_of_a_key_is_refused_with_the_new_one(computer: Computer, command: tuple[str, ...]) -> None:
    environment = ENVIRONMENT | {"BRINGUP_LIMITS__LAST_WORD_DEADLINE": "20s"}
    computer.having(inventory={"put_right": True})

    ended = run(*command, *computer.arguments, env=environment)

    variable = "BRINGUP_LIMITS__SHUTDOWN_REPORT_DEADLINE"
    assert_refused(computer, ended, "inventory.put_right", "bringup.toml", "set inventory.update instead")
    assert_refused(computer, ended, "limits.last_word_deadline", "limits.shutdown_report_deadline", variable)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[limits\nconcurrency = 4\n", "line 1"),
        (b"[limits]\nconcurrency = 4\nconcurrency = 5\n", "line 3"),
        (b'[host]\nname = "\xff"\n', "UTF-8"),
        (b"\x00" * 100, "TOML"),
    ],
    ids=["a bracket", "a key twice", "not UTF-8", "zeros"],
)
def test_a_file_that_is_no_settings_file_is_reported_with_the_place(
    computer: Computer, content: bytes, said: str
) -> None:
    config = Path(computer.arguments[1])
    config.write_bytes(content)

    assert_refused(computer, run("run", "-c", str(config), env=ENVIRONMENT), str(config), said)


def test_a_file_that_is_not_there_is_named(computer: Computer) -> None:
    missing = str(computer.directory / "missing.toml")

    assert_refused(computer, run("run", "-c", missing, env=ENVIRONMENT), missing)


def test_as_json_it_is_one_line(computer: Computer) -> None:
    ended = computer.having(limits={"concurrency": 0}, log={"level": "loud"}).run()

    assert (ended.code, ended.out) == (78, "")
    error = json.loads(ended.err)
    assert (error["error"], error["exit_code"]) == ("SettingsError", 78)
    assert "limits.concurrency" in error["message"]
    assert "log.level" in error["message"]


def test_a_device_spec_that_nova_would_stumble_over_is_a_wrong_setting(computer: Computer) -> None:
    computer.having(pci={"device_spec": ['{"address": 5}', '{"vendor_id": "xyzzy", "devname": 3}']})

    assert_refused(computer, computer.once(), "pci.device_spec[0].address", "pci.device_spec[1].vendor_id")


def test_a_state_directory_that_is_a_file_is_a_wrong_setting(computer: Computer) -> None:
    computer.state.write_text("mine")

    ended = computer.once()

    assert (ended.code, ended.out) == (78, "")
    assert "host.state_directory" in ended.err
    assert computer.state.read_text() == "mine"


@pytest.mark.parametrize("mode", [0o000, 0o500, 0o400], ids=oct)
def test_a_state_directory_that_may_not_be_used_is_a_wrong_setting(computer: Computer, mode: int) -> None:
    computer.state.mkdir()
    computer.state.chmod(mode)
    try:
        ended = computer.once(within=WITHOUT_ROOTS_RIGHTS)
    finally:
        computer.state.chmod(0o700)

    assert (ended.code, ended.out) == (78, "")
    assert "host.state_directory" in ended.err
    assert list(computer.state.iterdir()) == []


def test_a_state_directory_where_none_can_be_made_is_a_wrong_setting(computer: Computer) -> None:
    ended = computer.having(host={"state_directory": "/proc/bringup"}).once()

    assert (ended.code, ended.out) == (78, "")
    assert "host.state_directory: /proc/bringup cannot be used" in ended.err
