"""The nova.conf of a host: credentials, RabbitMQ, and what ``bringup from-nova-conf`` takes."""

from pathlib import Path
from random import Random
from typing import Final

from hypothesis import given

from bringup.daemon.errors import SettingsError
from bringup.daemon.settings.credentials import from_nova_conf, nova_conf, rabbitmq
from bringup.daemon.settings.credentials.keystone_identity import identity_of
from support.fuzzing import CHANCES, SECRET, Border, fuzz
from support.mutating import changed_lines

BORDER = "nova.conf"
FILE: Final = f"""[DEFAULT]
host = compute-1
my_ip = 192.0.2.1
transport_url = rabbit://nova:{SECRET}@rabbit.example.org:5672/nova
compute_driver = libvirt.LibvirtDriver
instances_path = /var/lib/nova/instances
instance_name_template = instance-%08x
resume_guests_state_on_host_boot = true
reserved_host_memory_mb = 512
[placement]
auth_type = password
auth_url = https://keystone.example.org:5000/v3
username = nova
user_domain_name = Default
password = {SECRET}
project_name = service
project_domain_name = Default
region_name = $my_ip
valid_interfaces = internal,public
cafile = /etc/ssl/ca.pem
[libvirt]
virt_type = kvm
[oslo_messaging_rabbit]
ssl = true
heartbeat_timeout_threshold = 60
"""


@fuzz(100)
@given(chance=CHANCES)
def test_a_nova_conf_is_read_or_refused_with_a_sentence(border: Border, tmp_path: Path, chance: Random) -> None:
    file = tmp_path / "nova.conf"
    file.write_bytes(changed_lines(chance, FILE))
    with border.one(SettingsError, secret=True):
        found = nova_conf.read([file])
        identity_of(found.options, named=found.named)
    with border.one(SettingsError, secret=True):
        rabbitmq.from_nova_conf([file])
    with border.one(SettingsError, secret=True):
        from_nova_conf.settings_from([file])
