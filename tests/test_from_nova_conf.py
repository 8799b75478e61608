"""``bringup from-nova-conf``: what hosts really have, and what cannot work said before it is written."""

import json
import os
import tomllib
from pathlib import Path
from typing import Any

import pytest

from bringup.daemon.settings import load
from support.process import Ended, run
from support.settings_files import given_text

NODE = "6f2f0c0e-1f2a-4a55-9d35-0a3b8a3b7a10"
HEAD = """[DEFAULT]
state_path = {state_path}
transport_url = rabbit://nova:s3cr3t@192.0.2.11:5672,nova:s3cr3t@192.0.2.12:5672//
"""
DRIVER = "compute_driver = libvirt.LibvirtDriver\n"
PASSWORD = {
    "auth_type": "password",
    "auth_url": "https://192.0.2.9:5000",
    "username": "nova",
    "password": "s3cr3t",
    "project_name": "service",
}
CREDENTIAL = {
    "auth_type": "v3applicationcredential",
    "auth_url": "https://192.0.2.9:5000",
    "application_credential_id": "1",
    "application_credential_secret": "s3cr3t",
}


def placement(**options: str | None) -> str:
    lines = [f"{key} = {value}" for key, value in {**PASSWORD, **options}.items() if value is not None]
    return "\n".join(["[placement]", *lines, ""])


@pytest.fixture
def compute_id(tmp_path: Path) -> Path:
    return given_text(tmp_path / "compute_id", f"{NODE}\n")


@pytest.fixture
def head(tmp_path: Path, compute_id: Path) -> str:
    assert compute_id.exists()
    return HEAD.format(state_path=tmp_path)


def made(*arguments: str | Path) -> tuple[dict[str, Any], Ended]:
    """Make settings, and load them."""
    ended = run("from-nova-conf", *map(str, arguments))
    assert ended.code == 0, ended.err
    assert "s3cr3t" not in ended.out + ended.err
    assert "Traceback" not in ended.err
    return tomllib.loads(ended.out), ended


def refused(*arguments: str | Path) -> str:
    """Return why it is refused."""
    ended = run("from-nova-conf", *map(str, arguments))
    assert (ended.code, ended.out) == (os.EX_CONFIG, "")
    assert "s3cr3t" not in ended.err
    assert "Traceback" not in ended.err
    return ended.err


TEMPLATES = (
    "%(hostname)s-%(id)x",
    "%(hostname)s-%(id)08x",
    "%(uuid)s",
    "%(project_id).8s-%(id)d",
    "vm%d",
    "%i",
    "100%%-%08X",
    "%(id)#x",
    "%(launch_index)d-%(uuid)s",
    "%(nothing)s",
    "%(nothing)x",
)


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_template_that_nova_takes_is_taken_over(tmp_path: Path, head: str, template: str) -> None:
    conf = given_text(tmp_path / "nova.conf", f"{head}instance_name_template = {template}\n{DRIVER}{placement()}")
    found, ended = made(conf)
    assert found["store"]["instance_name_template"] == template
    loaded = load(given_text(tmp_path / "made.toml", ended.out), environment={}, overrides=[])
    assert loaded.store.instance_name_template == template


@pytest.mark.parametrize("template", ["%s%s", "%(hostname)x", "%(id", "x%", "plain", "%d-%(id)d", "%*d", "%99999d"])
def test_a_template_that_nova_fails_on_is_refused_in_a_sentence(tmp_path: Path, head: str, template: str) -> None:
    conf = given_text(tmp_path / "nova.conf", f"{head}instance_name_template = {template}\n{DRIVER}{placement()}")
    said = refused(conf)
    assert "store.instance_name_template = " in said
    assert "give Nova's instance_name_template" in said
    checked = run("check", "-s", f"store.instance_name_template={json.dumps(template)}")
    assert (checked.code, "Traceback" in checked.err) == (os.EX_CONFIG, False)


CANNOT_WORK = {
    "no certificates verified": (placement(insecure="True"), "[placement] insecure = true"),
    "another kind of login": (placement(auth_type="v3oidcpassword"), '[placement] auth_type = "v3oidcpassword"'),
    "kerberos": (placement(auth_type="v3kerberos"), "is not supported: give one of"),
    "no password": (placement(password=None), "[placement] password is missing"),
    "an empty password": (placement(password=""), "[placement] password is missing"),
    "no user": (placement(username=None), "[placement] username or [placement] user_id is missing"),
    "no project": (placement(project_name=None), "[placement] project_name"),
    "no address": (placement(auth_url="keystone.example.com"), "[placement] auth_url is not an address"),
    "no secret": (
        "[placement]\n" + "\n".join(f"{k} = {v}" for k, v in CREDENTIAL.items() if not k.endswith("secret")) + "\n",
        "[placement] application_credential_secret is missing",
    ),
    "no section": ("", "neither [placement] nor [keystone_authtoken] has an auth_type or auth_url"),
    "another section without a password": (
        placement(password=None).replace("[placement]", "[keystone_authtoken]"),
        "[keystone_authtoken] password is missing",
    ),
    "no CA file": (placement(cafile="/nowhere/ca.pem"), "[placement] cafile /nowhere/ca.pem"),
    "no client certificate": (placement(certfile="/nowhere/nova.pem"), "[placement] certfile /nowhere/nova.pem"),
    "no CA file of RabbitMQ": (
        placement() + "[oslo_messaging_rabbit]\nssl = true\nssl_ca_file = /nowhere/rabbit.pem\n",
        "[oslo_messaging_rabbit] ssl_ca_file /nowhere/rabbit.pem",
    ),
    "a reference that can be no option": (placement(region_name="$_id"), "[placement] region_name cannot be read"),
}


@pytest.mark.parametrize(("text", "says"), CANNOT_WORK.values(), ids=CANNOT_WORK.keys())
def test_what_can_never_work_is_refused_with_its_key_and_nothing_is_written(
    tmp_path: Path, head: str, text: str, says: str
) -> None:
    assert says in refused(given_text(tmp_path / "nova.conf", head + DRIVER + text))


def test_all_that_is_wrong_is_reported_together(tmp_path: Path, head: str) -> None:
    text = f"{placement(insecure='true')}[oslo_messaging_rabbit]\nssl = true\nssl_ca_file = /nowhere/rabbit.pem\n"
    said = refused(given_text(tmp_path / "nova.conf", head + DRIVER + text))
    assert "insecure" in said
    assert "ssl_ca_file" in said


@pytest.mark.parametrize(
    "name",
    [
        "libvirt.LibvirtDriver",
        "nova.virt.libvirt.LibvirtDriver",
        "libvirt.driver.LibvirtDriver",
        "nova.virt.libvirt.driver.LibvirtDriver",
    ],
)
def test_the_driver_is_known_by_every_name_that_nova_loads_it_by(tmp_path: Path, head: str, name: str) -> None:
    found, ended = made(given_text(tmp_path / "nova.conf", f"{head}compute_driver = {name}\n{placement()}"))
    assert found["driver"] == {"name": "libvirt"}
    assert "compute_driver" not in ended.err


@pytest.mark.parametrize("name", ["fake.FakeDriver", "ironic.IronicDriver", "LibvirtDriver", "nova.libvirt.Driver"])
def test_another_driver_is_reported_and_not_taken_for_ours(tmp_path: Path, head: str, name: str) -> None:
    found, ended = made(given_text(tmp_path / "nova.conf", f"{head}compute_driver = {name}\n{placement()}"))
    assert "driver" not in found
    assert f"[DEFAULT] compute_driver = {name}: there is a driver for libvirt.LibvirtDriver only" in ended.err


UBUNTUS_OTHER = f"[DEFAULT]\n{DRIVER}[libvirt]\nvirt_type = kvm\nimages_type = rbd\n"


def test_without_the_driver_the_other_file_of_the_package_is_advised(tmp_path: Path, head: str) -> None:
    conf = given_text(tmp_path / "nova.conf", head + placement())
    other = given_text(tmp_path / "nova-compute.conf", UBUNTUS_OTHER)

    _, alone = made(conf)
    both, ended = made(conf, other)

    assert f"bringup from-nova-conf {conf} {other}" in alone.err
    assert "compute_driver" not in ended.err
    assert "images_type = rbd" in ended.err
    assert both["driver"] == {"name": "libvirt"}
    assert both["keystone"] == {"nova_conf": [str(conf), str(other)]}


def test_the_node_may_be_named_on_the_command_line_where_its_file_is_in_a_container(tmp_path: Path) -> None:
    conf = given_text(tmp_path / "nova.conf", HEAD.format(state_path=tmp_path / "not-here") + DRIVER + placement())

    assert "give --node-uuid UUID" in refused(conf)
    found, _ = made(conf, "--node-uuid", NODE.upper())
    assert found["host"] == {"node_uuid": NODE}
    wrong = run("from-nova-conf", str(conf), "--node-uuid", "compute-1")
    assert (wrong.code, wrong.out) == (os.EX_USAGE, "")
    assert "is no UUID" in wrong.err


def test_a_nova_conf_of_kolla_is_taken_over(tmp_path: Path) -> None:
    text = (
        "[DEFAULT]\nlog_dir = /var/log/kolla/nova\nstate_path = /var/lib/nova\nallow_resize_to_same_host = true\n"
        f"{DRIVER}my_ip = 192.0.2.11\ntransport_url = rabbit://openstack:s3cr3t@192.0.2.1:5672//\n"
        "resume_guests_state_on_host_boot = true\n[oslo_concurrency]\nlock_path = /var/lib/nova/tmp\n"
        "[libvirt]\nconnection_uri = qemu+tcp://192.0.2.11/system\nimages_type = rbd\nnum_pcie_ports = 16\n"
        "[oslo_messaging_rabbit]\nrabbit_quorum_queue = true\nheartbeat_in_pthread = false\n"
    )
    options = {"user_domain_name": "Default", "project_domain_name": "Default", "cafile": "", "region_name": "One"}
    conf = given_text(tmp_path / "nova.conf", text + placement(**options, valid_interfaces="internal"))

    found, ended = made(conf, "--node-uuid", NODE)

    assert found["libvirt"] == {"uri": "qemu+tcp://192.0.2.11/system"}
    assert found["resume"] == {"guests": "on_host_boot"}
    assert "images_type = rbd" in ended.err
