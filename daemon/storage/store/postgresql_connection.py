"""How a connection to PostgreSQL is made: whom to trust over TLS, and what a server may ask of us.

* A server beyond this host is spoken to over TLS and verified, its name too, unless ``store.tls`` says otherwise.
* No server is ever told a password in the clear, over TLS neither.  One that was not verified and is not on this host
  must prove by SCRAM that it knows the password itself.
* Nothing is left in the session of a server that another client may get: a PgBouncer in transaction mode gives each
  transaction another one.  So there are no prepared statements, no ``options``, and limits are set a transaction.
"""

import os
import ssl
from collections.abc import MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import psycopg

from bringup.daemon.errors import SettingsError
from bringup.daemon.storage.store.database_url import DatabaseUrl
from bringup.drivers.files import read_file

CONNECT_S: Final = 5
STATEMENT_S: Final = 30
LEAST_LIBPQ: Final = 160000
"""The first that can be told which ways of asking for a password are refused."""
BUNDLES: Final = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")
"""Where systems keep the certificates that they trust in one file, which is what libpq wants."""
TlsMode = Literal["verify-full", "verify-ca", "off"]
NEVER_IN_THE_CLEAR: Final = "!password"
PASSWORDS: Final = frozenset({"PGPASSWORD", "PGPASSFILE"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """What is said of TLS; None is the default."""

    mode: TlsMode | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None

    def mode_for(self, url: DatabaseUrl) -> TlsMode | None:
        """Give the mode that holds for a database; None: as the server on this host likes."""
        if self.mode is not None:
            return self.mode
        files = (self.ca_file, self.cert_file)
        return "verify-full" if any(files) or not url.is_local else None


def forget_libpqs_variables(environment: MutableMapping[str, str] = os.environ) -> None:
    """Take libpq's variables out of the environment of this process.

    They would say where to connect (``PGHOSTADDR``, a service), and how, behind what the settings say: a server on this
    host, which is not verified, would be another one then.  Those that only tell a password are left.
    """
    for name in [each for each in environment if each.startswith("PG") and each not in PASSWORDS]:
        del environment[name]


def connect_args(url: DatabaseUrl, password: str | None, tls: Tls) -> dict[str, Any]:
    """Give the parameters of libpq and psycopg.

    :raises SettingsError: a file of TLS cannot be used, or libpq is too old.
    """
    if psycopg.pq.version() < LEAST_LIBPQ:
        raise SettingsError(["store.url: libpq 16 or later is needed; install psycopg[binary]"])
    given: dict[str, Any] = {
        "host": ",".join(each.host for each in url.endpoints),
        "port": ",".join(str(each.port) for each in url.endpoints),
        "user": url.user,
        "dbname": url.database,
        "connect_timeout": CONNECT_S,
        "application_name": "bringup",
        "prepare_threshold": None,
        # A server that is gone without a word is noticed.
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 1000 * STATEMENT_S,
        # Nothing but TLS is asked for: a server that offers Kerberos would be taken at its word.
        "gssencmode": "disable",
    }
    if password is not None:
        given["password"] = password
    if len(url.endpoints) > 1:
        # One alone may be a PgBouncer, which tells of the server that it had when it was asked first.
        given["target_session_attrs"] = "read-write"
    return given | _tls_args(url, tls)


def _tls_args(url: DatabaseUrl, tls: Tls) -> dict[str, str]:
    mode = tls.mode_for(url)
    if mode in {None, "off"}:
        refused = NEVER_IN_THE_CLEAR if url.is_local else "scram-sha-256"
        return {"sslmode": "prefer" if mode is None else "disable", "require_auth": refused}
    given = {"sslmode": str(mode), "sslrootcert": _bundle(tls.ca_file), "require_auth": NEVER_IN_THE_CLEAR}
    for parameter, key, path in (("sslcert", "cert_file", tls.cert_file), ("sslkey", "key_file", tls.key_file)):
        if path is not None:
            given[parameter] = _readable(f"store.{key}", path)
    return given


def _bundle(ca_file: Path | None) -> str:
    if ca_file is not None:
        return _readable("store.ca_file", ca_file)
    paths = ssl.get_default_verify_paths()
    found = (path for path in (paths.cafile, paths.openssl_cafile, *BUNDLES) if path and Path(path).is_file())
    # libpq's word for the store that OpenSSL was built with.
    return next(found, "system")


def _readable(key: str, path: Path) -> str:
    try:
        read_file(path)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise SettingsError([f"{key}: {path} cannot be read ({reason}); name a file (PEM) that can be"]) from error
    return str(path)
