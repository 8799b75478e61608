"""The settings: the file, the environment and ``--set``."""

from pathlib import Path
from random import Random
from typing import Final

from hypothesis import given

from bringup.daemon.errors import SettingsError
from bringup.daemon.settings import load
from support.fuzzing import CHANCES, SECRET, Border, fuzz
from support.mutating import TEXTS, changed_lines

BORDER = "settings"
FILE: Final = f"""[host]
name = "compute-1"
state_directory = "/nowhere/bringup"
[placement]
url = "https://placement.example.org"
auth = "keystone"
wait = 600
[keystone]
auth_url = "https://keystone.example.org:5000/v3"
username = "nova"
password = "{SECRET}"
project_name = "service"
[store]
instance_name_template = "instance-%08x"
url = "postgresql://bringup@db.example.org/bringup"
password = "{SECRET}"
[scheduler]
url = "https://scheduler.example.org/"
token = "{SECRET}"
[driver]
name = "libvirt"
[limits]
concurrency = 16
[resume]
guests = "on_host_boot"
max_downtime = "2h"
[log]
level = "info"
format = "json"
[status]
listen = "127.0.0.1:8776"
[network]
filter = "nftables"
[pci]
device_spec = ['{{"vendor_id": "8086", "product_id": "154d", "address": "0000:0a:00.1"}}']
"""
VARIABLES: Final = ("HOST__NAME", "LIMITS__CONCURRENCY", "RESUME__GUESTS", "STORE__URL", "X", "__", "PCI__DEVICE_SPEC")


@fuzz(250)
@given(chance=CHANCES)
def test_settings_are_valid_as_a_whole_or_every_wrong_key_is_named(
    border: Border, tmp_path: Path, chance: Random
) -> None:
    file = tmp_path / "bringup.toml"
    file.write_bytes(changed_lines(chance, FILE, quoted=True))
    file.chmod(0o600)
    environment, overrides = {}, []
    if chance.randrange(5) == 0:
        # No variable of a process holds a NUL.
        environment[f"BRINGUP_{chance.choice(VARIABLES)}"] = chance.choice(TEXTS).replace("\0", "")
    if chance.randrange(5) == 0:
        overrides.append(chance.choice(("limits.concurrency=", "=", "host.name", "store.url=")) + chance.choice(TEXTS))
    with border.one(SettingsError, secret=True):
        load(file, environment=environment, overrides=overrides)


def test_of_many_wrong_devices_the_first_are_named(border: Border, tmp_path: Path) -> None:
    file = tmp_path / "bringup.toml"
    file.write_text(f"[pci]\ndevice_spec = {[0] * 3000}\n")
    with border.one(SettingsError):
        load(file, environment={}, overrides=[])
    assert border.refused
