"""A whole host whose guests lack something: who is started, who is not, and what is left of their records."""

import json
from pathlib import Path
from typing import Any

import pytest

from acceptance.test_libvirt_host import OFF, ON, on_libvirt, record_of
from bringup.daemon.decisions.states import VmState
from support.drivers import driver_guest
from support.libvirt_drivers import emptied_libvirtd
from support.libvirtd import DomainExtras, Libvirtd
from support.needing import block, disk, loop_device
from support.polling import until
from support.process import run, running
from support.records import instance, uuid_of

WELL, WRONG_DISK, EMPTY_SHARE, NO_DEFINITION, LATE = range(1, 6)
SECRET = "hunter2-of-the-storage"


server = pytest.fixture(emptied_libvirtd)


def define(server: Libvirtd, number: int, devices: str = "") -> None:
    server.define(uuid_of(number), driver_guest(number).name, more=DomainExtras(devices=devices))


def states(server: Libvirtd) -> dict[str, int]:
    with server.connected() as connection:
        return {domain.UUIDString(): domain.state()[0] for domain in connection.listAllDomains()}


def test_no_guest_is_started_on_what_was_not_identified_and_records_stay_as_they_were(
    tmp_path: Path, server: Libvirtd
) -> None:
    theirs, late = tmp_path / "tenant-b.raw", tmp_path / "late.raw"
    theirs.write_bytes(b"B" * 1024**2)
    connection: dict[str, Any] = {"driver_volume_type": "iscsi", "data": {"target_iqn": "iqn.x:a", "target_lun": 1}}
    connection["data"]["auth_password"] = SECRET
    volume = {"volume_id": uuid_of(70), "device_name": "/dev/hda", "connection_info": json.dumps(connection)}
    records = {number: record_of(number) for number in (WELL, EMPTY_SHARE, NO_DEFINITION, LATE)}
    records[WRONG_DISK] = instance(WRONG_DISK, network_info=(), block_devices=(volume,))
    computer = on_libvirt(tmp_path, server).records(list(records.values()))
    share = "<filesystem type='mount'><driver type='virtiofs'/><source dir='{}'/><target dir='x'/></filesystem>"
    (tmp_path / "share").mkdir()
    with loop_device(theirs) as device:
        define(server, WELL)
        define(server, WRONG_DISK, block(device))
        xml = share.format(tmp_path / "share")
        memory = "<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>"
        server.define(
            uuid_of(EMPTY_SHARE),
            driver_guest(EMPTY_SHARE).name,
            more=DomainExtras(devices=xml, os=f"</os>{memory}<os>"),
        )
        define(server, LATE, disk(late))
        before = computer.stored()

        planned = run("plan", "--json", *computer.arguments)
        ended = computer.run()

        assert (ended.code, ended.err) == (0, "")
        deferred = {WRONG_DISK, EMPTY_SHARE, NO_DEFINITION, LATE}
        assert ended.outcomes == {
            uuid_of(number): "deferred" if number in deferred else "initialized" for number in records
        }
        assert states(server) == {
            uuid_of(number): ON if number == WELL else OFF for number in records if number != NO_DEFINITION
        }
        after = computer.stored()
        assert {number: after[uuid_of(number)] for number in deferred} == {
            number: before[uuid_of(number)] for number in deferred
        }
        told_of = {event["instance"]: json.dumps(event) for event in ended.named("instance.deferred")}
        for number, name in (
            (WRONG_DISK, device),
            (EMPTY_SHARE, str(tmp_path / "share")),
            (NO_DEFINITION, driver_guest(NO_DEFINITION).name),
            (LATE, str(late)),
        ):
            assert name in told_of[uuid_of(number)]
            assert name in planned.out
    assert theirs.read_bytes() == b"B" * 1024**2
    journal = b"".join(path.read_bytes() for path in (tmp_path / "state").rglob("*") if path.is_file())
    assert SECRET.encode() not in journal
    assert SECRET not in ended.out + ended.err + planned.out + planned.err


def test_a_guest_whose_disk_comes_late_is_started_by_the_same_run(tmp_path: Path, server: Libvirtd) -> None:
    late = tmp_path / "late.raw"
    computer = on_libvirt(tmp_path, server).records([record_of(LATE)])
    computer.having(resume={"guests": "on_host_boot", "wait_for_needs": "60s"})
    define(server, LATE, disk(late))
    with running("run", "--once", "--json", *computer.arguments) as process:
        process.until("instance.deferred", instance=uuid_of(LATE))
        late.write_bytes(bytes(1024**2))
        until(lambda: states(server)[uuid_of(LATE)] == ON, "the guest")
        ended = process.end()
    assert ended.code == 0
    assert computer.stored()[uuid_of(LATE)].vm_state is VmState.ACTIVE
