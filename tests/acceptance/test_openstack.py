"""A host of a real OpenStack is brought back: records through nova-conductor, on the real process."""

import uuid
from pathlib import Path
from typing import Any

import pytest

from bringup.drivers.base import PowerState
from bringup.drivers.simulated import SimulatedGuest
from support.crashed import Crashed
from support.nova import Nova, the_nova
from support.openstack import a_cloud_host
from support.oracle import rows, why_missing
from support.oracle_cells import GONE, cells_of
from support.oracle_paths import decided_by_34
from support.oracle_words import Row
from support.process import run

INSTANCES = 500
# Of a guest that is gone Nova's recorder starts or stops one anyway, which no hypervisor does.
WANT_A_GUEST = ("drv.power_o", "drv.reboot", "drv.unpause", "drv.resume_state_on_host_boot", "drv.finish_revert")


@pytest.fixture
def nova() -> Nova:
    return the_nova()


def cells(*, resume: bool, count: int) -> list[tuple[Row, Row]]:
    """Choose cells of the deep table with their outcomes: some of each row, in turn, until there are enough."""
    outcomes = {row["id"]: row for row in rows("deep_outcomes")}
    cases = [
        (case, outcomes[case["outcome"]])
        for case in rows("deep_cases")
        if case["host"] == "own" and case["task_state"] != "migrating" and not decided_by_34(case)
    ]
    left = [
        [(cell, outcome) for cell in cells_of(case, "deep") if _fits(cell, outcome, resume=resume)]
        for case, outcome in cases
    ]
    taken: list[tuple[Row, Row]] = []
    while left and len(taken) < count:
        left = [some for some in left if some]
        taken += [some.pop() for some in left]
    return taken[:count]


def _fits(cell: Row, outcome: Row, *, resume: bool) -> bool:
    if cell["resume"] is not resume:
        return False
    acts = any(token.startswith(WANT_A_GUEST) for token in outcome["trace"])
    return not (cell["drv_power"] == GONE and acts)


def guest_of(uuid: str, cell: Row) -> list[SimulatedGuest]:
    if cell["drv_power"] == GONE:
        return []
    return [SimulatedGuest(uuid=uuid, name=f"guest {uuid}", power_state=PowerState(cell["drv_power"]))]


def expected(before: dict[str, Any], cell: Row, db: Row) -> dict[str, Any]:
    drv = 0 if cell["drv_power"] == GONE else cell["drv_power"]
    row = {"deleted": db.get("deleted", False)}
    for column in ("vm_state", "task_state", "power_state"):
        row[column] = before[column] if db[column] == "=" else drv if db[column] == "$drv" else db[column]
    return row


@pytest.mark.timeout(600)
@pytest.mark.parametrize("resume", [False, True], ids=["resume never", "resume always"])
def test_instances_in_every_state_end_as_nova_would_have_them(nova: Nova, tmp_path: Path, *, resume: bool) -> None:
    if reason := why_missing("deep_cases"):
        pytest.skip(reason)
    host = a_cloud_host(
        nova,
        tmp_path,
        limits={"concurrency": 32},
        guards={"destroy_freely": 1000, "quarantine_after": 1000},
        resume={"guests": "on_every_start" if resume else "never"},
        # What a guest that was started tells by itself is in no row.
        driver={"handle_lifecycle_events": False},
    )
    made: dict[str, tuple[dict[str, Any], Row, Row]] = {}
    guests: list[SimulatedGuest] = []
    for number, (cell, outcome) in enumerate(cells(resume=resume, count=INSTANCES // 2)):
        old = cell["old_vm_state"]
        one = host.instance(
            number,
            vm_state=cell["vm_state"],
            task_state=cell["task_state"],
            power_state=cell["db_power"],
            system_metadata={} if old is None else {"old_vm_state": old},
        )
        made[one["uuid"]] = (one, cell, outcome)
        guests += guest_of(one["uuid"], cell)
    nova.make(*(one for one, _, _ in made.values()))

    ended = host.guests(guests).computer.run()

    assert ended.code == 0, ended.out[-3000:] + ended.err
    assert ended.outcomes.keys() == made.keys()
    found = nova.read(list(made))
    wrong = {}
    for name, (one, cell, outcome) in made.items():
        row = {key: found[name][key] for key in ("deleted", "vm_state", "task_state", "power_state")}
        if row != expected(one, cell, outcome["db"]):
            wrong[name] = (cell, outcome["trace"], expected(one, cell, outcome["db"]), row, ended.outcomes[name])
    assert not wrong, "\n".join(map(str, wrong.values()))


def test_a_plan_of_a_live_cloud_writes_nothing(nova: Nova, tmp_path: Path) -> None:
    crashed = Crashed(nova, tmp_path)
    before = nova.dump()

    planned = run("plan", "--json", *crashed.host.computer.arguments)

    assert planned.code == 0, planned.err
    assert len(planned.out.splitlines()) >= len(crashed.expected)
    assert nova.dump() == before
    assert not (crashed.host.computer.state / "outbox").exists()


def test_a_check_names_who_answers(nova: Nova, tmp_path: Path) -> None:
    host = a_cloud_host(nova, tmp_path, scheduler={"transport": "nova"})
    host.guests([])
    nova.make(host.instance(1))

    checked = run("check", *host.computer.arguments)

    where = f"through RabbitMQ at 127.0.0.1:{nova.broker.port}"
    assert f"nova-conductor {where}: 1 instances of {host.name}, compute node {host.node}" in checked.out
    assert "s3cr3t" not in checked.out + checked.err

    host.computer.having(host={"node_uuid": str(uuid.uuid4())})
    checked = run("check", *host.computer.arguments)
    assert checked.code == 77
    assert f"Nova has instances on host {host.name}, and no compute node" in checked.out

    host.computer.having(messaging={"transport_url_file": None})
    checked = run("check", *host.computer.arguments)
    assert checked.code == 78
    assert "messaging.transport_url is missing" in checked.out


def test_nothing_is_imported_into_novas_records(nova: Nova, tmp_path: Path) -> None:
    host = a_cloud_host(nova, tmp_path)
    host.guests([])
    file = tmp_path / "records.json"
    file.write_text('{"format": "bringup.records/1", "instances": []}')
    imported = run("import", str(file), *host.computer.arguments)
    assert imported.code == 64
    assert "the records are Nova's own" in imported.err
