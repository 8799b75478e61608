"""The real command and the real Keystone: credentials from wherever they are, and what is said of wrong ones."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.certificates import EXPIRED, VALID, Ca
from support.computer import Computer, a_computer
from support.faulty_proxy import a_proxy
from support.keystone import PASSWORD, REGION, Cloud, a_cloud
from support.process import ENVIRONMENT, WITHOUT_ROOTS_RIGHTS, Ended, run
from support.records import instance

pytestmark = pytest.mark.timeout(180)


@dataclass
class Host:
    """A host that logs in with its own settings, until a test has it otherwise."""

    computer: Computer
    cloud: Cloud
    opened: ExitStack

    @property
    def directory(self) -> Path:
        return self.computer.directory

    def having(self, **sections: dict[str, Any]) -> "Host":
        self.computer.having(**sections)
        return self

    def write_file(self, name: str, text: str) -> Path:
        path = self.directory / name
        path.write_text(text)
        path.chmod(0o600)
        return path

    def without_own(self) -> "Host":
        self.computer.sections["keystone"] = {}
        return self.having(placement={"auth": "keystone"})

    def behind_tls(self, *, days: tuple[int, int] = VALID, url: str | None = None) -> tuple[str, Ca]:
        """Put https in front of Placement, or of another address, with a CA of one's own."""
        ca = Ca(self.directory, days=days)
        proxy = self.opened.enter_context(a_proxy(url or self.cloud.placement_url, tls=ca.serving()))
        return proxy.url, ca

    def check(self, *arguments: str) -> Ended:
        return run("check", *self.computer.arguments, *arguments, env=self.environment())

    def once(self, *arguments: str, **variables: str) -> Ended:
        return self.computer.run(*arguments, env=self.environment(**variables), cwd=self.directory)

    def environment(self, **variables: str) -> dict[str, str]:
        mine = {name: value for name, value in ENVIRONMENT.items() if not name.startswith("OS_")}
        return {**mine, "HOME": str(self.directory), **variables}


@pytest.fixture(scope="module")
def cloud() -> Cloud:
    return a_cloud()


@pytest.fixture
def host(tmp_path: Path, cloud: Cloud) -> Iterator[Host]:
    computer = a_computer(tmp_path).guests([instance(1)]).records([instance(1)])
    with ExitStack() as opened:
        host = Host(computer, cloud, opened)
        yield host.having(
            placement={"url": None, "region": REGION, "wait": 60, "read_timeout": 60},
            keystone={
                "auth_url": cloud.auth_url,
                "username": "admin",
                "project_name": "admin",
                "password_file": str(host.write_file("password", PASSWORD + "\n")),
            },
        )


def test_check_admits_permitted_users(host: Host) -> None:
    ended = host.check("--json")
    (found,) = [event for event in ended.events if event["check"] == "placement"]
    assert (ended.code, found["status"]) == (0, "warning")
    assert host.cloud.placement_url in found["message"]
    assert host.cloud.auth_url not in found["message"]


def wrong_password(host: Host) -> str:
    host.write_file("password", "wr0ng")
    return (
        "Keystone does not let user admin (domain default), project admin (domain default) in (answered 401); "
        "check its name, its domain, its password or secret, and its role in that scope (request "
    )


def wrong_region(host: Host) -> str:
    host.having(placement={"region": "RegionThree"})
    return (
        "the catalogue has no internal or public endpoint of Placement in region RegionThree; "
        "it has RegionOne (internal, public), RegionTwo (public); set placement.region and placement.interfaces"
    )


def no_region(host: Host) -> str:
    host.having(placement={"region": None})
    return "the catalogue has Placement in the regions RegionOne, RegionTwo; set placement.region to this host's"


def no_endpoint(host: Host) -> str:
    host.having(placement={"interfaces": ["admin"]})
    return "the catalogue has no admin endpoint of Placement in region RegionOne; it has RegionOne (internal, public)"


def expired_ca(host: Host) -> str:
    url, ca = host.behind_tls(days=EXPIRED)
    host.having(placement={"url": url, "ca_file": str(ca.file)})
    return (
        f"cannot GET /resource_providers of Placement at {url}: its certificate is not accepted: certificate has "
        "expired; renew it, or the CA that signed it, and check the clock of this host"
    )


def expired_ca_of_keystone(host: Host) -> str:
    url, ca = host.behind_tls(days=EXPIRED, url=host.cloud.auth_url.removesuffix("/v3"))
    host.having(keystone={"auth_url": url}, placement={"ca_file": str(ca.file)})
    return (
        f"cannot get a token of Keystone at {url}: its certificate is not accepted: certificate has expired; renew it"
    )


def unknown_ca(host: Host) -> str:
    url, _ = host.behind_tls()
    host.having(placement={"url": url})
    return "set placement.ca_file to the CA that signed it"


def missing_provider(host: Host) -> str:
    host.having(placement={"create_resource_provider": False})
    name = host.computer.sections["placement"]["resource_provider"]
    return f"there is none; make it with: openstack resource provider create {name}, or set placement.create_resource"


def no_keystone(host: Host) -> str:
    host.having(keystone={"auth_url": host.cloud.auth_url + "/users"})
    return "there is no Keystone v3 API (answered 404); check auth_url"


def placement_for_keystone(host: Host) -> str:
    host.having(keystone={"auth_url": host.cloud.placement_url})
    return "check that auth_url names Keystone's v3 API, and check its name"


SENTENCES: dict[str, Callable[[Host], str]] = {
    "a wrong password": wrong_password,
    "a wrong region": wrong_region,
    "no region where there are two": no_region,
    "no endpoint": no_endpoint,
    "an expired CA": expired_ca,
    "an expired CA of Keystone": expired_ca_of_keystone,
    "a CA that nobody named": unknown_ca,
    "a missing provider": missing_provider,
    "an address without Keystone": no_keystone,
    "an address of another service": placement_for_keystone,
}


@pytest.mark.parametrize("spoil", SENTENCES.values(), ids=SENTENCES.keys())
def test_check_says_in_one_sentence_what_to_repair(host: Host, spoil: Callable[[Host], str]) -> None:
    said = spoil(host)

    ended = host.check()

    assert ended.code == 69
    (line,) = [line for line in ended.out.splitlines() if line.startswith("failed ")]
    assert line.startswith("failed   placement  cannot ")
    assert said in line
    # Nothing of the libraries below, whose words are not an operator's.
    assert not any(word in line for word in ("Traceback", "_ssl.c", "Errno", "HTTPStatusError"))
    assert ended.err == ""


def missing_ca(host: Host) -> str:
    host.having(placement={"ca_file": "/nowhere/ca.pem"})
    return "cannot use placement.ca_file /nowhere/ca.pem: no such file or directory"


def no_scope(host: Host) -> str:
    host.having(keystone={"project_name": None})
    return (
        "keystone.project_name, keystone.project_id, keystone.system_scope: one of them is needed, "
        "or the token is of no use"
    )


def missing_cloud(host: Host) -> str:
    host.without_own().having(keystone={"cloud": "nowhere"})
    return "keystone.cloud: there is no cloud nowhere; no clouds.yaml that can be read is in this directory"


def missing_nova_conf(host: Host) -> str:
    host.without_own().having(keystone={"nova_conf": "/nowhere/nova.conf"})
    return "keystone.nova_conf: /nowhere/nova.conf is not there; name the nova.conf of this host"


SETTINGS: dict[str, Callable[[Host], str]] = {
    "a CA file that is not there": missing_ca,
    "no scope": no_scope,
    "a cloud that is not there": missing_cloud,
    "a nova.conf that is not there": missing_nova_conf,
}


@pytest.mark.parametrize("spoil", SETTINGS.values(), ids=SETTINGS.keys())
def test_check_and_run_name_the_setting_that_is_wrong(host: Host, spoil: Callable[[Host], str]) -> None:
    said = spoil(host)

    ended = host.check()
    assert ended.code == 78
    (line,) = [line for line in ended.out.splitlines() if line.startswith("failed ")]
    assert line.startswith(f"failed   placement  {said}")

    ended = host.once()
    assert ended.code == 78
    assert said in json.loads(ended.err)["message"]
    assert ended.outcomes == {}


UNREADABLE: dict[str, tuple[str, str]] = {
    "nova.conf": ("nova_conf", "keystone.nova_conf: {path} cannot be read by this user; let it read them"),
    "a secret": (
        "password_file",
        'keystone.password_file = "{path}" (--set): give a file that can be read (Permission denied)',
    ),
}


@pytest.mark.parametrize(("key", "said"), UNREADABLE.values(), ids=UNREADABLE.keys())
def test_a_file_that_this_user_cannot_read_is_named(host: Host, key: str, said: str) -> None:
    path = host.write_file("unreadable", PASSWORD)
    path.chmod(0)
    host.without_own()

    arguments = ("--set", f"keystone.{key}={path}")
    ended = run("check", *host.computer.arguments, *arguments, env=host.environment(), within=WITHOUT_ROOTS_RIGHTS)

    assert ended.code == 78
    assert said.format(path=path) in ended.out


def assert_brought_back(host: Host, ended: Ended) -> None:
    assert ended.code == 0, ended.err
    (passed,) = ended.named("placement.passed")
    name = host.computer.sections["placement"]["resource_provider"]
    assert passed["provider"] == name
    assert len(ended.outcomes) == 1
    assert PASSWORD not in ended.out + ended.err


def test_run_with_our_own_settings(host: Host) -> None:
    assert_brought_back(host, host.once())


def test_run_with_an_application_credential(host: Host) -> None:
    uid, _, secret = host.cloud.an_application_credential()
    host.without_own().having(
        keystone={
            "auth_url": host.cloud.auth_url,
            "auth_type": "application_credential",
            "application_credential_id": uid,
            "application_credential_secret_file": str(host.write_file("secret", secret)),
        }
    )
    assert_brought_back(host, host.once())


def test_run_with_a_credential_of_systemd(host: Host) -> None:
    host.having(keystone={"password_file": None})
    (host.directory / "credentials").mkdir()
    host.write_file("credentials/keystone.password", PASSWORD)
    assert_brought_back(host, host.once(CREDENTIALS_DIRECTORY=str(host.directory / "credentials")))


def test_run_with_clouds_yaml_and_secure_yaml(host: Host) -> None:
    auth = {"auth_url": host.cloud.auth_url, "username": "admin", "project_name": "admin"}
    domains = {"user_domain_id": "default", "project_domain_name": "Default"}
    # JSON is YAML, and these are found in the directory where the command is run.
    host.write_file(
        "clouds.yaml", json.dumps({"clouds": {"here": {"auth": {**auth, **domains}, "region_name": REGION}}})
    )
    host.write_file("secure.yaml", json.dumps({"clouds": {"here": {"auth": {"password": PASSWORD}}}}))
    host.without_own().having(placement={"region": None})
    assert_brought_back(host, host.once("--set", "keystone.cloud=here"))
    assert_brought_back(host, host.once(OS_CLOUD="here"))


def test_run_with_the_variables_of_an_openrc_file(host: Host) -> None:
    host.without_own().having(placement={"region": None})
    variables = {
        "OS_AUTH_URL": host.cloud.auth_url,
        "OS_USERNAME": "admin",
        "OS_PASSWORD": PASSWORD,
        "OS_PROJECT_NAME": "admin",
        "OS_USER_DOMAIN_NAME": "Default",
        "OS_PROJECT_DOMAIN_ID": "default",
        "OS_REGION_NAME": REGION,
        "OS_INTERFACE": "public",
        "OS_IDENTITY_API_VERSION": "3",
    }
    assert_brought_back(host, host.once(**variables))


def test_run_with_the_nova_conf_of_this_host_over_tls(host: Host) -> None:
    url, ca = host.behind_tls(url=host.cloud.auth_url.removesuffix("/v3"))
    text = f"""
[DEFAULT]
my_ip = localhost
[placement]
auth_section = keystone_authtoken
region_name = {REGION}
valid_interfaces = internal
cafile = {ca.file}
[keystone_authtoken]
auth_type = password
auth_url = {url.replace("localhost", "$my_ip")}
username = admin
project_name = admin
user_domain_name = Default
project_domain_name = Default
"""
    main, more = host.write_file("nova.conf", text), host.write_file("secrets.conf", "")
    more.write_text(f"[keystone_authtoken]\npassword = {PASSWORD.replace('$', '$$')}\n")
    host.without_own().having(placement={"auth": None, "region": None})
    assert_brought_back(host, host.once("--nova-conf", str(main), "--nova-conf", str(more)))
