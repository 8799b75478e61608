"""What of a volume's connection is kept in a record: which volume it is, and no key of any storage."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bringup.daemon.storage.record_files import read_records
from bringup.drivers.volume_identity import KEYS, identity_of, without_credentials

SECRET = "hunter2-of-the-storage"
INFO: dict[str, Any] = {
    "driver_volume_type": "iscsi",
    "serial": "0a1b2c3d-1111-2222-3333-444455556666",
    "connector": {"password": SECRET},
    "data": {
        "target_iqn": "iqn.2010-10.org.openstack:x",
        "target_luns": [1, 2],
        "target_portal": "192.0.2.1:3260",
        "auth_method": "CHAP",
        "auth_username": SECRET,
        "auth_password": SECRET,
        "discovery_auth_password": SECRET,
        "keyring": SECRET,
        "secret_uuid": SECRET,
        "options": f"-o username=x,password={SECRET}",
        "export": f"//someone:{SECRET}@nas/share",
        "access_mode": "rw",
        "nqn": {"password": SECRET},
        "wwn": ["60014055d7e1f2a4c3b2d1e0f9a8b7c6", {"password": SECRET}, [SECRET]],
    },
}


@pytest.mark.parametrize("info", [INFO, json.dumps(INFO)], ids=["object", "text"])
def test_only_what_names_the_volume_is_kept(info: Any) -> None:
    kept = without_credentials({"volume_id": "x", "connection_info": info})
    assert kept == {
        "volume_id": "x",
        "connection_info": {
            "driver_volume_type": "iscsi",
            "serial": INFO["serial"],
            "data": {
                "target_iqn": "iqn.2010-10.org.openstack:x",
                "target_luns": [1, 2],
                "export": "//nas/share",
                "wwn": ["60014055d7e1f2a4c3b2d1e0f9a8b7c6"],
            },
        },
    }
    assert without_credentials(kept) == kept


@pytest.mark.parametrize("info", [None, "", "[", "[]", 7, {"data": None}, {"data": {"auth_password": SECRET}}])
def test_a_connection_that_names_nothing_is_not_kept(info: Any) -> None:
    assert without_credentials({"volume_id": "x", "connection_info": info}) == {"volume_id": "x"}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
)


@given(st.dictionaries(st.text(max_size=12), JSON, max_size=4), JSON)
def test_no_key_that_is_not_known_is_kept_whatever_it_holds(data: dict[str, Any], more: Any) -> None:
    kept = identity_of({"driver_volume_type": more, "data": data, "connector": more})
    assert set(kept) <= {"driver_volume_type", "data"}
    assert set(kept.get("data", {})) <= KEYS


def test_a_file_of_records_that_has_keys_of_storage_is_read_without_them() -> None:
    device = {"volume_id": "x", "device_name": "/dev/vda", "connection_info": INFO}
    instance = {
        "uuid": "132d660e-1520-470b-9cc6-0045deb34bed",
        "host": "compute-1",
        "vm_state": "active",
        "block_devices": [device],
    }
    document = {"format": "bringup.records/1", "instances": [instance]}
    [found] = read_records(json.dumps(document).encode(), host=None).instances
    assert SECRET not in repr(found)
    assert found.block_devices[0]["connection_info"]["data"]["target_luns"] == [1, 2]
