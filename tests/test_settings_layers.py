from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from bringup.daemon.settings import load
from bringup.daemon.settings.keys import KEYS, RENAMED
from support.process import WITHOUT_ROOTS_RIGHTS, run
from support.settings_files import answers, given_text, problems


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "bringup.toml"


@pytest.fixture
def empty(file: Path) -> Path:
    file.write_text("")
    return file


def test_the_later_layer_wins(file: Path) -> None:
    given_text(file, "[limits]\nconcurrency = 3\ninstance_deadline = 30\nhost_deadline = 30")
    settings = load(
        file,
        environment={"BRINGUP_LIMITS__CONCURRENCY": "4", "BRINGUP_LIMITS__INSTANCE_DEADLINE": "40s", "HOME": "/"},
        overrides=["limits.concurrency=5", "limits.concurrency=6"],
    )

    assert (settings.limits.concurrency, settings.limits.instance_deadline, settings.limits.host_deadline) == (
        6,
        40,
        30,
    )
    assert settings.source_of("limits.concurrency") == "--set"
    assert settings.source_of("limits.instance_deadline") == "BRINGUP_LIMITS__INSTANCE_DEADLINE"
    assert settings.source_of("limits.host_deadline") == str(file)
    assert settings.source_of("limits.shutdown_report_deadline") == "default"


def test_the_environment_names_the_file(file: Path) -> None:
    given_text(file, "[limits]\nconcurrency = 3")
    assert load(None, environment={"BRINGUP_CONFIG": str(file)}, overrides=[]).limits.concurrency == 3


def test_the_file_of_the_command_line_goes_before_that_of_the_environment(empty: Path) -> None:
    assert load(empty, environment={"BRINGUP_CONFIG": "/nonexistent"}, overrides=[]) == load(
        empty, environment={}, overrides=[]
    )


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        ("BRINGUP_PLACEMENT_URL", "did you mean BRINGUP_PLACEMENT__URL?"),
        ("BRINGUP_CONFG", "did you mean BRINGUP_CONFIG?"),
        ("BRINGUP_placement__url", "did you mean BRINGUP_PLACEMENT__URL?"),
        ("BRINGUP_", "the name is BRINGUP_<SECTION>__<KEY>"),
        ("BRINGUP_LIMITS__CONCURENCY", "did you mean limits.concurrency?"),
    ],
)
def test_an_unknown_variable_is_an_error(empty: Path, variable: str, hint: str) -> None:
    (problem,) = problems(empty, environment={variable: "1"})
    assert variable in problem
    assert hint in problem


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_a_former_name_of_a_key_is_an_error_in_every_layer_and_names_the_new_one(
    file: Path, old: str, new: str
) -> None:
    section, _, key = old.partition(".")
    variable = f"BRINGUP_{section.upper()}__{key.upper()}"
    given_text(file, f"[{section}]\n{key} = 1\n")
    assert problems(file) == (f"{old} = 1 ({file}): this key was renamed; set {new} instead",)
    file.write_text("")
    assert problems(file, overrides=[f"{old}=1"]) == (f"{old} = 1 (--set): this key was renamed; set {new} instead",)
    (problem,) = problems(file, environment={variable: "1"})
    assert problem.startswith(f"{old} = 1 ({variable}): this key was renamed; set {new} instead (BRINGUP_")
    # The variable that the sentence names is one that is read.
    replacement = problem.rpartition("(")[2].removesuffix(")")
    assert not any("renamed" in each for each in problems(file, environment={replacement: "-1"}))


def test_every_former_name_is_free_and_every_new_name_exists() -> None:
    assert not RENAMED.keys() & KEYS.keys()
    assert set(RENAMED.values()) <= KEYS.keys()


def test_variables_of_the_test_suite_and_of_others_are_left_alone(empty: Path) -> None:
    assert load(empty, environment={"BRINGUP_ORACLE": "/rows", "PATH": "/bin"}, overrides=[]).sources == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"[limits]\nconcurrency = ", "line 2, column 15: this is not TOML", id="truncated"),
        pytest.param(b"a = 1\na = 2", "line 2, column 6: this is not TOML", id="a key twice"),
        pytest.param(b'a = 1\nb = "\xff"', ", line 2: this is not UTF-8", id="not UTF-8"),
        pytest.param(b"a = " + b"[" * 50_000, "too large or nested too deep", id="nested too deep"),
        pytest.param(b"a" + b".a" * 20_000 + b" = 1", "too large or nested too deep", id="a key of many parts"),
        pytest.param(b"[a" + b" . 'a'" * 20_000 + b"]", "too large or nested too deep", id="a section of many parts"),
        pytest.param(b"a = {a" + b".a" * 20_000 + b" = 1}", "too large or nested too deep", id="many parts in a value"),
        pytest.param(b"a = " + b"1" * 5_000, "too large or nested too deep", id="number too large"),
        pytest.param(b"#" * (2 << 20), "is larger than 1048576 bytes", id="file too large"),
        pytest.param(b"[a\n", "this is not TOML", id="half a section"),
    ],
)
def test_a_file_that_is_no_toml_is_reported_with_the_place(file: Path, content: bytes, message: str) -> None:
    file.write_bytes(content)
    (problem,) = problems(file)
    assert problem.startswith(f"settings file {file}")
    assert message in problem


def test_a_file_that_is_not_there_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "none.toml"
    reason = "cannot be read (No such file or directory): give a file that this user can read"
    assert problems(path) == (f"settings file {path} {reason}",)


def test_a_folder_is_no_settings_file(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path)
    assert "cannot be read (Is a directory)" in problem


def test_a_file_that_may_not_be_read_is_reported(empty: Path) -> None:
    empty.chmod(0)
    ended = run("check", "--config", str(empty), within=WITHOUT_ROOTS_RIGHTS)
    assert ended.code == 78
    assert f"settings file {empty} cannot be read (Permission denied)" in ended.out + ended.err


def test_what_may_stand_in_an_unreadable_file_is_not_reported_as_missing(tmp_path: Path) -> None:
    found = problems(tmp_path, overrides=["scheduler.transport=http", "limits.concurrency=0"])
    assert len(found) == 2
    assert not any("scheduler.url" in problem for problem in found)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("limits = 5", "limits = 5 ({file}): give a table: [limits] and its keys below"),
        ('wait = "1s"', 'wait = "1s" ({file}): it stands in no section; did you mean store.wait?'),
        ("[limit]", "[limit] ({file}): there is no such section; did you mean [limits]?"),
        ("[limits.concurrency]\na = 1", 'limits.concurrency = {{"a": 1}} ({file}): give a whole number from 1 to 1024'),
    ],
)
def test_the_shape_of_the_file_is_checked(file: Path, text: str, problem: str) -> None:
    given_text(file, text)
    assert problems(file) == (problem.format(file=file),)


def test_systemd_reports_where_the_state_is(empty: Path) -> None:
    settings = load(empty, environment={"STATE_DIRECTORY": "/var/lib/a:/var/lib/b"}, overrides=[])

    assert settings.host.state_directory == Path("/var/lib/a")
    assert settings.store.path == Path("/var/lib/a/instances.sqlite")
    assert settings.source_of("host.state_directory") == "STATE_DIRECTORY"


def test_what_follows_from_another_key_follows_it(empty: Path) -> None:
    settings = load(empty, environment={}, overrides=["host.name=cn1", "host.state_directory=/srv/state"])
    assert (settings.placement.resource_provider, settings.store.path) == ("cn1", Path("/srv/state/instances.sqlite"))


def test_what_follows_from_another_key_is_checked_too(empty: Path) -> None:
    (problem,) = problems(empty, overrides=["host.state_directory=/a?b"])
    assert problem.startswith('store.url = "sqlite:////a?b/instances.sqlite" (it follows from [host]): ')


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60))
def test_whatever_the_file_holds_there_are_settings_or_one_error(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    assert answers(file, environment={}, overrides=[])
