import uuid

import pytest
from structlog.testing import capture_logs

from bringup.placement.errors import NotFound, NotUnderstood, PlacementError, ProviderMissing, Unauthorized, Unreachable
from bringup.placement.gate import pass_gate, probe
from bringup.placement.providers import ResourceProvider
from support.placement import TOKEN, a_client, a_peer, an_answer, fresh_name

pytestmark = pytest.mark.anyio

PROVIDER = {"uuid": str(uuid.UUID(int=1)), "name": "compute-1", "generation": 3}
BUSY = an_answer(503, {"message": "Not now."}, x_openstack_request_id="req-busy")
LONG_S = 60.0
"""More than any test takes."""


async def test_a_known_provider_passes() -> None:
    name = fresh_name()
    async with a_client() as client:
        made = await pass_gate(client, provider=name, wait_s=LONG_S, create=True)
        again = await pass_gate(client, provider=name, wait_s=LONG_S, create=True)
        by_uuid = await pass_gate(client, provider=made.provider.uuid, wait_s=0)
    assert (made.created, again.created) == (True, False)
    assert made.provider == again.provider == by_uuid.provider
    assert str(made.microversion) == "1.28"


async def test_a_provider_is_made_with_the_uuid_of_the_node() -> None:
    name, node = fresh_name(), str(uuid.uuid4())
    async with a_client() as client:
        gate = await pass_gate(client, provider=name, wait_s=LONG_S, create=True, uuid=node)
    assert gate.provider == ResourceProvider(node, name, 0)


async def test_a_missing_provider_is_permanent_and_reports_how_to_make_it() -> None:
    name = fresh_name() + " x"
    async with a_client() as client:
        with pytest.raises(ProviderMissing) as caught:
            await pass_gate(client, provider=name, wait_s=LONG_S)
    assert f"cannot find resource provider '{name}' in Placement at http://127.0.0.1" in str(caught.value)
    assert f"openstack resource provider create '{name}', or" in str(caught.value)
    assert "placement.create_resource_provider = true" in str(caught.value)


async def test_a_uuid_that_is_not_there_is_not_made_into_a_name() -> None:
    async with a_client() as client:
        with pytest.raises(ProviderMissing, match=r"set placement\.resource_provider to the name"):
            await pass_gate(client, provider=str(uuid.uuid4()), wait_s=LONG_S, create=True)


@pytest.mark.parametrize(("token", "status"), [(None, 401), ("someuser", 403)])
async def test_who_is_not_let_in_is_reported_at_once(token: str | None, status: int) -> None:
    async with a_client(token=token) as client:
        with pytest.raises(Unauthorized) as caught:
            await pass_gate(client, provider="compute-1", wait_s=LONG_S)
    assert caught.value.status == status


PERMANENT = {
    "not found": (an_answer(404, b"no such page"), NotFound, "answered 404; no such page"),
    "another service": (
        an_answer(content={"versions": {"values": []}}),
        NotUnderstood,
        "did not answer with one resource provider or none; check that placement.url names Placement",
    ),
    "HTML": (an_answer(content=b"<html>"), NotUnderstood, "where JSON was expected"),
    "truncated JSON": (an_answer(content=b'{"ver'), NotUnderstood, "where JSON was expected"),
    "too new": (
        an_answer(406, {"errors": [{"status": 406, "min_version": "1.50", "max_version": "1.60"}]}),
        NotUnderstood,
        "a newer bringup is needed",
    ),
    "redirect": (an_answer(301, b"", location="https://p/"), NotUnderstood, "it redirects to https://p/"),
    "unauthorized": (an_answer(401, {"error": {"message": "Log in."}}), Unauthorized, "Log in."),
    "not acceptable": (an_answer(406, b""), NotUnderstood, "answered 406"),
}


@pytest.mark.parametrize(("answer", "kind", "words"), PERMANENT.values(), ids=PERMANENT.keys())
async def test_what_time_cannot_repair_ends_the_start_after_one_request(
    answer: bytes, kind: type[PlacementError], words: str
) -> None:
    with a_peer(answer) as peer:
        async with a_client(peer.url) as client:
            with pytest.raises(kind) as caught:
                await pass_gate(client, provider="compute-1", wait_s=LONG_S)
    assert words in str(caught.value)
    assert len(peer.requests) == 1


async def test_a_probe_tells_the_error_itself_after_one_attempt() -> None:
    with a_peer(BUSY) as peer:
        async with a_client(peer.url) as client:
            with pytest.raises(Unreachable):
                await probe(client, provider="compute-1")
    assert len(peer.requests) == 1


async def test_a_probe_makes_nothing() -> None:
    async with a_client() as client:
        name = fresh_name()
        for _ in range(2):
            with pytest.raises(ProviderMissing):
                await probe(client, provider=name)


async def test_an_old_server_is_spoken_to_in_its_own_words() -> None:
    old = {"errors": [{"status": 406, "detail": "Unacceptable", "min_version": "1.0", "max_version": "1.4"}]}
    in_old = "placement 1.4"
    location = f"/resource_providers/{PROVIDER['uuid']}"
    with a_peer(
        an_answer(406, old),
        an_answer(content={"resource_providers": []}, openstack_api_version=in_old),
        an_answer(content={"resource_providers": []}, openstack_api_version=in_old),
        an_answer(201, b"", location=location),
        an_answer(content=PROVIDER),
    ) as peer:
        async with a_client(peer.url) as client:
            gate = await pass_gate(client, provider="compute-1", wait_s=LONG_S, create=True)
    assert (str(gate.microversion), gate.created) == ("1.4", True)
    spoken = ["openstack-api-version: placement 1.4\r" in head.lower() for head in peer.requests]
    assert spoken == [False, True, True, True, True]


async def test_a_passed_gate_is_logged_without_the_token() -> None:
    name = fresh_name()
    with capture_logs() as logs:
        async with a_client() as client:
            await pass_gate(client, provider=name, wait_s=LONG_S, create=True)
    (line,) = [line for line in logs if line["log_level"] == "info"]
    assert (line["event"], line["provider"], line["created"], line["attempts"]) == ("placement.passed", name, True, 1)
    assert line["request_id"].startswith("req-")
    assert TOKEN.partition(":")[2] not in str(logs)
