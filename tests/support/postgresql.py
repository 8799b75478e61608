"""A real PostgreSQL of the tests' own: a throw-away cluster a process, a database a test."""

import atexit
import contextlib
import functools
import os
import shutil
import signal
import subprocess
import tempfile
import uuid
from pathlib import Path

import psycopg

from support.polling import until
from support.ports import free_port
from support.programs import path_of

USER, PASSWORD = "bringup", "s3cr3t-database"
NOBODY = "nobody"


class Server:
    """A cluster in a directory; it can be stopped, killed and started again, followed by a standby, and be one."""

    def __init__(self, directory: Path, bin_directory: Path, *, certificate: Path | None = None) -> None:
        self.directory = directory
        self._bin = bin_directory
        self._tls: tuple[str, ...] = ()
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        # It refuses to be root.
        self._as: tuple[str, ...] = ()
        if os.geteuid() == 0:
            shutil.chown(directory, NOBODY)
            self._as = ("setpriv", f"--reuid={NOBODY}", "--clear-groups", "--")
        if certificate is not None:
            self._serve_tls(certificate)

    def _serve_tls(self, certificate: Path) -> None:
        own = self.directory / "server.pem"
        shutil.copy(certificate, own)
        own.chmod(0o600)
        if os.geteuid() == 0:
            shutil.chown(own, NOBODY)
        self._tls = ("-c", "ssl=on", "-c", f"ssl_cert_file={own}", "-c", f"ssl_key_file={own}")

    def initialize(self) -> None:
        """Make the cluster."""
        secret = self.directory / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        self._call(
            "initdb", "-D", str(self.directory / "data"), "-U", USER, "--auth=scram-sha-256", f"--pwfile={secret}", "-N"
        )

    def follow(self, primary: "Server") -> None:
        """Make the cluster a streaming standby of another one."""
        self._call("pg_basebackup", "-D", str(self.directory / "data"), "-R", "-c", "fast", "-d", primary.conninfo)

    @property
    def conninfo(self) -> str:
        """How a standby finds it."""
        return f"host=127.0.0.1 port={self.port} user={USER} password={PASSWORD}"

    def demote(self, primary: "Server") -> None:
        """Stop it, and start it again as a standby of another one."""
        self.stop()
        data = self.directory / "data"
        (data / "standby.signal").touch()
        with (data / "postgresql.auto.conf").open("a") as settings:
            settings.write(f"primary_conninfo = '{primary.conninfo}'\n")
        if os.geteuid() == 0:
            shutil.chown(data / "standby.signal", NOBODY)
        self.start()

    def promote(self) -> None:
        """Make a standby the primary; it takes writes on return."""
        with self.connect("postgres") as connection:
            assert connection.execute("SELECT pg_promote(true, 60)").fetchone() == (True,)

    def only_read(self, *, only: bool) -> None:
        """Make each new transaction read-only, or not; connections stay as they are."""
        wanted = "on" if only else "off"
        with self.connect("postgres") as connection:
            connection.execute("SET default_transaction_read_only = off")
            connection.execute(f"ALTER SYSTEM SET default_transaction_read_only = {wanted}")
            connection.execute("SELECT pg_reload_conf()")

        def is_told() -> bool:
            with self.connect("postgres") as connection:
                return connection.execute("SHOW default_transaction_read_only").fetchone() == (wanted,)

        until(is_told, f"default_transaction_read_only = {wanted}")

    def _call(self, program: str, *arguments: str) -> None:
        command = [*self._as, str(self._bin / program), *arguments]
        done = subprocess.run(command, cwd=self.directory, capture_output=True, check=False, text=True)
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._process = subprocess.Popen(
            [
                *self._as,
                str(self._bin / "postgres"),
                *("-D", str(self.directory / "data"), "-p", str(self.port), "-k", str(self.directory)),
                *("-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", "max_connections=100"),
                *self._tls,
            ],
            cwd=self.directory,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until(self._answers, "the answer of postgres")

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, "postgres ended"
        with contextlib.suppress(psycopg.OperationalError), self.connect("postgres"):
            return True
        return False

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """Stop it: at once with SIGINT (clients are cut off), as a crash would with SIGQUIT."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(60)
            self._process = None

    def connect(self, database: str) -> "psycopg.Connection[tuple[object, ...]]":
        """Connect as an administrator."""
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user=USER,
            password=PASSWORD,
            dbname=database,
            autocommit=True,
            connect_timeout=60,
        )

    def new_database(self) -> str:
        """Make a database; return its URL, without the password."""
        name = f"t{uuid.uuid4().hex}"
        with self.connect("postgres") as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def url(self, database: str) -> str:
        """Return the URL of a database."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}"


def a_server(*, certificate: Path | None = None) -> Server:
    """Make and start a cluster of one's own; skip where PostgreSQL is not installed.

    With ``certificate``, a file with its key, it speaks TLS to who wants it.
    """
    server = _a_directory(certificate)
    server.initialize()
    server.start()
    atexit.register(server.stop)
    return server


def a_standby(primary: Server) -> Server:
    """Make and start a standby that follows a server of one's own."""
    server = _a_directory(None)
    server.follow(primary)
    server.start()
    atexit.register(server.stop)
    return server


def _a_directory(certificate: Path | None) -> Server:
    found = Path(path_of("initdb")).resolve().parent
    directory = Path(tempfile.mkdtemp(prefix="pg-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return Server(directory, found, certificate=certificate)


@functools.cache
def the_server() -> Server:
    """Return the cluster of this process, which nobody stops."""
    return a_server()
