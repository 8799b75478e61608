"""``-o FILE``: a file that is named is written whole or not at all, and what was there is kept."""

import os
import stat
from pathlib import Path

import pytest

from support.process import WITHOUT_ROOTS_RIGHTS, run

NOVA_CONF = """
[DEFAULT]
compute_driver = libvirt.LibvirtDriver
state_path = {folder}
transport_url = rabbit://nova:secret@controller:5672/
[placement]
auth_type = password
auth_url = http://keystone:5000/v3
username = placement
password = secret
project_name = service
user_domain_name = Default
project_domain_name = Default
"""
OLD = "[limits]\nconcurrency = 3\n"


@pytest.fixture
def nova_conf(tmp_path: Path) -> Path:
    (tmp_path / "compute_id").write_text("6f2f0c0e-1f2a-4a55-9d35-0a3b8a3b7a10\n")
    path = tmp_path / "nova.conf"
    path.write_text(NOVA_CONF.format(folder=tmp_path))
    return path


def test_what_is_written_is_what_would_be_printed(tmp_path: Path, nova_conf: Path) -> None:
    settings = tmp_path / "bringup.toml"

    written = run("from-nova-conf", str(nova_conf), "-o", str(settings))
    printed = run("from-nova-conf", str(nova_conf))

    assert (written.code, written.out) == (0, "")
    assert settings.read_text() == printed.out
    assert written.err == printed.err
    assert stat.S_IMODE(settings.stat().st_mode) == 0o640
    assert settings.stat().st_gid == tmp_path.stat().st_gid


def test_former_file_is_kept_with_owner_and_mode(tmp_path: Path, nova_conf: Path) -> None:
    settings = tmp_path / "bringup.toml"
    settings.write_text(OLD)
    settings.chmod(0o604)

    ended = run("from-nova-conf", str(nova_conf), "-o", str(settings))
    again = run("from-nova-conf", str(nova_conf), "-o", str(settings))

    before = tmp_path / "bringup.toml.before"
    assert (ended.code, again.code) == (0, 0)
    assert str(before) in ended.err
    assert str(before) not in again.err
    assert before.read_text() == OLD
    assert {stat.S_IMODE(path.stat().st_mode) for path in (settings, before)} == {0o604}
    assert sorted(path.name for path in tmp_path.glob("*bringup*")) == ["bringup.toml", "bringup.toml.before"]


@pytest.mark.parametrize("link", [False, True], ids=["a file", "a link to one"])
def test_a_refusal_leaves_the_old_file(tmp_path: Path, nova_conf: Path, *, link: bool) -> None:
    (tmp_path / "compute_id").unlink()
    settings, real = tmp_path / "bringup.toml", tmp_path / "real.toml"
    real.write_text(OLD)
    settings.symlink_to(real) if link else real.rename(settings)

    ended = run("from-nova-conf", str(nova_conf), "-o", str(settings))

    assert ended.code == os.EX_CONFIG
    assert settings.read_text() == OLD
    assert not (tmp_path / "bringup.toml.before").exists()


def test_link_is_kept_and_its_target_is_written(tmp_path: Path, nova_conf: Path) -> None:
    settings, real = tmp_path / "bringup.toml", tmp_path / "real.toml"
    real.write_text(OLD)
    settings.symlink_to(real)

    assert run("from-nova-conf", str(nova_conf), "-o", str(settings)).code == 0

    assert settings.is_symlink()
    assert "[driver]" in real.read_text()


def test_missing_permission_is_an_error_and_keeps_the_old_file(tmp_path: Path, nova_conf: Path) -> None:
    folder = tmp_path / "etc"
    folder.mkdir()
    settings = folder / "bringup.toml"
    settings.write_text(OLD)
    folder.chmod(0o500)

    ended = run("from-nova-conf", str(nova_conf), "-o", str(settings), within=WITHOUT_ROOTS_RIGHTS)

    assert ended.code == os.EX_USAGE
    assert "cannot be written (Permission denied)" in ended.err
    assert settings.read_text() == OLD
