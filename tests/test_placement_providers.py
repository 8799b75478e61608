import json
import uuid

import anyio
import pytest

from bringup.placement.client import PlacementClient
from bringup.placement.errors import Conflict, NotUnderstood, PlacementError
from bringup.placement.microversions import Microversion
from bringup.placement.providers import ResourceProvider, as_uuid, create_provider, find_provider
from support.placement import a_client, a_peer, an_answer, fresh_name

pytestmark = pytest.mark.anyio

MICROVERSIONS = [Microversion(1, 0), Microversion(1, 6), Microversion(1, 20), Microversion(1, 39)]


@pytest.mark.parametrize("microversion", MICROVERSIONS, ids=str)
async def test_what_is_made_is_found_by_name_and_by_uuid(microversion: Microversion) -> None:
    name, wanted = fresh_name(), str(uuid.uuid4())
    async with a_client() as client:
        speaking = client.at(microversion)
        made = await create_provider(speaking, name, wanted)
        assert made == ResourceProvider(wanted, name, 0)
        assert await find_provider(speaking, name) == made
        assert await find_provider(speaking, wanted) == made
        assert await find_provider(speaking, wanted.upper().replace("-", "")) == made


@pytest.mark.parametrize("microversion", MICROVERSIONS, ids=str)
async def test_placement_chooses_the_uuid_if_none_is_given(microversion: Microversion) -> None:
    async with a_client() as client:
        made = await create_provider(client.at(microversion), fresh_name())
    assert as_uuid(made.uuid) == made.uuid


async def test_what_is_not_there_is_none() -> None:
    async with a_client() as client:
        assert await find_provider(client, fresh_name()) is None
        assert await find_provider(client, str(uuid.uuid4())) is None


async def test_a_name_that_looks_like_a_uuid_is_found_by_name() -> None:
    name = str(uuid.uuid4())
    async with a_client() as client:
        made = await create_provider(client.at(Microversion(1, 20)), name)
        assert await find_provider(client, name) == made


@pytest.mark.parametrize("name", ["compute 1 & co?name=#", "rechner-ü", "{" + str(uuid.UUID(int=7)) + "}"])
async def test_a_name_is_quoted_as_it_must_be(name: str) -> None:
    name += fresh_name()
    async with a_client() as client:
        made = await create_provider(client, name)
        assert await find_provider(client, name) == made


@pytest.mark.parametrize("microversion", MICROVERSIONS, ids=str)
async def test_a_provider_that_another_start_made_meanwhile_is_taken(microversion: Microversion) -> None:
    name = fresh_name()
    async with a_client() as client:
        first = await create_provider(client.at(microversion), name)
        assert await create_provider(client.at(microversion), name) == first


async def test_many_starts_at_once_make_one_provider() -> None:
    name = fresh_name()
    made: set[ResourceProvider] = set()

    async def start(client: PlacementClient) -> None:
        made.add(await create_provider(client, name))

    async with a_client() as client, anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(start, client.at(Microversion(1, 20)))
    assert len(made) == 1


async def test_a_name_that_has_another_uuid_is_a_conflict() -> None:
    name = fresh_name()
    async with a_client() as client:
        await create_provider(client, name)
        with pytest.raises(Conflict, match="answered 409"):
            await create_provider(client, name, str(uuid.uuid4()))


async def test_a_uuid_that_has_another_name_is_a_conflict() -> None:
    taken = str(uuid.uuid4())
    async with a_client() as client:
        await create_provider(client, fresh_name(), taken)
        with pytest.raises(Conflict, match="answered 409"):
            await create_provider(client, fresh_name(), taken)


NONSENSE = {
    "no list": {"providers": []},
    "not an object": [],
    "two of one name": {"resource_providers": [{}, {}]},
    "no generation": {"resource_providers": [{"uuid": "u", "name": "n"}]},
    "a generation that is text": {"resource_providers": [{"uuid": "u", "name": "n", "generation": "0"}]},
}


@pytest.mark.parametrize("content", NONSENSE.values(), ids=NONSENSE.keys())
async def test_an_answer_without_a_provider_in_it_is_not_understood(content: object) -> None:
    with a_peer(an_answer(content=content, x_openstack_request_id="req-3")) as peer:
        async with a_client(peer.url) as client:
            with pytest.raises(NotUnderstood, match=r"check that placement.url names Placement.*\(request req-3\)"):
                await find_provider(client, "compute-1")


async def test_a_provider_made_without_an_address_is_not_understood() -> None:
    with a_peer(an_answer(201, b"")) as peer:
        async with a_client(peer.url) as client:
            with pytest.raises(NotUnderstood, match="without saying where it is"):
                await create_provider(client, "compute-1")


async def test_the_host_of_the_address_does_not_matter() -> None:
    made = {"uuid": str(uuid.UUID(int=5)), "name": "compute-1", "generation": 0}
    location = f"http://inside-of-a-proxy:1/placement/resource_providers/{made['uuid']}"
    with a_peer(an_answer(201, b"", location=location), an_answer(content=made)) as peer:
        async with a_client(peer.url) as client:
            assert (await create_provider(client, "compute-1")).uuid == made["uuid"]
    assert peer.requests[1].startswith(f"GET /resource_providers/{made['uuid']} ")


async def test_an_error_of_the_second_look_is_not_hidden_by_the_conflict() -> None:
    with a_peer(an_answer(409, {}), an_answer(500, b"")) as peer:
        async with a_client(peer.url) as client:
            with pytest.raises(PlacementError, match="answered 500"):
                await create_provider(client, "compute-1")


async def test_a_provider_is_asked_for_with_json() -> None:
    made = {"uuid": "u", "name": "n", "generation": 0}
    with a_peer(an_answer(content=made)) as peer:
        async with a_client(peer.url) as client:
            await create_provider(client, "n")
    assert "content-type: application/json" in peer.requests[0].lower()
    assert f"content-length: {len(json.dumps({'name': 'n'}, separators=(',', ':')))}" in peer.requests[0].lower()
