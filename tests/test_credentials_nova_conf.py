"""The credentials of a nova.conf, read by the real oslo.config."""

import os
import sys
from pathlib import Path

import pytest

from bringup.daemon.errors import SettingsError
from bringup.daemon.settings.credentials import nova_conf

PLACEMENT = """
[placement]
auth_type = password
auth_url = https://keystone:5000/v3
username = placement
user_domain_name = Default
password = s3cr3t
project_name = service
project_domain_name = Default
region_name = One
valid_interfaces = public,admin
cafile = /etc/ssl/ca.pem
certfile = /etc/ssl/nova.pem
keyfile = /etc/ssl/nova.key
"""
AUTHTOKEN = """
[keystone_authtoken]
auth_type = v3password
auth_url = https://keystone:5000
username = nova
password = other-s3cr3t
project_id = p1
region_name = Two
www_authenticate_uri = https://keystone
memcached_servers = a:1,b:2
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "nova.conf"


def found_in(file: Path, text: str) -> nova_conf.ConfSection:
    file.write_text(text)
    return nova_conf.read([file])


def problem_of(*paths: Path) -> str:
    with pytest.raises(SettingsError) as caught:
        nova_conf.read(paths)
    (problem,) = caught.value.problems
    assert caught.value.__cause__ is None
    assert "s3cr3t" not in problem
    return problem


def test_the_section_of_placement_has_it_all(file: Path) -> None:
    found = found_in(file, "[DEFAULT]\ndebug = true\n[libvirt]\nvirt_type = kvm\n" + AUTHTOKEN + PLACEMENT)
    given = {key: value for key, value in found.options.items() if value is not None}
    assert given == {
        "auth_type": "password",
        "auth_url": "https://keystone:5000/v3",
        "username": "placement",
        "user_domain_name": "Default",
        "password": "s3cr3t",
        "project_name": "service",
        "project_domain_name": "Default",
        "region_name": "One",
        "cafile": "/etc/ssl/ca.pem",
        "certfile": "/etc/ssl/nova.pem",
        "keyfile": "/etc/ssl/nova.key",
    }
    assert (found.interfaces, found.insecure) == (("public", "admin"), False)
    assert found.named("password") == "[placement] password"


def test_without_it_the_one_of_keystone_will_do(file: Path) -> None:
    found = found_in(file, "[placement]\nrandomize_allocation_candidates = true\n" + AUTHTOKEN)
    assert (found.section, found.options["username"], found.options["region_name"]) == (
        "keystone_authtoken",
        "nova",
        "Two",
    )


def test_auth_section_leads_to_the_credentials_and_leaves_where_placement_is(file: Path) -> None:
    more = "[placement]\nauth_section = keystone_authtoken\nregion_name = One\ncafile = /ca.pem\nusername = not-this\n"
    found = found_in(file, more + AUTHTOKEN)
    options = found.options
    assert (options["username"], options["password"]) == ("nova", "other-s3cr3t")
    assert (options["region_name"], options["cafile"]) == ("One", "/ca.pem")
    assert found.named("password") == "[keystone_authtoken] password"
    assert found.named("cafile") == "[placement] cafile"


FORMER = {
    "user_name": ("user_name = x", "username"),
    "tenant_name": ("tenant_name = x", "project_name"),
    "tenant_id": ("tenant_id = x", "project_id"),
    "os_region_name": ("os_region_name = x", "region_name"),
    "auth_plugin": ("auth_plugin = x", "auth_type"),
}


@pytest.mark.parametrize(("line", "option"), FORMER.values(), ids=FORMER.keys())
def test_an_option_is_found_under_the_name_that_it_had(file: Path, line: str, option: str) -> None:
    assert found_in(file, f"[placement]\nauth_url = http://k\n{line}\n").options[option] == "x"


WRITTEN = {
    "a comment": ("password = s3cr3t # no comment", "s3cr3t # no comment"),
    "quotes": ('password = "s3cr3t "', "s3cr3t "),
    "equals": ("password = s3=cr3t", "s3=cr3t"),
    "percent": ("password = 100%(s3cr3t)s", "100%(s3cr3t)s"),
    "dollars": ("password = s3cr3t$$1", "s3cr3t$1"),
    "the last of two": ("password = a\npassword = b", "b"),
}


@pytest.mark.parametrize(("line", "expected"), WRITTEN.values(), ids=WRITTEN.keys())
def test_a_value_is_what_nova_takes_it_for(file: Path, line: str, expected: str) -> None:
    assert found_in(file, f"[placement]\nauth_url = http://k\n{line}\n").options["password"] == expected


def test_what_an_option_refers_to_is_looked_up_though_it_is_novas(file: Path) -> None:
    text = "[DEFAULT]\nmy_ip = 10.0.0.7\nhost = $my_ip\n[placement]\nregion_name = v3\n"
    found = found_in(file, text + "auth_url = http://$host:5000/$region_name\n")
    assert found.options["auth_url"] == "http://10.0.0.7:5000/v3"


@pytest.mark.parametrize("value", ["s3cr3t$my_ip", "$s3cr3t", "${s3cr3t}"])
def test_a_reference_to_nothing_is_reported_and_not_shown(file: Path, value: str) -> None:
    file.write_text(f"[placement]\nauth_url = http://k\npassword = {value}\n")
    problem = problem_of(file)
    assert problem == (
        "[placement] password cannot be read: it refers to an option that is not set there; "
        "a $ that is meant is written $$"
    )


def test_a_reference_to_itself_comes_to_an_end(file: Path) -> None:
    file.write_text("[DEFAULT]\na = $b\nb = $a\n[placement]\nauth_url = http://k\npassword = s3cr3t$a\n")
    assert problem_of(file).startswith("[placement] password cannot be read: ")


def test_later_files_and_folders_win(tmp_path: Path) -> None:
    first, second, folder = tmp_path / "nova.conf", tmp_path / "nova-compute.conf", tmp_path / "nova.conf.d"
    folder.mkdir()
    first.write_text(PLACEMENT)
    second.write_text("[placement]\nusername = second\nproject_name = second\n")
    (folder / "10.conf").write_text("[placement]\nusername = ten\nregion_name = ten\n")
    (folder / "20.conf").write_text("[placement]\nusername = twenty\n")
    (folder / "30.conf.bak").write_text("[placement]\nusername = thirty\n")
    options = nova_conf.read([first, second, folder]).options
    assert (options["username"], options["project_name"], options["region_name"]) == ("twenty", "second", "ten")
    assert options["password"] == "s3cr3t"


def test_what_the_environment_has_is_not_taken(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OS_PLACEMENT__USERNAME", "other")
    assert found_in(file, PLACEMENT).options["username"] == "placement"


def test_insecure_is_refused(file: Path) -> None:
    file.write_text(PLACEMENT + "insecure = true\n")
    assert problem_of(file) == (
        "[placement] insecure = true: certificates are always verified here; set cafile to the CA instead"
    )
    file.write_text("[placement]\nauth_section = keystone_authtoken\ninsecure = true\n" + AUTHTOKEN)
    assert problem_of(file).startswith("[placement] insecure = true")


BROKEN = {
    "no section": "password = s3cr3t\n",
    "no value": PLACEMENT + "\ns3cr3t and more\n",
    "an open section": "[placement\npassword = s3cr3t\n",
    "a continuation of nothing": "[placement]\n  s3cr3t\n",
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_file_is_reported_without_its_lines(file: Path, text: str) -> None:
    file.write_text(text)
    assert problem_of(file) == f"keystone.nova_conf: {file} is not a configuration file of OpenStack"


def test_what_is_not_text_is_reported(file: Path) -> None:
    file.write_bytes(b"[placement]\npassword = s3cr3t\xff\n")
    assert str(file) in problem_of(file)


def test_a_value_of_the_wrong_kind_is_reported_and_not_shown(file: Path) -> None:
    file.write_text(PLACEMENT + "insecure = s3cr3t\n")
    assert problem_of(file) == "[placement] insecure cannot be read: it is not what nova-compute takes"


def test_a_file_that_is_not_there_is_reported(tmp_path: Path, file: Path) -> None:
    file.write_text(PLACEMENT)
    nowhere = tmp_path / "nowhere.conf"
    assert problem_of(file, nowhere) == (f"keystone.nova_conf: {nowhere} is not there; name the nova.conf of this host")


def test_what_is_no_file_in_a_folder_is_reported_and_not_read_for_ever(tmp_path: Path) -> None:
    folder = tmp_path / "nova.conf.d"
    folder.mkdir()
    never = folder / "never.conf"
    os.mkfifo(never)
    assert problem_of(folder).startswith(f"keystone.nova_conf: {never}: it is a pipe, and nobody writes to it")
    never.unlink()
    never.symlink_to("/dev/zero")
    assert problem_of(folder).startswith(f"keystone.nova_conf: {never}: it is no file")


def test_a_name_that_no_file_can_have_is_reported(tmp_path: Path) -> None:
    assert "File name too long" in problem_of(tmp_path / ("n" * 300))


def test_files_without_credentials_are_reported_with_where_they_were_looked_for(tmp_path: Path, file: Path) -> None:
    file.write_text("[DEFAULT]\nmy_ip = 10.0.0.7\n")
    folder = tmp_path / "nova.conf.d"
    folder.mkdir()
    assert problem_of(file, folder) == (
        f"keystone.nova_conf = {file}, {folder}: neither [placement] nor [keystone_authtoken] has an auth_type or "
        "auth_url"
    )


def test_without_the_library_its_extra_is_named(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # So the import system says that a module is not installed.
    monkeypatch.setitem(sys.modules, "oslo_config", None)
    file.write_text(PLACEMENT)
    with pytest.raises(
        SettingsError, match=r"^keystone\.nova_conf: .* the extra bringup\[nova-conf\]: in the checkout, .*$"
    ):
        nova_conf.read([file])
