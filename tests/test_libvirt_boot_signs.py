"""What real guests show of their boot: libvirt's counters of them, and their agents."""

from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from bringup.daemon.decisions.readiness import QuietWatch
from bringup.drivers.base import BootCounters, GuestSign, MemoryPressure
from bringup.drivers.libvirt.boot_signs import counters_of, unless_gone
from bringup.drivers.libvirt.definitions import devices_of
from bringup.drivers.memory_pressure import read_memory_pressure
from support.agent_linux import AgentLinux, Does, make_agent_linux
from support.drivers import driver_guest, uuid_of
from support.libvirt_drivers import a_driver, remove_guests
from support.libvirtd import Libvirtd, a_libvirtd
from support.polling import reached

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

PATIENCE_S = 240.0
"""Guests boot under TCG, on a machine that may be ten times slower."""


@pytest.fixture(scope="module")
def server() -> Iterator[Libvirtd]:
    with a_libvirtd() as server:
        yield server


@pytest.fixture(scope="module")
def linux(tmp_path_factory: pytest.TempPathFactory) -> AgentLinux:
    return make_agent_linux(tmp_path_factory.mktemp("linux"), compute_mb=0, disk_mb=1)


@pytest.fixture
def guests(server: Libvirtd, linux: AgentLinux) -> Iterator[Libvirtd]:
    """Define a guest with an agent, one without that becomes quiet, and one that never does."""
    with server.connected() as connection:
        for number in (1, 2, 3):
            does: tuple[Does, ...] = ("busy",) if number == 3 else ()
            xml = linux.domain_xml(uuid_of(number), driver_guest(number).name, *does, agent=number == 1)
            connection.defineXML(xml)
    yield server
    # A connection of before may have broken.
    with server.connected() as connection:
        remove_guests(connection)


async def test_an_agent_is_heard_and_seen_and_a_quiet_guest_is_told_from_a_busy_one(guests: Libvirtd) -> None:
    uuids = [uuid_of(number) for number in (1, 2, 3)]
    heard: list[GuestSign] = []
    watch, quiet = QuietWatch(), set[str]()
    async with a_driver(guests) as driver:
        driver.register_sign_listener(heard.append)
        for number in (1, 2, 3):
            await driver.power_on(driver_guest(number))
        first = await driver.boot_signs(uuids)

        async def all_show() -> bool:
            signs = await driver.boot_signs(uuids)
            quiet.update(watch.look(signs, anyio.current_time()))
            await anyio.sleep(1)
            return bool(signs[uuid_of(1)].agent and uuid_of(2) in quiet and signs[uuid_of(3)].counters.run_s > 1)

        await reached(all_show, "the signs of all guests", patience_s=PATIENCE_S)
        last = await driver.boot_signs(uuids)
        await driver.power_off(driver_guest(3), timeout_s=0, retry_interval_s=1)
        without = await driver.boot_signs([*uuids, uuid_of(9)])

    assert [first[uuid].agent for uuid in uuids] == [False, None, None]
    assert heard == [GuestSign(uuid_of(1), "agent_connected")]
    assert uuid_of(3) not in quiet
    assert all(last[uuid].counters.run_s > first[uuid].counters.run_s for uuid in uuids)
    assert last[uuid_of(1)].counters.reads > 0
    assert without.keys() == {uuid_of(1), uuid_of(2)}


async def test_an_agent_that_connected_while_libvirt_was_away_is_seen(guests: Libvirtd) -> None:
    async with a_driver(guests) as driver:
        await driver.power_on(driver_guest(1))
        guests.kill()
        guests.start_again()

        async def is_seen() -> bool:
            signs = await driver.boot_signs([uuid_of(1)])
            return bool(signs and signs[uuid_of(1)].agent)

        await reached(is_seen, "the agent", patience_s=PATIENCE_S)


def test_a_connection_that_is_lost_is_not_taken_for_a_guest_that_is_gone() -> None:
    libvirt = pytest.importorskip("libvirt")
    gone, lost = libvirt.libvirtError("gone"), libvirt.libvirtError("lost")
    gone.err, lost.err = (libvirt.VIR_ERR_NO_DOMAIN,), (libvirt.VIR_ERR_RPC,)

    def answer(error: Exception) -> None:
        with unless_gone(libvirt):
            raise error

    answer(gone)
    with pytest.raises(libvirt.libvirtError, match="lost"):
        answer(lost)


def test_counters_are_sums_and_what_is_not_counted_is_nothing() -> None:
    stats = {
        "vcpu.current": 2,
        "vcpu.0.time": 1_000_000_000,
        "vcpu.0.delay": 250_000_000,
        "vcpu.1.time": 500_000_000,
        "block.count": 2,
        "block.0.rd.reqs": 3,
        "block.1.rd.reqs": 4,
        "block.1.rd.times": 2_000_000_000,
        "net.count": 1,
        "net.0.tx.pkts": 7,
    }

    assert counters_of(stats) == BootCounters(run_s=1.5, delay_s=0.25, reads=7, read_s=2.0, sent=7)
    assert counters_of({}) == BootCounters()


@pytest.mark.parametrize(("state", "found"), [("connected", True), ("disconnected", False), (None, False)])
def test_the_state_of_an_agent_is_that_of_its_channel(state: str | None, found: bool) -> None:  # noqa: FBT001 - a column
    attribute = "" if state is None else f" state='{state}'"
    channel = f"<channel><target type='virtio' name='org.qemu.guest_agent.0'{attribute}/></channel>"

    assert devices_of(f"<domain><devices>{channel}</devices></domain>").agent is found
    assert devices_of("<domain><devices><channel><target name='spice'/></channel></devices></domain>").agent is None


def test_the_kernels_pressure_is_read(tmp_path: Path) -> None:
    file = tmp_path / "memory"
    file.write_text("some avg10=12.50 avg60=0.00 avg300=0.00 total=1\nfull avg10=0.25 avg60=0.00 avg300=0.00 total=1\n")

    assert read_memory_pressure(file) == MemoryPressure(some=12.5, full=0.25)


@pytest.mark.parametrize("text", [None, "", "some avg10=1.00 avg60=0.00"])
def test_a_kernel_that_measures_no_pressure_brakes_nothing(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "memory"
    if text is not None:
        file.write_text(text)

    assert read_memory_pressure(file) is None
