"""TLS: trusted certificates, and our own."""

import errno
import os
import ssl
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bringup.placement.errors import NotUnderstood

CERTIFICATES: Final = "SSL_CERT_FILE"
KEYS_WRITTEN_TO: Final = "SSLKEYLOGFILE"
"""Variables of OpenSSL and of Python."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """Files for TLS, each with the name of its setting; None is not used."""

    ca_file: Path | None = None
    """CA certificates, PEM.  None: those of the system."""
    cert_file: Path | None = None
    """Our own certificate, for a server that requires one; its key is in it or in ``key_file``."""
    key_file: Path | None = None
    ca_name: str = "placement.ca_file"
    cert_name: str = "placement.cert_file"
    key_name: str = "placement.key_file"

    @property
    def is_default(self) -> bool:
        """Whether no file is set."""
        return self.ca_file is None and self.cert_file is None


def context(trust: Trust) -> ssl.SSLContext:
    """Build a context, which always verifies.

    :raises NotUnderstood: a file cannot be used; the message names its setting.
    """
    ca_file, cert_file, key_file = trust.ca_file, trust.cert_file, trust.key_file
    try:
        made = _context_for(ca_file)
    except (OSError, ValueError) as error:
        name, path = (trust.ca_name, ca_file) if ca_file is not None else (CERTIFICATES, os.environ.get(CERTIFICATES))
        raise NotUnderstood(f"use {name} {path}", _why(error, "certificates")) from error
    if cert_file is not None:
        try:
            # A daemon cannot be asked for the password of a key.
            made.load_cert_chain(
                _regular_file(cert_file),
                None if key_file is None else _regular_file(key_file),
                password=lambda: "",
            )
        except (OSError, ValueError) as error:
            with_key = "" if key_file is None else f" with {trust.key_name} {key_file}"
            raise NotUnderstood(
                f"use {trust.cert_name} {cert_file}{with_key}",
                _why(error, "a certificate and its key, without a password"),
            ) from error
    return made


def _context_for(ca_file: Path | None) -> ssl.SSLContext:
    """Build a context that trusts the CA certificates of a file, or those of the system.  Raises ``OSError``."""
    # Written TLS keys reveal the passwords: a variable must not enable that.
    os.environ.pop(KEYS_WRITTEN_TO, None)
    if ca_file is not None:
        return ssl.create_default_context(cafile=_regular_file(ca_file))
    named = os.environ.get(CERTIFICATES)
    if named and Path(named).exists():
        _regular_file(Path(named))
    return ssl.create_default_context()


def _regular_file(path: Path) -> str:
    """Return the path of a regular file for OpenSSL, which would wait for the writer of a FIFO.  Raises OSError."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise OSError(errno.EINVAL, "it is no file")
    return str(path)


def _why(error: Exception, wanted: str) -> str:
    if isinstance(error, ssl.SSLError) or not isinstance(error, OSError):
        return f"it must hold {wanted}, as PEM"
    return (error.strerror or type(error).__name__).lower()
