"""Whom to trust over TLS, and who we are there."""

import ssl
from pathlib import Path

import httpx

from bringup.placement.errors import NotUnderstood


def context(
    *, ca_file: Path | None = None, cert_file: Path | None = None, key_file: Path | None = None
) -> ssl.SSLContext:
    """Make a context that verifies, with the certificates of ``ca_file`` or those that the system trusts.

    ``cert_file`` is our own certificate, for a server that asks for one; its key is in it or in ``key_file``.

    :raises NotUnderstood: a file cannot be used; the text names its setting.
    """
    try:
        made = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    except (OSError, ValueError) as error:
        raise NotUnderstood(f"use placement.ca_file {ca_file}", _why(error, "certificates")) from error
    if cert_file is not None:
        try:
            # No key of a daemon has a password that somebody could type.
            made.load_cert_chain(cert_file, key_file, password=lambda: "")
        except (OSError, ValueError) as error:
            files = f"{cert_file}" if key_file is None else f"{cert_file} with placement.key_file {key_file}"
            raise NotUnderstood(
                f"use placement.cert_file {files}", _why(error, "a certificate and its key, without a password")
            ) from error
    return made


def _why(error: Exception, wanted: str) -> str:
    if isinstance(error, ssl.SSLError) or not isinstance(error, OSError):
        return f"it must hold {wanted}, as PEM"
    return (error.strerror or type(error).__name__).lower()


def is_needed(url: str) -> bool:
    """Tell whether an address is one of TLS; loading certificates takes time that plain HTTP need not spend."""
    return httpx.URL(url).scheme == "https"
