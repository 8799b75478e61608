import sys
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from structlog.testing import capture_logs

from bringup.daemon.errors import SettingsError
from bringup.daemon.recovery.start_claim import StartClaim
from bringup.daemon.service import assembly
from bringup.daemon.settings import Settings, load
from bringup.daemon.storage.journal import NO_JOURNAL
from bringup.daemon.storage.store.base import Claimant
from bringup.drivers.base import PowerState, VirtualInterfacePlugError
from bringup.drivers.simulated import Fault, Scenario, SimulatedDriver, SimulatedGuest, dump_scenario
from support.placement import a_peer, an_answer
from support.records import instance as an_instance
from support.records import records, uuid_of
from support.scheduler import a_report, an_outcome

pytestmark = pytest.mark.anyio


def settings(directory: Path, *overrides: str) -> Settings:
    config = directory / "bringup.toml"
    config.write_text("")
    state = f"host.state_directory={directory / 'state'}"
    return load(config, environment={}, overrides=(state, *overrides))


def a_scenario(directory: Path, text: str | None = None) -> str:
    path = directory / "scenario.json"
    path.write_text(text or dump_scenario(Scenario(guests=(SimulatedGuest(uuid=uuid_of(1)),))))
    return f"driver.scenario={path}"


def test_the_clock_is_utc_and_the_boot_id_is_the_kernels() -> None:
    assert assembly.utc_now().utcoffset() is not None
    assert str(assembly.utc_now().tzinfo) == "UTC"
    assert assembly.boot_id(Settings()) == Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@pytest.mark.parametrize("content", [None, b"", b"\n", b"\xff"], ids=["missing", "empty", "blank", "no-text"])
def test_a_boot_id_that_cannot_be_read_is_reported_with_its_key(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "boot_id"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(SettingsError, match=r"host\.boot_id: .*boot_id (cannot be read|is empty)"):
        assembly.boot_id(settings(tmp_path, f"host.boot_id={file}"))


async def test_the_driver_is_made_of_its_scenario_and_is_not_begun(tmp_path: Path) -> None:
    driver = assembly.make_driver(settings(tmp_path, a_scenario(tmp_path)))

    assert isinstance(driver, SimulatedDriver)
    assert driver.guests[uuid_of(1)].power_state is PowerState.RUNNING
    assert driver.count("init_host") == 0


@pytest.mark.parametrize("make", [assembly.check_driver, assembly.make_driver], ids=lambda make: make.__name__)
def test_without_a_scenario_no_driver_can_be_made(tmp_path: Path, make: Any) -> None:
    with pytest.raises(SettingsError, match=r"driver\.scenario is missing"):
        make(settings(tmp_path))
    with pytest.raises(SettingsError, match=r"driver\.scenario: .*nothing\.json"):
        make(settings(tmp_path, f"driver.scenario={tmp_path / 'nothing.json'}"))


def test_a_scenario_that_is_wrong_is_a_wrong_setting(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"^driver\.scenario: .*scenario\.json: is not JSON"):
        assembly.make_driver(settings(tmp_path, a_scenario(tmp_path, "{")))


async def test_a_driver_that_cannot_be_closed_does_not_keep_the_process(tmp_path: Path) -> None:
    del tmp_path
    driver = SimulatedDriver(Scenario(faults=(Fault(verb="close", error="DriverError", message="busy"),)))

    with capture_logs() as logs:
        await assembly.close_driver(driver)

    assert [line["event"] for line in logs] == ["driver.not_closed"]


async def test_the_store_is_the_one_that_is_set(tmp_path: Path) -> None:
    given = settings(tmp_path, f"store.url=sqlite:///{tmp_path}/here/records.sqlite")

    async with assembly.opened_own_store(given) as store:
        await store.import_records(records(an_instance(1)))
    async with assembly.opened_store(given, must_exist=True) as store:
        assert [one.uuid for one in await store.load_instances("compute-1")] == [uuid_of(1)]

    assert (tmp_path / "here" / "records.sqlite").exists()


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ((), False),
        (("scheduler.transport=http", "scheduler.url=http://scheduler"), True),
        (("scheduler.transport=http", "scheduler.url=http://s", "scheduler.track_instance_changes=false"), False),
    ],
    ids=["none", "http", "not of instances"],
)
async def test_a_scheduler_is_reported_only_where_it_is_to_be(
    tmp_path: Path, overrides: tuple[str, ...], told: object
) -> None:
    given = settings(tmp_path, *overrides)

    async with assembly.opened_transport(given) as transport:
        assert (transport is not None) == told
    assert assembly.reports(given) == told


async def test_a_report_is_sent_to_the_address_with_the_token_and_past_proxies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The environment is no code of ours.
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with a_peer(an_answer(201, {})) as peer:
        token = tmp_path / "token"
        token.write_text("t0ken\n")
        token.chmod(0o600)
        given = settings(
            tmp_path, "scheduler.transport=http", f"scheduler.url={peer.url}/reports", f"scheduler.token_file={token}"
        )
        async with assembly.opened_transport(given) as transport:
            assert transport is not None
            with anyio.fail_after(60):
                await transport.send(a_report(an_outcome()))

    head = httpx.Headers(
        [(key, value) for key, _, value in (line.partition(": ") for line in peer.requests[0].splitlines()[1:]) if key]
    )
    assert peer.requests[0].startswith("POST /reports ")
    assert head["Authorization"] == "Bearer t0ken"


@pytest.mark.parametrize("url", ["https://127.0.0.1:1/reports", "HTTPS://127.0.0.1:1/reports"])
async def test_certificates_are_checked(tmp_path: Path, url: str) -> None:
    given = settings(tmp_path, "scheduler.transport=http", f"scheduler.url={url}")

    async with assembly.opened_transport(given) as transport:
        client: httpx.AsyncClient = transport._client  # type: ignore[union-attr]
        pool: Any = client._transport
        assert pool._pool._ssl_context.check_hostname


async def test_how_guests_are_shut_down_and_what_of_evacuated_disks_is_known_comes_from_the_settings(
    tmp_path: Path,
) -> None:
    given = settings(
        tmp_path,
        a_scenario(tmp_path),
        "guests.shutdown_timeout=7",
        "guests.shutdown_retry_interval=2",
        "evacuated.shared_storage=local",
    )
    async with assembly.opened_store(given) as store:
        driver = assembly.make_driver(given)
        claim = StartClaim(store=store, driver=driver, claimant=Claimant("compute-1", "node-1"))
        executor = assembly.make_executor(given, driver, store, start_claim=claim, journal=NO_JOURNAL)

    assert (executor.shutdown.shutdown_timeout, executor.shutdown.shutdown_retry_interval) == (7, 2)
    assert executor.store is store


async def test_the_network_is_made_as_it_is_set(tmp_path: Path) -> None:
    network = assembly.make_network(settings(tmp_path, "network.plug_vifs=false"))
    await network.plug_vifs(an_instance(1, network_info=({"id": "a", "type": "binding_failed"},)))

    network = assembly.make_network(settings(tmp_path))
    with pytest.raises(VirtualInterfacePlugError, match="binding_failed"):
        await network.plug_vifs(an_instance(1, network_info=({"id": "a", "type": "binding_failed"},)))


def test_a_network_that_lacks_its_extra_is_reported_before_any_guest_is_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyroute2", None)
    with pytest.raises(SettingsError, match=r"network\.plug_vifs = true needs the extra bringup\[network\]"):
        assembly.make_network(settings(tmp_path))
    assembly.make_network(settings(tmp_path, "network.plug_vifs=false"))
