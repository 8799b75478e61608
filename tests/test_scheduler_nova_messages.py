"""What nova-scheduler is told of a report, word for word."""

import json
from typing import Any

import pytest

from bringup.daemon.openstack.rpc.envelope import message
from bringup.daemon.openstack.scheduler_nova_messages import TOPIC, VERSION, Cast, casts_of, sync
from bringup.daemon.storage.outbox.report import Report, build_report
from support.scheduler import HOST, NOON, a_report, a_result, an_outcome, uuid_of


def told_of(report: Report) -> list[tuple[str, Any]]:
    """Return each method, and what it names."""
    said = []
    for cast in casts_of(report):
        arguments = dict(cast.arguments)
        assert arguments.pop("host_name") == HOST
        [named] = arguments.values()
        said.append((cast.method, uuids_in(named) if cast.method == "update_instance_info" else named))
    return said


def uuids_in(instance_list: Any) -> list[str]:
    return [each["nova_object.data"]["uuid"] for each in instance_list["nova_object.data"]["objects"]]


def updated_in(report: Report) -> dict[str, Any]:
    """Return the fields of the one instance of an update."""
    [update] = [cast for cast in casts_of(report) if cast.method == "update_instance_info"]
    [instance] = update.arguments["instance_info"]["nova_object.data"]["objects"]
    fields: dict[str, Any] = instance["nova_object.data"]
    return fields


def test_instances_are_reported_and_then_that_these_are_all() -> None:
    update, then = casts_of(a_report(an_outcome(1), an_outcome(2)))

    fields = {"host": "compute-1", "vm_state": "active", "task_state": None, "power_state": 1}
    assert update == Cast(
        "update_instance_info",
        {
            "host_name": "compute-1",
            "instance_info": {
                "nova_object.name": "InstanceList",
                "nova_object.namespace": "nova",
                "nova_object.version": "2.0",
                "nova_object.data": {
                    "objects": [
                        {
                            "nova_object.name": "Instance",
                            "nova_object.namespace": "nova",
                            "nova_object.version": "2.0",
                            "nova_object.data": {"uuid": uuid_of(number), **fields},
                        }
                        for number in (1, 2)
                    ]
                },
            },
        },
    )
    assert then == Cast("sync_instance_info", {"host_name": "compute-1", "instance_uuids": [uuid_of(1), uuid_of(2)]})
    assert (TOPIC, VERSION) == ("scheduler", "4.2")


# As nova-compute 34.0.0 was seen to send it, instances left out.
CAPTURED = """{"method": "update_instance_info", "args": {"host_name": "compute-1", "instance_info": {
"nova_object.name": "InstanceList", "nova_object.namespace": "nova", "nova_object.version": "2.6", "nova_object.data":
{"objects": []}, "nova_object.changes": ["objects"]}}, "version": "4.2",
"_unique_id": "f92f148fa3614d2d8771444038e23d1f"}
"""


def test_on_the_wire_an_update_has_the_shape_of_novas_own() -> None:
    update = casts_of(a_report(an_outcome(1)))[0]
    outer = json.loads(message(update.method, update.arguments, version=VERSION, unique_id="f92f"))

    assert outer.keys() == {"oslo.version", "oslo.message"}
    assert outer["oslo.version"] == "2.0"
    ours, novas = json.loads(outer["oslo.message"]), json.loads(CAPTURED)
    assert novas.keys() <= ours.keys()
    assert (ours["method"], ours["version"]) == (novas["method"], novas["version"])
    assert ours["args"].keys() == novas["args"].keys()
    theirs = novas["args"]["instance_info"]
    assert {*ours["args"]["instance_info"], "nova_object.changes"} == theirs.keys()
    # A cast: who takes it must not try to answer.
    assert not {"_msg_id", "_reply_q"} & ours.keys()


def test_what_is_gone_is_reported_first_whether_it_was_deleted_or_is_elsewhere() -> None:
    report = a_report(an_outcome(1), an_outcome(2, deleted=True), an_outcome(3, host="compute-2"))

    assert told_of(report) == [
        ("delete_instance_info", uuid_of(2)),
        ("delete_instance_info", uuid_of(3)),
        ("update_instance_info", [uuid_of(1)]),
        ("sync_instance_info", [uuid_of(1)]),
    ]


def test_no_update_of_nothing_is_reported_but_that_the_host_is_empty_is() -> None:
    assert told_of(a_report()) == [("sync_instance_info", [])]
    assert told_of(a_report(an_outcome(1, deleted=True))) == [
        ("delete_instance_info", uuid_of(1)),
        ("sync_instance_info", []),
    ]


def test_a_run_that_came_to_no_instance_proves_nothing() -> None:
    assert told_of(a_report(error="the records cannot be loaded")) == []


def test_instances_that_were_not_settled_are_on_the_host_all_the_same() -> None:
    report = build_report(a_result(an_outcome(1), unfinished=(uuid_of(2),)), created_at=NOON)

    assert told_of(report) == [
        ("update_instance_info", [uuid_of(1)]),
        ("sync_instance_info", [uuid_of(1), uuid_of(2)]),
    ]
    alone = build_report(a_result(unfinished=(uuid_of(2),)), created_at=NOON)
    assert told_of(alone) == [("sync_instance_info", [uuid_of(2)])]


@pytest.mark.parametrize(
    ("power_state", "told"),
    [(4, {"power_state": 4}), (0, {"power_state": 0}), (None, {}), ("dozing", {})],
    ids=["shut down", "no state", "not known", "no number of Nova's"],
)
def test_a_power_state_is_reported_where_it_is_a_number(power_state: int | str | None, told: dict[str, int]) -> None:
    report = a_report(an_outcome(1))
    report["instances"][0]["power_state"] = power_state

    fields = updated_in(report)

    assert fields == {"uuid": uuid_of(1), "host": HOST, "vm_state": "active", "task_state": None, **told}


def test_a_state_that_is_not_known_here_is_reported_as_it_was_written() -> None:
    report = a_report(an_outcome(1))
    report["instances"][0] |= {"vm_state": "hibernated", "task_state": "thawing"}

    fields = updated_in(report)

    assert (fields["vm_state"], fields["task_state"]) == ("hibernated", "thawing")


def test_a_sync_keeps_no_list_that_somebody_may_change() -> None:
    uuids = [uuid_of(1)]
    told = sync(HOST, uuids)
    uuids.clear()
    assert told.arguments["instance_uuids"] == [uuid_of(1)]
