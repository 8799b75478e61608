"""The credentials of clouds.yaml, secure.yaml and the environment, read by the real openstacksdk."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from bringup.daemon.errors import SettingsError
from bringup.daemon.settings.credentials import clouds_yaml

AUTH = {
    "auth_url": "https://keystone:5000/v3",
    "username": "nova",
    "user_domain_name": "Default",
    "project_name": "service",
    "project_domain_name": "Default",
}
ENVIRONMENT = {
    "OS_AUTH_URL": "https://env:5000",
    "OS_USERNAME": "env-user",
    "OS_PASSWORD": "env-s3cr3t",
    "OS_PROJECT_NAME": "env-project",
    "OS_USER_DOMAIN_NAME": "Default",
    "OS_PROJECT_DOMAIN_ID": "default",
}


@dataclass
class Files:
    """The folder of clouds.yaml, and the environment."""

    directory: Path
    monkeypatch: pytest.MonkeyPatch

    def clouds(self, **given: Mapping[str, Any]) -> "Files":
        return self.write("clouds.yaml", clouds=given)

    def secure(self, **given: Mapping[str, Any]) -> "Files":
        return self.write("secure.yaml", clouds=given)

    def write(self, name: str, **document: Any) -> "Files":
        (self.directory / name).write_text(yaml.safe_dump(document))
        return self

    def set(self, **variables: str) -> "Files":
        for name, value in variables.items():
            self.monkeypatch.setenv(name, value)
        return self

    def problem(self, cloud: str | None, region: str | None = None) -> str:
        with pytest.raises(SettingsError) as caught:
            clouds_yaml.read(cloud, region=region)
        (problem,) = caught.value.problems
        assert caught.value.__cause__ is None
        assert "s3cr3t" not in problem
        return problem


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    """In a folder of one's own, and with nothing of this machine's environment."""
    for name in [name for name in os.environ if name.startswith("OS_")]:
        monkeypatch.delenv(name)
    files = Files(tmp_path, monkeypatch)
    # The loader looks where the process was when it was imported, so the files are named.
    return files.set(
        OS_CLIENT_CONFIG_FILE=str(tmp_path / "clouds.yaml"), OS_CLIENT_SECURE_FILE=str(tmp_path / "secure.yaml")
    )


def test_a_cloud_has_it_all(files: Files) -> None:
    files.clouds(
        here={
            "auth_type": "password",
            "auth": {**AUTH, "password": "s3cr3t"},
            "region_name": "One",
            "interface": "admin",
            "cacert": "/ca.pem",
            "cert": "/nova.pem",
            "key": "/nova.key",
        },
        there={"auth": AUTH},
    )
    found = clouds_yaml.read("here")
    given = {key: found.options[key] for key in (*AUTH, "password", "auth_type")}
    assert given == {**AUTH, "password": "s3cr3t", "auth_type": "password"}
    assert (found.region, found.interfaces, found.endpoint) == ("One", ("admin",), None)
    assert (found.ca_file, found.cert_file, found.key_file) == ("/ca.pem", "/nova.pem", "/nova.key")
    assert found.named("password") == "cloud here: password"


def test_a_secret_may_be_in_secure_yaml(files: Files) -> None:
    files.clouds(here={"auth": AUTH}).secure(here={"auth": {"password": "s3cr3t"}})
    found = clouds_yaml.read("here")
    assert (found.options["username"], found.options["password"]) == ("nova", "s3cr3t")


def test_files_may_be_named_by_the_environment(files: Files) -> None:
    files.write("mine.yaml", clouds={"here": {"auth": AUTH}}).write(
        "my-secrets.yaml", clouds={"here": {"auth": {"password": "s3cr3t"}}}
    )
    mine, secrets = files.directory / "mine.yaml", files.directory / "my-secrets.yaml"
    files.set(OS_CLIENT_CONFIG_FILE=str(mine), OS_CLIENT_SECURE_FILE=str(secrets), OS_CLOUD="here")
    assert clouds_yaml.read(None).options["password"] == "s3cr3t"


PRECEDENCE: dict[str, tuple[str | None, dict[str, str], str]] = {
    "a cloud that is named": ("here", {}, "here-user"),
    "OS_CLOUD": (None, {"OS_CLOUD": "there"}, "there-user"),
    "a cloud that is named, over OS_CLOUD": ("here", {"OS_CLOUD": "there"}, "here-user"),
    "a cloud that is named, over OS_*": ("here", ENVIRONMENT, "here-user"),
    "OS_CLOUD, over OS_*": (None, {"OS_CLOUD": "there", **ENVIRONMENT}, "there-user"),
    "OS_*": (None, ENVIRONMENT, "env-user"),
}


@pytest.mark.parametrize(("cloud", "environment", "user"), PRECEDENCE.values(), ids=PRECEDENCE.keys())
def test_what_stands_above_what(files: Files, cloud: str | None, environment: dict[str, str], user: str) -> None:
    files.clouds(here={"auth": {**AUTH, "username": "here-user"}}, there={"auth": {**AUTH, "username": "there-user"}})
    files.set(**environment)
    assert clouds_yaml.read(cloud).options["username"] == user


def test_the_environment_alone_has_it_all(files: Files) -> None:
    files.set(**ENVIRONMENT, OS_REGION_NAME="Two", OS_INTERFACE="internal", OS_CACERT="/ca.pem")
    found = clouds_yaml.read(None)
    assert found.options["auth_url"] == "https://env:5000"
    assert found.options["password"] == "env-s3cr3t"
    assert found.options["project_name"] == "env-project"
    assert (found.region, found.interfaces, found.ca_file) == ("Two", ("internal",), "/ca.pem")


def test_an_application_credential_of_the_environment(files: Files) -> None:
    files.set(
        OS_AUTH_URL="https://env:5000",
        OS_AUTH_TYPE="v3applicationcredential",
        OS_APPLICATION_CREDENTIAL_ID="a1",
        OS_APPLICATION_CREDENTIAL_SECRET="s3cr3t",
    )
    options = clouds_yaml.read(None).options
    assert (options["auth_type"], options["application_credential_id"]) == ("v3applicationcredential", "a1")
    assert options["application_credential_secret"] == "s3cr3t"


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, False),
        ({"OS_CLOUD": ""}, False),
        ({"OS_CLOUD": "x"}, True),
        (ENVIRONMENT, True),
        ({"OS_USERNAME": "x"}, False),
    ],
)
def test_an_environment_names_a_cloud_or_not(environment: dict[str, str], *, expected: bool) -> None:
    assert clouds_yaml.is_in(environment) is expected


def test_where_no_interface_is_named_none_is_taken(files: Files) -> None:
    # The loader itself would say "public"; a compute host is inside.
    files.clouds(here={"auth": AUTH})
    assert clouds_yaml.read("here").interfaces == ()


def test_what_is_reported_of_placement_alone_stands_above(files: Files) -> None:
    files.clouds(
        here={
            "auth": AUTH,
            "interface": "public",
            "placement_interface": "internal",
            "placement_endpoint_override": "https://placement",
        }
    )
    found = clouds_yaml.read("here")
    assert (found.interfaces, found.endpoint) == (("internal",), "https://placement")


REGIONS = {"auth": AUTH, "regions": ["One", {"name": "Two", "values": {"auth": {"auth_url": "https://two:5000"}}}]}


@pytest.mark.parametrize(
    ("region", "expected"),
    [(None, ("One", AUTH["auth_url"])), ("One", ("One", AUTH["auth_url"])), ("Two", ("Two", "https://two:5000"))],
)
def test_a_cloud_of_several_regions_is_read_for_one(
    files: Files, region: str | None, expected: tuple[str, str]
) -> None:
    files.clouds(here=REGIONS)
    found = clouds_yaml.read("here", region=region)
    assert (found.region, found.options["auth_url"]) == expected


def test_a_region_that_the_cloud_has_not_is_reported_with_those_that_it_has(files: Files) -> None:
    problem = files.clouds(here=REGIONS).problem("here", "Three")
    assert problem.startswith("keystone.cloud: ")
    assert all(name in problem for name in ("Three", "One", "Two"))


@pytest.mark.parametrize("said", [{"verify": False}, {"insecure": True}], ids=["verify", "insecure"])
def test_a_cloud_that_is_not_to_be_verified_is_refused(files: Files, said: dict[str, Any]) -> None:
    assert files.clouds(here={"auth": AUTH, "cacert": "/ca.pem", **said}).problem("here") == (
        "cloud here: verify is false or insecure is true, and certificates are always verified here; "
        "set cacert to the CA"
    )


def test_the_environment_cannot_switch_verifying_off_either(files: Files) -> None:
    assert "always verified" in files.set(**ENVIRONMENT, OS_INSECURE="true").problem(None)


def test_a_cloud_that_is_not_there_is_reported_with_those_that_are(files: Files) -> None:
    files.clouds(here={"auth": AUTH}, there={"auth": AUTH})
    assert files.problem("nowhere") == (
        f"keystone.cloud: there is no cloud nowhere; {files.directory}/clouds.yaml has here, there"
    )
    assert files.set(OS_CLOUD="nowhere").problem(None).startswith("OS_CLOUD or OS_*: there is no cloud nowhere; ")


def test_without_a_file_the_places_are_reported(files: Files) -> None:
    assert files.problem("here") == (
        "keystone.cloud: there is no cloud here; "
        "no clouds.yaml that can be read is in this directory, ~/.config/openstack or /etc/openstack"
    )


NOT_YAML = {
    "a quote that is open": "clouds:\n  here:\n    auth:\n      password: 's3cr3t\n      username: [nova\n",
    "a tag": "clouds:\n  here:\n    auth:\n      password: !s3cr3t\n",
    "a tab": "clouds:\n\there: s3cr3t\n",
}


@pytest.mark.parametrize("name", ["clouds.yaml", "secure.yaml"])
@pytest.mark.parametrize("text", NOT_YAML.values(), ids=NOT_YAML.keys())
def test_broken_yaml_is_reported_without_its_line(
    files: Files, name: str, text: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    files.clouds(here={"auth": AUTH})
    file = files.directory / name
    file.write_text(text)
    problem = files.problem("here")
    assert problem.startswith(f"keystone.cloud: {file}, line ")
    assert problem.endswith(": this is not YAML")
    assert "s3cr3t" not in f"{caplog.text} {capfd.readouterr()}"


BROKEN: dict[str, Any] = {
    "a list": ["s3cr3t"],
    "a word": "s3cr3t",
    "clouds that are none": {"clouds": ["s3cr3t"]},
    "a cloud that is none": {"clouds": {"here": "s3cr3t"}},
    "an auth that is none": {"clouds": {"here": {"auth": "s3cr3t"}}},
}


@pytest.mark.parametrize("document", BROKEN.values(), ids=BROKEN.keys())
def test_yaml_that_is_no_cloud_is_reported_without_what_is_in_it(files: Files, document: Any) -> None:
    (files.directory / "clouds.yaml").write_text(yaml.safe_dump(document))
    assert files.problem("here").startswith("keystone.cloud: ")


def test_without_the_library_its_extra_is_named(files: Files) -> None:
    # So the import system says that a module is not installed.
    files.monkeypatch.setitem(sys.modules, "openstack.config", None)
    with pytest.raises(SettingsError, match=r"the extra bringup\[clouds\]: in the checkout, .*'\.\[clouds\]'$"):
        clouds_yaml.read("here")


WRONG_KINDS: dict[str, Any] = {
    "cacert": {"cacert": ["s3cr3t"]},
    "cert": {"cacert": "/ca.pem", "cert": ["s3cr3t"]},
    "interface": {"interface": [["s3cr3t"]]},
    "region_name": {"region_name": {"s3cr3t": 1}},
    "a region of regions": {"regions": [{"values": {"auth": {"password": "s3cr3t"}}}]},
    "a name of a region": {"regions": [{"name": ["s3cr3t"], "values": {"auth": {"password": "s3cr3t"}}}]},
    "regions": {"regions": {"s3cr3t": "s3cr3t"}},
    "auth_url": {"auth": {**AUTH, "auth_url": ["s3cr3t"]}},
    "password": {"auth": {**AUTH, "password": {"s3cr3t": "s3cr3t"}}},
    "auth_type": {"auth_type": ["s3cr3t"]},
    "profile": {"profile": ["s3cr3t"]},
}


@pytest.mark.parametrize("said", WRONG_KINDS.values(), ids=WRONG_KINDS.keys())
def test_a_value_of_the_wrong_kind_is_reported_and_not_shown(files: Files, said: dict[str, Any]) -> None:
    files.clouds(here={"auth": AUTH, **said})
    assert files.problem("here")


@pytest.mark.parametrize("text", ["[" * 50_000, "{a: " * 50_000], ids=["lists", "objects"])
def test_deep_nesting_is_reported(files: Files, text: str) -> None:
    (files.directory / "clouds.yaml").write_text("clouds: " + text)
    assert files.problem("here").startswith("keystone.cloud: ")


@pytest.mark.parametrize("profile", ["ovh", "vexxhost", "https://cloud.example.com"])
def test_a_profile_that_would_be_fetched_is_refused_with_what_to_write_instead(files: Files, profile: str) -> None:
    problem = files.clouds(here={"profile": profile, "auth": AUTH}).problem("here")
    assert problem.startswith(f"cloud here: profile {profile} is fetched from ")
    assert "write its auth_url and region_name into the cloud" in problem


def test_a_profile_that_is_in_the_library_is_taken(files: Files) -> None:
    files.clouds(here={"profile": "catalyst", "auth": {"username": "n"}})
    assert (
        clouds_yaml.read("here", region="nz-por-1").options["auth_url"] == "https://api.cloud.catalyst.net.nz:5000/v2.0"
    )
