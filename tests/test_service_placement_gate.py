import contextlib
import uuid
from pathlib import Path
from typing import Any

import pytest

from bringup.daemon.errors import SettingsError, Unavailable
from bringup.daemon.service import placement_gate
from bringup.daemon.service.placement_gate import opened_placement
from bringup.daemon.settings import Settings, load
from bringup.placement.gate import Gate
from bringup.placement.providers import find_provider
from support.placed import a_provider
from support.placement import HANG, a_client, a_peer, an_answer, fresh_name, nobody, real_placement
from support.starts import Phases

pytestmark = pytest.mark.anyio
NO_PAGE = an_answer(404, b"<html><title>404 Not Found</title></html>")
OTHER_VERSIONS = {"errors": [{"status": 406, "detail": "Unacceptable", "min_version": "1.0", "max_version": "1.9"}]}


async def pass_placement(settings: Settings, phases: Phases) -> None:
    async with opened_placement(settings) as client:
        await placement_gate.pass_placement(settings, client, phases.observe)


async def probe_placement(settings: Settings) -> Gate:
    async with opened_placement(settings) as client:
        return await placement_gate.probe_placement(settings, client)


@pytest.fixture
def nothing(tmp_path: Path) -> Path:
    path = tmp_path / "bringup.toml"
    path.write_text("")
    return path


def settings(config: Path, url: str | None, **more: Any) -> Settings:
    values = {"url": url, "resource_provider": fresh_name()} | more
    environment = {
        f"BRINGUP_PLACEMENT__{key.upper()}": str(value).lower() for key, value in values.items() if value is not None
    }
    return load(config, environment=environment, overrides=())


async def test_a_host_that_placement_knows_passes(nothing: Path) -> None:
    known = settings(nothing, real_placement(), create_resource_provider=True)
    await pass_placement(known, Phases())

    phases = Phases()
    await pass_placement(
        settings(nothing, real_placement(), resource_provider=known.placement.resource_provider), phases
    )

    assert phases.phases == []


@pytest.mark.parametrize(("wait", "after"), [(3600, 60), (5, 5), (0, 0)])
async def test_once_the_gate_was_passed_placement_is_waited_for_no_longer_than_a_minute(
    nothing: Path, wait: int, after: int
) -> None:
    known = settings(nothing, real_placement(), create_resource_provider=True, wait=wait)
    async with opened_placement(known) as client:
        assert (await placement_gate.pass_placement(known, client, Phases().observe)).wait_s == after


async def test_a_host_that_placement_does_not_know_does_not_pass(nothing: Path) -> None:
    with pytest.raises(Unavailable, match=r"placement\.create_resource_provider = true"):
        await pass_placement(settings(nothing, real_placement()), Phases())


async def test_the_provider_of_another_node_is_not_taken_for_ours(tmp_path: Path) -> None:
    async with a_client() as client:
        there = await a_provider(client)
    config = tmp_path / "bringup.toml"
    for node_uuid, refused in ((there.uuid, False), (str(uuid.uuid4()), True)):
        config.write_text(f'[host]\nnode_uuid = "{node_uuid}"\n')
        given = settings(config, real_placement(), resource_provider=there.name)
        expected = pytest.raises(SettingsError, match=f"has the UUID {there.uuid}: set it to {there.uuid} if")
        with expected if refused else contextlib.nullcontext():
            await pass_placement(given, Phases())


async def test_a_probe_asks_and_makes_nothing(nothing: Path) -> None:
    asked = settings(nothing, real_placement(), create_resource_provider=True)

    with pytest.raises(Unavailable):
        await probe_placement(asked)

    async with opened_placement(asked) as client:
        assert await find_provider(client, asked.placement.resource_provider) is None


async def test_without_an_address_the_settings_are_wrong(nothing: Path) -> None:
    with pytest.raises(SettingsError, match=r"placement\.url is missing"):
        await pass_placement(settings(nothing, None), Phases())


@pytest.mark.parametrize(
    ("more", "sent"),
    [({}, "admin"), ({"token": "t0ken"}, "t0ken"), ({"auth": "none"}, None)],
    ids=["default", "a token", "no authentication"],
)
async def test_the_token_that_is_set_is_sent(nothing: Path, more: dict[str, str], sent: str | None) -> None:
    refused = pytest.raises(Unavailable, match="answered 401")
    with a_peer(an_answer(401, {})) as peer, refused:
        await pass_placement(settings(nothing, peer.url, **more), Phases())

    tokens = [
        line.partition(":")[2].strip() for line in peer.requests[-1].splitlines() if "x-auth-token" in line.lower()
    ]
    assert tokens == ([] if sent is None else [sent])


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (NO_PAGE, r"check that placement\.url names Placement, with its path"),
        (an_answer(406, OTHER_VERSIONS), r"check that every server behind placement\.url .* same version"),
    ],
    ids=["404", "406"],
)
async def test_what_to_check_is_reported_where_the_answer_does_not_tell(
    nothing: Path, answer: bytes, said: str
) -> None:
    with a_peer(answer) as peer, pytest.raises(Unavailable, match=said) as raised:
        await probe_placement(settings(nothing, peer.url))

    # The chain has the request and the answer.
    assert "resource_providers" in str(raised.value.__cause__)
    assert "resource_providers" not in str(raised.value)


async def test_an_observer_is_reported_each_attempt(nothing: Path) -> None:
    phases = Phases()
    with nobody() as url, pytest.raises(Unavailable, match=r"check that it runs, that placement\.url is right"):
        await pass_placement(settings(nothing, url, wait=0.4), phases)

    assert phases.phases[0] == ("placement", "waiting for Placement, attempt 1, last: connection refused")


async def test_the_wait_bounds_a_placement_that_is_silent(nothing: Path) -> None:
    ended = pytest.raises(Unavailable, match=r"not ready in 0\.\d+ s \(1 attempt, last: no answer yet\)")
    with a_peer(HANG) as peer, ended:
        await pass_placement(settings(nothing, peer.url, wait=0.3), Phases())


async def test_no_wait_is_one_attempt(nothing: Path) -> None:
    with a_peer(an_answer(503, b"")) as peer, pytest.raises(Unavailable, match="1 attempt, last: answered 503"):
        await pass_placement(settings(nothing, peer.url, wait=0), Phases())

    assert len(peer.requests) == 1
