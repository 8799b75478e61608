"""The settings of a host whose hypervisor is libvirt."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bringup.daemon.errors import SettingsError
from bringup.daemon.service import assembly
from bringup.daemon.service.assembly.libvirt import make_libvirt_driver
from bringup.daemon.settings import Settings, load
from bringup.daemon.settings.model import libvirt_concurrency
from bringup.drivers.libvirt.binding import NEEDS
from support.settings_files import given_text, problems

LIBVIRT = 'driver.name = "libvirt"\n'


def loaded(directory: Path, text: str) -> Settings:
    return load(given_text(directory / "bringup.toml", text), environment={}, overrides=())


def test_a_libvirt_host_has_a_concurrency_of_its_own_unless_it_is_set(tmp_path: Path) -> None:
    assert loaded(tmp_path, LIBVIRT).limits.concurrency >= 16
    assert loaded(tmp_path, f'{LIBVIRT}limits.pace = "fixed"\n').limits.concurrency == 16
    assert loaded(tmp_path, f"{LIBVIRT}limits.concurrency = 3\n").limits.concurrency == 3


@pytest.mark.parametrize("uri", ["qemu", "system", "qemu:system", "qemu+ssh://me:secret@other/system", "qemu:///a b"])
def test_an_invalid_libvirt_uri_is_an_error_with_the_right_form(tmp_path: Path, uri: str) -> None:
    found = problems(given_text(tmp_path / "bringup.toml", f'libvirt.uri = "{uri}"\n'))

    assert len(found) == 1
    assert found[0].startswith("libvirt.uri")
    assert 'give a URI of libvirt such as "qemu:///system"' in found[0]


@pytest.mark.parametrize("uri", ["qemu:///system", "qemu+unix:///system?socket=/run/x", "test:///default"])
def test_a_libvirt_uri_is_accepted_unchanged(tmp_path: Path, uri: str) -> None:
    assert loaded(tmp_path, f'{LIBVIRT}libvirt.uri = "{uri}"\n').libvirt.uri == uri


def test_unused_settings_of_libvirt_are_warned_of(tmp_path: Path) -> None:
    assert loaded(tmp_path, 'libvirt.autostart = "warn"\n').warnings == (
        'driver.name = "simulated": [libvirt] is not used',
    )
    assert loaded(tmp_path, f'{LIBVIRT}libvirt.autostart = "warn"\n').warnings == ()


def test_without_the_binding_the_package_to_install_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = loaded(tmp_path, LIBVIRT)
    monkeypatch.setitem(sys.modules, "libvirt", None)

    for make in (assembly.check_driver, assembly.make_driver):
        with pytest.raises(SettingsError) as raised:
            make(settings)
        assert raised.value.problems == (f'driver.name = "libvirt": {NEEDS}',)


def test_a_host_of_another_hypervisor_has_no_driver_for_libvirt(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r'driver\.name = "simulated"'):
        make_libvirt_driver(loaded(tmp_path, ""))


@pytest.mark.parametrize(("cpus", "adaptive"), [(2, 16), (16, 16), (40, 40), (256, 64)])
def test_on_a_large_host_as_many_guests_may_boot_as_it_has_cpus(cpus: int, adaptive: int) -> None:
    assert libvirt_concurrency(cpus, is_adaptive=True) == adaptive
    assert libvirt_concurrency(cpus, is_adaptive=False) == 16


@pytest.mark.parametrize(("number", "calls"), [(8, 8), (16, 16), (64, 16)])
def test_no_more_call_libvirt_at_once_than_it_has_workers_for_unless_it_is_set(
    tmp_path: Path, number: int, calls: int
) -> None:
    settings = loaded(tmp_path, LIBVIRT)
    default = replace(settings, limits=replace(settings.limits, concurrency=number))

    assert default.calls == calls
    assert replace(default, sources={"limits.concurrency": "a file"}).calls == number
