"""A guest with Linux in it, brought back through libvirt: it is reached, and what it spoofs does not leave it."""

import select
import struct
import time
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import anyio
import pytest

from bringup.drivers.network.host import make_host_network
from support.drivers import driver_guest
from support.frames import ICMP, RESEND_S, Tap, echo_request, ipv4, mac_bytes
from support.libvirt_drivers import opened, options
from support.libvirtd import a_libvirtd
from support.network import BRIDGE, GuestOf, a_vif, device_of, ip_of, mac_of, run
from support.small_linux import make_small_linux

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("nftables"), pytest.mark.timeout(300)]

OWN, PEER, SPOOFED = ip_of(1), ip_of(2), ip_of(3)
BOOT_S = 240.0
"""How long Linux may take on an emulated CPU of a machine that is busy; 4 s where it is not."""
ECHO_REPLY = 0


@pytest.fixture
def peer() -> Iterator[Tap]:
    """Provide the other guest of the bridge, once its NIC is plugged."""
    tap = Tap.open(device_of(2))
    yield tap
    tap.close()


def ping(ip: str, number: int) -> bytes:
    """Make the peer's ping of an address of the guest."""
    return mac_bytes(mac_of(1)) + ipv4(mac_of(2), PEER, ICMP, echo_request(number), to=ip)[6:]


def answers(peer: Tap, number: int) -> Iterator[tuple[str, int]]:
    """Ping both addresses of the guest, its own last; return the addresses that answer, and the numbers."""
    peer.send(ping(SPOOFED, number), ping(OWN, number))
    while select.select([peer.fd], [], [], RESEND_S)[0]:
        frame = peer.receive()
        if (frame[12:14], frame[23], frame[34]) == (b"\x08\x00", ICMP, ECHO_REPLY):
            yield str(IPv4Address(frame[26:30])), struct.unpack("!H", frame[40:42])[0]


def who_answers(peer: Tap, number: int) -> set[str]:
    """Ping until the guest's own address answers to this number; return the addresses that have answered until then.

    The guest and the bridge keep the order, so what has not come by then does not come.
    """
    until = time.monotonic() + BOOT_S
    found = set()
    while time.monotonic() < until:
        for ip, answered in answers(peer, number):
            # An answer to a question of before, asked twice, may be late.
            if answered == number:
                found.add(ip)
            if OWN in found:
                return found
    raise AssertionError(f"{OWN} did not answer in {BOOT_S:g} s")


async def test_a_linux_that_was_brought_back_is_reached_and_sends_from_no_address_but_its_own(
    tmp_path: Path, peer: Tap
) -> None:
    linux = make_small_linux(tmp_path, addresses=(f"{OWN}/16", f"{SPOOFED}/16"), peer=PEER, peer_mac=mac_of(2))
    guest = GuestOf([a_vif(1)], uuid=driver_guest(1).uuid, name=driver_guest(1).name)
    network = make_host_network(filters=True)
    with a_libvirtd(network="ours") as server:
        with server.connected() as connection:
            nic = {"mac": mac_of(1), "bridge": BRIDGE, "device": device_of(1)}
            connection.defineXML(linux.domain_xml(guest.uuid, guest.name, **nic))
        async with opened(options(server), network) as driver:
            await network.plug_vifs(GuestOf([a_vif(2)], uuid=driver_guest(2).uuid))
            await driver.resume_state_on_host_boot(guest)
            assert who_answers(peer, 1) == {OWN}

            # It does answer from the other address too: without rules that arrives.
            await network.ensure_filtering_rules_for_instance(
                GuestOf([a_vif(1, port_security_enabled=False)], uuid=guest.uuid, name=guest.name)
            )
            assert who_answers(peer, 2) == {OWN, SPOOFED}

            await driver.ensure_filtering_rules_for_instance(guest)
            assert who_answers(peer, 3) == {OWN}

            put_back = anyio.Event()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(driver.keep_filtering_rules, lambda _change: put_back.set())
                run("nft", "flush", "ruleset")
                with anyio.fail_after(60):
                    await put_back.wait()
                assert who_answers(peer, 4) == {OWN}
                tasks.cancel_scope.cancel()
