"""Connection to PostgreSQL: what is trusted over TLS, and what a server may request.

* A connection to another host uses TLS and verifies the server and its name, unless ``store.tls`` is set otherwise.
* A password is never sent unencrypted, nor as plain text over TLS.  One that was not verified and is not on this host
  must prove by SCRAM that it knows the password itself.
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

from bringup.daemon.errors import SettingsError
from bringup.daemon.storage.store.database_url import DatabaseUrl
from bringup.drivers.files import read_file

CONNECT_S: Final = 5
STATEMENT_S: Final = 30
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


def forget_libpqs_variables(environment: MutableMapping[str, str] = os.environ) -> None:
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
