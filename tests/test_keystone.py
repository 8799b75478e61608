"""Logging in to the real Keystone, and the real Placement behind it."""

from collections.abc import Callable

import anyio
import httpx
import pytest
from structlog.testing import capture_logs

from bringup.placement.auth import TOKEN_HEADER
from bringup.placement.catalogue import WantedEndpoint
from bringup.placement.client import PlacementClient
from bringup.placement.credentials import ApplicationCredential, GivenToken, Login, Method, Named, Password
from bringup.placement.errors import GateClosed, NotUnderstood, PlacementError, Unauthorized, Unreachable
from bringup.placement.gate import pass_gate
from bringup.placement.keystone import KeystoneAuth
from support.keystone import PASSWORD, REGION, Cloud, a_cloud, end, patient_client, start_cloud
from support.placement import HANG, a_peer, an_answer, nobody

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]

ADMIN = Password(user=Named(name="admin"), secret=PASSWORD)
PROJECT = Named(name="admin")
HERE = WantedEndpoint(region=REGION)
PROVIDERS = "/resource_providers"


@pytest.fixture(scope="module")
def cloud() -> Cloud:
    return a_cloud()


def an_identity(cloud: Cloud, method: Method = ADMIN, **scope: object) -> Login:
    return Login(auth_url=cloud.auth_url, method=method, **(scope or {"project": PROJECT}))  # type: ignore[arg-type]


async def ask(auth: KeystoneAuth, times: int = 1, wanted: WantedEndpoint = HERE) -> PlacementClient:
    async with patient_client(None, auth=auth, wanted=wanted) as client:
        for _ in range(times):
            await client.request("GET", PROVIDERS, params={"name": "x"})
        return client


async def test_a_password_gets_one_token_for_many_requests_and_finds_placement(cloud: Cloud) -> None:
    auth = KeystoneAuth(an_identity(cloud))
    client = await ask(auth, 5)
    assert (auth.logins, client.url) == (1, cloud.placement_url)


async def test_domains_and_projects_go_by_id_too(cloud: Cloud) -> None:
    project = cloud.call("GET", "/projects?name=admin")["projects"][0]["id"]
    user = cloud.call("GET", "/users?name=admin")["users"][0]["id"]
    method = Password(user=Named(id=user), secret=PASSWORD)
    await ask(KeystoneAuth(an_identity(cloud, method, project=Named(id=project))))
    method = Password(user=Named(name="admin", domain_name="Default"), secret=PASSWORD)
    await ask(KeystoneAuth(an_identity(cloud, method, project=Named(name="admin", domain_name="Default"))))


async def test_the_whole_system_is_a_scope(cloud: Cloud) -> None:
    name, password = cloud.a_user()
    auth = KeystoneAuth(an_identity(cloud, Password(user=Named(name=name), secret=password), system=True))
    # Placement itself wants a project.
    with pytest.raises(Unauthorized, match="answered 403"):
        await ask(auth)
    assert (auth.logins, "system scope" in str(auth.identity)) == (1, True)


@pytest.mark.parametrize("by_name", [False, True], ids=["id", "name"])
async def test_an_application_credential_brings_its_own_scope(cloud: Cloud, *, by_name: bool) -> None:
    uid, name, secret = cloud.an_application_credential()
    method = (
        ApplicationCredential(name=name, user=Named(name="admin"), secret=secret)
        if by_name
        else ApplicationCredential(id=uid, secret=secret)
    )
    await ask(KeystoneAuth(an_identity(cloud, method)))


async def test_a_token_buys_another_token(cloud: Cloud) -> None:
    await ask(KeystoneAuth(an_identity(cloud, GivenToken(secret=cloud.token()))))


async def test_an_address_with_and_without_its_version_is_the_same(cloud: Cloud) -> None:
    for url in (cloud.auth_url, cloud.auth_url + "/", cloud.auth_url.removesuffix("/v3")):
        await ask(KeystoneAuth(Login(auth_url=url, method=ADMIN, project=PROJECT)))


async def test_many_requests_at_once_cause_one_login(cloud: Cloud) -> None:
    auth = KeystoneAuth(an_identity(cloud))
    async with patient_client(None, auth=auth, wanted=HERE) as client, anyio.create_task_group() as group:
        for _ in range(12):
            group.start_soon(client.request, "GET", PROVIDERS)
    assert auth.logins == 1


async def test_a_token_that_was_revoked_is_renewed_unseen_and_once(cloud: Cloud) -> None:
    auth = KeystoneAuth(an_identity(cloud))
    async with patient_client(None, auth=auth, wanted=HERE) as client:
        await client.request("GET", PROVIDERS)
        _, token = auth.secrets
        await anyio.to_thread.run_sync(cloud.revoke, token)
        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(client.request, "GET", PROVIDERS)
    assert auth.logins == 2


async def test_a_token_is_renewed_before_its_end(cloud: Cloud) -> None:
    ticks = [0.0]
    auth = KeystoneAuth(an_identity(cloud), clock=lambda: ticks[0])
    async with patient_client(None, auth=auth, wanted=HERE) as client:
        for ticks[0], logins in ((0.0, 1), (3569.0, 1), (3570.0, 2)):
            await client.request("GET", PROVIDERS)
            assert auth.logins == logins


async def test_a_token_of_four_seconds_that_ends_in_the_middle_is_invisible_to_who_asks() -> None:
    short = await anyio.to_thread.run_sync(a_cloud, 4)
    # A clock that stands still: only the 401 tells that a token has ended.
    auth = KeystoneAuth(an_identity(short), clock=lambda: 0.0)
    async with patient_client(None, auth=auth, wanted=HERE) as client:
        with anyio.fail_after(60):
            while auth.logins < 3:
                await client.request("GET", PROVIDERS)


async def test_a_token_that_is_refused_twice_is_given_up(cloud: Cloud) -> None:
    with a_peer(an_answer(401, {"error": {"message": "Not that one."}})) as peer:
        auth = KeystoneAuth(an_identity(cloud))
        async with patient_client(peer.url, auth=auth) as client:
            with pytest.raises(Unauthorized, match=r"Not that one"):
                await client.request("GET", PROVIDERS)
    assert (len(peer.requests), auth.logins) == (2, 2)


WRONG: dict[str, tuple[Callable[[Cloud], Login], type[PlacementError], str]] = {
    "password": (
        lambda c: an_identity(c, Password(user=Named(name="admin"), secret="wr0ng s3cr3t")),
        Unauthorized,
        "Keystone does not let user admin (domain default), project admin (domain default) in (answered 401)",
    ),
    "project": (lambda c: an_identity(c, project=Named(name="nowhere")), Unauthorized, "project nowhere"),
    "token": (
        lambda c: an_identity(c, GivenToken(secret="wr0ng-s3cr3t")),
        PlacementError,
        "the token",
    ),
    "address": (
        lambda c: Login(auth_url=c.auth_url + "/nothing", method=ADMIN, project=PROJECT),
        NotUnderstood,
        "there is no Keystone v3 API (answered 404); check auth_url",
    ),
    "another service": (
        lambda c: Login(auth_url=c.placement_url, method=ADMIN, project=PROJECT),
        PlacementError,
        "get a token of Keystone at",
    ),
}


@pytest.mark.parametrize(("identity", "kind", "said"), WRONG.values(), ids=WRONG.keys())
async def test_what_an_operator_must_repair_is_one_sentence_without_a_secret(
    cloud: Cloud, identity: Callable[[Cloud], Login], kind: type[PlacementError], said: str
) -> None:
    auth = KeystoneAuth(identity(cloud))
    with pytest.raises(kind) as caught:
        await ask(auth)
    assert not caught.value.transient
    assert said in str(caught.value)
    assert "s3cr3t" not in f"{caught.value!r} {caught.value} {auth!r} {auth.identity!r} {vars(caught.value)}"


async def test_a_region_that_is_not_there_is_reported_with_those_that_are(cloud: Cloud) -> None:
    with pytest.raises(NotUnderstood, match=r"region Three; it has RegionOne \(internal, public\), RegionTwo"):
        await ask(KeystoneAuth(an_identity(cloud)), wanted=WantedEndpoint(region="Three"))


async def test_a_token_without_a_scope_has_no_catalogue(cloud: Cloud) -> None:
    name, password = cloud.a_user()
    with pytest.raises(NotUnderstood, match="the token has no scope with a role in it"):
        await ask(KeystoneAuth(Login(auth_url=cloud.auth_url, method=Password(user=Named(name=name), secret=password))))


TROUBLE = {
    "away": (None, "connection refused"),
    "busy": (an_answer(503, b"", retry_after="7"), "answered 503"),
    "silent": (HANG, "no answer in time"),
}


@pytest.mark.parametrize(("answer", "said"), TROUBLE.values(), ids=TROUBLE.keys())
async def test_a_keystone_in_trouble_may_come_back(answer: bytes | None, said: str) -> None:
    with nobody() as away, a_peer(answer or HANG) as peer:
        url = away if answer is None else peer.url
        auth = KeystoneAuth(Login(auth_url=url, method=ADMIN, project=PROJECT))
        async with patient_client(None, auth=auth, read_timeout_s=0.3) as client:
            with pytest.raises(Unreachable) as caught:
                await client.request("GET", PROVIDERS)
    assert str(caught.value).startswith(f"cannot get a token of Keystone at {url}: ")
    assert said in caught.value.why
    if answer is not None and answer != HANG:
        assert caught.value.retry_after_s == 7


@pytest.mark.parametrize(
    ("answer", "wait_s", "said"),
    [
        (None, 0.0, "connection refused); check that Keystone runs, that auth_url is right"),
        (an_answer(503, b""), 0.0, "answered 503); check the log of Keystone"),
        (HANG, 0.2, "no answer yet); check that Keystone runs"),
    ],
    ids=["away", "busy", "silent"],
)
async def test_a_gate_that_keystone_keeps_closed_reports_it(answer: bytes | None, wait_s: float, said: str) -> None:
    with nobody() as away, a_peer(answer or HANG) as peer:
        url = away if answer is None else peer.url
        auth = KeystoneAuth(Login(auth_url=url, method=ADMIN, project=PROJECT))
        async with patient_client(None, auth=auth) as client:
            with pytest.raises(GateClosed, match="cannot start without Placement") as caught:
                await pass_gate(client, provider="compute-1", wait_s=wait_s)
    assert f"last: cannot get a token of Keystone at {url}: " in str(caught.value)
    assert said in str(caught.value)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_placement_whose_keystone_is_away_is_distinguished_from_one_that_is_silent() -> None:
    cloud = await anyio.to_thread.run_sync(start_cloud)
    assert cloud.keystone is not None
    async with patient_client(cloud.placement_url, auth=KeystoneAuth(an_identity(cloud))) as client:
        await client.request("GET", PROVIDERS)
        await anyio.to_thread.run_sync(end, cloud.keystone)
        # It tries for seconds before it says so: longer than many a read timeout.
        with pytest.raises(Unreachable, match=r"answered 503; .*Keystone") as caught:
            await client.request("GET", PROVIDERS)
    assert caught.value.transient


NO_TOKENS = {
    "a page": an_answer(200, b"<html>"),
    "no header": an_answer(201, {"token": {"expires_at": "2030-01-01T00:00:00Z"}}),
    "no end": an_answer(201, {"token": {}}, x_subject_token="t"),
    "compressed": an_answer(201, {"token": {}}, content_encoding="gzip"),
}


@pytest.mark.parametrize("answer", NO_TOKENS.values(), ids=NO_TOKENS.keys())
async def test_an_answer_without_a_token_is_not_understood(answer: bytes) -> None:
    with a_peer(answer) as peer, pytest.raises(NotUnderstood, match="get a token of Keystone"):
        await ask(KeystoneAuth(Login(auth_url=peer.url, method=ADMIN, project=PROJECT)))


@pytest.mark.parametrize(
    ("issued_at", "expires_at", "stale_at"),
    [
        ("2026-01-01T00:00:00.000000Z", "2026-01-01T01:00:00.000000Z", 3570.0),
        ("2026-01-01T00:00:00.000000Z", "2026-01-01T00:00:08.000000Z", 6.0),
        ("2026-01-01T00:00:00.000000Z", "2025-01-01T00:00:00.000000Z", 0.0),
        (None, "2026-01-01T00:00:00.000000Z", 270.0),
        ("yesterday", "tomorrow", 270.0),
    ],
)
async def test_a_token_lives_by_keystones_own_clock(issued_at: str | None, expires_at: str, stale_at: float) -> None:
    token: dict[str, object] = {"issued_at": issued_at, "expires_at": expires_at, "catalog": []}
    answer = an_answer(201, {"token": token}, x_subject_token="t")
    ticks = [0.0]
    with a_peer(answer) as keystone, a_peer(an_answer(content={})) as placement:
        auth = KeystoneAuth(Login(auth_url=keystone.url, method=ADMIN, project=PROJECT), clock=lambda: ticks[0])
        async with patient_client(placement.url, auth=auth) as client:
            for ticks[0] in (0.0, max(stale_at - 0.1, 0.0), stale_at):
                await client.request("GET", "/")
    logins = [head for head in keystone.requests if head.startswith("POST /v3/auth/tokens ")]
    assert len(logins) == (2 if stale_at else 3)


async def test_no_secret_is_logged(cloud: Cloud) -> None:
    with capture_logs() as logs:
        auth = KeystoneAuth(an_identity(cloud))
        await ask(auth, 2)
        for secret in auth.secrets:
            assert secret not in f"{logs} {auth!r} {auth.identity!r} {auth.identity.method!r}"


async def test_the_answer_may_echo_a_secret_and_the_error_does_not() -> None:
    refused = pytest.raises(NotUnderstood, match=r"no \*\*\* here")
    with a_peer(an_answer(400, {"error": {"message": f"no {PASSWORD} here"}})) as peer, refused:
        await ask(KeystoneAuth(Login(auth_url=peer.url, method=ADMIN, project=PROJECT)))


def test_it_is_for_the_event_loop_only(cloud: Cloud) -> None:
    refused = pytest.raises(RuntimeError, match="is for an AsyncClient")
    with httpx.Client(auth=KeystoneAuth(an_identity(cloud))) as client, refused:
        client.get(cloud.placement_url)


async def test_the_token_is_for_placement_only(cloud: Cloud) -> None:
    with a_peer(an_answer(302, b"", location="http://elsewhere.invalid/")) as peer:
        async with patient_client(peer.url, auth=KeystoneAuth(an_identity(cloud))) as client:
            with pytest.raises(NotUnderstood, match="it redirects to http://elsewhere"):
                await client.request("GET", PROVIDERS)
    assert len(peer.requests) == 1
    assert TOKEN_HEADER.lower() in peer.requests[0].lower()
