"""Where a secret would go over the network unencrypted, it is said or refused."""

from pathlib import Path

import pytest

from bringup.daemon.errors import SettingsError
from bringup.daemon.service.assembly import opened_transport
from bringup.daemon.settings import Settings, load
from bringup.daemon.settings.credentials.placement_access import access_of
from bringup.placement.auth import NoAuth
from bringup.placement.catalogue import WantedEndpoint
from bringup.placement.client import PlacementClient, connect
from bringup.placement.credentials import Login, Named, Password
from bringup.placement.errors import NotUnderstood, PlacementError
from bringup.placement.keystone import KeystoneAuth
from bringup.placement.tls import Trust, context
from bringup.placement.unencrypted import is_unencrypted
from support.certificates import Ca
from support.computer import a_computer
from support.faulty_proxy import a_proxy
from support.keystone import PASSWORD, REGION, patient_client
from support.placement import a_peer, an_answer
from support.process import run
from support.scheduler import a_report

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]

FAR = "http://placement.example:8778"
TOKEN = {"token": {"issued_at": "2026-01-01T00:00:00Z", "expires_at": "2026-01-01T01:00:00Z"}}


def an_auth(url: str) -> KeystoneAuth:
    method = Password(user=Named(name="admin"), secret=PASSWORD)
    return KeystoneAuth(Login(auth_url=url, method=method, project=Named(name="admin")))


@pytest.mark.parametrize(
    ("url", "open_"),
    [
        ("http://placement.example:8778", True),
        ("HTTP://10.0.0.1/placement", True),
        ("http://[2001:db8::1]:8778", True),
        ("http://localhost.example", True),
        ("http://localhost.", True),
        ("http://127.1", True),
        ("http://2130706433", True),
        ("http://0.0.0.0", True),
        ("http://[::ffff:127.0.0.1]:8778", True),
        ("https://placement.example", False),
        ("http://localhost:8778", False),
        ("http://127.8.9.10", False),
        ("http://[::1]:8778", False),
    ],
)
def test_what_goes_to_another_host_without_tls_can_be_read(url: str, *, open_: bool) -> None:
    assert is_unencrypted(url) is open_


async def unencrypted_of(url: str, auth: KeystoneAuth | NoAuth | None) -> list[str]:
    async with connect(url, auth=auth) as client:
        return client.unencrypted


async def test_it_is_reported_which_secret_can_be_read() -> None:
    login = "what we log in with goes to Keystone at http://keystone.example:5000/v3 unencrypted: use https://"
    token = f"the token goes to Placement at {FAR} unencrypted: use https://"
    assert await unencrypted_of(FAR, an_auth("http://keystone.example:5000/v3")) == [login, token]
    assert await unencrypted_of(FAR, an_auth("https://keystone.example:5000/v3")) == [token]
    assert await unencrypted_of("https://placement.example", an_auth("http://keystone.example:5000/v3")) == [login]
    assert await unencrypted_of(FAR, NoAuth("s3cr3t")) == [token]
    # What everybody knows is no secret, and what stays on this host is read by nobody.
    assert await unencrypted_of(FAR, NoAuth("admin")) == await unencrypted_of(FAR, None) == []
    assert await unencrypted_of("http://127.0.0.1:8778", an_auth("http://[::1]:5000/v3")) == []


def catalogue(*urls: str) -> bytes:
    endpoints = [{"interface": "internal", "region": REGION, "url": url} for url in urls]
    body = {"token": {**TOKEN["token"], "catalog": [{"type": "placement", "endpoints": endpoints}]}}
    return an_answer(201, body, x_subject_token="t0ken")


async def found(ca: Ca, endpoint: str, *, allow: bool, tls: bool = True) -> PlacementClient:
    """Log in to a Keystone whose catalogue has this endpoint, and ask there."""
    with a_peer(catalogue(endpoint)) as inner, a_proxy(inner.url, tls=ca.serving() if tls else None) as keystone:
        wanted, verify = WantedEndpoint(allow_http=allow), context(Trust(ca_file=ca.file))
        async with patient_client(None, auth=an_auth(keystone.url), wanted=wanted, verify=verify) as client:
            await client.request("GET", "/")
        return client


@pytest.mark.parametrize("endpoint", [FAR, "http://192.0.2.7/placement", "HTTP://placement.invalid"])
async def test_a_catalogue_that_falls_from_https_to_http_is_refused_before_the_token_is_sent(
    tmp_path: Path, endpoint: str
) -> None:
    with pytest.raises(NotUnderstood, match=r"is not https, as Keystone is.*placement\.allow_http_endpoint = true$"):
        await found(Ca(tmp_path), endpoint, allow=False)


@pytest.mark.parametrize(("allow", "tls"), [(True, True), (False, False)], ids=["allowed", "Keystone without TLS"])
async def test_an_endpoint_over_http_is_taken_where_that_is_meant(tmp_path: Path, *, allow: bool, tls: bool) -> None:
    # Nobody is there: it was asked.
    with pytest.raises(PlacementError, match=r"^cannot GET / of Placement at http://placement\.invalid"):
        await found(Ca(tmp_path), "http://placement.invalid", allow=allow, tls=tls)


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://admin:s3cr3t@placement.example",
        "ftp://admin:s3cr3t@placement.example",
        "http://placement.example/?token=s3cr3t",
        "http://placement.example/#s3cr3t",
        "http://admin:s3cr3t@placement.example:x",
        "http://xn--a/?s3cr3t",
        "http://xn--a",
    ],
)
async def test_an_endpoint_that_cannot_be_used_is_reported_without_what_may_be_secret(
    tmp_path: Path, endpoint: str
) -> None:
    with pytest.raises(NotUnderstood, match="of the catalogue") as caught:
        await found(Ca(tmp_path), endpoint, allow=False)
    assert "s3cr3t" not in str(caught.value)


async def test_an_endpoint_on_this_host_needs_no_tls(tmp_path: Path) -> None:
    with a_peer(an_answer(200, {})) as placement:
        client = await found(Ca(tmp_path), placement.url, allow=False)
    assert client.url == placement.url


def settings(directory: Path, *overrides: str) -> Settings:
    config = directory / "bringup.toml"
    config.write_text("")
    return load(config, environment={}, overrides=overrides)


@pytest.mark.parametrize("url", ["http://scheduler.example/reports", "http://10.0.0.5:8790"])
def test_a_token_for_the_scheduler_over_http_is_warned_of(tmp_path: Path, url: str) -> None:
    token = tmp_path / "token"
    token.write_text("s3cr3t")
    token.chmod(0o600)
    (warning,) = settings(
        tmp_path, "scheduler.transport=http", f"scheduler.url={url}", f"scheduler.token_file={token}"
    ).warnings
    assert warning.startswith(f"scheduler.url = {url}: the token goes there unencrypted")


@pytest.mark.parametrize("url", ["https://scheduler.example/reports", "http://localhost:8790", "http://[::1]:8790"])
def test_what_cannot_be_read_is_not_warned_of(tmp_path: Path, url: str) -> None:
    token = tmp_path / "token"
    token.write_text("s3cr3t")
    token.chmod(0o600)
    given = settings(tmp_path, "scheduler.transport=http", f"scheduler.url={url}", f"scheduler.token_file={token}")
    assert given.warnings == ()


async def test_a_ca_for_the_scheduler_is_trusted_and_no_other(tmp_path: Path) -> None:
    ca, other = Ca(tmp_path), Ca(tmp_path, name="other")
    with a_peer(an_answer(200, {})) as inner, a_proxy(inner.url, tls=ca.serving()) as scheduler:
        for trusted in (ca, other):
            given = settings(
                tmp_path,
                "scheduler.transport=http",
                f"scheduler.url={scheduler.url}/reports",
                f"scheduler.ca_file={trusted.file}",
            )
            async with opened_transport(given) as transport:
                assert transport is not None
                if trusted is ca:
                    await transport.send(a_report())
                    continue
                with pytest.raises(Exception, match="cannot send report"):
                    await transport.send(a_report())
    assert scheduler.requests == ["POST /reports"]


@pytest.mark.parametrize("text", [None, "no certificate"], ids=["not there", "no PEM"])
async def test_a_ca_file_that_cannot_be_used_is_a_wrong_setting(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "ca.pem"
    if text is not None:
        path.write_text(text)
    given = settings(
        tmp_path, "scheduler.transport=http", "scheduler.url=https://h/reports", f"scheduler.ca_file={path}"
    )
    with pytest.raises(SettingsError, match=r"scheduler\.ca_file"):
        async with opened_transport(given):
            pass


def test_the_setting_reaches_the_client(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("s3cr3t")
    password.chmod(0o600)
    login = (f"keystone.password_file={password}", "keystone.auth_url=https://k", "keystone.username=u")
    given = settings(tmp_path, *login, "keystone.project_name=x", "placement.allow_http_endpoint=true")
    assert access_of(given, {}).wanted.allow_http


def test_it_is_reported_before_anything_is_sent_and_where_nothing_answers(tmp_path: Path) -> None:
    computer = a_computer(tmp_path, placement="http://placement.invalid:8778").guests([]).records([])
    computer.having(placement={"token": "s3cr3t", "connect_timeout": 1})
    sentence = "the token goes to Placement at http://placement.invalid:8778 unencrypted: use https://"

    checked, ended = run("check", *computer.arguments), computer.run()

    assert (checked.code, ended.code) == (69, 69)
    assert sentence in checked.out
    assert [event["message"] for event in ended.named("placement.unencrypted")] == [sentence]
    assert "s3cr3t" not in checked.out + checked.err + ended.out + ended.err
