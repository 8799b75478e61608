"""A restart of the service: the next process continues with the token and with the wait of the one before it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from bringup.daemon.storage.runtime_file import RuntimeFile
from bringup.placement.catalogue import WantedEndpoint
from bringup.placement.client import connect
from bringup.placement.credentials import Login, Named, Password
from bringup.placement.errors import PlacementError, Unauthorized, Unreachable
from bringup.placement.gate import pass_gate
from bringup.placement.kept_login import keep_login
from bringup.placement.keystone import KeystoneAuth
from support.faulty_proxy import a_proxy
from support.keystone import PASSWORD, REGION, Cloud, a_cloud, patient_client
from support.placement import a_peer, an_answer, fresh_name, nobody

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]

BOOT = "2c7c4ba8-1111-4111-8111-111111111111"
PROVIDERS = "/resource_providers"
HERE = WantedEndpoint(region=REGION)


@dataclass
class Clock:
    """The monotonic clock of one boot."""

    now_s: float = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture(scope="module")
def cloud() -> Cloud:
    return a_cloud()


@pytest.fixture
def file(tmp_path: Path) -> RuntimeFile:
    return RuntimeFile(tmp_path / "run" / "keystone" / "login.json")


def a_process(cloud: Cloud, file: RuntimeFile, *, clock: Clock | None = None, **other: Any) -> KeystoneAuth:
    """Start as the service does; ``other`` changes the identity."""
    method = Password(user=Named(name="admin"), secret=PASSWORD)
    identity = replace(Login(auth_url=cloud.auth_url, method=method, project=Named(name="admin")), **other)
    auth = KeystoneAuth(identity, clock=clock or Clock())
    kept = keep_login(identity, boot_id=BOOT, shelf=file)
    assert kept is not None
    auth.keep(kept)
    return auth


async def ask(auth: KeystoneAuth, url: str | None = None) -> None:
    async with patient_client(url, auth=auth, wanted=HERE) as client:
        await client.request("GET", PROVIDERS, params={"name": "x"})


async def test_the_token_of_the_process_before_is_used_and_keystone_is_not_called(
    cloud: Cloud, file: RuntimeFile
) -> None:
    first, second = a_process(cloud, file), None
    await ask(first)
    with capture_logs() as logs:
        second = a_process(cloud, file)
        # Keystone need not even be there.
        second.identity = Login(auth_url="http://127.0.0.1:1/v3", method=second.identity.method)
        await ask(second)
    assert (first.logins, second.logins, second.probes) == (1, 0, 0)
    assert second.secrets == first.secrets
    [line] = [line for line in logs if line["event"] == "keystone.kept_login"]
    assert line["has_token"] is True
    assert first.secrets[1] not in str(logs)


async def test_a_token_that_was_revoked_meanwhile_is_replaced_there_too(cloud: Cloud, file: RuntimeFile) -> None:
    first = a_process(cloud, file)
    await ask(first)
    cloud.revoke(first.secrets[1])
    second = a_process(cloud, file)
    await ask(second)
    third = a_process(cloud, file)
    await ask(third)
    assert (second.logins, third.logins) == (1, 0)
    assert third.secrets[1] == second.secrets[1] != first.secrets[1]


async def test_a_token_that_nobody_accepts_is_not_kept(cloud: Cloud, file: RuntimeFile) -> None:
    first = a_process(cloud, file)
    await ask(first)
    with a_peer(an_answer(401, {})) as placement:
        second = a_process(cloud, file)
        with pytest.raises(Unauthorized):
            await ask(second, placement.url)
    # The one that was refused, and its successor that was too: the answer that counts.
    assert second.logins == 1
    assert first.secrets[1] not in (file.read() or "")


async def test_a_token_that_has_expired_is_not_sent(cloud: Cloud, file: RuntimeFile) -> None:
    clock = Clock()
    await ask(a_process(cloud, file, clock=clock))
    clock.now_s += 3600
    late = a_process(cloud, file, clock=clock)
    assert late.catalogue == ()
    await ask(late)
    assert late.logins == 1


async def test_the_token_of_another_identity_is_not_used(cloud: Cloud, file: RuntimeFile) -> None:
    await ask(a_process(cloud, file))
    name, password = cloud.a_user()
    other = a_process(cloud, file, method=Password(user=Named(name=name), secret=password))
    await ask(other)
    assert other.logins == 1
    assert a_process(cloud, file).catalogue == ()


async def test_a_password_that_is_wrong_now_is_noticed_at_the_restart(cloud: Cloud, file: RuntimeFile) -> None:
    await ask(a_process(cloud, file))
    second = a_process(cloud, file, method=Password(user=Named(name="admin"), secret="mistyped"))
    with pytest.raises(Unauthorized, match="does not let"):
        await ask(second)


def damage(file: RuntimeFile) -> None:
    file.path.write_text("{")


def open_to_others(file: RuntimeFile) -> None:
    file.path.chmod(0o644)


@pytest.mark.parametrize("spoil", [damage, open_to_others])
async def test_a_file_that_is_odd_costs_a_login_and_nothing_else(
    cloud: Cloud, file: RuntimeFile, spoil: Callable[[RuntimeFile], None]
) -> None:
    await ask(a_process(cloud, file))
    spoil(file)
    second = a_process(cloud, file)
    await ask(second)
    assert second.logins == 1
    assert a_process(cloud, file).catalogue != ()


GONE = {"answers 403": 403, "is no Placement": 404, "is busy": 503}


@pytest.mark.parametrize("status", [*GONE.values(), None], ids=[*GONE, "is away"])
async def test_an_address_that_is_no_longer_right_is_found_again_in_the_same_attempt(
    cloud: Cloud, file: RuntimeFile, status: int | None
) -> None:
    """An operator who has corrected the catalogue or a role, and restarts the service, does not wait for an hour."""
    await ask(a_process(cloud, file))
    text = file.read()
    assert text is not None
    with a_peer(an_answer(status or 500, b"")) as wrong, nobody() as away:
        file.write(text.replace(cloud.placement_url, wrong.url if status else away))
        second = a_process(cloud, file)
        async with connect(None, auth=second, wanted=HERE) as client:
            gate = await pass_gate(client, provider=fresh_name(), wait_s=0, create=True)
    assert gate.created
    assert (second.logins, client.url) == (1, cloud.placement_url)


async def test_a_gate_that_stays_closed_is_closed_with_the_error_of_the_new_token(
    cloud: Cloud, file: RuntimeFile
) -> None:
    await ask(a_process(cloud, file))
    second = a_process(cloud, file)
    with a_peer(an_answer(404, b"")) as wrong:
        async with connect(wrong.url, auth=second) as client:
            with pytest.raises(PlacementError):
                await pass_gate(client, provider="x", wait_s=0)
    assert second.logins == 1
    assert len(wrong.requests) == 2


@pytest.mark.parametrize("status", [503, None], ids=["is busy", "is away"])
async def test_a_placement_that_is_unavailable_at_the_address_that_was_set_costs_no_login(
    cloud: Cloud, file: RuntimeFile, status: int | None
) -> None:
    await ask(a_process(cloud, file))
    before, second = file.read(), a_process(cloud, file)
    with a_peer(an_answer(status or 500, b"")) as busy, nobody() as away:
        async with connect(busy.url if status else away, auth=second) as client:
            with pytest.raises(PlacementError):
                await pass_gate(client, provider="x", wait_s=0)
    assert second.logins == second.probes == 0
    assert file.read() == before


async def test_who_waits_for_keystone_continues_to_wait_as_long_as_before(cloud: Cloud, file: RuntimeFile) -> None:
    clock = Clock()
    away = a_process(cloud, file, clock=clock, auth_url="http://127.0.0.1:1/v3")
    for _ in range(3):
        await not_yet(away)
    again = a_process(cloud, file, clock=clock, auth_url="http://127.0.0.1:1/v3")
    error = await not_yet(again)
    assert error.of_keystone is not None
    assert (error.of_keystone.failures, error.of_keystone.queued_s) == (4, None)


async def test_who_waits_in_a_queue_keeps_when_it_began_to(cloud: Cloud, file: RuntimeFile) -> None:
    clock = Clock()
    with a_proxy(cloud.auth_url.removesuffix("/v3"), ["late", "late"]) as keystone:
        for queued_s in (0, 40):
            clock.now_s = 1000 + queued_s
            error = await not_yet(a_process(cloud, file, clock=clock, auth_url=keystone.url))
            assert error.of_keystone is not None
            assert error.of_keystone.queued_s == queued_s
        in_time = a_process(cloud, file, clock=clock, auth_url=keystone.url)
        await ask(in_time)
    assert in_time.logins == 1


async def not_yet(auth: KeystoneAuth) -> Unreachable:
    async with connect(None, auth=auth, wanted=HERE) as client:
        with pytest.raises(Unreachable) as caught:
            await client.request("GET", PROVIDERS)
    return caught.value
