"""Trust and identity over TLS: real certificates, and the real Keystone and Placement behind https."""

import os
import ssl
from pathlib import Path
from typing import Any

import httpx
import pytest

from bringup.placement.auth import NoAuth
from bringup.placement.client import connect
from bringup.placement.credentials import Login, Named, Password
from bringup.placement.errors import NotUnderstood, Unreachable
from bringup.placement.keystone import KeystoneAuth
from bringup.placement.tls import Trust, context
from support.certificates import EXPIRED, NOT_YET, VALID, Ca
from support.faulty_proxy import a_proxy
from support.keystone import PASSWORD, a_cloud, patient_client
from support.placement import TOKEN, real_placement

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]

PROVIDERS = "/resource_providers"


@pytest.fixture
def ca(tmp_path: Path) -> Ca:
    return Ca(tmp_path)


async def ask(url: str, trust: Trust, *, upto: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> int:
    verify = context(trust)
    verify.maximum_version = upto
    async with connect(url, auth=NoAuth(TOKEN), verify=verify) as client:
        return (await client.request("GET", PROVIDERS)).status


async def test_a_ca_of_ones_own_is_trusted(ca: Ca) -> None:
    with a_proxy(real_placement(), tls=ca.serving()) as server:
        assert await ask(server.url, Trust(ca_file=ca.file)) == httpx.codes.OK


async def test_keystone_and_placement_are_both_verified_with_it(ca: Ca) -> None:
    cloud = a_cloud()
    root = cloud.auth_url.removesuffix("/v3")
    with a_proxy(root, tls=ca.serving()) as keystone, a_proxy(cloud.placement_url, tls=ca.serving()) as there:
        admin = Password(user=Named(name="admin"), secret=PASSWORD)
        auth = KeystoneAuth(Login(auth_url=keystone.url, method=admin, project=Named(name="admin")))
        async with patient_client(there.url, auth=auth, verify=context(Trust(ca_file=ca.file))) as client:
            await client.request("GET", PROVIDERS)
        assert keystone.requests == ["GET /v3", "POST /v3/auth/tokens"]
        assert (auth.logins, len(there.requests), keystone.connections) == (1, 1, 1)

        async with patient_client(there.url, auth=KeystoneAuth(auth.identity)) as client:
            with pytest.raises(Unreachable, match=r"^cannot get a token of Keystone at https:.*set placement\.ca_file"):
                await client.request("GET", PROVIDERS)


@pytest.mark.parametrize("upto", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
@pytest.mark.parametrize("in_one", [False, True], ids=["two files", "one file"])
async def test_a_server_that_asks_gets_our_certificate(ca: Ca, upto: ssl.TLSVersion, *, in_one: bool) -> None:
    certificate, key = ca.client()
    if in_one:
        certificate.write_bytes(certificate.read_bytes() + key.read_bytes())
    trust = Trust(ca_file=ca.file, cert_file=certificate, key_file=None if in_one else key)
    with a_proxy(real_placement(), tls=ca.serving(asks=ca)) as server:
        assert await ask(server.url, trust, upto=upto) == httpx.codes.OK


async def test_a_server_that_asks_for_a_certificate_and_gets_none_is_reported(ca: Ca) -> None:
    with a_proxy(real_placement(), tls=ca.serving(asks=ca)) as server:
        with pytest.raises(Unreachable, match=r"set placement\.cert_file$"):
            await ask(server.url, Trust(ca_file=ca.file), upto=ssl.TLSVersion.TLSv1_2)
        # In TLS 1.3 the handshake is over for us when the server says no; its alert may come late or be cut off.
        with pytest.raises(Unreachable, match=r"set placement\.cert_file$|connection"):
            await ask(server.url, Trust(ca_file=ca.file))
        assert server.requests == []


async def test_a_server_that_knows_not_our_ca_is_reported(ca: Ca, tmp_path: Path) -> None:
    certificate, key = Ca(tmp_path, name="another").client()
    trust = Trust(ca_file=ca.file, cert_file=certificate, key_file=key)
    with a_proxy(real_placement(), tls=ca.serving(asks=ca)) as server:
        with pytest.raises(Unreachable, match=r"does not accept our certificate; check placement\.cert_file"):
            await ask(server.url, trust, upto=ssl.TLSVersion.TLSv1_2)
        assert server.requests == []


NOT_ACCEPTED = {
    "an expired CA": (EXPIRED, VALID, "localhost", "certificate has expired; renew it, or the CA that signed it"),
    "an expired certificate": (VALID, EXPIRED, "localhost", "certificate has expired; renew it"),
    "not yet valid": (VALID, NOT_YET, "localhost", "not yet valid; check the clock of this host"),
    "another name": (VALID, VALID, "controller", "the address that is asked must be one of its names"),
}


@pytest.mark.parametrize(("of_ca", "of_server", "host", "said"), NOT_ACCEPTED.values(), ids=NOT_ACCEPTED.keys())
async def test_what_is_wrong_with_a_certificate_is_one_sentence_that_names_what_to_do(
    tmp_path: Path, of_ca: tuple[int, int], of_server: tuple[int, int], host: str, said: str
) -> None:
    ca = Ca(tmp_path, days=of_ca)
    with a_proxy(real_placement(), tls=ca.serving(host=host, days=of_server)) as server:
        with pytest.raises(Unreachable, match="its certificate is not accepted: ") as caught:
            await ask(server.url, Trust(ca_file=ca.file))
        assert server.requests == []
    assert said in str(caught.value)
    # The clock of a host that boots may be wrong, and be put right in a moment.
    assert caught.value.transient


async def test_a_ca_that_nobody_named_is_not_trusted(ca: Ca, tmp_path: Path) -> None:
    with a_proxy(real_placement(), tls=ca.serving()) as server:
        for trust in (Trust(), Trust(ca_file=Ca(tmp_path, name="another").file)):
            with pytest.raises(Unreachable, match=r"set placement\.ca_file to the CA that signed it"):
                await ask(server.url, trust)
        async with connect(server.url, auth=NoAuth(TOKEN)) as client:
            with pytest.raises(Unreachable, match=r"set placement\.ca_file"):
                await client.request("GET", PROVIDERS)
        assert server.requests == []


async def test_an_address_of_http_that_speaks_tls_is_not_asked_in_the_clear(ca: Ca) -> None:
    with a_proxy(real_placement(), tls=ca.serving()) as server:
        with pytest.raises(Unreachable):
            await ask(server.url.replace("https:", "http:"), Trust())
        assert server.requests == []


def test_every_context_verifies(ca: Ca) -> None:
    certificate, key = ca.client()
    for trust in (Trust(), Trust(ca_file=ca.file), Trust(cert_file=certificate, key_file=key)):
        made = context(trust)
        assert (made.verify_mode, made.check_hostname) == (ssl.CERT_REQUIRED, True)


def test_with_a_ca_of_ones_own_the_systems_are_not_trusted(ca: Ca) -> None:
    (only,) = context(Trust(ca_file=ca.file)).get_ca_certs()
    assert only["subject"] == ((("commonName", "ca"),),)


def refused(trust: Trust) -> str:
    with pytest.raises(NotUnderstood) as caught:
        context(trust)
    return str(caught.value)


def test_a_file_that_cannot_be_used_is_reported_by_its_name(ca: Ca, tmp_path: Path) -> None:
    certificate, key = ca.client()
    nowhere, rubbish = tmp_path / "nowhere.pem", tmp_path / "rubbish.pem"
    rubbish.write_text("s3cr3t rubbish")
    use = "cannot use placement."
    assert refused(Trust(ca_file=nowhere)) == f"{use}ca_file {nowhere}: no such file or directory"
    assert refused(Trust(ca_file=rubbish)) == f"{use}ca_file {rubbish}: it must hold certificates, as PEM"
    assert refused(Trust(ca_file=tmp_path)).startswith(f"{use}ca_file {tmp_path}: ")
    right = "it must hold a certificate and its key, without a password, as PEM"
    assert refused(Trust(cert_file=certificate)) == f"{use}cert_file {certificate}: {right}"
    both = f"{use}cert_file {certificate} with placement.key_file"
    assert refused(Trust(cert_file=certificate, key_file=nowhere)) == f"{both} {nowhere}: no such file or directory"
    assert refused(Trust(cert_file=certificate, key_file=rubbish)) == f"{both} {rubbish}: {right}"
    _, of_another = Ca(tmp_path, name="another").client()
    assert refused(Trust(cert_file=certificate, key_file=of_another)) == f"{both} {of_another}: {right}"
    assert refused(Trust(ca_file=nowhere, ca_name="[placement] cafile")) == (
        f"cannot use [placement] cafile {nowhere}: no such file or directory"
    )
    assert key.exists()


@pytest.mark.parametrize("which", ["ca_file", "cert_file", "key_file"])
def test_a_fifo_in_the_place_of_a_file_is_reported_and_not_waited_for(ca: Ca, tmp_path: Path, which: str) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    certificate, _ = ca.client()
    files: dict[str, Any] = {"cert_file": certificate, which: fifo}
    assert refused(Trust(**files)).endswith(f"{which} {fifo}: it is no file")


def test_a_fifo_that_the_environment_names_is_reported_and_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    monkeypatch.setenv("SSL_CERT_FILE", str(fifo))
    assert refused(Trust()).endswith(f"SSL_CERT_FILE {fifo}: it is no file")


@pytest.mark.parametrize("name", ["keys", "nowhere/keys", "."])
def test_the_keys_of_tls_are_written_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / name))
    assert context(Trust()).keylog_filename is None
    assert not list(tmp_path.iterdir())


def test_a_key_with_a_password_is_refused_and_nobody_is_asked_for_it(ca: Ca) -> None:
    certificate, key = ca.client(password=b"s3cr3t")
    assert "without a password" in refused(Trust(cert_file=certificate, key_file=key))
