from pathlib import Path

import pytest
from pydantic import SecretStr

from bringup.daemon.settings import load
from support.settings_files import given_text, problems, value_of


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "bringup.toml"


@pytest.fixture
def empty(file: Path) -> Path:
    file.write_text("")
    return file


@pytest.fixture(params=["placement", "scheduler"])
def section(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("s3cret\n")
    path.chmod(0o600)
    return path


def test_a_token_is_read_from_its_file(empty: Path, section: str, token_file: Path) -> None:
    settings = load(empty, environment={}, overrides=[f"{section}.token_file={token_file}"])

    assert value_of(settings, f"{section}.token").get_secret_value() == "s3cret"
    assert settings.warnings == ()
    assert "s3cret" not in repr(settings)


def test_a_token_that_others_can_read_is_warned_of(empty: Path, section: str, token_file: Path) -> None:
    token_file.chmod(0o640)
    (warning,) = load(empty, environment={}, overrides=[f"{section}.token_file={token_file}"]).warnings
    assert warning.startswith(f'{section}.token_file = "{token_file}" (--set): others than its owner can read it')


@pytest.mark.parametrize("content", [b"", b"\n", b"s3cret two", b"s3cret\ntwo", b"s3cret\xff", b"s3cret" * 20_000])
def test_a_file_without_one_token_is_refused(empty: Path, section: str, token_file: Path, content: bytes) -> None:
    token_file.write_bytes(content)
    (problem,) = problems(empty, overrides=[f"{section}.token_file={token_file}"])
    assert f'{section}.token_file = "{token_file}" (--set): give a file that holds one token' in problem
    assert "s3cret" not in problem


def test_a_file_that_is_not_there_is_reported(empty: Path, section: str) -> None:
    (problem,) = problems(empty, overrides=[f"{section}.token_file=/nonexistent"])
    assert problem == (
        f'{section}.token_file = "/nonexistent" (--set): give a file that can be read (No such file or directory)'
    )


def test_a_token_and_a_file_are_one_too_many(empty: Path, section: str, token_file: Path) -> None:
    variable = f"BRINGUP_{section.upper()}__TOKEN"
    (problem,) = problems(empty, environment={variable: "s3cret"}, overrides=[f"{section}.token_file={token_file}"])
    assert problem == f"{section}.token ({variable}) and {section}.token_file (--set) are both set: give one of them"


@pytest.mark.parametrize("wrong", ["{section}.token=s3cret two", "{section}.tokn=s3cret", "{section}.password=s3cret"])
def test_a_token_is_in_no_message(empty: Path, section: str, wrong: str) -> None:
    (problem,) = problems(empty, overrides=[wrong.format(section=section)])
    assert " = *** (--set): " in problem
    assert "s3cret" not in problem


def test_a_token_in_the_file_is_in_no_message(file: Path, section: str) -> None:
    given_text(file, f'[{section}]\ntoken = ["s3cret"]\nurl = "http://user:s3cret/@host"')
    found = problems(file)
    assert len(found) == 2
    assert "s3cret" not in str(found)


def test_without_a_token_noauth_sends_the_administrator_that_placement_knows(empty: Path) -> None:
    token = load(empty, environment={}, overrides=["placement.auth=noauth"]).placement.token
    assert token is not None
    assert token.get_secret_value() == "admin"


def test_without_auth_there_is_no_token(empty: Path) -> None:
    assert load(empty, environment={}, overrides=["placement.auth=none"]).placement.token is None


SECRETS = ["placement.token", "scheduler.token", "keystone.password", "keystone.application_credential_secret"]


@pytest.mark.parametrize("key", SECRETS)
def test_a_secret_on_the_command_line_is_refused(empty: Path, key: str) -> None:
    (problem,) = problems(empty, overrides=[f"{key}=s3cret"])
    assert problem == f"{key} (--set): the command line is there for everybody to read; give {key}_file"


def test_a_token_that_is_not_sent_is_warned_of(empty: Path) -> None:
    environment = {"BRINGUP_PLACEMENT__TOKEN": "t"}
    (warning,) = load(empty, environment=environment, overrides=["placement.auth=none"]).warnings
    assert warning.startswith('placement.auth = "none": no token is sent')


def test_a_password_may_have_spaces_and_loses_its_line_end_only(empty: Path, tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text(" pass wörd \n")
    path.chmod(0o600)
    settings = load(empty, environment={}, overrides=[f"keystone.password_file={path}"])
    assert value_of(settings, "keystone.password").get_secret_value() == " pass wörd "
    assert settings.placement.auth == "keystone"


@pytest.mark.parametrize("key", ["password", "application_credential_secret", "token"])
@pytest.mark.parametrize("content", [b"", b"\n", b"s3cret\ntwo", b"s3cret\xff", b"s3cret\x07", b"s3cret" * 20_000])
def test_a_file_without_one_secret_is_refused(empty: Path, tmp_path: Path, key: str, content: bytes) -> None:
    path = tmp_path / "secret"
    path.write_bytes(content)
    (problem,) = problems(empty, overrides=[f"keystone.{key}_file={path}"])
    right = "give a file that holds one secret: printable characters, UTF-8, one line"
    assert problem == f'keystone.{key}_file = "{path}" (--set): {right}'


def test_a_credential_of_systemd_is_found_in_its_directory(empty: Path, tmp_path: Path) -> None:
    (tmp_path / "keystone").write_text("s3cret")
    overrides = ["keystone.password_file=%d/keystone"]
    settings = load(empty, environment={"CREDENTIALS_DIRECTORY": str(tmp_path)}, overrides=overrides)
    assert value_of(settings, "keystone.password").get_secret_value() == "s3cret"

    found = problems(empty, overrides=overrides)
    assert any("CREDENTIALS_DIRECTORY is not set" in problem for problem in found)


CREDENTIALS = {
    "placement.token": "placement.token",
    "scheduler.token": "scheduler.token",
    "keystone.password": "keystone.password",
    "keystone.application_credential_secret": "keystone.application_credential_secret",
    "keystone.token": "keystone.token",
}


@pytest.mark.parametrize("name", CREDENTIALS)
def test_a_credential_of_systemd_that_is_named_like_a_key_needs_no_setting(
    empty: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_text("s3cret\n")
    # As systemd leaves them to a service with a user of its own: the mask of an ACL shows as rights of the group.
    (tmp_path / name).chmod(0o440)
    settings = load(empty, environment={"CREDENTIALS_DIRECTORY": str(tmp_path)}, overrides=[])
    assert value_of(settings, name).get_secret_value() == "s3cret"
    assert settings.source_of(f"{name}_file") == "CREDENTIALS_DIRECTORY"
    assert not any("others than its owner" in warning for warning in settings.warnings)


def test_the_password_of_the_store_may_be_a_credential_of_systemd(empty: Path, tmp_path: Path) -> None:
    (tmp_path / "store.password").write_text("s3cret\n")
    settings = load(empty, environment={"CREDENTIALS_DIRECTORY": str(tmp_path)}, overrides=[])
    assert settings.store.password_file == tmp_path / "store.password"
    assert settings.store.password == SecretStr("s3cret")


@pytest.mark.parametrize("key", ["scheduler.token", "scheduler.token_file"])
def test_a_key_that_is_set_stands_above_the_credential_of_its_name(
    empty: Path, tmp_path: Path, token_file: Path, key: str
) -> None:
    (tmp_path / "scheduler.token").write_text("credential")
    environment = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    value = str(token_file) if key.endswith("_file") else "s3cret"
    settings = load(
        empty, environment={**environment, f"BRINGUP_{key.upper().replace('.', '__')}": value}, overrides=[]
    )
    assert value_of(settings, "scheduler.token").get_secret_value() == "s3cret"


def test_a_credential_is_no_wish_to_ask_keystone(empty: Path, tmp_path: Path) -> None:
    (tmp_path / "keystone.password").write_text("s3cret")
    settings = load(empty, environment={"CREDENTIALS_DIRECTORY": str(tmp_path)}, overrides=[])
    assert settings.placement.auth == "noauth"
    assert settings.warnings == ('placement.auth = "noauth": [keystone] is not used',)


def test_a_secret_that_others_can_read_is_warned_of_with_what_to_do(empty: Path, tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text("s3cret")
    path.chmod(0o644)
    (warning,) = load(empty, environment={}, overrides=[f"keystone.password_file={path}"]).warnings
    assert (
        warning == f'keystone.password_file = "{path}" (--set): others than its owner can read it; chmod 600 "{path}"'
    )


def test_credentials_come_from_one_place(empty: Path) -> None:
    (problem,) = problems(empty, overrides=["keystone.cloud=one", "keystone.auth_url=http://k"])
    assert "keystone.cloud (--set) and keystone.auth_url (--set) are set" in problem
