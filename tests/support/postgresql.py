"""A real PostgreSQL of the tests' own: a throw-away cluster a process, a database a test."""

import atexit
import contextlib
import functools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import uuid
from pathlib import Path

import psycopg

from support.programs import path_of

USER, PASSWORD = "bringup", "s3cr3t-database"
NOBODY = "nobody"


class Server:
    """A cluster in a directory; it can be stopped, killed and started again."""

    def __init__(self, directory: Path, bin_directory: Path) -> None:
        self.directory = directory
        self._bin = bin_directory
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None
        # It refuses to be root.
        self._as: tuple[str, ...] = ()
        if os.geteuid() == 0:
            shutil.chown(directory, NOBODY)
            self._as = ("setpriv", f"--reuid={NOBODY}", "--clear-groups", "--")
        secret = directory / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        self._call(
            "initdb", "-D", str(directory / "data"), "-U", USER, "--auth=scram-sha-256", f"--pwfile={secret}", "-N"
        )

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
            ],
            cwd=self.directory,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(3000):
            with contextlib.suppress(psycopg.OperationalError), self.connect("postgres"):
                return
            assert self._process.poll() is None, "postgres ended"
        raise AssertionError("postgres does not answer")

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
            connect_timeout=5,
        )

    def new_database(self) -> str:
        """Make a database; give its URL, without the password."""
        name = f"t{uuid.uuid4().hex}"
        with self.connect("postgres") as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def url(self, database: str) -> str:
        """Give the URL of a database."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}"


def a_server() -> Server:
    """Make and start a cluster of one's own; skip where PostgreSQL is not installed."""
    found = Path(path_of("initdb")).resolve().parent
    directory = Path(tempfile.mkdtemp(prefix="pg-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    server = Server(directory, found)
    server.start()
    atexit.register(server.stop)
    return server


@functools.cache
def the_server() -> Server:
    """Give the cluster of this process, which nobody stops."""
    return a_server()
