"""What Placement and Keystone answer, over a real connection on loopback."""

import json
from collections.abc import Awaitable, Callable, Iterator
from random import Random
from typing import Any, Final

import anyio
import pytest
from hypothesis import given

from bringup.placement.allocations import consumers_of, read_consumer
from bringup.placement.auth import NoAuth
from bringup.placement.catalogue import WantedEndpoint
from bringup.placement.client import PlacementClient, connect
from bringup.placement.credentials import Login, Named, Password
from bringup.placement.errors import PlacementError
from bringup.placement.inventories import read_inventories
from bringup.placement.keystone import KeystoneAuth
from bringup.placement.microversions import NEEDED
from bringup.placement.providers import all_names, find_provider, look_up
from bringup.placement.traits import read_traits
from support.drivers import uuid_of
from support.fuzzing import CHANCES, SECRET, Border, fuzz
from support.mutating import TEXTS, mangled, mutated, written
from support.placement import DOCUMENT, Peer, a_peer, an_answer

BORDER = "Placement and Keystone"
PROVIDER: Final = {"uuid": uuid_of(1), "name": "compute-1", "generation": 7, "links": []}
ERROR: Final = {
    "errors": [{"status": 409, "title": "Conflict", "detail": "no", "code": "placement.x", "request_id": "r"}]
}
ASKED: Final[tuple[tuple[Any, Callable[[PlacementClient], Awaitable[Any]]], ...]] = (
    ({"resource_providers": [PROVIDER]}, lambda client: find_provider(client, "compute-1")),
    ({"resource_providers": [PROVIDER]}, lambda client: look_up(client, uuid_of(1))),
    ({"resource_providers": [PROVIDER, PROVIDER | {"name": "b"}]}, all_names),
    ({"allocations": {uuid_of(3): {"resources": {"VCPU": 1}}}}, lambda client: consumers_of(client, uuid_of(1))),
    (
        {
            "allocations": {uuid_of(1): {"generation": 2, "resources": {"VCPU": 1}}},
            "project_id": "p",
            "user_id": "u",
            "consumer_generation": 1,
        },
        lambda client: read_consumer(client, uuid_of(3)),
    ),
    ({"traits": ["COMPUTE_NODE"], "resource_provider_generation": 1}, lambda client: read_traits(client, uuid_of(1))),
    (
        {
            "inventories": {"VCPU": {"total": 4, "reserved": 0, "allocation_ratio": 1.0, "max_unit": 4, "min_unit": 1}},
            "resource_provider_generation": 1,
        },
        lambda client: read_inventories(client, uuid_of(1)),
    ),
)
TOKEN: Final = {
    "token": {
        "expires_at": "2036-01-01T00:00:00.000000Z",
        "issued_at": "2026-01-01T00:00:00.000000Z",
        "catalog": [
            {
                "type": "placement",
                "name": "placement",
                "endpoints": [{"interface": "public", "region_id": "One", "region": "One", "url": "http://192.0.2.1"}],
            }
        ],
    }
}


def hostile_answer(chance: Random, document: Any, **headers: str) -> bytes:
    """Return an answer with a body, a status and headers that may be anything."""
    status = chance.choice((200, 200, 200, 201, 204, 300, 400, 404, 409, 500, 599))
    echoed = {"echo": f"token {SECRET}"} if chance.randrange(8) == 0 else ERROR
    body = written(chance, mutated(chance, document if status < 300 else echoed))
    if chance.randrange(6) == 0:
        headers["X-OpenStack-Request-Id"] = chance.choice(TEXTS)[:2000].encode(errors="replace").decode("latin-1")
    if chance.randrange(8) == 0:
        headers["Content-Encoding"] = "gzip"
    answer = an_answer(status, body, **headers)
    return mangled(chance, answer) if chance.randrange(8) == 0 else answer


@pytest.fixture(scope="module")
def peer() -> Iterator[Peer]:
    with a_peer() as started:
        yield started


def serve_answers(peer: Peer, *answers: bytes) -> None:
    """Serve these answers from now on, one a connection, the last one again and again."""
    peer.requests.clear()
    peer.answers = answers


@fuzz(200)
@given(chance=CHANCES)
def test_an_answer_of_placement_is_read_or_refused_with_a_sentence(border: Border, peer: Peer, chance: Random) -> None:
    document, ask = chance.choice(ASKED)

    async def go() -> None:
        async with connect(peer.url, auth=NoAuth(SECRET), read_timeout_s=1) as client:
            with border.one(PlacementError, secret=True):
                await ask(client.at(NEEDED) if chance.randrange(2) else client)

    serve_answers(peer, hostile_answer(chance, document))
    anyio.run(go)


@fuzz(100)
@given(chance=CHANCES)
def test_an_answer_of_keystone_is_a_token_or_refused_with_a_sentence(
    border: Border, peer: Peer, chance: Random
) -> None:
    async def go() -> None:
        method = Password(user=Named(name="nova"), secret=SECRET)
        auth = KeystoneAuth(Login(auth_url=peer.url, method=method, project=Named(name="service")))
        async with connect(
            None, auth=auth, wanted=WantedEndpoint(region="One"), read_timeout_s=1, verify=False
        ) as client:
            with border.one(PlacementError, secret=True):
                await client.request("GET", "/resource_providers")

    token = json.loads(json.dumps(TOKEN).replace("http://192.0.2.1", peer.url))
    knock = an_answer(401, {"error": {"code": 401, "message": "no"}})
    login = hostile_answer(chance, token, X_Subject_Token=chance.choice(("t", "t", "t", "t\tt", "\x80", "")))
    serve_answers(peer, knock if chance.randrange(2) else login, login, an_answer(200, DOCUMENT))
    anyio.run(go)
