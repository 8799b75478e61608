"""Rules of guests that somebody else takes away come back, and it is told: real nft, and what the kernel says of it."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from anyio import wait_all_tasks_blocked
from structlog.testing import capture_logs

from bringup.daemon.service.standby import keep_filter
from bringup.daemon.status.listener.documents import status
from bringup.daemon.status.listener.metrics import text_of as text_of_metrics
from bringup.daemon.storage.outbox.base import Pending
from bringup.drivers.base import FilterChange
from bringup.drivers.libvirt.driver import LibvirtDriver
from bringup.drivers.libvirt_options import LibvirtOptions
from bringup.drivers.network.firewall import Nftables, is_about_bridges
from bringup.drivers.network.host import make_host_network
from bringup.drivers.network.rules.ruleset import replacement
from support.hosts import arranged
from support.network import GuestOf, a_vif, device_of, our_table, ruleset, run
from support.records import uuid_of
from support.status import ManualRun
from test_status_console import text_of
from test_status_documents import VALIDATOR

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("nftables")]

FILTERED = {"security_group_rules": [{"direction": "ingress", "ethertype": "IPv4", "protocol": "udp"}]}
TABLE = ("bridge", "bringup")
TAP = device_of(1)
OTHERS = "table bridge others { chain c { ether type arp accept; }; }; table inet bringup { chain d { accept; }; }"
GONE, CHANGED = "the table bridge bringup was gone", "the table bridge bringup had been changed"


def guest(number: int, **fields: object) -> GuestOf:
    return GuestOf([a_vif(number, **(FILTERED | fields))], uuid=uuid_of(number))


class Changes:
    """What was told, in order."""

    def __init__(self) -> None:
        self.changes: list[FilterChange] = []
        self._came = anyio.Event()

    def __call__(self, change: FilterChange) -> None:
        self.changes.append(change)
        came, self._came = self._came, anyio.Event()
        came.set()

    async def count(self, number: int) -> None:
        with anyio.fail_after(60):
            while len(self.changes) < number:
                await self._came.wait()


@asynccontextmanager
async def watching(nftables: Nftables) -> AsyncIterator[Changes]:
    """Keep the rules while the block lasts, from when they were looked at once."""
    changes = Changes()
    async with anyio.create_task_group() as tasks:
        assert await nftables.restore() is None
        tasks.start_soon(nftables.keep, changes)
        yield changes
        tasks.cancel_scope.cancel()


async def filtering(*guests: GuestOf) -> Nftables:
    nftables = Nftables(deadline_s=30)
    await nftables.put([replacement(one) for one in guests])
    return nftables


CHANGES = {
    "flushed": (("flush", "ruleset"), GONE),
    "our table deleted": (("delete", "table", *TABLE), GONE),
    "our table flushed": (("flush", "table", *TABLE), CHANGED),
    "a guest's chain flushed": (("flush", "chain", *TABLE, f"from.{TAP}"), CHANGED),
    "a guest let by": (("delete", "element", *TABLE, "from-guests", f'{{ "{TAP}" }}'), CHANGED),
    "all let by": (("insert", "rule", *TABLE, "from-guests", "accept"), CHANGED),
    "a rule added": (("add", "rule", *TABLE, f"to.{TAP}", "accept"), CHANGED),
    "a chain added": (("add", "chain", *TABLE, "mine"), CHANGED),
}


@pytest.mark.parametrize(("command", "what"), CHANGES.values(), ids=CHANGES)
async def test_what_somebody_else_changes_is_put_back_and_told(command: tuple[str, ...], what: str) -> None:
    nftables = await filtering(guest(1), guest(2), GuestOf([a_vif(3)], uuid=uuid_of(3)))
    before = our_table()
    async with watching(nftables) as changes:
        run("nft", *command)
        await changes.count(1)
        assert our_table() == before
        assert changes.changes == [FilterChange(what=what, restored=True)]


async def test_it_is_put_back_each_time() -> None:
    nftables = await filtering(guest(1))
    before = our_table()
    async with watching(nftables) as changes:
        for number in (1, 2, 3):
            run("nft", "flush", "ruleset")
            await changes.count(number)
            assert our_table() == before


async def test_what_is_others_or_comes_and_goes_by_itself_is_no_change() -> None:
    nftables = await filtering(guest(1))
    before = our_table()
    async with watching(nftables) as changes:
        run("nft", OTHERS)
        run("nft", "add", "element", *TABLE, f"udp4.{TAP}", "{ 10.0.0.9 . 53 . 4000 }")
        run("nft", "delete", "table", "bridge", "others")
        # Our own, which is no change either; all of the above was heard before.
        await nftables.ensure(guest(2))
        assert await nftables.restore() is None
        run("nft", "flush", "ruleset")
        await changes.count(1)
        assert [change.what for change in changes.changes] == [GONE]
        await nftables.forget(guest(2))
        assert our_table() == before


async def test_others_tables_stay_as_they_are_when_ours_is_put_back() -> None:
    nftables = await filtering(guest(1))
    run("nft", OTHERS)
    before = ruleset()
    async with watching(nftables) as changes:
        run("nft", "delete", "table", *TABLE)
        await changes.count(1)
    assert sorted(ruleset().splitlines()) == sorted(before.splitlines())


def lines_of(table: str) -> list[str]:
    """Return the lines of a table that nft has read from its own text: what is implied it does not write again."""
    return sorted(table.replace("meta l4proto udp update", "update").splitlines())


async def test_rules_that_an_earlier_process_has_left_come_back_too() -> None:
    await filtering(guest(1), guest(2), guest(3))
    nftables = await filtering(guest(4))
    await nftables.forget(guest(2))
    await nftables.ensure(guest(3, port_security_enabled=False))
    # Its port went to another guest.
    await nftables.ensure(GuestOf([a_vif(4, **FILTERED)], uuid=uuid_of(5)))
    before = our_table()
    assert uuid_of(1) in before
    assert uuid_of(4) not in before
    async with watching(nftables) as changes:
        run("nft", "flush", "ruleset")
        await changes.count(1)
        assert lines_of(our_table()) == lines_of(before)


async def test_a_host_without_filtered_guests_gets_no_table() -> None:
    nftables = Nftables(deadline_s=30)
    async with watching(nftables) as changes:
        run("nft", OTHERS)
        run("nft", "flush", "ruleset")
        assert await nftables.restore() is None
        assert (ruleset(), changes.changes) == ("", [])


async def test_a_flush_before_it_is_watched_is_found_by_the_first_look() -> None:
    nftables = await filtering(guest(1))
    before = our_table()
    run("nft", "flush", "ruleset")
    assert await nftables.restore() == GONE
    assert our_table() == before
    # As the clock finds it, where the kernel has said nothing.
    run("nft", "flush", "chain", *TABLE, f"from.{TAP}")
    assert await nftables.restore() == CHANGED
    assert our_table() == before


async def test_guests_whose_rules_change_while_all_is_flushed_have_theirs() -> None:
    expected = await filtering(*(guest(number) for number in range(1, 21)))
    before = our_table()
    for number in range(1, 21):
        await expected.forget(guest(number))
    nftables = await filtering(guest(1))
    async with watching(nftables), anyio.create_task_group() as tasks:
        for number in range(1, 21):
            tasks.start_soon(nftables.ensure, guest(number))
            if number % 7 == 0:
                run("nft", "flush", "ruleset")
    await nftables.restore()
    assert sorted(our_table().splitlines()) == sorted(before.splitlines())


async def test_that_nobody_can_look_is_reported_once_and_what_was_missed_is_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nftables = await filtering(guest(1))
    before, real = our_table(), os.environ["PATH"]
    async with watching(nftables) as changes:
        monkeypatch.setenv("PATH", str(tmp_path))
        run("/usr/bin/env", f"PATH={real}", "nft", "flush", "ruleset")
        await changes.count(1)
        monkeypatch.setenv("PATH", real)
        run("nft", "add", "table", "bridge", "others")
        await changes.count(2)
        assert [change.restored for change in changes.changes] == [False, True]
        assert "nft is not on this host; install it" in changes.changes[0].what
        assert our_table() == before


@pytest.mark.parametrize("junk", [b"", b"\0" * 15, b"\0" * 64, b"\x10\0\0\0\x02\x0a\0\0" + b"\0" * 8, b"\xff" * 40])
def test_what_is_no_message_is_about_nothing(junk: bytes) -> None:
    assert not is_about_bridges(junk)


async def test_the_daemon_that_stays_reports_it_in_log_status_and_metrics() -> None:
    network = make_host_network(plugs=False, filters=True)
    driver = LibvirtDriver(LibvirtOptions(), network)
    await driver.ensure_filtering_rules_for_instance(guest(1))
    manual, changes = ManualRun(), Changes()

    def on_change(change: FilterChange) -> None:
        manual.source.filter_changed(change)
        changes(change)

    async with arranged() as host, anyio.create_task_group() as tasks:
        staying = replace(host.host, executor=replace(host.host.executor, driver=driver), on_filter_change=on_change)
        with capture_logs() as logs:
            tasks.start_soon(keep_filter, staying)
            await wait_all_tasks_blocked()
            run("nft", "flush", "ruleset")
            await changes.count(1)
        tasks.cancel_scope.cancel()

    assert [(line["event"], line["log_level"], line["was"]) for line in logs] == [("filter.restored", "warning", GONE)]
    answer = status(manual.source, Pending())
    VALIDATOR.validate(answer)
    assert (answer["filter"]["restored"], answer["filter"]["problem"]) == (1, None)
    assert "packet filter: changed by another process, restored once" in text_of(manual)
    metrics = text_of_metrics(manual.source, Pending()).decode()
    assert "bringup_packet_filter_restored_total 1.0" in metrics
    assert "bringup_packet_filter_in_place 1.0" in metrics

    manual.source.filter_changed(FilterChange(what="nobody can look", restored=False))
    assert status(manual.source, Pending())["filter"]["problem"] == "nobody can look"
    assert "packet filter: nobody can look" in text_of(manual)
    assert "bringup_packet_filter_in_place 0.0" in text_of_metrics(manual.source, Pending()).decode()
