"""How RabbitMQ is reached: settings of one's own, or the nova.conf of this host; and a nova.conf made into settings."""

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bringup.daemon.errors import SettingsError
from bringup.daemon.openstack.rpc.transport_url import TRUST, BrokerAddress
from bringup.daemon.settings import Settings, load
from bringup.daemon.settings.credentials.from_nova_conf import settings_from
from bringup.daemon.settings.credentials.rabbitmq import broker_of
from support.process import run
from support.settings_files import given_text, problems

NODE = "6f2f0c0e-1f2a-4a55-9d35-0a3b8a3b7a10"
URL = "rabbit://nova:s3cr3t@controller:5672/"
CONTROLLER = BrokerAddress(host="controller", port=5672, username="nova", password="s3cr3t")
PLACEMENT = (
    "\n[placement]\nauth_type = password\nauth_url = http://controller:5000/v3\n"
    "username = placement\npassword = s3cr3t\nproject_name = service\n"
)
STORE = f'[host]\nnode_uuid = "{NODE}"\n[store]\nurl = "nova-conductor:"\n'


def settings(tmp_path: Path, text: str) -> Settings:
    return load(given_text(tmp_path / "bringup.toml", text), environment={}, overrides=[])


def nova_conf(tmp_path: Path, text: str, *, default: str = "") -> Path:
    (tmp_path / "compute_id").write_text(f"{NODE}\n")
    head = f"[DEFAULT]\ntransport_url = {URL}\nhost = compute-7\nstate_path = {tmp_path}\n{default}\n"
    return given_text(tmp_path / "nova.conf", head + text + ("" if "[placement]" in text else PLACEMENT))


def test_the_url_may_be_in_a_file_or_in_the_settings(tmp_path: Path) -> None:
    file = given_text(tmp_path / "url", f"{URL}\n")
    file.chmod(0o600)
    inside = broker_of(settings(tmp_path, f'[messaging]\ntransport_url = "{URL}"\n'))
    in_file = broker_of(settings(tmp_path, f'[messaging]\ntransport_url_file = "{file}"\n'))
    assert inside == in_file
    assert (inside.endpoints, inside.exchange, inside.tls) == ((CONTROLLER,), "nova", None)


def test_nova_conf_reports_what_nova_compute_would_use(tmp_path: Path) -> None:
    conf = nova_conf(
        tmp_path,
        "[oslo_messaging_rabbit]\nrabbit_use_ssl = true\nkombu_ssl_ca_certs = /etc/ca.pem\n"
        "ssl_cert_file = /etc/me.pem\nheartbeat_timeout_threshold = 30\nrabbit_quorum_queue = true\n",
        default="control_exchange = other",
    )
    broker = broker_of(settings(tmp_path, f'[messaging]\nnova_conf = "{conf}"\n'))

    assert broker.endpoints == (CONTROLLER,)
    assert broker.tls == replace(TRUST, ca_file=Path("/etc/ca.pem"), cert_file=Path("/etc/me.pem"))
    assert (broker.exchange, broker.heartbeat_s) == ("other", 30)
    # Our own settings stand above it.
    own = f'[messaging]\nnova_conf = "{conf}"\nca_file = "/my/ca.pem"\ncontrol_exchange = "mine"\n'
    assert broker_of(settings(tmp_path, own)) == replace(
        broker, exchange="mine", tls=replace(TRUST, ca_file=Path("/my/ca.pem"), cert_file=Path("/etc/me.pem"))
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[DEFAULT]\n", "[DEFAULT] has no transport_url"),
        ("[DEFAULT]\ntransport_url = kafka://nova:s3cr3t@controller\n", "transport_url must begin with rabbit://"),
        (
            f"[DEFAULT]\ntransport_url = {URL}\n[oslo_messaging_rabbit]\nrabbit_login_method = EXTERNAL\n",
            "rabbit_login_method = EXTERNAL",
        ),
        ("no configuration\n", "is not a configuration file of OpenStack"),
    ],
)
def test_a_nova_conf_that_does_not_say_it_is_an_error_without_its_secrets(tmp_path: Path, text: str, says: str) -> None:
    conf = given_text(tmp_path / "nova.conf", text)
    with pytest.raises(SettingsError) as caught:
        broker_of(settings(tmp_path, f'[messaging]\nnova_conf = "{conf}"\n'))
    assert says in str(caught.value)
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize(("deadline_s", "is_warned_of"), [(199, False), (200, True)])
def test_a_save_that_may_outlast_its_instance_is_warned_of(
    tmp_path: Path, deadline_s: int, *, is_warned_of: bool
) -> None:
    text = f'{STORE}[messaging]\ntransport_url = "{URL}"\ndeadline = {deadline_s}\n'
    warned = [each for each in settings(tmp_path, text).warnings if each.startswith("messaging.deadline = 200 s")]
    assert bool(warned) is is_warned_of
    assert all("one save may take three times that, 600 s" in each for each in warned)


def test_nothing_said_is_an_error_that_names_the_ways(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"give messaging\.transport_url_file, or messaging\.nova_conf"):
        broker_of(settings(tmp_path, ""))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (STORE, "messaging.transport_url is missing, and store.url = "),
        ('[scheduler]\ntransport = "nova"\n', "messaging.transport_url is missing, and scheduler.transport = "),
        (
            '[store]\nurl = "nova-conductor:"\n[messaging]\nnova_conf = "/n"\n',
            "host.node_uuid is missing, and store.url",
        ),
        (f'[messaging]\nnova_conf = "/n"\ntransport_url = "{URL}"\n', "RabbitMQ is found in one way"),
        ('[messaging]\nkey_file = "/k"\n', "messaging.cert_file is missing, and messaging.key_file"),
        ('[store]\ninstance_name_template = "no number"\n', "give Nova's instance_name_template"),
        ('[store]\nurl = "nova-conductor://host"\n', "nova-conductor:"),
    ],
)
def test_settings_that_do_not_go_together_are_reported(tmp_path: Path, text: str, says: str) -> None:
    found = problems(given_text(tmp_path / "bringup.toml", text))
    assert any(says in problem for problem in found), found
    assert not any("s3cr3t" in problem for problem in found)


def test_the_url_is_not_given_on_a_command_line(tmp_path: Path) -> None:
    config = given_text(tmp_path / "bringup.toml", "")
    found = problems(config, overrides=[f"messaging.transport_url={URL}"])
    [problem] = found
    assert problem.startswith("messaging.transport_url (--set): the command line is there for everybody to read")


def settings_of(tmp_path: Path, conf: Path) -> dict[str, Any]:
    """Make settings of a nova.conf by the real command, and load them."""
    written = run("from-nova-conf", str(conf))
    assert written.code == 0, written.err
    assert "s3cr3t" not in written.out + written.err
    load(given_text(tmp_path / "made.toml", written.out), environment={}, overrides=[])
    return tomllib.loads(written.out)


def test_a_nova_conf_is_made_into_settings_that_can_be_loaded(tmp_path: Path) -> None:
    conf = nova_conf(
        tmp_path,
        f"[libvirt]\nvirt_type = qemu\n{PLACEMENT}"
        '[pci]\npassthrough_whitelist = {"vendor_id": "8086"}\npassthrough_whitelist = {"address": "*:0a:00.*"}\n'
        "[filter_scheduler]\ntrack_instance_changes = false\n[neutron]\novs_bridge = br-ovs\n"
        "[os_vif_ovs]\novsdb_connection = unix:/run/ovs/db.sock\nisolate_vif = true\n"
        "[compute]\nshutdown_retry_interval = 5\n",
        default="compute_driver = libvirt.LibvirtDriver\ninstances_path = $state_path/vms\n"
        "resume_guests_state_on_host_boot = true\nshutdown_timeout = 90\ninstance_name_template = vm-%08x\n"
        "scheduler_instance_sync_interval = 0\nrpc_response_timeout = 120\n",
    )

    assert settings_of(tmp_path, conf) == {
        "host": {"name": "compute-7", "node_uuid": NODE},
        "store": {"url": "nova-conductor:", "instance_name_template": "vm-%08x"},
        "messaging": {"nova_conf": [str(conf)], "deadline": 120},
        "scheduler": {"transport": "nova", "track_instance_changes": False, "sync_interval": 60},
        "placement": {"auth": "keystone"},
        "keystone": {"nova_conf": [str(conf)]},
        "driver": {"name": "libvirt"},
        "libvirt": {"instances_path": f"{tmp_path}/vms"},
        "network": {"integration_bridge": "br-ovs", "ovsdb": "unix:/run/ovs/db.sock", "isolate_vifs": True},
        "resume": {"guests": "on_host_boot"},
        "guests": {"shutdown_timeout": 90, "shutdown_retry_interval": 5},
        "pci": {"device_spec": ['{"vendor_id": "8086"}', '{"address": "*:0a:00.*"}']},
    }


def test_a_small_nova_conf_gives_few_settings(tmp_path: Path) -> None:
    conf = nova_conf(
        tmp_path,
        "[placement]\nauth_type = admin_token\nendpoint = http://controller:8778\n[libvirt]\nvirt_type = lxc\n",
        default="compute_driver = fake.FakeDriver\nscheduler_instance_sync_interval = -1\n",
    )
    found = settings_of(tmp_path, conf)
    assert found.keys() == {"host", "store", "messaging", "scheduler", "placement"}
    assert found["placement"] == {"url": "http://controller:8778"}
    assert found["scheduler"] == {"transport": "nova", "sync_interval": 0}
    notes = settings_from([conf]).notes
    assert any("compute_driver = fake.FakeDriver" in note for note in notes)
    assert any("placement.token_file" in note for note in notes)


def test_a_bridge_for_each_port_is_reported(tmp_path: Path) -> None:
    conf = nova_conf(
        tmp_path, "[os_vif_ovs]\nper_port_bridge = true\n", default="compute_driver = libvirt.LibvirtDriver\n"
    )
    assert any("per_port_bridge = true" in note for note in settings_from([conf]).notes)


def test_what_nova_conf_leaves_to_its_defaults_is_so_here_too(tmp_path: Path) -> None:
    """Nova 34's defaults, as its code has them; said in nova.conf they are not written either."""
    silent = settings_of(tmp_path, nova_conf(tmp_path, ""))
    loaded = load(tmp_path / "made.toml", environment={}, overrides=[])
    told = nova_conf(
        tmp_path,
        "[filter_scheduler]\ntrack_instance_changes = true\n[compute]\nshutdown_retry_interval = 10\n"
        "[workarounds]\nhandle_virt_lifecycle_events = true\n",
        default="shutdown_timeout = 60\nrpc_response_timeout = 60\nscheduler_instance_sync_interval = 120\n"
        "instance_name_template = instance-%08x\nresume_guests_state_on_host_boot = false\n",
    )

    assert silent == settings_of(tmp_path, told)
    assert (loaded.guests.shutdown_timeout, loaded.guests.shutdown_retry_interval) == (60, 10)
    assert (loaded.messaging.deadline, loaded.scheduler.sync_interval) == (60, 120)
    assert (loaded.store.instance_name_template, loaded.resume.guests) == ("instance-%08x", "never")
    assert loaded.scheduler.track_instance_changes
    assert loaded.driver.handle_lifecycle_events
    assert loaded.libvirt.wait_soft_reboot == 120


@pytest.mark.parametrize(
    ("default", "text", "key", "value"),
    [
        ('pci_passthrough_whitelist = {"vendor_id": "8086"}', "", "pci.device_spec", ['{"vendor_id": "8086"}']),
        ("", '[pci]\ndevice_spec = [{"vendor_id": "8086"}]\n', "pci.device_spec", ['[{"vendor_id": "8086"}]']),
        ("", "[workarounds]\nhandle_virt_lifecycle_events = false\n", "driver.handle_lifecycle_events", False),
        ("", "[libvirt]\nwait_soft_reboot_seconds = 30\n", "libvirt.wait_soft_reboot", 30),
        ("", "[libvirt]\nvirt_type = lxc\n", "libvirt.uri", "lxc:///"),
        (
            "",
            "[libvirt]\nconnection_uri = qemu+tcp://h/system\nvirt_type = lxc\n",
            "libvirt.uri",
            "qemu+tcp://h/system",
        ),
        ("", "[os_vif_ovs]\novsdb_connection = tcp:127.0.0.1:6640\n", "network.ovsdb", "tcp:127.0.0.1:6640"),
        ("", "[os_vif_ovs]\novsdb_connection = ssl:10.0.0.1:6640\n", "network.ovsdb", "ssl:10.0.0.1:6640"),
        ("my_ip = 10.0.0.7\nhost = $my_ip", "", "host.name", "10.0.0.7"),
        ("instances_path = /vms/\U0001f5a5", "", "libvirt.instances_path", "/vms/\U0001f5a5"),
        ("scheduler_instance_sync_interval = 7", "", "scheduler.sync_interval", 7),
        ("instance_name_template = %(uuid)s", "", "store.instance_name_template", "%(uuid)s"),
    ],
    ids=lambda each: str(each).partition("\n")[0][:30],
)
def test_an_odd_nova_conf_is_made_into_settings_too(
    tmp_path: Path, default: str, text: str, key: str, value: object
) -> None:
    conf = nova_conf(tmp_path, text, default=f"compute_driver = libvirt.LibvirtDriver\n{default}")
    section, _, name = key.partition(".")
    assert settings_of(tmp_path, conf)[section][name] == value


@pytest.mark.parametrize(
    ("default", "text", "says"),
    [
        ("shutdown_timeout = soon", "", "[DEFAULT] shutdown_timeout cannot be read"),
        ("host = $nowhere", "", "[DEFAULT] host cannot be read: it refers to an option that is not set there"),
        ("host = two words", "", 'host.name = "two words" ('),
        ("", "[pci]\ndevice_spec = nonsense\n", 'pci.device_spec[0] = "nonsense" ('),
        (
            "compute_driver = libvirt.LibvirtDriver",
            "[os_vif_ovs]\novsdb_connection = /run/openvswitch/db.sock\n",
            'network.ovsdb = "/run/openvswitch/db.sock" (',
        ),
        ("", "[compute]\nshutdown_retry_interval = 0\n", "guests.shutdown_retry_interval = 0 ("),
    ],
    ids=lambda each: str(each).partition("\n")[0][:30],
)
def test_what_would_be_no_settings_is_reported_and_not_written(
    tmp_path: Path, default: str, text: str, says: str
) -> None:
    written = run("from-nova-conf", str(nova_conf(tmp_path, text, default=default)))
    assert (written.code, written.out) == (78, "")
    assert says in written.err
    assert "s3cr3t" not in written.err


@pytest.mark.parametrize(
    ("default", "text", "note"),
    [
        ("resume_guests_state_on_host_boot = true", "", "set it to false for nova-compute"),
        ("", "[libvirt]\nimages_type = rbd\n", "set evacuated.shared_storage to shared"),
        ("", "[libvirt]\ncpu_power_management = true\n", "left on sleeping cores"),
        ("", "[placement]\nauth_type = none\n", "placement.url: nova.conf does not say"),
    ],
    ids=lambda each: str(each).partition("\n")[0][:30],
)
def test_what_has_no_place_here_and_matters_is_reported(tmp_path: Path, default: str, text: str, note: str) -> None:
    head = "" if "compute_driver" in default else "compute_driver = libvirt.LibvirtDriver\n"
    notes = settings_from([nova_conf(tmp_path, text, default=head + default)]).notes
    assert any(note in each for each in notes), notes


def test_a_file_without_the_uuid_of_a_node_is_not_taken_for_one(tmp_path: Path) -> None:
    conf = nova_conf(tmp_path, "")
    (tmp_path / "compute_id").write_text("\n")
    with pytest.raises(SettingsError, match="compute_id holds no UUID"):
        settings_from([conf])


def test_without_the_identity_of_the_node_nothing_is_made(tmp_path: Path) -> None:
    conf = nova_conf(tmp_path, "")
    (tmp_path / "compute_id").unlink()
    written = run("from-nova-conf", str(conf))
    assert (written.code, written.out) == (78, "")
    assert f"host.node_uuid: {tmp_path}/compute_id cannot be read" in written.err
    missing = run("from-nova-conf", str(tmp_path / "no.conf"))
    assert missing.code == 78
    assert "is not there" in missing.err
