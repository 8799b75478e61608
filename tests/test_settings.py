import re
import socket
import subprocess
import sys
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from bringup.daemon.errors import SettingsError
from bringup.daemon.settings import Settings, load, require_placement, require_scenario
from bringup.daemon.settings.keys import KEYS
from bringup.daemon.settings.loading import SHOWN
from bringup.daemon.settings.model import SECTIONS, keys_of
from bringup.daemon.settings.sections import validate
from support.settings_files import answers, given_text, problems

HOST_NAME = socket.gethostname()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "bringup.toml"


@pytest.fixture
def empty(file: Path) -> Path:
    file.write_text("")
    return file


def test_without_anything_the_defaults_hold(empty: Path) -> None:
    settings = load(empty, environment={}, overrides=[])

    assert settings.host.name == settings.placement.resource_provider == HOST_NAME
    assert settings.store.path == Path("/var/lib/bringup/instances.sqlite")
    assert 2 <= settings.limits.concurrency <= 8
    assert settings.placement.url is None
    assert settings.warnings == ()


def test_the_defaults_of_the_model_are_valid_themselves() -> None:
    for section, default in keys_of(Settings()):
        if section in SECTIONS:
            given = {key: found for key, found in keys_of(default) if found not in (None, ())}
            assert validate(section, given) == default


def test_of_a_list_that_is_wrong_throughout_the_first_are_reported_and_the_others_counted(file: Path) -> None:
    file.write_text(f"[pci]\ndevice_spec = [{', '.join(['0'] * 3000)}]\n")

    told = problems(file)

    assert len(told) == SHOWN + 1
    assert told[0].startswith("pci.device_spec[0] = 0 ")
    assert told[-1] == f"and {3000 - SHOWN} more, reported once these are corrected"


def test_every_wrong_key_of_every_layer_is_reported_together(file: Path) -> None:
    given_text(file, '[limits]\nconcurrency = 0\n[log]\nlevel = "loud"\n[nothing]\n[host]\nnmae = 1\n')
    found = problems(
        file,
        environment={"BRINGUP_PLACEMENT__WAIT": "-1", "BRINGUP_LIMITS": "1", "BRINGUP_LOG__FORMAT": "xml"},
        overrides=["scheduler.transport=http", "guests.shutdown_timeout=x"],
    )

    keys = {re.split(r"[ \]]", problem.lstrip("["))[0] for problem in found}
    assert keys == {
        "limits.concurrency",
        "log.level",
        "log.format",
        "nothing",
        "host.nmae",
        "placement.wait",
        "BRINGUP_LIMITS",
        "guests.shutdown_timeout",
    }
    assert len(found) == 8
    assert any(str(file) in problem for problem in found)


def test_a_report_over_http_needs_an_address(empty: Path) -> None:
    (problem,) = problems(empty, overrides=["scheduler.transport=http"])
    assert problem.startswith('scheduler.url is missing, and scheduler.transport = "http" (--set) needs it')


def test_the_longest_wait_is_not_below_the_first(empty: Path) -> None:
    assert problems(empty, overrides=["scheduler.retry_initial=10", "scheduler.retry_max=5"]) == (
        "scheduler.retry_max = 5 s (--set): give at least scheduler.retry_initial, which is 10 s",
    )


@pytest.mark.parametrize(
    ("overrides", "begin"),
    [
        (["scheduler.url=http://h"], "scheduler.url is not used"),
        (["placement.auth=none", "keystone.username=nova"], 'placement.auth = "none": [keystone] is not used'),
        (["limits.instance_deadline=60"], "guests.shutdown_timeout = 60 s is not shorter"),
    ],
)
def test_what_is_probably_not_meant_is_warned_of(empty: Path, overrides: list[str], begin: str) -> None:
    (warning,) = load(empty, environment={}, overrides=overrides).warnings
    assert warning.startswith(begin)


@pytest.mark.parametrize("socket", ["/run/systemd/notify", "@notify"])
def test_under_systemd_placement_is_waited_for_in_the_process(file: Path, socket: str) -> None:
    environment = {"NOTIFY_SOCKET": socket}
    given_text(file, "")
    assert load(file, environment=environment, overrides=()).placement.wait == 3600
    assert load(file, environment={**environment, "BRINGUP_PLACEMENT__WAIT": "90s"}, overrides=()).placement.wait == 90
    given_text(file, '[placement]\nwait = "2min"\n')
    assert load(file, environment=environment, overrides=()).placement.wait == 120


@pytest.mark.parametrize("socket", ["", "vsock:2:1234"])
def test_where_nobody_is_reported_that_a_start_continues_it_ends_after_a_minute(empty: Path, socket: str) -> None:
    assert load(empty, environment={"NOTIFY_SOCKET": socket}, overrides=()).placement.wait == 60


def test_placement_is_required_only_where_it_is_asked_for(empty: Path) -> None:
    with pytest.raises(SettingsError, match=r"^placement\.url is missing"):
        require_placement(load(empty, environment={}, overrides=[]))
    require_placement(load(empty, environment={}, overrides=["placement.url=http://h"]))
    require_placement(load(empty, environment={}, overrides=["placement.auth=keystone"]))


def test_a_scenario_is_required_only_where_it_is_asked_for(empty: Path) -> None:
    with pytest.raises(SettingsError, match=r"^driver\.scenario is missing"):
        require_scenario(load(empty, environment={}, overrides=[]))
    assert require_scenario(load(empty, environment={}, overrides=["driver.scenario=s.toml"])) == Path("s.toml")


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.sampled_from(sorted(KEYS)) | st.text(max_size=12), st.text(max_size=12)), max_size=4),
    st.dictionaries(st.sampled_from(sorted(KEYS)), st.text(max_size=12), max_size=3),
)
def test_whatever_is_given_there_are_settings_or_one_error(
    empty: Path, pairs: list[tuple[str, str]], variables: dict[str, str]
) -> None:
    environment = {f"BRINGUP_{key.upper().replace('.', '__')}": text for key, text in variables.items()}
    assert answers(empty, environment=environment, overrides=[f"{key}={text}" for key, text in pairs])


def test_settings_cannot_be_changed(empty: Path) -> None:
    settings = load(empty, environment={}, overrides=[])
    with pytest.raises(FrozenInstanceError):
        settings.limits.concurrency = 3  # type: ignore[misc]


def test_the_settings_do_not_import_what_only_the_daemon_needs() -> None:
    heavy = {"anyio", "httpx", "sqlalchemy", "rich", "structlog", "tenacity"}
    code = f"import sys, bringup.daemon.settings; print(sorted({heavy!r} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
