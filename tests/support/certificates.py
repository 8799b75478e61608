"""Certificates of a CA of one's own, made when they are wanted."""

import datetime as dt
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW = dt.datetime.now(dt.UTC)
DAY = dt.timedelta(days=1)
VALID = (-1, 1)
"""From yesterday to tomorrow."""
EXPIRED = (-2, -1)
NOT_YET = (1, 2)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _pem(key: ec.EllipticCurvePrivateKey, password: bytes | None = None) -> bytes:
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password is not None:
        encryption = serialization.BestAvailableEncryption(password)
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


@dataclass
class Ca:
    """A certificate authority, and the files that it makes."""

    directory: Path
    days: tuple[int, int] = VALID
    name: str = "ca"

    def __post_init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.file = self.directory / f"{self.name}.pem"
        self.file.write_bytes(self._signed(self.name, self._key, self.days, ca=True))

    def _signed(
        self,
        subject: str,
        key: ec.EllipticCurvePrivateKey,
        days: tuple[int, int],
        *,
        ca: bool = False,
        extensions: tuple[x509.ExtensionType, ...] = (),
    ) -> bytes:
        public, own = key.public_key(), self._key.public_key()
        usage = x509.KeyUsage(
            digital_signature=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=ca,
            crl_sign=ca,
            encipher_only=False,
            decipher_only=False,
        )
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(subject))
            .issuer_name(_name(self.name))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW + days[0] * DAY)
            .not_valid_after(NOW + days[1] * DAY)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(own), critical=False)
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def server(self, *, host: str = "localhost", days: tuple[int, int] = VALID) -> Path:
        """Make a server's certificate and key, in one file."""
        key = ec.generate_private_key(ec.SECP256R1())
        about = (
            x509.SubjectAlternativeName([x509.DNSName(host)]),
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]),
        )
        file = self.directory / f"{self.name}-server-{host}.pem"
        file.write_bytes(self._signed(host, key, days, extensions=about) + _pem(key))
        return file

    def client(self, *, password: bytes | None = None) -> tuple[Path, Path]:
        """Make a client's certificate and its key, in two files."""
        key = ec.generate_private_key(ec.SECP256R1())
        about = (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]),)
        certificate, key_file = self.directory / f"{self.name}-client.pem", self.directory / f"{self.name}-client.key"
        certificate.write_bytes(self._signed("compute-1", key, VALID, extensions=about))
        key_file.write_bytes(_pem(key, password))
        return certificate, key_file

    def serving(
        self, *, host: str = "localhost", days: tuple[int, int] = VALID, asks: "Ca | None" = None
    ) -> ssl.SSLContext:
        """Make what a server of TLS needs; with ``asks`` it wants a certificate of that CA."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.server(host=host, days=days))
        if asks is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(asks.file)
        return context
