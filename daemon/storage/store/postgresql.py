"""The store in PostgreSQL: several hosts, one database, which may be unavailable for a while.

Rows are locked in one order; :class:`bringup.daemon.storage.store.postgresql_transactions.PostgresqlTransactions`
makes the transactions.

The connection:

* A connection to another host uses TLS and verifies the server and its name, unless ``store.tls`` is set otherwise.
* A password is never sent unencrypted, nor as plain text over TLS.  A server that was not verified and is not on this
  host must prove by SCRAM that it knows the password itself.
* Nothing is left in the session of a server that another client may get: a PgBouncer in transaction mode uses another
  one for each transaction.  So there are no prepared statements, no ``options``, and limits are set per transaction.
"""

import os
import ssl
from collections.abc import MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import psycopg
from sqlalchemy import Connection, create_engine, func, select
from sqlalchemy.exc import SQLAlchemyError

from bringup.daemon.errors import BringupError, SettingsError, Temporary
from bringup.daemon.storage.store.database_url import DatabaseUrl, parse_database_url
from bringup.daemon.storage.store.postgresql_transactions import (
    STATEMENT_S,
    PostgresqlTransactions,
    cause_of,
    names_a_setting,
)
from bringup.daemon.storage.store.schema import ensure_tables
from bringup.daemon.storage.store.sql import Database
from bringup.drivers.files import read_file

CONNECT_S: Final = 5
LEAST_LIBPQ: Final = 160000
"""The first version that accepts a list of refused authentication methods."""
BUNDLES: Final = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")
"""Files with all certificates that a system trusts; libpq requires one file."""
TlsMode = Literal["verify-full", "verify-ca", "off"]
NEVER_PLAIN_TEXT: Final = "!password"
PASSWORDS: Final = frozenset({"PGPASSWORD", "PGPASSFILE"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """Settings of TLS; None is the default."""

    mode: TlsMode | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None

    def mode_for(self, url: DatabaseUrl) -> TlsMode | None:
        """Return the mode for a database; None: the server on this host decides."""
        if self.mode is not None:
            return self.mode
        files = (self.ca_file, self.cert_file)
        return "verify-full" if any(files) or not url.is_local else None


def remove_libpq_variables(environment: MutableMapping[str, str] = os.environ) -> None:
    """Remove libpq's variables from the environment of this process.

    They would override the settings (``PGHOSTADDR``, a service): a server on this host, which is not verified, would be
    another one then.  Those that only carry a password are left.
    """
    for name in [each for each in environment if each.startswith("PG") and each not in PASSWORDS]:
        del environment[name]


def connect_args(url: DatabaseUrl, password: str | None, tls: Tls) -> dict[str, Any]:
    """Return the parameters of libpq and psycopg.

    :raises SettingsError: a file of TLS cannot be used, or libpq is too old.
    """
    if psycopg.pq.version() < LEAST_LIBPQ:
        raise SettingsError(["store.url: libpq 16 or later is needed; install psycopg[binary]"])
    args: dict[str, Any] = {
        "host": ",".join(each.host for each in url.endpoints),
        "port": ",".join(str(each.port) for each in url.endpoints),
        "user": url.user,
        "dbname": url.database,
        "connect_timeout": CONNECT_S,
        "application_name": "bringup",
        "prepare_threshold": None,
        # A server that vanishes without closing the connection is noticed.
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 1000 * STATEMENT_S,
        # Only TLS is requested: a server that offers Kerberos would be trusted without proof.
        "gssencmode": "disable",
    }
    if password is not None:
        args["password"] = password
    if len(url.endpoints) > 1:
        # One alone may be a PgBouncer, which reports the state of the server that it had first.
        args["target_session_attrs"] = "read-write"
    return args | _tls_args(url, tls)


def _tls_args(url: DatabaseUrl, tls: Tls) -> dict[str, str]:
    mode = tls.mode_for(url)
    if mode in {None, "off"}:
        refused = NEVER_PLAIN_TEXT if url.is_local else "scram-sha-256"
        return {"sslmode": "prefer" if mode is None else "disable", "require_auth": refused}
    args = {"sslmode": str(mode), "sslrootcert": _bundle(tls.ca_file), "require_auth": NEVER_PLAIN_TEXT}
    for parameter, key, path in (("sslcert", "cert_file", tls.cert_file), ("sslkey", "key_file", tls.key_file)):
        if path is not None:
            args[parameter] = _readable(f"store.{key}", path)
    return args


def _bundle(ca_file: Path | None) -> str:
    if ca_file is not None:
        return _readable("store.ca_file", ca_file)
    paths = ssl.get_default_verify_paths()
    found = (path for path in (paths.cafile, paths.openssl_cafile, *BUNDLES) if path and Path(path).is_file())
    # libpq's name for the store that OpenSSL was built with.
    return next(found, "system")


def _readable(key: str, path: Path) -> str:
    try:
        read_file(path)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise SettingsError([f"{key}: {path} cannot be read ({reason}); name a file (PEM) that can be"]) from error
    return str(path)


# One daemon creates the tables, the others wait for it.
TABLES_LOCK = 0x6272696E67757031
ANY_TLS = Tls()


def open_database(url: str, password: str | None = None, wait_s: float = 30.0, *, tls: Tls = ANY_TLS) -> Database:
    """Connect, and create the tables where they are missing.  Blocks.

    :raises Temporary: no database that can be written to answered in ``wait_s``, or it failed within itself.
    :raises SettingsError: it refuses this daemon.
    :raises Refused: its tables are of a newer version.
    """
    remove_libpq_variables()
    engine = create_engine(
        # Everything is in the parameters: SQLAlchemy's URL cannot name several hosts.
        "postgresql+psycopg://",
        connect_args=connect_args(parse_database_url(url), password, tls),
        # Values may be secrets of guests.
        hide_parameters=True,
    )
    transactions = PostgresqlTransactions(engine, url, wait_s)
    try:
        transactions.prepare()
        transactions.write(lambda connection: _ensure_tables(connection, url))
    except SQLAlchemyError as error:
        engine.dispose()
        raise _cannot_open(url, error) from cause_of(error)
    except BringupError:
        engine.dispose()
        raise
    return Database(
        name=url,
        engine=engine,
        read=transactions.read,
        write=transactions.write,
        explain=lambda _error: "",
        now=_now,
        hurry=transactions.hurry,
    )


def _now(connection: Connection) -> float:
    return float(connection.scalar(select(func.extract("epoch", func.clock_timestamp()))) or 0)


def _ensure_tables(connection: Connection, name: str) -> None:
    connection.execute(select(func.pg_advisory_xact_lock(TABLES_LOCK)))
    ensure_tables(connection, name)


def _cannot_open(name: str, error: SQLAlchemyError) -> BringupError:
    message = f"cannot open the store {name}"
    if names_a_setting(error):
        problem = f"store.url: {message} ({_first_line(error)}); correct its user, password and database"
        return SettingsError([problem])
    return Temporary(message)


def _first_line(error: SQLAlchemyError) -> str:
    return next(iter(str(cause_of(error)).strip().splitlines()), type(error).__name__)
