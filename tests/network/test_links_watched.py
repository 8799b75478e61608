"""Links that guests wait for, as the kernel reports them."""

from pathlib import Path

import anyio
import pytest

from bringup.drivers.libvirt.arrivals.host_events import Awaited, opened, watch_host
from bringup.drivers.libvirt.guest_needs.host import HostFiles
from support.network import run

pytestmark = pytest.mark.anyio


async def test_a_bridge_and_a_tap_that_come_are_reported_and_other_links_are_not() -> None:
    # What is there when the watch begins is reported: then it watches.
    awaited = Awaited(links=frozenset({"lo", "br-late", "tap-late", "br-never"}))
    send, receive = anyio.create_memory_object_stream[str](100)
    with send, receive:
        async with anyio.create_task_group() as group:
            group.start_soon(watch_host, HostFiles(), awaited, send.send_nowait)
            with anyio.fail_after(60):
                assert await receive.receive() == "lo"
                run("ip", "link", "add", "br-other", "type", "bridge")
                run("ip", "link", "add", "br-late", "type", "bridge")
                assert await receive.receive() == "br-late"
                run("ip", "tuntap", "add", "tap-late", "mode", "tap")
                assert await receive.receive() == "tap-late"
            group.cancel_scope.cancel()
        assert receive.statistics().current_buffer_used == 0


async def test_a_link_whose_message_was_lost_is_found(tmp_path: Path) -> None:
    """More has changed than the kernel keeps for one who does not read."""
    changes = tmp_path / "changes"
    changes.write_text("".join(f"link set lo mtu {1400 + number % 2}\n" for number in range(1000)))
    with opened(HostFiles(), Awaited(links=frozenset({"br-late"}))) as events:
        assert events.links() == frozenset()
        run("ip", "-batch", str(changes))
        run("ip", "link", "add", "br-late", "type", "bridge")
        lines = Path("/proc/thread-self/net/netlink").read_text().splitlines()
        drops = lines[0].split().index("Drops")
        assert any(int(line.split()[drops]) for line in lines[1:])
        assert events.new_links() == {"br-late"}
        assert events.new_links() == frozenset()
