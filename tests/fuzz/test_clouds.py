"""clouds.yaml, read by the real openstacksdk."""

import os
from pathlib import Path
from random import Random
from typing import Any, Final

import pytest
import yaml
from hypothesis import given

from bringup.daemon.errors import SettingsError
from bringup.daemon.settings.credentials import clouds_yaml
from bringup.daemon.settings.credentials.keystone_identity import identity_of
from support.fuzzing import CHANCES, SECRET, Border, fuzz
from support.mutating import TEXTS, mangled, mutated

BORDER = "clouds.yaml"
FILE: Final[Any] = {
    "clouds": {
        "ours": {
            "auth": {
                "auth_url": "https://keystone.example.org:5000/v3",
                "username": "nova",
                "password": SECRET,
                "user_domain_name": "Default",
                "project_name": "service",
                "project_domain_name": "Default",
            },
            "auth_type": "password",
            "region_name": "One",
            "regions": ["One", {"name": "Two", "values": {"auth": {"password": SECRET}}}],
            "interface": "internal",
            "cacert": "/etc/ssl/ca.pem",
            "verify": True,
            "placement_endpoint_override": "https://placement.example.org",
        },
        "other": {"auth": {"auth_url": "https://other.example.org", "token": SECRET}},
    }
}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("OS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(tmp_path / "clouds.yaml"))
    monkeypatch.setenv("OS_CLIENT_SECURE_FILE", str(tmp_path / "secure.yaml"))
    return tmp_path / "clouds.yaml"


@fuzz(60)
@given(chance=CHANCES)
def test_a_cloud_is_read_or_refused_with_a_sentence(border: Border, file: Path, chance: Random) -> None:
    text = yaml.safe_dump(mutated(chance, FILE, copies=False), allow_unicode=chance.randrange(2) == 0)
    if chance.randrange(4) == 0:
        text = text.replace("ours:", f"ours: {{<<: *a}}\n  {chance.choice(TEXTS[:20])!r}:", 1)
    data = text.encode(errors="surrogatepass")
    file.write_bytes(mangled(chance, data) if chance.randrange(5) == 0 else data)
    with border.one(SettingsError, secret=True):
        found = clouds_yaml.read("ours", region=chance.choice((None, "One", "Two", "")))
        identity_of(found.options, named=found.named)


FOUND: Final[dict[str, Any]] = {
    "values of a region that are a password": {"regions": [{"name": "Two", "values": SECRET}]},
    "a region with a password beside its values": {"regions": [{"name": "Two", "values": {}, "password": SECRET}]},
    "a region without a name": {"regions": [{"values": {"auth": {"password": SECRET}}}]},
    "networks that are both the default": {
        "networks": [
            {"name": SECRET, "default_interface": True, "routes_externally": True},
            {"name": f"{SECRET}2", "default_interface": True, "routes_externally": True},
        ]
    },
}


@pytest.mark.parametrize("changes", FOUND.values(), ids=FOUND)
def test_what_the_loader_shows_of_a_cloud_is_not_reported(border: Border, file: Path, changes: dict[str, Any]) -> None:
    file.write_text(yaml.safe_dump({"clouds": {"ours": FILE["clouds"]["ours"] | changes}}))
    with border.one(SettingsError, secret=True):
        clouds_yaml.read("ours")
    assert border.refused
