import re
from pathlib import Path

import pytest

import bringup
from bringup.daemon.settings import load
from bringup.daemon.settings.keys import KEYS
from support.settings_files import given_text, value_of

REPOSITORY = Path(bringup.__file__).parents[1]
EXAMPLE = REPOSITORY / "daemon" / "example.toml"
MANUAL = REPOSITORY / "docs" / "settings.md"
COMMENTED_OUT = re.compile(r"^#(?=\w+ = )", re.MULTILINE)

# Keys whose default depends on the host or is none: the value in the example is an example.
NO_FIXED_DEFAULT = {
    "host.name",
    "host.node_uuid",
    "limits.concurrency",
    "placement.url",
    "placement.token_file",
    "placement.auth",
    "placement.token",
    "placement.region",
    "placement.ca_file",
    "placement.cert_file",
    "placement.key_file",
    "placement.resource_provider",
    "messaging.nova_conf",
    "messaging.transport_url",
    "messaging.ca_file",
    "messaging.cert_file",
    "messaging.key_file",
    "store.password",
    "store.password_file",
    "store.tls",
    "store.ca_file",
    "store.cert_file",
    "store.key_file",
    "driver.scenario",
    "driver.scenario_state",
    "network.ovsdb",
    "libvirt.connections",
    "libvirt.daemon_config",
    "scheduler.url",
    "scheduler.token",
    "scheduler.token_file",
    "scheduler.ca_file",
    "status.listen",
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "bringup.toml"


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    path = tmp_path / "empty.toml"
    path.write_text("")
    return path


def uncommented(*, without: str) -> str:
    text = COMMENTED_OUT.sub("", EXAMPLE.read_text(encoding="utf-8"))
    # There the credentials, and RabbitMQ, come from one place of several; each has a test of its own.
    text = _one_way("keystone", r"nova_conf|cloud|\w+_file|system_scope", text)
    text = _one_way("messaging", "nova_conf|transport_url_file", text)
    return re.sub(rf"(?m)^{without} = .*$", "", text)


def _one_way(section: str, others: str, text: str) -> str:
    before, inside, after = re.split(rf"(?ms)^(\[{section}\]\n.*?)(?=^\[)", text)
    return before + re.sub(rf"(?m)^({others}) = .*$", "", inside).replace("token = ", " token = ") + after


def test_the_example_is_the_defaults_as_it_is(empty: Path) -> None:
    assert load(EXAMPLE, environment={}, overrides=[]) == load(empty, environment={}, overrides=[])


def test_the_example_is_valid_with_every_key(file: Path) -> None:
    given_text(file, uncommented(without="token_file"))
    assert load(file, environment={}, overrides=[]).limits.concurrency == 8


def test_the_example_is_valid_with_files_in_place_of_tokens(file: Path, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("s3cret")
    text = uncommented(without="token").replace("/etc/bringup/placement.token", str(token))
    given_text(file, text.replace("/etc/bringup/scheduler.token", str(token)))
    settings = load(file, environment={}, overrides=[])
    assert settings.placement.token == settings.scheduler.token is not None


def test_every_key_is_in_the_example_and_no_other(file: Path) -> None:
    given_text(file, uncommented(without="token_file"))
    found = {key for key in load(file, environment={}, overrides=[]).sources if "." in key}
    files = {key for key in KEYS if key.endswith(("token_file", "keystone.password_file", "secret_file"))}
    ways = {"keystone.nova_conf", "keystone.cloud", "messaging.nova_conf", "messaging.transport_url_file"}
    assert found | files | ways | {"keystone.system_scope"} == set(KEYS)


def test_every_default_in_the_example_is_the_true_one(file: Path, empty: Path) -> None:
    given_text(file, uncommented(without="token_file"))
    example, defaults = (load(path, environment={}, overrides=[]) for path in (file, empty))
    fixed = sorted(key for key in set(KEYS) - NO_FIXED_DEFAULT if not key.startswith(("keystone.", "inventory.")))
    assert {key: value_of(example, key) for key in fixed} == {key: value_of(defaults, key) for key in fixed}


@pytest.mark.parametrize("key", sorted(KEYS))
def test_every_key_is_explained_in_the_example(key: str) -> None:
    section, _, name = key.partition(".")
    part = EXAMPLE.read_text(encoding="utf-8").partition(f"[{section}]\n")[2].partition("\n[")[0]
    before, found, _ = part.partition(f"#{name} = ")
    assert found
    assert "# " in before


@pytest.mark.parametrize("key", sorted(KEYS))
def test_the_manual_names_every_key(key: str) -> None:
    assert f"| `{key}` |" in MANUAL.read_text(encoding="utf-8")


def test_the_manual_names_no_other_key() -> None:
    manual = MANUAL.read_text(encoding="utf-8")
    assert set(re.findall(r"(?m)^\| `(\w+\.\w+)` \|", manual)) == set(KEYS)
