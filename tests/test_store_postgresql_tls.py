"""A server that answers for a PostgreSQL must prove it, and never gets a password as plain text."""

import contextlib
import os
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bringup.daemon.errors import SettingsError, Temporary, chain_of
from bringup.daemon.service.assembly import open_database as open_the_set_one
from bringup.daemon.settings import load
from bringup.daemon.storage.store.database_url import parse_database_url
from bringup.daemon.storage.store.postgresql import Tls, TlsMode, connect_args, open_database
from support.certificates import EXPIRED, Ca
from support.postgresql import PASSWORD, USER, Server, a_server
from support.settings_files import problems

CLEARTEXT, MD5, LETS_IN = 3, 5, 0


class Impostor:
    """Answers at the address of a PostgreSQL: has no TLS, requests a password, and keeps what it receives."""

    def __init__(self, asks: int) -> None:
        self._asks = asks
        self.told = b""
        self.asked = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"postgresql://{USER}@127.0.0.1:{self._listener.getsockname()[1]}/bringup"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.asked += 1
                with client, contextlib.suppress(OSError):
                    self._answer(client)

    def _answer(self, client: socket.socket) -> None:
        client.settimeout(60)
        while True:
            data = client.recv(65536)
            if data[4:8] != struct.pack("!I", 80877103):
                break
            client.sendall(b"N")
        if not data:
            return
        salt = b"salt" if self._asks == MD5 else b""
        client.sendall(b"R" + struct.pack("!II", 8 + len(salt), self._asks) + salt)
        while data := client.recv(65536):
            self.told += data


@contextlib.contextmanager
def an_impostor(asks: int) -> Iterator[Impostor]:
    impostor = Impostor(asks)
    try:
        yield impostor
    finally:
        impostor.close()


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Ca:
    return Ca(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def server(ca: Ca) -> Iterator[Server]:
    own = a_server(certificate=ca.server())
    yield own
    own.stop()


def by_name(server: Server) -> str:
    return server.new_database().replace("127.0.0.1", "localhost")


@pytest.mark.parametrize("mode", [None, "off", "verify-ca", "verify-full"])
def test_a_request_for_a_password_as_plain_text_gets_none(mode: TlsMode | None) -> None:
    with an_impostor(CLEARTEXT) as impostor:
        with pytest.raises(Temporary) as raised:
            open_database(impostor.url, PASSWORD, 0, tls=Tls(mode=mode))
        assert impostor.told == b""
    assert PASSWORD not in chain_of(raised.value)


@pytest.mark.parametrize("asks", [CLEARTEXT, MD5, LETS_IN])
def test_beyond_this_host_and_without_tls_a_server_must_prove_that_it_knows_the_password(asks: int) -> None:
    with an_impostor(asks) as impostor:
        # To libpq it is an address like any other; to us it is none of this host's.
        url = impostor.url.replace("127.0.0.1", "[::ffff:127.0.0.1]")
        with pytest.raises(Temporary, match="cannot open the store"):
            open_database(url, PASSWORD, 0, tls=Tls(mode="off"))
        assert b"md5" not in impostor.told
        assert PASSWORD.encode() not in impostor.told
        assert b"SELECT" not in impostor.told.upper()


def test_a_server_that_proves_its_name_is_spoken_to(server: Server, ca: Ca) -> None:
    database = open_database(by_name(server), PASSWORD, 5, tls=Tls(ca_file=ca.file))
    assert database.read(
        lambda connection: connection.exec_driver_sql(
            "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        ).scalar()
    )
    database.engine.dispose()


def test_a_certificate_of_another_authority_name_or_time_is_refused(server: Server, ca: Ca, tmp_path: Path) -> None:
    unknown_ca = Ca(tmp_path, name="unknown")
    url = by_name(server)
    with pytest.raises(Temporary) as raised:
        open_database(url, PASSWORD, 0, tls=Tls(ca_file=unknown_ca.file))
    assert "certificate verify failed" in chain_of(raised.value)
    with pytest.raises(Temporary) as raised:
        open_database(url.replace("localhost", "127.0.0.1"), PASSWORD, 0, tls=Tls(ca_file=ca.file))
    assert "127.0.0.1" in chain_of(raised.value)
    # The name may be another one where that is said.
    open_database(
        url.replace("localhost", "127.0.0.1"), PASSWORD, 5, tls=Tls(mode="verify-ca", ca_file=ca.file)
    ).engine.dispose()

    late = a_server(certificate=ca.server(host="late", days=EXPIRED))
    try:
        with pytest.raises(Temporary) as raised:
            open_database(by_name(late), PASSWORD, 0, tls=Tls(mode="verify-ca", ca_file=ca.file))
        assert "certificate verify failed" in chain_of(raised.value)
    finally:
        late.stop()


@pytest.mark.parametrize(
    "hosts",
    [
        "db.example",
        "10.0.0.5",
        "[2001:db8::5]",
        "[::ffff:127.0.0.1]",
        "localhost,db.example",
        "db:6432,db2:1",
        "127.1",
        "localhost.localdomain",
        "localhost.",
        "localhost.db.example",
        "0.0.0.0",
        "[::]",
        "%2Frun,db.example",
    ],
)
def test_any_server_beyond_this_host_is_verified_unless_it_is_reported_otherwise(hosts: str) -> None:
    url = parse_database_url(f"postgresql://{USER}@{hosts}/bringup")

    given = connect_args(url, PASSWORD, Tls())
    off = connect_args(url, PASSWORD, Tls(mode="off"))

    assert (given["sslmode"], given["require_auth"]) == ("verify-full", "!password")
    assert Path(given["sslrootcert"]).is_file()
    assert (off["sslmode"], off["require_auth"]) == ("disable", "scram-sha-256")


@pytest.mark.parametrize(
    "hosts", ["localhost", "127.0.0.1:5433", "127.0.1.1", "[::1]", "%2Frun%2Fpostgresql", "localhost,127.0.0.1:5433"]
)
def test_on_this_host_tls_is_as_the_server_likes(hosts: str) -> None:
    url = parse_database_url(f"postgresql://{USER}@{hosts}/bringup")
    assert connect_args(url, PASSWORD, Tls())["sslmode"] == "prefer"
    assert connect_args(url, PASSWORD, Tls(mode="verify-full"))["sslmode"] == "verify-full"


def test_a_unix_socket_is_a_host(server: Server) -> None:
    with server.connect("postgres") as connection:
        connection.execute("CREATE DATABASE by_socket")
    folder = str(server.directory).replace("/", "%2F")
    url = f"postgresql://{USER}@{folder}:{server.port}/by_socket"
    settings = load(None, environment={"BRINGUP_STORE__PASSWORD": PASSWORD}, overrides=[f"store.url={url}"])
    open_the_set_one(settings).engine.dispose()
    assert settings.warnings == ()


@pytest.mark.parametrize("asks", [CLEARTEXT, MD5, LETS_IN])
@pytest.mark.parametrize("host", ["localhost", "%2Fnowhere", "db.example"])
def test_no_variable_of_libpq_reports_where_or_how_to_connect(
    host: str, asks: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with an_impostor(asks) as impostor:
        port = impostor.url.rpartition(":")[2].partition("/")[0]
        service = tmp_path / "service.conf"
        service.write_text(f"[theirs]\nhostaddr=127.0.0.1\nport={port}\nsslmode=disable\nrequire_auth=none\n")
        theirs = {
            "HOSTADDR": "127.0.0.1",
            "PORT": port,
            "SSLMODE": "disable",
            "REQUIREAUTH": "none",
            "SERVICE": "theirs",
            "SERVICEFILE": str(service),
            "OPTIONS": "-c default_transaction_read_only=on",
            "CLIENTENCODING": "SQL_ASCII",
        }
        for name, value in theirs.items():
            monkeypatch.setenv(f"PG{name}", value)
        monkeypatch.setenv("PGPASSFILE", "/nowhere")
        at = "1" if host == "localhost" else port
        with pytest.raises(Temporary):
            open_database(f"postgresql://{USER}@{host}:{at}/bringup", PASSWORD, 0)
        assert impostor.asked == 0
        assert [name for name in os.environ if name.startswith("PG")] == ["PGPASSFILE"]


@pytest.mark.parametrize("key", ["ca_file", "cert_file", "key_file"])
def test_a_file_that_cannot_be_read_is_named(key: str) -> None:
    settings = load(
        None,
        environment={},
        overrides=["store.url=postgresql://b@db.example/b", f"store.{key}=/nowhere", "store.cert_file=/nowhere"],
    )
    with pytest.raises(SettingsError, match=rf"store\.({key}|cert_file): /nowhere cannot be read"):
        open_the_set_one(settings)


def test_a_key_without_a_certificate_and_tls_switched_off_are_reported() -> None:
    url = "store.url=postgresql://b@db.example/b"
    [problem] = problems(None, overrides=[url, "store.key_file=/k"])
    assert "store.cert_file is missing" in problem

    [warning] = load(None, environment={}, overrides=[url, "store.tls=off"]).warnings
    assert warning.startswith('store.tls = "off" (--set): who is between here and db.example can read and change')
    [problem] = problems(None, overrides=[url, "store.tls=off", "store.ca_file=/ca"])
    assert "store.ca_file" in problem
    assert "store.tls" in problem


@pytest.mark.parametrize(
    "wrong",
    [
        "user@host/db?sslmode=disable",
        "user:secret@host/db",
        "user%3Asecret@host/db",
        "host/db",
        "user@/db",
        "user@host/",
        "user@host:0/db",
        "user@host:99999/db",
        "user@host:x/db",
        "user@a,,b/db",
        "user@a%2Fb/db",
        "user@[::1/db",
        "user@host/db/more",
        "user@ho%00st/db",
        "us%0aer@host/db",
        "user@a%2Cb/db",
        "user@%40abstract/db",
        "user@/db?host=/run",
    ],
)
def test_what_is_no_url_of_a_database_is_refused(wrong: str) -> None:
    [problem] = problems(None, overrides=[f"store.url=postgresql://{wrong}"])
    assert "store.tls and store.ca_file" in problem
    assert "secret" not in problem
