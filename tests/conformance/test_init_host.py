"""Every row of ``init_host.jsonl``: the order of a host's start under each configuration, and each call of it raising.

Where we differ on purpose stands in :data:`DIFFERENCES`, and each difference is asserted here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from bringup.daemon.decisions.outcomes import Kind, RunResult
from bringup.daemon.errors import SettingsError, StoreError, Temporary, Unavailable
from bringup.daemon.recovery.context import Startup
from bringup.daemon.recovery.init_host import init_host
from bringup.daemon.settings.pci import InvalidDeviceSpec, parse_device_spec
from support.drivers import uuid_of
from support.hosts import ELSEWHERE, ArrangedHost, arranged, evacuation, instance, limits
from support.oracle import rows, why_missing
from support.oracle_tally import NO_CASE_AT_HAND, Tally
from support.oracle_trace import ON_DRIVER
from support.oracle_words import Row

pytestmark = pytest.mark.anyio

FILE = "init_host"
LISTEN = "drv.register_event_listener"
FIREWALL_OFF = "drv.filter_defer_apply_off"
REPORT = "sched.update_instance_info"
EVACUATED = "destroy_evacuated_instances"
OWN = (1, 2)
AWAY = 3

DIFFERENCES = {
    LISTEN: "registered right after the driver is initialized: what happens to a guest from then on is not lost",
    "drv.list_instance_uuids": "asked right after that: a hypervisor that cannot tell its guests ends the start",
    EVACUATED: "an evacuated guest that cannot be destroyed is the outcome of its instance; the others go on",
    "init_instance": "whatever one instance raises is its outcome; the others go on, and the start too",
    FIREWALL_OFF: "rules that cannot be applied end the start only after the report was made",
    REPORT: "a report that fails does not end the start",
}
ENDS_THE_START: Mapping[str, type[Exception]] = {
    "pci_whitelist.load": InvalidDeviceSpec,
    "drv.init_host": Unavailable,
    LISTEN: Unavailable,
    "instances.get_by_host": Temporary,
    "drv.filter_defer_apply_on": Unavailable,
    FIREWALL_OFF: Unavailable,
}
OUR_WORDS = {
    "driver.init_host": "drv.init_host",
    "driver.register_event_listener": LISTEN,
    "driver.list_instance_uuids": "drv.list_instance_uuids",
    "store.load_instances": "instances.get_by_host",
    "driver.filter_defer_apply_on": "drv.filter_defer_apply_on",
    "driver.filter_defer_apply_off": FIREWALL_OFF,
    "driver.destroy": EVACUATED,
    "report": REPORT,
}


def plain(token: str) -> str:
    """Return a call without arguments and without the mark of a failure."""
    return token.partition("(")[0].rstrip("!")


def in_our_order(trace: list[str]) -> list[str]:
    """Move what comes at another place here."""
    kept = [token for token in map(plain, trace) if token != LISTEN]
    if "drv.init_host" not in kept:
        return kept
    begin = kept.index("drv.init_host") + 1
    listening = [LISTEN] if LISTEN in map(plain, trace) else []
    return [*kept[:begin], *listening, "drv.list_instance_uuids", *kept[begin:]]


def expected(row: Row, without_fault: list[str]) -> list[str]:
    """Return the calls that we make: up to a fault that ends the start, else all of them."""
    calls = in_our_order(without_fault)
    call = row["fault"] and plain(row["fault"]["call"])
    if call in ENDS_THE_START and call != FIREWALL_OFF:
        return calls[: calls.index(call) + 1]
    return calls


@dataclass(slots=True)
class Replay:
    """What came of one row."""

    host: ArrangedHost
    validated: list[str]
    raised: Exception | None = None
    result: RunResult | None = None

    def calls(self) -> list[str]:
        """Return the calls in Nova's words; an instance is where its first look is."""
        words = list(self.validated)
        for call in self.host.trace.calls:
            if call.name in OUR_WORDS:
                words.append(OUR_WORDS[call.name])
            if call.name == "driver.get_info":
                words.append(f"init_instance[{OWN.index(int(call.uuid[-12:]))}]")
        return list(dict.fromkeys(words))


async def replay(row: Row) -> Replay:
    """Bring a host with two instances and one evacuated guest back, as the row is configured and fails."""
    config, fault = row["config"], row["fault"]
    async with arranged(
        [*(instance(number) for number in OWN), instance(AWAY, host=ELSEWHERE)],
        migrations=[evacuation(AWAY)],
        limits=limits(concurrency=1),
        on_event=(lambda _event: None) if config["handle_virt_lifecycle_events"] else None,
        defer_iptables_apply=config["defer_iptables_apply"],
    ) as host:
        did = Replay(host, [])
        start = Startup(
            pass_placement=host.start.pass_placement, open_host=host.start.open_host, observer=host.progress.observe
        )
        if config["placement_os_region_name"] is None:
            host.trace.fail("placement", SettingsError(["PlacementNotConfigured"]))
        if fault is not None:
            inject(host, plain(fault["call"]), ON_DRIVER[fault["raises"]]("injected"))
        try:
            if config["pci_whitelist"]:
                did.validated.append("pci_whitelist.load")
                wrong = fault is not None and plain(fault["call"]) == "pci_whitelist.load"
                parse_device_spec("nonsense" if wrong else '{"vendor_id": "8086"}')
            did.result = (await init_host(start)).result
        except Exception as error:  # noqa: BLE001 - compared below
            did.raised = error
        if not config["track_instance_changes"]:
            host.trace.calls = [call for call in host.trace.calls if call.name != "report"]
        return did


def inject(host: ArrangedHost, call: str, error: Exception) -> None:
    if call.startswith("init_instance"):
        host.trace.fail("driver.plug_vifs", RuntimeError("injected"), uuid=uuid_of(OWN[int(call[-2])]))
        return
    if call == "instances.get_by_host":
        error = StoreError("injected")
    for ours, word in OUR_WORDS.items():
        if word == call:
            host.trace.fail(ours, error)


def differences(row: Row, without_fault: list[str], did: Replay) -> list[str]:
    """Return the differences from what the row, and what we do on purpose, lead to expect."""
    found = []
    if (wanted := expected(row, without_fault)) != did.calls():
        found.append(f"calls: expected {wanted}\n              had {did.calls()}")
    call = plain(row["fault"]["call"]) if row["fault"] else ""
    kind = SettingsError if row["escapes"] == "PlacementNotConfigured" else ENDS_THE_START.get(call)
    if type(did.raised) is not (kind or type(None)):
        found.append(f"raised: expected {kind}, had {did.raised!r}")
    begun = "init_instance[0]" in did.calls()
    if len(did.host.reports) != (begun and call != REPORT):
        found.append(f"reports: {did.host.reports}")
    if begun and call != REPORT:
        found += outcome_differences(call, did.host.reports[0])
    return found


def outcome_differences(call: str, report: RunResult) -> list[str]:
    """Return the outcomes that are not as expected; the instance that failed is failed, no other is."""
    failed = {f"init_instance[{place}]": uuid_of(number) for place, number in enumerate(OWN)} | {
        EVACUATED: uuid_of(AWAY)
    }
    wanted = {
        uuid_of(number): Kind.FAILED if failed.get(call) == uuid_of(number) else Kind.INITIALIZED
        for number in (*OWN, AWAY)
    }
    had = {outcome.uuid: outcome.kind for outcome in report.outcomes}
    found = [] if had == wanted else [f"outcomes: expected {wanted}, had {had}"]
    if (report.error is not None) != (call == FIREWALL_OFF):
        found.append(f"error of the report: {report.error}")
    return found


def key(config: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(config.items()))


async def test_each_start_has_the_order_that_it_has_in_nova(record_property: Callable[[str, object], None]) -> None:
    if reason := why_missing(FILE):
        pytest.skip(reason)
    all_rows = rows(FILE)
    without_fault = {key(row["config"]): row["trace"] for row in all_rows if row["fault"] is None}
    tally = Tally(f"{FILE}.jsonl", all_rows)
    for row in all_rows:
        trace = without_fault.get(key(row["config"]))
        if trace is None:
            tally.out_of_scope(NO_CASE_AT_HAND)
            continue
        found = differences(row, trace, await replay(row))
        tally.replayed(runs=1, problems=["\n  ".join([str(row), *found])] if found else [])
    tally.close(record_property)


def test_each_difference_is_one_that_a_row_can_show() -> None:
    if reason := why_missing(FILE):
        pytest.skip(reason)
    seen = {plain(token).partition("[")[0] for row in rows(FILE) for token in row["trace"]}
    assert set(DIFFERENCES) - seen == {"drv.list_instance_uuids"}
