import os
import re
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import bringup
from bringup.daemon.errors import SettingsError
from bringup.daemon.pci.spec import WHOLE_ENTRY
from bringup.daemon.settings import Settings, load, require_placement, require_scenario
from bringup.daemon.settings.keys import KEYS
from bringup.daemon.settings.model import SECTIONS
from bringup.daemon.settings.values import parse_time_span

REPOSITORY = Path(bringup.__file__).parents[1]
EXAMPLE = REPOSITORY / "daemon" / "example.toml"
COMMENTED_OUT = re.compile(r"^#(?=\w+ = )", re.MULTILINE)
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
HOST_NAME = socket.gethostname()

# Keys whose default depends on the host or is none: the value in the example is an example.
NO_FIXED_DEFAULT = {
    "host.name",
    "limits.concurrency",
    "placement.url",
    "placement.token_file",
    "placement.resource_provider",
    "driver.scenario",
    "scheduler.url",
    "scheduler.token",
    "scheduler.token_file",
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "bringup.toml"


@pytest.fixture
def empty(file: Path) -> Path:
    file.write_text("")
    return file


def given_text(file: Path, text: str) -> Path:
    file.write_text(text)
    return file


def problems(
    config: Path | None, *, environment: Mapping[str, str] | None = None, overrides: Sequence[str] = ()
) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        load(config, environment=environment or {}, overrides=overrides)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    return caught.value.problems


def value_of(settings: Settings, key: str) -> Any:
    section, _, name = key.partition(".")
    return getattr(getattr(settings, section), name)


def answers(config: Path, *, environment: Mapping[str, str], overrides: Sequence[str]) -> bool:
    """Say whether there are settings, or one error of sentences that can be written to a terminal."""
    try:
        return isinstance(load(config, environment=environment, overrides=overrides), Settings)
    except SettingsError as error:
        return bool(error.problems) and not any(CONTROL.search(problem) for problem in error.problems)


def test_without_anything_the_defaults_hold(empty: Path) -> None:
    settings = load(empty, environment={}, overrides=[])

    assert settings.host.name == settings.placement.resource_provider == HOST_NAME
    assert settings.store.path == Path("/var/lib/bringup/instances.sqlite")
    assert 2 <= settings.limits.concurrency <= 8
    assert settings.placement.url is None
    assert settings.warnings == ()


def test_the_defaults_of_the_model_are_valid_themselves() -> None:
    for section, model in SECTIONS.items():
        default = model()
        given = {name: found for name, found in default.model_dump().items() if found not in (None, ())}
        if section == "host":
            given["state_directory"] = str(default.model_dump()["state_directory"])
        assert model.model_validate(given) == default


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
    assert settings.source_of("limits.last_word_deadline") == "default"


def test_the_environment_names_the_file(file: Path) -> None:
    given_text(file, "[limits]\nconcurrency = 3")
    assert load(None, environment={"BRINGUP_CONFIG": str(file)}, overrides=[]).limits.concurrency == 3


def test_the_file_of_the_command_line_goes_before_that_of_the_environment(empty: Path) -> None:
    assert load(empty, environment={"BRINGUP_CONFIG": "/nonexistent"}, overrides=[]) == load(
        empty, environment={}, overrides=[]
    )


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        pytest.param("limits.concurrency=16", 16, id="number"),
        pytest.param("limits.instance_deadline=1h 30min", 5400.0, id="time span"),
        pytest.param("limits.instance_deadline=90", 90.0, id="seconds"),
        pytest.param('limits.instance_deadline="90s"', 90.0, id="time span in quotes"),
        pytest.param("placement.wait=0", 0.0, id="zero where it is allowed"),
        pytest.param("driver.defer_iptables_apply=true", True, id="truth"),
        pytest.param("host.name=123", "123", id="text that looks like a number"),
        pytest.param("placement.resource_provider=true", "true", id="text that looks like a truth"),
        pytest.param("placement.url=http://host:8778/placement/", "http://host:8778/placement", id="address"),
        pytest.param("placement.url=https://[::1]:8778", "https://[::1]:8778", id="address of IPv6"),
        pytest.param("driver.scenario=a b.toml", Path("a b.toml"), id="path"),
        pytest.param("resume.guests=on_every_start", "on_every_start", id="choice"),
    ],
)
def test_a_value_of_the_command_line_is_read_by_the_kind_of_its_key(empty: Path, override: str, expected: Any) -> None:
    key, _, text = override.partition("=")
    variable = f"BRINGUP_{key.upper().replace('.', '__')}"

    assert value_of(load(empty, environment={}, overrides=[override]), key) == expected
    assert value_of(load(empty, environment={variable: text}, overrides=[]), key) == expected


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("limits.concurrency=0", "limits.concurrency = 0 (--set): give a whole number from 1 to 1024"),
        ("limits.concurrency=1025", "limits.concurrency = 1025 (--set): give a whole number from 1 to 1024"),
        ("limits.concurrency=2.0", "limits.concurrency = 2.0 (--set): give a whole number from 1 to 1024"),
        ("limits.concurrency=true", "limits.concurrency = true (--set): give a whole number from 1 to 1024"),
        ("limits.concurrency=many", 'limits.concurrency = "many" (--set): give a whole number from 1 to 1024'),
        ("log.level=verbose", 'log.level = "verbose" (--set): give one of "debug", "info", "warning", "error"'),
        ("driver.defer_iptables_apply=yes", 'driver.defer_iptables_apply = "yes" (--set): give true or false'),
        (
            "limits.concurency=4",
            "limits.concurency = 4 (--set): there is no such key; did you mean limits.concurrency?",
        ),
        (
            "lmits.concurrency=4",
            "lmits.concurrency = 4 (--set): there is no section [lmits]; did you mean limits.concurrency?",
        ),
        ("log.busy_timeout=4", "log.busy_timeout = 4 (--set): there is no such key; did you mean store.busy_timeout?"),
        ("log.zzz=4", "log.zzz = 4 (--set): there is no such key; the keys of [log] are level, format"),
        ("concurrency", '"concurrency" (--set): give section.key=value, such as limits.concurrency=4'),
        ("concurrency=4", '"concurrency=4" (--set): give section.key=value, such as limits.concurrency=4'),
        ("host.name=a b", 'host.name = "a b" (--set): give a name with no spaces in it'),
        ("driver.scenario=", 'driver.scenario = "" (--set): give the path of a file'),
        (
            "pci.device_spec=5",
            f"pci.device_spec[0] = 5 (--set): give {WHOLE_ENTRY}",
        ),
    ],
    ids=lambda text: text.partition("(")[0][:40],
)
def test_a_wrong_value_is_told_with_its_key_its_source_and_what_would_be_right(
    empty: Path, override: str, problem: str
) -> None:
    assert problems(empty, overrides=[override]) == (problem,)


@pytest.mark.parametrize(
    "span", ["0", "-1", "nan", "inf", "-inf", "8d", "true", "5 fortnights", "s", "", "1e400", "[1]"]
)
def test_an_impossible_limit_is_refused(empty: Path, span: str) -> None:
    (problem,) = problems(empty, overrides=[f"limits.last_word_deadline={span}"])
    assert re.match(r"limits\.last_word_deadline = .* \(--set\): give seconds as a number, or a time span", problem)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "host:8778",
        "ftp://host",
        "http://",
        "http://host:x",
        "http://host:99999",
        "http://h/?a=1",
        "http://h/#a",
        "http://a b",
    ],
)
def test_what_is_no_web_address_is_refused(empty: Path, url: str) -> None:
    (problem,) = problems(empty, overrides=[f"placement.url={url}"])
    assert problem.startswith("placement.url = ")
    assert 'give an address such as "http://controller:8778"' in problem


@pytest.mark.parametrize(
    "url", ["", "sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite:///a?b=c", "sqlite:///a/", "mysql://h/d"]
)
def test_what_is_no_sqlite_file_is_refused(empty: Path, url: str) -> None:
    (problem,) = problems(empty, overrides=[f"store.url={url}"])
    assert problem.startswith("store.url = ")


def test_every_wrong_key_of_every_layer_is_told_in_one_go(file: Path) -> None:
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


def test_variables_of_the_test_suite_and_of_others_are_left_alone(empty: Path) -> None:
    assert load(empty, environment={"BRINGUP_ORACLE": "/rows", "PATH": "/bin"}, overrides=[]).sources == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"[limits]\nconcurrency = ", "line 2, column 15: this is not TOML", id="truncated"),
        pytest.param(b"a = 1\na = 2", "line 2, column 6: this is not TOML", id="a key twice"),
        pytest.param(b'a = 1\nb = "\xff"', ", line 2: this is not UTF-8", id="not UTF-8"),
        pytest.param(b"a = " + b"[" * 50_000, "too large or nested too deep", id="nested too deep"),
        pytest.param(b"a = " + b"1" * 5_000, "too large or nested too deep", id="number too large"),
        pytest.param(b"#" * (2 << 20), "is larger than 1048576 bytes", id="file too large"),
        pytest.param(b"[a\n", "this is not TOML", id="half a section"),
    ],
)
def test_a_file_that_is_no_toml_is_told_with_the_place(file: Path, content: bytes, message: str) -> None:
    file.write_bytes(content)
    (problem,) = problems(file)
    assert problem.startswith(f"settings file {file}")
    assert message in problem


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    path = tmp_path / "none.toml"
    reason = "cannot be read (No such file or directory): give a file that this user can read"
    assert problems(path) == (f"settings file {path} {reason}",)


def test_a_folder_is_no_settings_file(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path)
    assert "cannot be read (Is a directory)" in problem


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read_is_told(empty: Path) -> None:
    empty.chmod(0)
    (problem,) = problems(empty)
    assert "cannot be read (Permission denied)" in problem


def test_what_may_stand_in_an_unreadable_file_is_not_told_as_missing(tmp_path: Path) -> None:
    found = problems(tmp_path, overrides=["scheduler.transport=http", "limits.concurrency=0"])
    assert len(found) == 2
    assert not any("scheduler.url" in problem for problem in found)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("limits = 5", "limits = 5 ({file}): give a table: [limits] and its keys below"),
        ('wait = "1s"', 'wait = "1s" ({file}): it stands in no section; did you mean placement.wait?'),
        ("[limit]", "[limit] ({file}): there is no such section; did you mean [limits]?"),
        ("[limits.concurrency]\na = 1", 'limits.concurrency = {{"a": 1}} ({file}): give a whole number from 1 to 1024'),
    ],
)
def test_the_shape_of_the_file_is_checked(file: Path, text: str, problem: str) -> None:
    given_text(file, text)
    assert problems(file) == (problem.format(file=file),)


def test_systemd_says_where_the_state_is(empty: Path) -> None:
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


class TestTokens:
    @pytest.fixture(params=["placement", "scheduler"])
    def section(self, request: pytest.FixtureRequest) -> str:
        name: str = request.param
        return name

    @pytest.fixture
    def token_file(self, tmp_path: Path) -> Path:
        path = tmp_path / "token"
        path.write_text("s3cret\n")
        path.chmod(0o600)
        return path

    def test_a_token_is_read_from_its_file(self, empty: Path, section: str, token_file: Path) -> None:
        settings = load(empty, environment={}, overrides=[f"{section}.token_file={token_file}"])

        assert value_of(settings, f"{section}.token").get_secret_value() == "s3cret"
        assert settings.warnings == ()
        assert "s3cret" not in repr(settings)

    def test_a_token_that_others_can_read_is_warned_of(self, empty: Path, section: str, token_file: Path) -> None:
        token_file.chmod(0o640)
        (warning,) = load(empty, environment={}, overrides=[f"{section}.token_file={token_file}"]).warnings
        assert warning.startswith(f'{section}.token_file = "{token_file}" (--set): others than its owner can read it')

    @pytest.mark.parametrize("content", [b"", b"\n", b"s3cret two", b"s3cret\ntwo", b"s3cret\xff", b"s3cret" * 20_000])
    def test_a_file_without_one_token_is_refused(
        self, empty: Path, section: str, token_file: Path, content: bytes
    ) -> None:
        token_file.write_bytes(content)
        (problem,) = problems(empty, overrides=[f"{section}.token_file={token_file}"])
        assert f'{section}.token_file = "{token_file}" (--set): give a file that holds one token' in problem
        assert "s3cret" not in problem

    def test_a_file_that_is_not_there_is_told(self, empty: Path, section: str) -> None:
        (problem,) = problems(empty, overrides=[f"{section}.token_file=/nonexistent"])
        assert problem == (
            f'{section}.token_file = "/nonexistent" (--set): give a file that can be read (No such file or directory)'
        )

    def test_a_token_and_a_file_are_one_too_many(self, empty: Path, section: str, token_file: Path) -> None:
        variable = f"BRINGUP_{section.upper()}__TOKEN"
        (problem,) = problems(empty, environment={variable: "s3cret"}, overrides=[f"{section}.token_file={token_file}"])
        assert (
            problem == f"{section}.token ({variable}) and {section}.token_file (--set) are both set: give one of them"
        )

    @pytest.mark.parametrize(
        "wrong", ["{section}.token=s3cret two", "{section}.tokn=s3cret", "{section}.password=s3cret"]
    )
    def test_a_token_is_in_no_message(self, empty: Path, section: str, wrong: str) -> None:
        (problem,) = problems(empty, overrides=[wrong.format(section=section)])
        assert " = *** (--set): " in problem
        assert "s3cret" not in problem

    def test_a_token_in_the_file_is_in_no_message(self, file: Path, section: str) -> None:
        given_text(file, f'[{section}]\ntoken = ["s3cret"]\nurl = "http://user:s3cret/@host"')
        found = problems(file)
        assert len(found) == 2
        assert "s3cret" not in str(found)

    def test_without_a_token_noauth_sends_the_administrator_that_placement_knows(self, empty: Path) -> None:
        token = load(empty, environment={}, overrides=["placement.auth=noauth"]).placement.token
        assert token is not None
        assert token.get_secret_value() == "admin"

    def test_without_auth_there_is_no_token(self, empty: Path) -> None:
        assert load(empty, environment={}, overrides=["placement.auth=none"]).placement.token is None


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
        (["placement.auth=none", "placement.token=t"], 'placement.auth = "none": no token is sent'),
        (["limits.instance_deadline=60"], "guests.shutdown_timeout = 60 s is not shorter"),
    ],
)
def test_what_is_probably_not_meant_is_warned_of(empty: Path, overrides: list[str], begin: str) -> None:
    (warning,) = load(empty, environment={}, overrides=overrides).warnings
    assert warning.startswith(begin)


def test_placement_is_required_only_where_it_is_asked_for(empty: Path) -> None:
    with pytest.raises(SettingsError, match=r"^placement\.url is missing"):
        require_placement(load(empty, environment={}, overrides=[]))
    assert require_placement(load(empty, environment={}, overrides=["placement.url=http://h"])) == "http://h"


def test_a_scenario_is_required_only_where_it_is_asked_for(empty: Path) -> None:
    with pytest.raises(SettingsError, match=r"^driver\.scenario is missing"):
        require_scenario(load(empty, environment={}, overrides=[]))
    assert require_scenario(load(empty, environment={}, overrides=["driver.scenario=s.toml"])) == Path("s.toml")


@pytest.mark.parametrize(
    "value",
    [
        pytest.param('\'{"vendor_id": "8086"}\'', id="string"),
        pytest.param('[\'{"vendor_id": "8086"}\']', id="list of strings"),
        pytest.param("{ vendor_id = '8086' }", id="table"),
        pytest.param("[{ vendor_id = '8086' }]", id="list of tables"),
    ],
)
def test_device_specs_are_strings_or_tables_one_or_many(file: Path, value: str) -> None:
    given_text(file, f"[pci]\ndevice_spec = {value}")
    (spec,) = load(file, environment={}, overrides=[]).pci.device_spec
    assert spec.vendor_id == "8086"


def test_device_specs_may_stand_in_the_environment_as_in_nova(empty: Path) -> None:
    variable = {"BRINGUP_PCI__DEVICE_SPEC": '[{"vendor_id": "8086"}, {"vendor_id": "10de"}]'}
    specs = load(empty, environment=variable, overrides=[]).pci.device_spec
    assert [spec.vendor_id for spec in specs] == ["8086", "10de"]


def test_every_wrong_field_of_every_device_spec_is_told(file: Path) -> None:
    given_text(
        file,
        """[pci]
device_spec = ['{}', '{"vendor_id": 8086}', { address = { bus = 5 } }, '[{}, {"product_id": "g"}]']""",
    )
    assert [problem.partition(" = ")[0] for problem in problems(file)] == [
        "pci.device_spec[1].vendor_id",
        "pci.device_spec[2].address.bus",
        "pci.device_spec[3][1].product_id",
    ]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("90s", 90),
        ("2min", 120),
        ("1h 30min", 5400),
        ("1h30min", 5400),
        ("500ms", 0.5),
        ("1.5 h", 5400),
        (".5s", 0.5),
        ("1w", 604800),
        ("1d 2hours 3minutes 4sec 5us", 93784.000005),
        ("7 µs", 0.000007),
    ],
)
def test_a_time_span_is_read_as_systemd_does(text: str, seconds: float) -> None:
    assert parse_time_span(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", " ", "s", "1x", "1h-30min", "-5s", "1..5s", "infinity", "1 h h", "1H", "1_0s"])
def test_what_is_no_time_span_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no time span"):
        parse_time_span(text)


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


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60))
def test_whatever_the_file_holds_there_are_settings_or_one_error(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    assert answers(file, environment={}, overrides=[])


class TestTheExample:
    def uncommented(self, *, without: str) -> str:
        text = COMMENTED_OUT.sub("", EXAMPLE.read_text(encoding="utf-8"))
        return re.sub(rf"(?m)^{without} = .*$", "", text)

    def test_it_is_the_defaults_as_it_is(self, empty: Path) -> None:
        assert load(EXAMPLE, environment={}, overrides=[]) == load(empty, environment={}, overrides=[])

    def test_it_is_valid_with_every_key(self, file: Path) -> None:
        given_text(file, self.uncommented(without="token_file"))
        assert load(file, environment={}, overrides=[]).limits.concurrency == 8

    def test_it_is_valid_with_files_in_place_of_tokens(self, file: Path, tmp_path: Path) -> None:
        token = tmp_path / "token"
        token.write_text("s3cret")
        text = self.uncommented(without="token").replace("/etc/bringup/placement.token", str(token))
        given_text(file, text.replace("/etc/bringup/scheduler.token", str(token)))
        settings = load(file, environment={}, overrides=[])
        assert settings.placement.token == settings.scheduler.token is not None

    def test_every_key_is_in_it_and_no_other(self, file: Path) -> None:
        given_text(file, self.uncommented(without="token_file"))
        found = {key for key in load(file, environment={}, overrides=[]).sources if "." in key}
        assert found | {"placement.token_file", "scheduler.token_file"} == set(KEYS)

    def test_every_default_in_it_is_the_true_one(self, file: Path, empty: Path) -> None:
        given_text(file, self.uncommented(without="token_file"))
        example, defaults = (load(path, environment={}, overrides=[]) for path in (file, empty))
        fixed = sorted(set(KEYS) - NO_FIXED_DEFAULT)
        assert {key: value_of(example, key) for key in fixed} == {key: value_of(defaults, key) for key in fixed}

    @pytest.mark.parametrize("key", sorted(KEYS))
    def test_every_key_is_explained_in_it(self, key: str) -> None:
        section, _, name = key.partition(".")
        part = EXAMPLE.read_text(encoding="utf-8").partition(f"[{section}]\n")[2].partition("\n[")[0]
        before, found, _ = part.partition(f"#{name} = ")
        assert found
        assert "# " in before


@pytest.mark.parametrize("key", sorted(KEYS))
def test_the_manual_names_every_key(key: str) -> None:
    assert f"| `{key}` |" in (REPOSITORY / "docs" / "settings.md").read_text(encoding="utf-8")


def test_the_manual_names_no_other_key() -> None:
    manual = (REPOSITORY / "docs" / "settings.md").read_text(encoding="utf-8")
    assert set(re.findall(r"(?m)^\| `(\w+\.\w+)` \|", manual)) == set(KEYS)


def test_settings_cannot_be_changed(empty: Path) -> None:
    settings = load(empty, environment={}, overrides=[])
    with pytest.raises(ValueError, match="frozen"):
        settings.limits.concurrency = 3


def test_the_settings_do_not_import_what_only_the_daemon_needs() -> None:
    heavy = {"anyio", "httpx", "sqlalchemy", "rich", "structlog", "stamina"}
    code = f"import sys, bringup.daemon.settings; print(sorted({heavy!r} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
