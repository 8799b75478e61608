"""Our table on the real kernel: transactions, culprits, what stays and what goes."""

import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest

from bringup.drivers.base import DriverError, VirtualInterfacePlugError
from bringup.drivers.network.commands import CommandUnavailable
from bringup.drivers.network.firewall import Nftables
from bringup.drivers.network.rules.expressions import Word
from bringup.drivers.network.rules.ruleset import Filter, Replacement, instance_of, replacement
from support.network import BRIDGE, GuestOf, a_network, a_vif, device_of, names, our_table, ruleset, run
from support.programs import path_of
from support.records import uuid_of

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("nftables")]

FILTERED = {"security_group_rules": [{"direction": "ingress", "ethertype": "IPv4"}]}
CHILD = Path(__file__).parents[1] / "support" / "network_child.py"

OTHERS = """
table bridge others {
    chain forward { type filter hook forward priority 0;
        ether type arp accept
    }
}
table inet bringup {
    chain input { type filter hook input priority 0;
        tcp dport 22 accept
    }
}
table ip others {
    set addresses { type ipv4_addr; elements = { 10.0.0.1 }; }
}
"""


def guest(number: int, **fields: object) -> GuestOf:
    return GuestOf([a_vif(number, **fields)], uuid=uuid_of(number))


def devices_in_our_table() -> set[str]:
    return set(re.findall(r"chain from\.(\S+)", our_table()))


@dataclass(frozen=True)
class Calls:
    """Calls of nft, a line each in a file, of which those that change something count."""

    path: Path

    def __len__(self) -> int:
        return self.path.read_text().count("-f -\n")


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Put a program before nft that counts."""
    counted = Calls(tmp_path / "calls")
    counted.path.touch()
    wrapper = tmp_path / "bin" / "nft"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\necho "$*" >>{counted.path}\nexec {path_of("nft")} "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{wrapper.parent}:{os.environ['PATH']}")
    return counted


async def test_to_open_and_close_changes_nothing() -> None:
    async with a_network():
        assert ruleset() == ""
    async with a_network() as network:
        await network.ensure_filtering_rules_for_instance(guest(1))
        before = ruleset()
        async with a_network():
            assert ruleset() == before


async def test_again_changes_nothing() -> None:
    async with a_network() as network:
        for told in (guest(1), guest(2, **FILTERED)):
            await network.ensure_filtering_rules_for_instance(told)
        before = our_table()
        for told in (guest(2, **FILTERED), guest(1)):
            await network.ensure_filtering_rules_for_instance(told)
        assert our_table() == before
    async with a_network() as network:
        await network.ensure_filtering_rules_for_instance(guest(1))
        assert our_table() == before


async def test_deferred_rules_are_one_transaction_at_the_end(calls: Calls) -> None:
    async with a_network() as network:
        await network.filter_defer_apply_on()
        before, opened = our_table(), len(calls)
        for number in range(30):
            await network.ensure_filtering_rules_for_instance(guest(number))
        assert our_table() == before
        assert len(calls) == opened + 1, "only that of this test's look"

        await network.filter_defer_apply_off()
        assert len(calls) == opened + 2
        assert devices_in_our_table() == {device_of(number) for number in range(30)}

        await network.ensure_filtering_rules_for_instance(guest(30))
        assert device_of(30) in devices_in_our_table()


async def test_a_guest_that_is_about_to_start_has_its_rules_and_nics_though_they_are_deferred(calls: Calls) -> None:
    async with a_network() as network:
        await network.filter_defer_apply_on()
        told = GuestOf([a_vif(1), a_vif(2, type="802.1qbh")], uuid=uuid_of(1))
        await network.ensure_filtering_rules_for_instance(told)
        await network.make_ready(told)
        assert BRIDGE in names()
        assert devices_in_our_table() == {device_of(1)}
        before = len(calls)
        await network.filter_defer_apply_off()
        assert len(calls) == before
        with pytest.raises(VirtualInterfacePlugError):
            await network.make_ready(GuestOf([a_vif(1, type="unbound")]))


async def test_what_many_guests_want_at_once_shares_transactions(calls: Calls) -> None:
    async with a_network() as network:
        opened = len(calls)
        async with anyio.create_task_group() as tasks:
            for number in range(30):
                tasks.start_soon(network.ensure_filtering_rules_for_instance, guest(number))
        assert len(calls) - opened < 15
        assert devices_in_our_table() == {device_of(number) for number in range(30)}


async def test_one_bad_rule_drops_nobody_elses_and_its_instance_is_named() -> None:
    bad = Replacement(
        instance=instance_of(uuid_of(7)),
        filters={device_of(7): Filter(from_guest=((Word("ip saddr nonsense drop"),),))},
    )
    nftables = Nftables(deadline_s=30)
    await nftables.open()
    await nftables.put([replacement(guest(7))])
    good_of_seven = [line for line in our_table().splitlines() if uuid_of(7) in line]

    replacements = [replacement(guest(number)) for number in range(20) if number != 7]
    with pytest.raises(DriverError, match=f"cannot apply the packet filter of {uuid_of(7)}") as raised:
        await nftables.put([*replacements[:11], bad, *replacements[11:]])

    assert "nonsense" in str(raised.value.__cause__)
    assert devices_in_our_table() == {device_of(number) for number in range(20)}
    assert [line for line in our_table().splitlines() if uuid_of(7) in line] == good_of_seven


async def test_nobody_elses_rules_are_touched(tmp_path: Path) -> None:
    others = tmp_path / "others.nft"
    others.write_text(OTHERS)
    run("nft", "-f", str(others))
    before = ruleset()
    async with a_network() as network:
        await network.ensure_filtering_rules_for_instance(guest(1, **FILTERED))
        assert ruleset().replace(our_table(), "") == before
        await network.forget(guest(1))
        assert ruleset().replace(our_table(), "") == before


async def test_nothing_is_left_of_a_guest_that_is_forgotten() -> None:
    async with a_network() as network:
        bare = our_table()
        await network.ensure_filtering_rules_for_instance(guest(1))
        one = our_table()
        await network.ensure_filtering_rules_for_instance(GuestOf([a_vif(2, **FILTERED), a_vif(3)], uuid=uuid_of(2)))
        # Its record has lost a NIC meanwhile, and this process has never seen it.
        async with a_network() as later:
            await later.forget(guest(2))
            assert our_table() == one
            await later.forget(guest(2))
            await later.forget(guest(1))
        assert our_table() == bare


async def test_a_guest_that_is_forgotten_while_rules_are_collected_gets_none() -> None:
    async with a_network() as network:
        bare = our_table()
        await network.filter_defer_apply_on()
        await network.ensure_filtering_rules_for_instance(guest(1))
        await network.forget(guest(1))
        await network.filter_defer_apply_off()
        assert our_table() == bare


async def test_a_port_that_went_to_another_guest_keeps_its_rules_when_the_first_is_forgotten() -> None:
    async with a_network() as network:
        await network.ensure_filtering_rules_for_instance(GuestOf([a_vif(1)], uuid=uuid_of(8)))
        await network.ensure_filtering_rules_for_instance(GuestOf([a_vif(1)], uuid=uuid_of(9)))
        before = our_table()
        assert uuid_of(9) in before
        await network.forget(GuestOf([a_vif(1)], uuid=uuid_of(8)))
        assert our_table() == before


async def test_a_nic_that_is_not_filtered_any_more_loses_its_rules_and_an_empty_record_changes_nothing() -> None:
    async with a_network() as network:
        bare = our_table()
        await network.ensure_filtering_rules_for_instance(guest(1))
        before = our_table()
        await network.ensure_filtering_rules_for_instance(GuestOf([], uuid=uuid_of(1)))
        assert our_table() == before
        await network.ensure_filtering_rules_for_instance(guest(1, port_security_enabled=False))
        assert our_table() == bare


async def test_rules_come_back_after_somebody_has_flushed_all() -> None:
    async with a_network() as network:
        await network.ensure_filtering_rules_for_instance(guest(1, **FILTERED))
        before = our_table()
        run("nft", "flush", "ruleset")
        await network.ensure_filtering_rules_for_instance(guest(1, **FILTERED))
        assert our_table() == before
        run("nft", "flush", "ruleset")
        await network.forget(guest(1))


@pytest.mark.parametrize("after", [0, 5])
def test_killed_at_any_point_and_begun_again_the_end_is_the_same(after: int) -> None:
    command = [sys.executable, str(CHILD), "12"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as whole:
        assert whole.wait() == 0
    expected = our_table()
    run("nft", "delete", "table", "bridge", "bringup")

    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as killed:
        assert killed.stdout is not None
        for _ in range(after):
            assert killed.stdout.readline()
        killed.send_signal(signal.SIGKILL)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as again:
        assert again.wait() == 0
    assert sorted(our_table().splitlines()) == sorted(expected.splitlines())


async def test_an_nft_that_hangs_costs_its_deadline_and_no_rule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nftables = Nftables(deadline_s=30)
    await nftables.open()
    await nftables.put([replacement(guest(1))])
    before = our_table()

    wrapper = tmp_path / "nft"
    wrapper.write_text("#!/bin/sh\nexec tail -f /dev/null\n")
    wrapper.chmod(0o755)
    hanging = Nftables(deadline_s=0.2)
    with monkeypatch.context() as path:
        path.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        with pytest.raises(DriverError) as raised:
            await hanging.put([replacement(guest(number)) for number in range(9)])
    assert isinstance(raised.value.__cause__, CommandUnavailable)
    assert str(raised.value.__cause__) == "nft did not end within 0.2 s"
    assert our_table() == before


async def test_without_nft_it_names_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DriverError, match=r"nft is not on this host; install it \(Debian: package nftables\)"):
        await Nftables(deadline_s=30).open()
