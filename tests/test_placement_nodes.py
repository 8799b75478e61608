"""One node, one resource provider: found by its UUID whatever it is called, and never made a second time."""

import uuid
from pathlib import Path

import anyio
import pytest

from bringup.daemon.errors import SettingsError, Unavailable
from bringup.daemon.service.placement_gate import opened_placement, other_name, pass_placement, probe_placement
from bringup.daemon.settings import Settings, load
from bringup.placement.client import PlacementClient
from bringup.placement.errors import Conflict, ProviderMisnamed, ProviderMissing
from bringup.placement.gate import pass_gate
from bringup.placement.nodes import create_node_provider, may_be_one_host
from bringup.placement.providers import all_names, create_provider
from support.placement import a_client, a_peer, an_answer, fresh_name, real_placement
from support.starts import Phases

pytestmark = pytest.mark.anyio

DOMAIN = "example.com"


def settings(config: Path, **values: object) -> Settings:
    given = {"placement.url": real_placement(), **{key.replace("__", "."): value for key, value in values.items()}}
    environment = {
        f"BRINGUP_{key.upper().replace('.', '__')}": str(value).lower() if isinstance(value, bool) else str(value)
        for key, value in given.items()
    }
    return load(config, environment=environment, overrides=())


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "bringup.toml"
    path.write_text("")
    return path


async def ours(client: PlacementClient, label: str) -> dict[str, str]:
    """Return the providers whose names begin so, with their UUIDs."""
    return {name: its for name, its in (await all_names(client)).items() if name.startswith(label)}


@pytest.mark.parametrize("create", [False, True], ids=["create off", "create on"])
@pytest.mark.parametrize("short_is_ours", [True, False], ids=["short here", "full here"])
async def test_the_uuid_finds_it_under_the_other_form_of_the_name_and_names_what_to_set(
    config: Path, *, short_is_ours: bool, create: bool
) -> None:
    label, node = fresh_name(), str(uuid.uuid4())
    here, there = (label, f"{label}.{DOMAIN}") if short_is_ours else (f"{label}.{DOMAIN}", label)
    given = settings(config, host__name=here, host__node_uuid=node, placement__create_resource_provider=create)
    async with a_client() as client:
        await create_provider(client, there, node)
        async with opened_placement(given) as asked:
            gate = await probe_placement(given, asked, node_uuid=node)
            placed = await pass_placement(given, asked, Phases().observe, node_uuid=node)
        assert placed.provider.uuid == gate.provider.uuid == node
        assert other_name(given, gate) == (
            f'provider {node} is called {there}: set placement.resource_provider = "{there}"'
        )
        assert await ours(client, label) == {there: node}


@pytest.mark.parametrize("create", [False, True], ids=["create off", "create on"])
async def test_the_uuid_counts_where_another_provider_has_our_name(config: Path, *, create: bool) -> None:
    label, node = fresh_name(), str(uuid.uuid4())
    given = settings(config, host__name=label, host__node_uuid=node, placement__create_resource_provider=create)
    async with a_client() as client:
        await create_provider(client, f"{label}.{DOMAIN}", node)
        stray = await create_provider(client, label)
        async with opened_placement(given) as asked:
            placed = await pass_placement(given, asked, Phases().observe, node_uuid=node)
        assert placed.provider.uuid == node != stray.uuid


@pytest.mark.parametrize("create", [False, True], ids=["create off", "create on"])
async def test_a_node_whose_provider_has_the_name_of_another_host_is_refused_with_what_to_set(
    config: Path, *, create: bool
) -> None:
    label, former, node = fresh_name(), f"{fresh_name()}.{DOMAIN}", str(uuid.uuid4())
    given = settings(config, host__name=label, host__node_uuid=node, placement__create_resource_provider=create)
    async with a_client() as client:
        await create_provider(client, former, node)
        async with opened_placement(given) as asked:
            for ask in (
                lambda: probe_placement(given, asked, node_uuid=node),
                lambda: pass_placement(given, asked, Phases().observe, node_uuid=node),
            ):
                with pytest.raises(SettingsError) as caught:
                    await ask()
                said = f'provider {node} is called {former}: set placement.resource_provider = "{former}"'
                assert said in str(caught.value)
                assert "resource provider create" not in str(caught.value)
        assert await ours(client, label) == {}


@pytest.mark.parametrize("node", [None, str(uuid.uuid4())], ids=["node UUID unknown", "node made anew"])
@pytest.mark.parametrize("create", [False, True], ids=["create off", "create on"])
async def test_what_may_be_ours_under_the_other_form_of_the_name_keeps_a_second_from_being_made(
    node: str | None, *, create: bool
) -> None:
    label = fresh_name()
    async with a_client() as client:
        there = await create_provider(client, f"{label}.{DOMAIN}")
        with pytest.raises(ProviderMisnamed) as caught:
            await pass_gate(client, provider=label, wait_s=30, create=create, uuid=node)
        assert await ours(client, label) == {there.name: there.uuid}
    said = f'provider {there.uuid} is called {there.name}: set placement.resource_provider = "{there.name}"'
    assert said in str(caught.value)
    assert (f"host.node_uuid = {there.uuid}" in str(caught.value)) == (node is not None)
    assert "resource provider create" not in str(caught.value)


async def test_hosts_of_one_short_name_in_two_domains_are_two() -> None:
    label, node = fresh_name(), str(uuid.uuid4())
    async with a_client() as client:
        await create_provider(client, f"{label}.one.{DOMAIN}")
        gate = await pass_gate(client, provider=f"{label}.two.{DOMAIN}", wait_s=30, create=True, uuid=node)
    assert gate.created


async def test_the_advice_to_make_one_names_the_uuid_of_the_node(config: Path) -> None:
    label, node = fresh_name(), str(uuid.uuid4())
    given = settings(config, host__name=label, host__node_uuid=node)
    async with opened_placement(given) as asked:
        with pytest.raises(Unavailable) as caught:
            await probe_placement(given, asked, node_uuid=node)
    assert f"openstack resource provider create --uuid {node} {label}, or" in str(caught.value)


@pytest.mark.parametrize("how", ["the same", "the full name"])
async def test_who_was_faster_is_checked_again(how: str) -> None:
    label, node = fresh_name(), str(uuid.uuid4())
    name = f"{label}.{DOMAIN}" if how == "the full name" else label
    taken = {"uuid": node, "name": name, "generation": 0}
    nothing = an_answer(content={"resource_providers": []})
    found = an_answer(content={"resource_providers": [taken]})
    # It is not there; then somebody makes it; then the write is refused.
    with a_peer(nothing, an_answer(409, {}), nothing, found) as peer:
        async with a_client(peer.url) as client:
            with anyio.fail_after(60):
                made = await create_node_provider(client, label, create=True, uuid=node)
    assert (made.name, made.uuid) == (name, node)


async def test_a_conflict_that_looking_again_does_not_explain_is_reported() -> None:
    nothing = an_answer(content={"resource_providers": []})
    with a_peer(nothing, an_answer(409, {}), nothing) as peer:
        async with a_client(peer.url) as client:
            with pytest.raises(Conflict):
                await create_node_provider(client, "compute-1", create=True, uuid=str(uuid.uuid4()))


async def test_a_uuid_that_is_set_is_looked_for_and_no_other() -> None:
    node, other = str(uuid.uuid4()), str(uuid.uuid4())
    async with a_client() as client:
        await create_provider(client, fresh_name(), other)
        gate = await pass_gate(client, provider=other, wait_s=30, uuid=node)
        assert gate.provider.uuid == other
        with pytest.raises(ProviderMissing):
            await pass_gate(client, provider=str(uuid.uuid4()), wait_s=30, create=True, uuid=node)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("osd-7", "osd-7.example.com", True),
        ("OSD-7", "osd-7.Example.com.", True),
        ("osd-7.example", "osd-7.example.com", True),
        ("osd-7", "osd-70.example.com", False),
        ("osd-7.a.example", "osd-7.b.example", False),
        ("osd-7", "osd-8", False),
    ],
)
def test_a_short_and_a_full_name_are_of_one_host(one: str, other: str, *, same: bool) -> None:
    assert may_be_one_host(one, other) is may_be_one_host(other, one) is same
