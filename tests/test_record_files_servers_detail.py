"""Nova's own answers to GET /servers/detail."""

import json
from pathlib import Path
from typing import Any

import pytest

from bringup.daemon.decisions.instances import Instance
from bringup.daemon.decisions.states import PowerState, TaskState, UnknownState, VmState
from bringup.daemon.errors import UsageError
from bringup.daemon.storage.record_files import read_records

SAMPLES = Path(__file__).parent / "data/api-samples"


def sample(version: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((SAMPLES / f"servers-details-v{version}.json").read_text())
    return document


def read(*documents: Any, host: str | None = None) -> tuple[Instance, ...]:
    return read_records("\n".join(json.dumps(document) for document in documents).encode(), host=host).instances


def with_id(document: dict[str, Any], uuid: str, **changes: Any) -> dict[str, Any]:
    return {"servers": [document["servers"][0] | {"id": uuid} | changes]}


VIF = {
    "address": "00:0c:29:0d:11:74",
    "network": {
        "label": "private",
        "subnets": [{"ips": [{"address": "192.168.1.30", "type": "fixed", "version": 4}]}],
    },
}


def test_every_field_that_the_answer_has_is_read() -> None:
    (found,) = read_records(SAMPLES / "servers-details-v2.73.json", host=None).instances

    assert found == Instance(
        uuid="2ce4c5b3-2866-4972-93ce-77a2ea46a7f9",
        host="compute",
        node="fake-mini",
        vm_state=VmState.ACTIVE,
        power_state=PowerState.RUNNING,
        name="instance-00000001",
        display_name="new-server-test",
        project_id="6f70656e737461636b20342065766572",
        user_id="admin",
        flavor=sample("2.73")["servers"][0]["flavor"],
        metadata={"My Server Name": "Apache1"},
        network_info=(VIF,),
    )


def test_volumes_are_its_block_devices() -> None:
    (found,) = read(sample("2.3"))

    assert found.block_devices == tuple(
        {
            "source_type": "volume",
            "destination_type": "volume",
            "volume_id": volume,
            "delete_on_termination": False,
        }
        for volume in ("volume_id1", "volume_id2")
    )


@pytest.mark.parametrize("version", ["2.3", "2.73", "2.96"])
def test_an_answer_of_any_microversion_is_read_where_the_host_is_known(version: str) -> None:
    (found,) = read(sample(version), host="named")

    assert found.host == sample(version)["servers"][0].get("OS-EXT-SRV-ATTR:host", "named")


def test_an_answer_that_names_no_host_is_refused_with_what_gives_it() -> None:
    with pytest.raises(UsageError, match=r"servers\[0\].OS-EXT-SRV-ATTR:host is missing: ask Nova as an admin.*--host"):
        read(sample("2.96"))


def test_an_instance_that_is_on_no_host_is_not_put_on_the_named_one() -> None:
    document = sample("2.73")
    document["servers"][0]["OS-EXT-SRV-ATTR:host"] = None

    assert read(document, host="named")[0].host is None


@pytest.mark.parametrize("host", [None, "named"])
def test_an_instance_of_a_cell_that_is_down_is_refused_and_the_reason_given(host: str | None) -> None:
    with pytest.raises(
        UsageError, match=r"servers\[0\] \(b6b0410f.*no OS-EXT-STS:vm_state.*cell that it is in is down"
    ):
        read(sample("2.69"), host=host)


def test_the_short_answer_of_get_servers_is_refused_with_what_gives_the_fields() -> None:
    with pytest.raises(UsageError, match=r"servers\[0\].OS-EXT-STS:vm_state is missing: GET /servers/detail gives it"):
        read({"servers": [{"id": "f5dc173b-6804-445a-a6d8-c705dad5b5eb", "name": "a", "links": []}]}, host="h")


A, B = "00000000-0000-0000-0000-00000000000a", "00000000-0000-0000-0000-00000000000b"


def test_pages_one_a_line_are_read_as_one() -> None:
    found = read(with_id(sample("2.73"), A), with_id(sample("2.3"), B))

    assert [one.uuid for one in found] == [A, B]


def test_pages_in_a_list_are_read_as_one() -> None:
    found = read([with_id(sample("2.73"), A), with_id(sample("2.3"), B)])

    assert [one.uuid for one in found] == [A, B]


def test_a_wrong_record_of_a_later_page_is_named_with_its_page() -> None:
    with pytest.raises(UsageError, match=r"\[1\].servers\[0\].id is 'x': a UUID is required"):
        read(with_id(sample("2.73"), A), with_id(sample("2.3"), "x"))


def test_a_server_that_is_on_two_pages_is_refused_with_both() -> None:
    with pytest.raises(UsageError, match=rf"\[1\].servers\[0\] is instance {A}, which \[0\].servers\[0\] is too"):
        read(with_id(sample("2.73"), A), with_id(sample("2.73"), A))


def test_states_are_read_as_nova_writes_them_and_kept_where_they_are_new() -> None:
    (known, new) = read(
        with_id(sample("2.73"), A, **{"OS-EXT-STS:task_state": "powering-off", "OS-EXT-STS:power_state": 4}),
        with_id(sample("2.73"), B, **{"OS-EXT-STS:vm_state": "hibernated"}),
    )

    assert (known.task_state, known.power_state) == (TaskState.POWERING_OFF, PowerState.SHUTDOWN)
    assert new.vm_state == UnknownState("hibernated")


def test_addresses_of_one_port_are_one_vif_and_floating_ones_are_ignored() -> None:
    port, other = {"OS-EXT-IPS-MAC:mac_addr": "fa:16:3e:00:00:01"}, {"OS-EXT-IPS-MAC:mac_addr": "fa:16:3e:00:00:02"}
    addresses = {
        "net": [
            {"addr": "10.0.0.1", "version": 4, "OS-EXT-IPS:type": "fixed"} | port,
            {"addr": "fd00::1", "version": 6, "OS-EXT-IPS:type": "fixed"} | port,
            {"addr": "192.0.2.1", "version": 4, "OS-EXT-IPS:type": "floating"} | port,
            {"addr": "10.0.0.2", "version": 4, "OS-EXT-IPS:type": "fixed"} | other,
        ]
    }

    (found,) = read(with_id(sample("2.73"), A, addresses=addresses))

    first, second = found.network_info
    assert [ip["address"] for ip in first["network"]["subnets"][0]["ips"]] == ["10.0.0.1", "fd00::1"]
    assert second["address"] == "fa:16:3e:00:00:02"


def test_a_wrong_address_is_named_down_to_its_place() -> None:
    with pytest.raises(UsageError, match=r"servers\[0\].addresses.net\[0\].addr is 5: text is required"):
        read(with_id(sample("2.73"), A, addresses={"net": [{"addr": 5}]}))
