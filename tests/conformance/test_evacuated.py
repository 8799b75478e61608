"""Every row of ``evacuated.jsonl``: what is done with evacuated guests, and each call of it raising.

The reads are ours in another shape: a fault in one that is about the host ends the run before an instance is touched.
Where Nova's network and block device reads of one instance stand, ours reads its record.  Where a fault ends Nova's
start, here it is the outcome of its instance, and the guests after it are seen to all the same.  A guest that was
evacuated and whose record was deleted since is left running by 15.1.5; here it is destroyed, as in 34 (LP 1687479).
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import pytest

from bringup.daemon.decisions.instances import Instance
from bringup.daemon.decisions.outcomes import Kind, RunResult
from bringup.daemon.errors import BringupError, StoreError, Temporary, Unavailable
from bringup.drivers.base import SharedStorageProbe
from support.drivers import uuid_of
from support.hosts import ELSEWHERE, ArrangedHost, arranged, evacuation, guest, instance, limits
from support.oracle import rows, why_missing
from support.oracle_tally import NO_CASE_AT_HAND, Tally
from support.oracle_trace import ON_DRIVER, ON_STORE
from support.oracle_words import Row
from support.tracing import Called, Trace

pytestmark = pytest.mark.anyio

FILE = "evacuated"
BEGINS_AN_INSTANCE = "net.get_instance_nw_info"
HOST_READS: Mapping[str, tuple[str, type[BringupError]]] = {
    "migrations.get_by_filters": ("store.load_migrations", Temporary),
    "instances.get_by_filters": ("store.load_instances_by_uuid", Temporary),
    "drv.list_instance_uuids": ("driver.list_instance_uuids", Unavailable),
    "drv.list_instances": ("driver.list_instances", Unavailable),
}
INSTANCE_CALLS = {
    "net.get_instance_nw_info": "store.get_instance",
    "bdm.list": "store.get_instance",
    "drv.check_instance_shared_storage_local": "driver.check_instance_shared_storage_local",
    "rpc.check_instance_shared_storage": "witness.sees",
    "drv.check_instance_shared_storage_cleanup": "driver.check_instance_shared_storage_cleanup",
    "drv.destroy": "driver.destroy",
    "migration.save": "store.save_migration",
}
EFFECTS = ("drv.check_", "rpc.", "drv.destroy[")


def number_of(letter: str) -> int:
    return ord(letter) - ord("a") + 1


def letter_of(uuid: str) -> str:
    return chr(int(uuid[-12:], base=16) % 1_000_000 + ord("a") - 1)


@dataclass(frozen=True, slots=True)
class Witness:
    """The other host, which sees the mark or does not."""

    trace: Trace
    shared: bool

    async def sees(self, instance: Instance, probe: SharedStorageProbe) -> bool:
        del probe

        async def answer() -> bool:
            return self.shared

        return await self.trace.around(Called("witness.sees", instance.uuid), answer)


def effects(tokens: Sequence[str]) -> list[str]:
    """Keep the calls that have an effect, or ask another host."""
    kept = [token.rstrip("!") for token in tokens]
    return [token for token in kept if token.startswith(EFFECTS) or token.endswith("].save")]


def of_each_instance(trace: Sequence[str]) -> list[list[str]]:
    """Cut a trace where Nova begins with an instance; what comes before is left out."""
    parts: list[list[str]] = []
    for token in trace:
        if token.rstrip("!") == BEGINS_AN_INSTANCE:
            parts.append([])
        if parts:
            parts[-1].append(token)
    return parts


def keeps_shared_disks(row: Row) -> bool:
    """Check whether Nova destroys disks that it has just found to be shared, because the mark on them was gone."""
    fault = row["fault"] or {}
    return (
        fault.get("call") == "drv.check_instance_shared_storage_cleanup"
        and fault["raises"] == "InstanceNotFound"
        and row["case"]["shared_remote"]
    )


def expected(row: Row, without_fault: Sequence[str]) -> list[str]:
    """Return Nova's effects; after a fault that ends Nova's start, those of the instances that come after it."""
    if keeps_shared_disks(row):
        return [token.replace("destroy_disks=True", "destroy_disks=False") for token in effects(row["trace"])]
    if row["escapes"] is None or row["fault"] is None:
        return effects(row["trace"])
    if row["fault"]["call"] in HOST_READS:
        return []
    parts = of_each_instance(row["trace"])
    parts += of_each_instance(without_fault)[len(parts) :]
    return effects(list(chain.from_iterable(parts)))


def without_record(case: Row) -> set[str]:
    """Return the letters of guests that were evacuated and have no record any more: Nova 15.1.5 leaves them running."""
    return (set(case["evacuated"]) & set(case["on_driver"])) - set(case["in_db"])


def our_effects(trace: Trace, left_out: Collection[str] = ()) -> list[str]:
    """Put our calls into Nova's words, but for those of some instances."""
    others = {uuid for letter in left_out for uuid in (uuid_of(number_of(letter)), evacuation(number_of(letter)).uuid)}
    words = []
    for call in trace.calls:
        if call.uuid in others:
            continue
        match call.name:
            case "driver.destroy":
                words.append(f"drv.destroy[{letter_of(call.uuid)}](destroy_disks={call.arguments['destroy_disks']})")
            case "store.save_migration":
                assert call.arguments == {"status": "completed"}
                words.append(f"migration[{letter_of(call.uuid)}].save")
            case "witness.sees":
                words.append("rpc.check_instance_shared_storage")
            case name if name.startswith("driver.check_"):
                words.append(name.replace("driver.", "drv."))
    return words


def arrange_the_case(host: ArrangedHost, case: Row) -> None:
    if case["uuids"] != "ok":
        host.trace.fail("driver.list_instance_uuids", ON_DRIVER[case["uuids"]](case["uuids"]))
    if case["nw"] != "ok":
        host.trace.fail("store.get_instance", ON_STORE[case["nw"]](case["nw"]))
    if case["shared_local"] not in ("data", None):
        host.trace.fail(
            "driver.check_instance_shared_storage_local", ON_DRIVER[case["shared_local"]](case["shared_local"])
        )


def inject(host: ArrangedHost, row: Row) -> str | None:
    """Make the row's call raise; return the letter of its instance, None where it has none."""
    call, raises = row["fault"]["call"], row["fault"]["raises"]
    if call in HOST_READS:
        ours, _ = HOST_READS[call]
        host.trace.fail(ours, ON_DRIVER[raises](raises) if ours.startswith("driver.") else StoreError(raises))
        return None
    until = next(place for place, token in enumerate(row["trace"]) if token.endswith("!"))
    case = row["case"]
    here = [letter for letter in case["evacuated"] if letter in case["on_driver"] and letter in case["in_db"]]
    letter = str(here[len(of_each_instance(row["trace"][: until + 1])) - 1])
    ours = INSTANCE_CALLS[call]
    errors = ON_STORE if ours.startswith("store.") else ON_DRIVER
    uuid = evacuation(number_of(letter)).uuid if ours == "store.save_migration" else uuid_of(number_of(letter))
    host.trace.fail(ours, errors[raises](raises), uuid=uuid)
    return letter


@dataclass(slots=True)
class Replay:
    """What came of one row."""

    host: ArrangedHost
    about: str | None = None
    raised: Exception | None = None
    result: RunResult | None = None


async def replay(row: Row) -> Replay:
    """Bring a host back that has the guests of the row."""
    case = row["case"]
    shared = None if case["shared_local"] is None else case["shared_remote"]
    async with arranged(
        [instance(number_of(letter), host=ELSEWHERE) for letter in case["in_db"]],
        guests=[guest(number_of(letter), shared_storage=shared) for letter in case["on_driver"]],
        migrations=[evacuation(number_of(letter)) for letter in case["evacuated"]],
        limits=limits(concurrency=1),
        # Nova looked at such a host; we refuse to, until an operator has accepted its guests.
        accepted_guests=frozenset(uuid_of(number_of(letter)) for letter in case["on_driver"]),
    ) as host:
        witness = Witness(host.trace, case["shared_remote"])
        object.__setattr__(host.host.executor, "witness", witness)
        did = Replay(host)
        arrange_the_case(host, case)
        if row["fault"] is not None:
            did.about = inject(host, row)
        try:
            did.result = await host.run()
        except Exception as error:  # noqa: BLE001 - compared below
            did.raised = error
        return did


def differences(row: Row, without_fault: Sequence[str], did: Replay) -> list[str]:
    """Return the differences."""
    found = []
    gone = without_record(row["case"])
    if (wanted := expected(row, without_fault)) != (had := our_effects(did.host.trace, gone)):
        found.append(f"effects: expected {wanted}\n                had {had}")
    escapes = row["escapes"]
    of_case = "drv.list_instance_uuids" if row["case"]["uuids"] == escapes else ""
    call = row["fault"]["call"] if row["fault"] else of_case
    if call in HOST_READS and escapes is not None:
        if type(did.raised) is not HOST_READS[call][1]:
            found.append(f"raised: {did.raised!r}")
        return found
    if did.raised is not None or did.result is None:
        return [*found, f"raised: {did.raised!r}"]
    seen_to = {letter_of(call.uuid) for call in did.host.trace.calls if call.name == "driver.destroy"}
    seen_to |= {letter_of(outcome.uuid) for outcome in did.result.outcomes if outcome.kind is Kind.FAILED}
    if not gone <= seen_to:
        found.append(f"evacuated, then deleted, and left running: {sorted(gone - seen_to)}")
    for outcome in did.result.outcomes:
        if letter_of(outcome.uuid) in gone:
            continue
        fails = escapes is not None and did.about in (None, letter_of(outcome.uuid))
        if outcome.kind is not (Kind.FAILED if fails else Kind.INITIALIZED):
            found.append(f"outcome: {outcome}")
        if fails and (outcome.problem is None or outcome.problem.error not in error_names(escapes)):
            found.append(f"problem: expected {escapes}, had {outcome.problem}")
    return found


def error_names(nova: str) -> set[str]:
    return {errors[nova].__name__ for errors in (ON_DRIVER, ON_STORE) if nova in errors}


async def test_each_evacuated_guest_ends_as_it_does_in_nova(record_property: Callable[[str, object], None]) -> None:
    if reason := why_missing(FILE):
        pytest.skip(reason)
    all_rows = rows(FILE)
    without_fault = {str(row["case"]): row["trace"] for row in all_rows if row["fault"] is None}
    tally = Tally(f"{FILE}.jsonl", all_rows)
    for row in all_rows:
        trace = without_fault.get(str(row["case"]))
        if trace is None and row["escapes"] is not None:
            tally.out_of_scope(NO_CASE_AT_HAND)
            continue
        found = differences(row, trace or [], await replay(row))
        tally.replayed(runs=1, problems=["\n  ".join([str(row), *found])] if found else [])
    tally.close(record_property)
