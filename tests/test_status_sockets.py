"""Where the endpoint listens: whom a socket lets in, and what is in the way of one."""

import os
import socket
import stat
import subprocess
import sys
from errno import EACCES, EPERM
from pathlib import Path

import pytest

from bringup.daemon.errors import SettingsError
from bringup.daemon.status.endpoint.sockets import listen_tcp, listen_unix, remove, short
from support.process import ENVIRONMENT
from support.surroundings import Within, refused


def connects(path: Path) -> bool:
    with short(path) as name, socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(name)
        except OSError:
            return False
        return True


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o620])
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_the_socket_has_exactly_the_mode_that_is_set(tmp_path: Path, mode: int, umask: int) -> None:
    path = tmp_path / "status.sock"
    before = os.umask(umask)
    try:
        with listen_unix(path, mode):
            assert stat.S_IMODE(path.stat().st_mode) == mode
            assert connects(path)
    finally:
        os.umask(before)


def test_a_socket_path_may_be_longer_than_a_socket_name(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 200)
    folder.mkdir()
    with listen_unix(folder / "status.sock", 0o600):
        assert connects(folder / "status.sock")


def test_a_socket_of_a_killed_process_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "status.sock"
    listen_unix(path, 0o600).close()
    assert not connects(path)

    with listen_unix(path, 0o600):
        assert connects(path)


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "status.sock"
    path.write_text("mine")

    with pytest.raises(OSError, match="in use"):
        listen_unix(path, 0o600)
    assert path.read_text() == "mine"


def test_without_its_folder_a_socket_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        listen_unix(tmp_path / "none" / "status.sock", 0o600)


def test_a_socket_may_be_removed_twice(tmp_path: Path) -> None:
    path = tmp_path / "status.sock"
    listen_unix(path, 0o600).close()

    remove(path)
    remove(path)

    assert not path.exists()


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_a_tcp_socket_listens(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    with (
        listen_tcp(f"{host}:{port}"),
        socket.create_connection((host.strip("[]"), port), timeout=30) as client,
    ):
        assert client.getpeername()[1] == port


def test_an_address_in_use_is_a_settings_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(SettingsError, match=r"another process listens there") as caught:
            listen_tcp(address)

    assert f'status.listen = "{address}"' in str(caught.value)


def test_an_address_that_does_not_exist_yet_is_bound() -> None:
    listen_tcp("192.0.2.1:8776").close()


@pytest.mark.parametrize("number", [EPERM, EACCES])
def test_a_port_that_the_unit_forbids_is_a_settings_error_with_the_line_to_write(number: int) -> None:
    bind = {"x86_64": 49, "aarch64": 200}[os.uname().machine]
    script = "from bringup.daemon.status.endpoint.sockets import listen_tcp; listen_tcp('127.0.0.1:9000')"
    command = [*Within(refused, (bind, number)).command, sys.executable, "-c", script]

    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False)

    assert (
        'status.listen = "127.0.0.1:9000": cannot listen: the unit of the daemon does not allow port 9000'
        in done.stderr
    )
    assert "SocketBindAllow=tcp:9000 below [Service]" in done.stderr
    assert "/etc/systemd/system/bringup.service.d/port.conf" in done.stderr
