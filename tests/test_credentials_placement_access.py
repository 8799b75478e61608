"""From the settings, wherever they lead, to how Placement is reached."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from bringup.daemon.errors import SettingsError
from bringup.daemon.settings import load
from bringup.daemon.settings.credentials import Access, access_of
from bringup.placement.auth import NoAuth
from bringup.placement.credentials import ApplicationCredential, GivenToken, Login, Named, Password
from bringup.placement.keystone import KeystoneAuth
from bringup.placement.tls import Trust
from support.settings_files import problems

NOVA_CONF = """
[placement]
auth_type = password
auth_url = https://conf:5000
username = conf-user
password = s3cr3t
project_name = service
region_name = conf-region
valid_interfaces = admin
cafile = /conf/ca.pem
certfile = /conf/cert.pem
keyfile = /conf/key.pem
"""
CLOUD = {
    "auth": {
        "auth_url": "https://cloud:5000",
        "username": "cloud-user",
        "password": "s3cr3t",
        "project_name": "service",
    },
    "region_name": "cloud-region",
    "interface": "public",
    "cacert": "/cloud/ca.pem",
    "cert": "/cloud/cert.pem",
    "key": "/cloud/key.pem",
}
OS = {
    "OS_AUTH_URL": "https://env:5000",
    "OS_USERNAME": "env-user",
    "OS_PASSWORD": "s3cr3t",
    "OS_PROJECT_NAME": "service",
}
OWN = ["keystone.auth_url=https://own:5000", "keystone.username=own-user", "keystone.project_name=service"]


class Host:
    """What an operator's host has: a nova.conf, a clouds.yaml, a file with a password, an environment."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.nova_conf = directory / "nova.conf"
        self.nova_conf.write_text(NOVA_CONF)
        clouds = directory / "clouds.yaml"
        clouds.write_text(yaml.safe_dump({"clouds": {"here": CLOUD}}))
        self.password = directory / "password"
        self.password.write_text("s3cr3t\n")
        self.password.chmod(0o600)
        self._monkeypatch = monkeypatch
        for name in [name for name in os.environ if name.startswith("OS_")]:
            monkeypatch.delenv(name)
        self.set(OS_CLIENT_CONFIG_FILE=str(clouds), OS_CLIENT_SECURE_FILE=str(directory / "secure.yaml"))

    def set(self, **variables: str) -> None:
        for name, value in variables.items():
            self._monkeypatch.setenv(name, value)

    def access(self, *overrides: str, **environment: str) -> Access:
        self.set(**{name: value for name, value in environment.items() if name.startswith("OS_")})
        found = access_of(load(None, environment=environment, overrides=overrides))
        assert "s3cr3t" not in repr(found)
        return found

    def problem(self, *overrides: str, **environment: str) -> str:
        with pytest.raises(SettingsError) as caught:
            self.access(*overrides, **environment)
        (problem,) = caught.value.problems
        assert "s3cr3t" not in problem
        return problem


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path, monkeypatch)


def identity_of(access: Access) -> Login:
    assert isinstance(access.auth, KeystoneAuth)
    return access.auth.identity


def user_of(access: Access) -> str | None:
    method = identity_of(access).method
    assert isinstance(method, Password)
    assert method.secret == "s3cr3t"
    return method.user.name


def test_our_own_settings(host: Host) -> None:
    access = host.access(*OWN, f"keystone.password_file={host.password}")
    assert identity_of(access) == Login(
        auth_url="https://own:5000",
        method=Password(user=Named(name="own-user"), secret="s3cr3t"),
        project=Named(name="service"),
    )
    assert (access.url, tuple(access.wanted.interfaces), access.wanted.region) == (None, ("internal", "public"), None)
    assert access.trust == Trust()


def test_an_application_credential_and_a_token_of_our_own_settings(host: Host) -> None:
    secret = f"keystone.application_credential_secret_file={host.password}"
    kind = "keystone.auth_type=application_credential"
    access = host.access(OWN[0], kind, "keystone.application_credential_id=a1", secret)
    assert identity_of(access).method == ApplicationCredential(id="a1", secret="s3cr3t")
    access = host.access(OWN[0], OWN[2], "keystone.auth_type=token", f"keystone.token_file={host.password}")
    assert identity_of(access).method == GivenToken(secret="s3cr3t")


SOURCES: dict[str, tuple[list[str], dict[str, str], str]] = {
    "own settings": ([*OWN, "keystone.password_file={password}"], {}, "own-user"),
    "own settings, over OS_*": ([*OWN, "keystone.password_file={password}"], OS, "own-user"),
    "own settings, over OS_CLOUD": ([*OWN, "keystone.password_file={password}"], {"OS_CLOUD": "here"}, "own-user"),
    "nova.conf": (["keystone.nova_conf={nova_conf}"], {}, "conf-user"),
    "nova.conf, over OS_*": (["keystone.nova_conf={nova_conf}"], OS, "conf-user"),
    "a cloud": (["keystone.cloud=here"], {}, "cloud-user"),
    "a cloud, over OS_*": (["keystone.cloud=here"], OS, "cloud-user"),
    "OS_CLOUD": (["placement.auth=keystone"], {"OS_CLOUD": "here"}, "cloud-user"),
    "OS_*": (["placement.auth=keystone"], OS, "env-user"),
}


@pytest.mark.parametrize(("overrides", "environment", "user"), SOURCES.values(), ids=SOURCES.keys())
def test_credentials_come_from_one_place(
    host: Host, overrides: list[str], environment: dict[str, str], user: str
) -> None:
    paths = {"password": host.password, "nova_conf": host.nova_conf}
    assert user_of(host.access(*(text.format(**paths) for text in overrides), **environment)) == user


FOUND: dict[str, tuple[str, str, str, tuple[str, str, str]]] = {
    "nova.conf": (
        "keystone.nova_conf={nova_conf}",
        "conf",
        "admin",
        ("[placement] cafile", "[placement] certfile", "[placement] keyfile"),
    ),
    "a cloud": (
        "keystone.cloud=here",
        "cloud",
        "public",
        ("cloud here: cacert", "cloud here: cert", "cloud here: key"),
    ),
}


@pytest.mark.parametrize(("override", "word", "interface", "names"), FOUND.values(), ids=FOUND.keys())
def test_what_goes_with_the_credentials_is_taken_from_where_they_are(
    host: Host, override: str, word: str, interface: str, names: tuple[str, str, str]
) -> None:
    access = host.access(override.format(nova_conf=host.nova_conf))
    assert (access.wanted.region, tuple(access.wanted.interfaces)) == (f"{word}-region", (interface,))
    assert access.trust == Trust(
        ca_file=Path(f"/{word}/ca.pem"),
        cert_file=Path(f"/{word}/cert.pem"),
        key_file=Path(f"/{word}/key.pem"),
        ca_name=names[0],
        cert_name=names[1],
        key_name=names[2],
    )


@pytest.mark.parametrize("override", ["keystone.nova_conf={nova_conf}", "keystone.cloud=here"])
def test_our_own_settings_of_placement_stand_above_it(host: Host, override: str) -> None:
    override = override.format(nova_conf=host.nova_conf)
    access = host.access(
        override,
        "placement.url=http://own",
        'placement.interfaces=["internal", "public"]',
        "placement.ca_file=/own/ca.pem",
        "placement.cert_file=/own/both.pem",
    )
    assert (access.url, tuple(access.wanted.interfaces)) == ("http://own", ("internal", "public"))
    # The key that was found is of another certificate.
    assert access.trust == Trust(ca_file=Path("/own/ca.pem"), cert_file=Path("/own/both.pem"))

    only_ca = host.access(override, "placement.ca_file=/own/ca.pem").trust
    assert (only_ca.ca_name, only_ca.cert_file is None) == ("placement.ca_file", False)


def test_our_own_region_stands_above_the_one_of_nova_conf(host: Host) -> None:
    assert host.access(f"keystone.nova_conf={host.nova_conf}", "placement.region=own").wanted.region == "own"


def test_an_endpoint_that_is_given_is_not_looked_for(host: Host) -> None:
    host.nova_conf.write_text(NOVA_CONF + "endpoint_override = https://conf-placement/\n")
    assert host.access(f"keystone.nova_conf={host.nova_conf}").url == "https://conf-placement"


@pytest.mark.parametrize("url", ["https://user:s3cr3t@placement", "placement:8778"])
def test_an_endpoint_that_is_none_is_not_shown(host: Host, url: str) -> None:
    host.nova_conf.write_text(NOVA_CONF + f"endpoint_override = {url}\n")
    problem = host.problem(f"keystone.nova_conf={host.nova_conf}")
    assert problem.startswith("[placement] endpoint_override is not an address: give ")


WITHOUT_KEYSTONE = {
    "none": ("auth_type = none\n", None),
    "noauth": ("auth_type = noauth\n", None),
    "admin_token": ("auth_type = admin_token\ntoken = s3cr3t\n", "s3cr3t"),
}


@pytest.mark.parametrize(("lines", "token"), WITHOUT_KEYSTONE.values(), ids=WITHOUT_KEYSTONE.keys())
def test_a_placement_that_asks_no_keystone(host: Host, lines: str, token: str | None) -> None:
    host.nova_conf.write_text(f"[placement]\n{lines}endpoint = http://conf-placement\n")
    access = host.access(f"keystone.nova_conf={host.nova_conf}")
    assert access.url == "http://conf-placement"
    assert isinstance(access.auth, NoAuth) is (token is not None)

    host.nova_conf.write_text(f"[placement]\n{lines}")
    problem = host.problem(f"keystone.nova_conf={host.nova_conf}")
    assert problem == "placement.url is missing, and without Keystone there is no catalogue to find it in"


@pytest.mark.parametrize(
    ("overrides", "kind"),
    [(["placement.auth=none"], type(None)), ([], NoAuth)],
    ids=["none", "noauth"],
)
def test_without_keystone_the_address_is_ours(host: Host, overrides: list[str], kind: type) -> None:
    access = host.access("placement.url=http://own", *overrides, **OS)
    assert access.url == "http://own"
    assert isinstance(access.auth, kind)
    assert host.problem(*overrides).startswith("placement.url is missing, and this host may not start guests")


def test_no_credentials_at_all_are_reported_with_where_they_may_be(host: Host) -> None:
    assert host.problem("placement.auth=keystone") == (
        'placement.auth = "keystone", and there are no credentials: give keystone.auth_url and what goes with it, '
        "keystone.cloud (clouds.yaml), keystone.nova_conf, or OS_CLOUD or OS_AUTH_URL in the environment"
    )


@pytest.mark.parametrize("environment", [{}, OS], ids=["nothing else", "OS_*"])
def test_half_of_our_own_credentials_are_not_made_whole_from_elsewhere(host: Host, environment: dict[str, str]) -> None:
    assert host.problem(f"keystone.password_file={host.password}", **environment) == (
        "keystone.auth_url is missing, and keystone.password_file is of no use without it"
    )


@pytest.mark.parametrize("way", ["keystone.cloud=here", "keystone.nova_conf=/etc/nova/nova.conf"])
def test_our_own_credentials_beside_those_of_another_place_are_refused(host: Host, way: str) -> None:
    (problem,) = problems(None, overrides=[way, "keystone.username=x", f"keystone.password_file={host.password}"])
    name = way.partition("=")[0]
    assert problem == (
        f"keystone.username (--set) and keystone.password_file (--set) are of no use beside {name}: "
        "the credentials come from one place"
    )


SCOPES = "keystone.project_name, keystone.project_id, keystone.system_scope"
MISSING: Mapping[str, tuple[list[str], Any]] = {
    "everything": (
        OWN[:1],
        (
            "keystone.username or keystone.user_id is missing: auth_type password needs it",
            "keystone.password is missing: auth_type password needs it",
            f"{SCOPES}: one of them is needed, or the token is of no use",
        ),
    ),
    "the password": (OWN, ("keystone.password is missing: auth_type password needs it",)),
}


@pytest.mark.parametrize(("overrides", "expected"), MISSING.values(), ids=MISSING.keys())
def test_what_is_missing_is_named_as_the_operator_sets_it(host: Host, overrides: list[str], expected: Any) -> None:
    with pytest.raises(SettingsError) as caught:
        host.access(*overrides)
    assert caught.value.problems == expected
