"""A real PgBouncer before a PostgreSQL of the tests' own."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg

from support.polling import until
from support.ports import free_port
from support.postgresql import NOBODY, PASSWORD, USER, Server
from support.programs import path_of


@contextlib.contextmanager
def a_pgbouncer(server: Server, mode: str, *, auth: str = "scram-sha-256", connections: int = 2) -> Iterator[int]:
    """Run one in a mode of pooling, with few connections to the server; yield its port."""
    program = path_of("pgbouncer")
    directory = Path(tempfile.mkdtemp(prefix="pgbouncer-"))
    port = free_port()
    (directory / "users").write_text(f'"{USER}" "{PASSWORD}"\n')
    (directory / "pgbouncer.ini").write_text(
        f"[databases]\n* = host=127.0.0.1 port={server.port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
        f"listen_port = {port}\nunix_socket_dir =\nauth_type = {auth}\nauth_file = {directory}/users\n"
        f"pool_mode = {mode}\ndefault_pool_size = {connections}\n"
    )
    own: tuple[str, ...] = ()
    if os.geteuid() == 0:
        for path in (directory, *directory.iterdir()):
            shutil.chown(path, NOBODY)
        own = ("setpriv", f"--reuid={NOBODY}", "--clear-groups", "--")
    process = subprocess.Popen(
        [*own, program, str(directory / "pgbouncer.ini")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        until(lambda: _answers(port, process), "the answer of pgbouncer")
        yield port
    finally:
        process.terminate()
        process.wait(30)
        shutil.rmtree(directory, ignore_errors=True)


def _answers(port: int, process: "subprocess.Popen[bytes]") -> bool:
    assert process.poll() is None, "pgbouncer ended"
    with (
        contextlib.suppress(psycopg.OperationalError),
        psycopg.connect(
            host="127.0.0.1", port=port, user=USER, password=PASSWORD, dbname="postgres", connect_timeout=60
        ),
    ):
        return True
    return False
