"""Inventories and traits in the real Placement."""

import uuid

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bringup.placement.errors import Conflict, GateClosed, NotFound, NotUnderstood
from bringup.placement.inventories import (
    CLASSES,
    DesiredInventory,
    Inventories,
    desired_documents,
    differences,
    read_inventories,
    update_inventories,
)
from bringup.placement.traits import NODE_TRAITS, read_traits, update_traits
from bringup.placement.update_with_generation import ATTEMPTS, update_with_generation
from support.placed import ROOM, SMALL, a_provider, allocate
from support.placement import a_client, a_peer, an_answer, nobody
from support.retries import without_waits

HAS = DesiredInventory(totals={"VCPU": 8, "MEMORY_MB": 16384, "DISK_GB": 100})
NOTHING = Inventories(generation=0, documents={})
anyio_test = pytest.mark.anyio


def test_a_new_inventory_has_what_nova_gives_it() -> None:
    wanted = desired_documents(NOTHING, HAS)
    assert {name: (one["total"], one["reserved"], one["allocation_ratio"]) for name, one in wanted.items()} == {
        "VCPU": (8, 0, 4.0),
        "MEMORY_MB": (16384, 512, 1.0),
        "DISK_GB": (100, 0, 1.0),
    }
    assert differences(NOTHING, HAS) == [
        "VCPU: none, should be total=8",
        "MEMORY_MB: none, should be total=16384",
        "DISK_GB: none, should be total=100",
    ]


def test_what_operators_set_in_placement_itself_stays_and_settings_stand_above_it() -> None:
    there = dict(ROOM["VCPU"], total=8, max_unit=4, reserved=2, allocation_ratio=16.0, min_unit=2, step_size=2)
    found = Inventories(generation=3, documents={"VCPU": there, "CUSTOM_FPGA": {"total": 1}})
    assert desired_documents(found, DesiredInventory(totals={"VCPU": 8})) == {
        "VCPU": dict(there, max_unit=8),
        "CUSTOM_FPGA": {"total": 1},
    }
    desired = DesiredInventory(totals={"VCPU": 8}, reserved={"VCPU": 1}, ratios={"VCPU": 3.0})
    assert differences(found, desired) == [
        "VCPU: reserved=2, should be 1",
        "VCPU: max_unit=4, should be 8",
        "VCPU: allocation_ratio=16.0, should be 3.0",
    ]


def test_a_small_host_keeps_no_more_than_it_has_and_a_class_that_it_has_not_is_left_out() -> None:
    wanted = desired_documents(NOTHING, DesiredInventory(totals={"MEMORY_MB": 256, "DISK_GB": 0}))
    assert wanted.keys() == {"MEMORY_MB"}
    assert wanted["MEMORY_MB"]["reserved"] == 256


@given(
    st.dictionaries(st.sampled_from(CLASSES), st.integers(1, 10**6)),
    st.dictionaries(st.sampled_from((*CLASSES, "CUSTOM_X")), st.fixed_dictionaries({"total": st.integers(1, 99)})),
)
def test_what_was_decided_once_is_not_decided_again(totals: dict[str, int], there: dict[str, dict[str, int]]) -> None:
    desired, found = DesiredInventory(totals=totals), Inventories(generation=1, documents=there)
    again = Inventories(generation=2, documents=desired_documents(found, desired))
    assert differences(again, desired) == []
    assert desired_documents(again, desired) == again.documents
    assert again.documents.keys() == found.documents.keys() | totals.keys()


@anyio_test
async def test_an_inventory_is_corrected_once_and_then_left_alone() -> None:
    async with a_client() as client:
        provider = await a_provider(client, with_room=False)
        changed = await update_inventories(provider.client, provider.uuid, HAS, wait_s=10)
        assert len(changed) == 3
        generation = await provider.generation()
        assert await update_inventories(provider.client, provider.uuid, HAS, wait_s=10) == ()
        assert await provider.generation() == generation == 1


@anyio_test
async def test_other_classes_stay_and_so_does_what_guests_use() -> None:
    async with a_client() as client:
        provider = await a_provider(client)
        await provider.set_inventories(ROOM | {"PCI_DEVICE": dict(ROOM["VCPU"], total=2, max_unit=2)})
        await allocate(provider.client, str(uuid.uuid4()), provider)
        # Fewer than are in use, were there more guests: Placement takes that, and gives nothing more away.
        await update_inventories(provider.client, provider.uuid, HAS, wait_s=10)
        found = await provider.inventories()
    assert (found["VCPU"]["total"], found["PCI_DEVICE"]["total"]) == (8, 2)
    assert found["VCPU"]["allocation_ratio"] == 1.0
    assert SMALL["VCPU"] == 1


@anyio_test
async def test_many_writers_at_once_end_in_one_right_state() -> None:
    async with a_client() as client:
        provider = await a_provider(client, with_room=False)
        async with anyio.create_task_group() as group:
            for cpus in (8, 8, 8):
                desired = DesiredInventory(totals={"VCPU": cpus})

                async def put(desired: DesiredInventory = desired) -> None:
                    await update_inventories(provider.client, provider.uuid, desired, wait_s=30)
                    await update_traits(provider.client, provider.uuid, NODE_TRAITS, wait_s=30)

                group.start_soon(put)
        assert (await provider.inventories())["VCPU"]["total"] == 8
        assert await provider.traits() == NODE_TRAITS


@anyio_test
async def test_traits_of_others_stay() -> None:
    async with a_client() as client:
        provider = await a_provider(client)
        await update_traits(provider.client, provider.uuid, {"COMPUTE_STATUS_DISABLED"}, wait_s=10)
        assert await update_traits(provider.client, provider.uuid, NODE_TRAITS, wait_s=10) == tuple(sorted(NODE_TRAITS))
        assert await update_traits(provider.client, provider.uuid, NODE_TRAITS, wait_s=10) == ()
        assert (await read_traits(provider.client, provider.uuid)).names == NODE_TRAITS | {"COMPUTE_STATUS_DISABLED"}


@anyio_test
async def test_a_provider_that_is_gone_is_no_inventory() -> None:
    async with a_client() as client:
        with pytest.raises(NotFound):
            await update_inventories(client, "6b3e2f1a-5c8d-4a7e-9f10-2b3c4d5e6f70", HAS, wait_s=10)


@anyio_test
@pytest.mark.parametrize("document", [{}, {"inventories": {"VCPU": 1}, "resource_provider_generation": 1}, []])
async def test_what_is_no_inventory_is_not_understood(document: object) -> None:
    with a_peer(an_answer(content=document)) as peer:
        async with a_client(peer.url) as client:
            with pytest.raises(NotUnderstood, match="described inventories without a generation"):
                await read_inventories(client, "x")
            with pytest.raises(NotUnderstood, match="described traits without a generation"):
                await read_traits(client, "x")


@anyio_test
async def test_who_is_always_second_gives_up() -> None:
    tried = 0

    async def once() -> None:
        nonlocal tried
        tried += 1
        raise Conflict("write", "somebody was faster", code="placement.concurrent_update")

    with anyio.fail_after(60), pytest.raises(Conflict):
        await update_with_generation("write", once, wait_s=60, policy=without_waits(2 * ATTEMPTS))
    assert tried == ATTEMPTS


@anyio_test
async def test_a_conflict_that_reading_again_does_not_resolve_is_reported_at_once() -> None:
    async def once() -> None:
        raise Conflict("write", "in use", code="placement.inventory.inuse")

    with pytest.raises(Conflict, match="in use"):
        await update_with_generation("write", once, wait_s=60)


@anyio_test
@pytest.mark.parametrize(("wait_s", "said"), [(0.0, "1 attempts, last: connection refused"), (0.3, "last: connection")])
async def test_what_does_not_pass_in_time_reports_what_was_tried(wait_s: float, said: str) -> None:
    with nobody() as url:
        async with a_client(url) as client:
            with anyio.fail_after(60), pytest.raises(GateClosed, match=said):
                await update_inventories(client, "x", HAS, wait_s=wait_s)
