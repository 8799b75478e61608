"""A host whose records come over a real RabbitMQ from somebody in nova-conductor's place, on the real process.

Whoever has the password of the cell's RabbitMQ may answer so.
"""

import itertools
import json
import signal
import uuid
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import pytest

from bringup.daemon.openstack.rpc.envelope import LARGEST
from bringup.daemon.openstack.rpc.objects import primitive
from bringup.drivers.base import PowerState
from bringup.drivers.simulated import Scenario, SimulatedDriver, SimulatedGuest, dump_scenario
from support.computer import Computer, a_computer
from support.evil_conductor import Bodies, EvilConductor, answering, envelope, fields_of
from support.nova_objects import instance_object, migration_data
from support.records import HOST, uuid_of

GOOD = [uuid_of(number) for number in range(1, 6)]
ESCAPES = "half \ud800 of one\n\x1b[2J forged"
LEVELS = 800
"""Of lists in each other: json reads them, and repr does not."""
DEEP: Any = json.loads("[" * LEVELS + "]" * LEVELS)
DIGITS = "@digits@"
"""Stands for a number with more of them than Python reads."""
WRONG: tuple[Any, ...] = (None, True, -1, 10**40, DIGITS, 1e400, "x" * 300, ESCAPES, ["a"], {"a": {}}, DEEP)
NO_UUIDS = ("../victim", "/abs/victim", "*", "", "..", f"{GOOD[0]}/..", f"{GOOD[0]}\n", f'{GOOD[0]}" ; flush ruleset #')


def row_of(name: Any, **changes: Any) -> dict[str, Any]:
    return instance_object(name, **changes)


def move_of(name: str, **changes: Any) -> dict[str, Any]:
    return primitive("Migration", "1.7", migration_data(name, **changes))


def device_of(name: str, **changes: Any) -> dict[str, Any]:
    return primitive("BlockDeviceMapping", "1.20", {"id": 8, "instance_uuid": name, "boot_index": 0} | changes)


def each_wrong(
    fields: Collection[str], numbers: "itertools.count[int]", values: Sequence[Any] = WRONG
) -> list[tuple[str, dict[str, Any]]]:
    """Return an instance for each field and each wrong value in it."""
    return [(uuid_of(next(numbers)), {name: wrong}) for name in sorted(fields) for wrong in values]


def good_rows() -> list[Any]:
    """Return rows of which the first waits for a save."""
    waits = {"vm_state": "stopped", "power_state": 4, "task_state": "powering-on"}
    return [row_of(name, id=number, **(waits if number == 1 else {})) for number, name in enumerate(GOOD, start=1)]


def digits(_: str, right: bytes, __: str) -> Bodies:
    return [right.replace(f'\\"{DIGITS}\\"'.encode(), b"9" * 9_000)]


def computer_of(evil: EvilConductor, directory: Path, guests: Sequence[str]) -> Computer:
    url = directory / "transport_url"
    url.write_text(evil.url)
    url.chmod(0o600)
    host = tuple(SimulatedGuest(uuid=each, name=each, power_state=PowerState.SHUTDOWN) for each in guests)
    (directory / "scenario.json").write_text(dump_scenario(Scenario(guests=host)))
    computer = a_computer(directory)
    return computer.having(
        host={"name": HOST, "node_uuid": evil.node},
        store={"url": "nova-conductor:"},
        messaging={"transport_url_file": str(url), "deadline": 60},
        resume={"guests": "on_every_start"},
        limits={"concurrency": 32},
        driver={"scenario_state": str(directory / "guests.sqlite"), "handle_lifecycle_events": False},
    )


def running_guests(computer: Computer) -> set[str]:
    directory = computer.directory
    driver = SimulatedDriver.from_file(directory / "scenario.json", state_path=directory / "guests.sqlite")
    return {name for name, guest in driver.guests.items() if guest.power_state is PowerState.RUNNING}


@pytest.fixture
def node() -> str:
    return str(uuid.uuid4())


def test_rows_that_cannot_be_right_are_their_own_instances_outcome_and_the_others_are_brought_back(
    tmp_path: Path, node: str
) -> None:
    numbers = itertools.count(100)
    rows = each_wrong(fields_of(row_of("")).keys() - {"uuid"}, numbers)
    some: tuple[Any, ...] = (DIGITS, ESCAPES, {"a": {}}, DEEP)
    moves = each_wrong(fields_of(move_of("")).keys() - {"instance_uuid"}, numbers, some)
    devices = each_wrong(fields_of(device_of("")).keys() - {"instance_uuid"}, numbers, some)
    twice = uuid_of(next(numbers))
    named = [*dict(rows), *dict(moves), *dict(devices), twice]
    evil = EvilConductor(
        HOST,
        node,
        rows=[
            *good_rows(),
            *(row_of(name, **wrong) for name, wrong in rows),
            *(row_of(name) for name, _ in (*moves, *devices)),
            *(row_of(wrong) for wrong in (*NO_UUIDS, *WRONG)),
            *(row_of(twice), row_of(twice, vm_state="deleted")),
            # Rows that are no instances, or of a version that nobody reads.
            *(
                *WRONG,
                primitive("Instance", "3.0", {}),
                primitive("Instance", ESCAPES, {}),
                primitive(ESCAPES, "2.0", {}),
            ),
        ],
        moves=[*(move_of(name, **wrong) for name, wrong in moves), *map(move_of, NO_UUIDS), *WRONG],
        devices=[*(device_of(name, **wrong) for name, wrong in devices), *map(device_of, NO_UUIDS), *WRONG],
        spoil=digits,
    )
    with answering(evil):
        computer = computer_of(evil, tmp_path, [*GOOD, *named])
        before = set(tmp_path.parent.iterdir())
        ended = computer.run()

    assert (ended.code, "Traceback" in ended.out + ended.err) == (0, False), ended.out[-3000:] + ended.err
    assert "\x1b" not in ended.out + ended.err
    assert {ended.outcomes[name] for name in GOOD} == {"initialized"}
    assert set(named) <= ended.outcomes.keys()
    failed = {name for name, outcome in ended.outcomes.items() if outcome != "initialized"}
    # Half of these are no value that the field can have; of the rest the field does not matter, or is left out.
    assert len(failed & set(named)) > len(named) / 2
    assert twice in failed
    assert set(GOOD) <= running_guests(computer) <= (set(GOOD) | set(named)) - failed
    assert not {name for _, name in evil.acted} & failed
    assert set(tmp_path.parent.iterdir()) == before


NOISE: tuple[bytes, ...] = (
    b"",
    b"\xff\xfe\0",
    b"[]",
    b"[" * 200_000,
    b'{"oslo.version": "2.0", "oslo.message": "' + b"[" * 200_000 + b'"}',
    b'{"oslo.version": 7}',
    json.dumps({"oslo.version": ESCAPES}).encode(),
    b" " * (LARGEST + 1),
    envelope(None),
    envelope({"a": DEEP}),
    envelope("another", [1]),
    *(envelope("another", failure=json.dumps(failure)) for failure in ({}, {"class": 7}, {"class": "x", "tb": [1]}, 7)),
)


def once_noisy() -> Callable[[str, bytes, str], Bodies]:
    noise = iter([NOISE])

    def spoil(method: str, right: bytes, message_id: str) -> Bodies:
        refused = json.dumps({"class": "Boom", "message": ESCAPES})
        if method == "save":
            return [envelope(message_id, failure=refused)]
        return [*next(noise, ()), envelope(message_id, ending=False), right, right]

    return spoil


def test_answers_that_are_none_cost_a_daemon_no_instance_but_the_one_whose_save_is_refused(
    tmp_path: Path, node: str
) -> None:
    evil = EvilConductor(HOST, node, rows=good_rows(), spoil=once_noisy())
    with answering(evil):
        computer = computer_of(evil, tmp_path, GOOD)
        with computer.stay() as daemon:
            daemon.until("service.ready")
            ended = daemon.end(signal.SIGTERM)

    assert (ended.code, "Traceback" in ended.out + ended.err) == (0, False), ended.out[-3000:] + ended.err
    assert "\x1b" not in ended.out + ended.err
    assert [ended.outcomes[name] for name in GOOD] == ["failed", *["initialized"] * 4]
    assert {name for _, name in evil.acted} == {GOOD[0]}
    unread = ended.named("rpc.reply_unreadable")
    assert [line["level"] for line in unread] == ["warning"] * (len(NOISE) - 1)
    assert max(len(line["error"]) for line in unread) < 200
