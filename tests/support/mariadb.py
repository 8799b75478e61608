"""A real MariaDB of the tests' own, for Nova where it is to have several writers: loopback only, as any user."""

import atexit
import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from support.polling import until
from support.ports import free_ports
from support.programs import PATH, why_missing
from support.rabbitmq import WITH_US

PATIENCE_S = 90.0
USER = "nova"
DATABASE = "nova_cell1"


class MariaDB:
    """A server in a directory, with an empty database for a cell of Nova's in it."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.directory = directory
        [self.port] = free_ports(1)
        self.log = directory / "mariadb.log"
        self._options = options
        self._password = secrets.token_hex(16)
        self._process: subprocess.Popen[bytes] | None = None
        # It refuses to be root who has not said so.
        self._as = ("--user=root",) if os.geteuid() == 0 else ()
        self._data = f"--datadir={directory / 'data'}"
        self._call(
            *("mariadb-install-db", "--no-defaults", *self._as, self._data),
            *("--auth-root-authentication-method=socket", "--skip-test-db"),
        )

    def _call(self, *command: str) -> None:
        done = subprocess.run(
            command, cwd=self.directory, env={**os.environ, "PATH": PATH}, capture_output=True, check=False, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr

    @property
    def url(self) -> str:
        """SQLAlchemy's URL of the database; its password is in it."""
        return f"mysql+pymysql://{USER}:{self._password}@127.0.0.1:{self.port}/{DATABASE}?charset=utf8mb4"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        # Carried out before anybody is let in; so no client is needed, and no password is in a process list.
        statements = self.directory / "init.sql"
        statements.touch(0o600)
        statements.write_text("\n".join(self._statements()) + "\n")
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(*WITH_US, "mariadbd", "--no-defaults", *self._as, self._data),
                    *(f"--socket={self.directory / 'socket'}", f"--pid-file={self.directory / 'pid'}"),
                    *(f"--port={self.port}", "--bind-address=127.0.0.1", "--skip-name-resolve"),
                    *(f"--init-file={statements}", "--performance-schema=OFF"),
                    *("--innodb-buffer-pool-size=64M", "--innodb-flush-log-at-trx-commit=0"),
                    *self._options,
                ],
                cwd=self.directory,
                env={**os.environ, "PATH": PATH},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            until(self._answers, "the answer of MariaDB", patience_s=PATIENCE_S)
        except AssertionError as error:
            error.add_note(self.log.read_text())
            raise

    def _statements(self) -> Sequence[str]:
        who = f"'{USER}'@'127.0.0.1'"
        return (
            f"CREATE USER IF NOT EXISTS {who} IDENTIFIED BY '{self._password}';",
            f"CREATE DATABASE IF NOT EXISTS {DATABASE} CHARACTER SET utf8mb4;",
            f"GRANT ALL ON {DATABASE}.* TO {who};",
        )

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, "MariaDB ended"
        # It is the server that speaks first.
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=5) as probe:
            return probe.recv(1) != b""
        return False

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Stop it; with SIGKILL as a crash would."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(PATIENCE_S)
            self._process = None


def missing() -> str | None:
    """Return why it cannot be started."""
    return why_missing("mariadbd", "mariadb-install-db", "my_print_defaults")


def a_mariadb(*options: str) -> MariaDB:
    """Make and start one of one's own, with more options of the server; skip where it is not installed."""
    why = missing()
    if why is not None:
        pytest.skip(why)
    directory = Path(tempfile.mkdtemp(prefix="mariadb-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    server = MariaDB(directory, *options)
    server.start()
    atexit.register(server.stop, signal.SIGKILL)
    return server
