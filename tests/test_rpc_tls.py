"""A RabbitMQ that wants to know who we are, and that is told of in one URL."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from bringup.daemon.errors import chain_of
from bringup.daemon.openstack.rpc.client import Rpc, open_rpc
from bringup.daemon.openstack.rpc.errors import NoListener, RpcUnavailable
from bringup.daemon.openstack.rpc.transport_url import TRUST, Broker, parse_transport_url
from support.certificates import Ca
from support.ports import free_ports
from support.rabbitmq import PASSWORD, USER, RabbitMQ, the_rabbitmq

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """aio-pika knows asyncio alone."""
    return "asyncio"


@asynccontextmanager
async def calling(broker: Broker) -> AsyncIterator[Rpc]:
    async with open_rpc(broker, in_flight=4, deadline_s=20) as rpc:
        yield rpc


async def lets_us_in(broker: Broker) -> None:
    async with calling(broker) as rpc:
        with pytest.raises(NoListener, match="no exchange nobody_fanout"):
            await rpc.probe_fanout("nobody")


async def refused(broker: Broker) -> str:
    async with calling(broker) as rpc:
        with pytest.raises(RpcUnavailable) as caught:
            await rpc.probe_fanout("nobody")
    assert not isinstance(caught.value, NoListener)
    assert PASSWORD not in chain_of(caught.value)
    return chain_of(caught.value)


@pytest.fixture
def strict() -> tuple[RabbitMQ, Ca]:
    broker = the_rabbitmq()
    assert broker.authority is not None
    return broker, broker.authority


async def test_a_broker_that_wants_a_certificate_lets_in_who_has_one(
    strict: tuple[RabbitMQ, Ca], tmp_path: Path
) -> None:
    rabbitmq, ca = strict
    certificate, key = ca.client()
    both = tmp_path / "both.pem"
    both.write_bytes(certificate.read_bytes() + key.read_bytes())
    ours = replace(TRUST, ca_file=ca.file, cert_file=certificate, key_file=key)

    await lets_us_in(rabbitmq.broker(tls=ours))
    await lets_us_in(rabbitmq.broker(tls=replace(TRUST, ca_file=ca.file, cert_file=both)))

    theirs, their_key = Ca(tmp_path, name="stranger").client()
    where = f"RabbitMQ at localhost:{rabbitmq.tls_port}"
    assert where in await refused(rabbitmq.broker(tls=replace(TRUST, ca_file=ca.file)))
    assert where in await refused(rabbitmq.broker(tls=replace(ours, cert_file=theirs, key_file=their_key)))


async def test_a_port_without_tls_is_not_spoken_to_with_it_nor_the_other_way_round(
    strict: tuple[RabbitMQ, Ca],
) -> None:
    rabbitmq, ca = strict
    plain, secured = rabbitmq.broker(), rabbitmq.broker(tls=replace(TRUST, ca_file=ca.file))
    assert "RabbitMQ at 127.0.0.1" in await refused(replace(secured, endpoints=plain.endpoints))
    assert "RabbitMQ at localhost" in await refused(replace(plain, endpoints=secured.endpoints))


async def test_one_url_names_hosts_virtual_host_and_certificates(strict: tuple[RabbitMQ, Ca]) -> None:
    rabbitmq, ca = strict
    rabbitmq.ctl("add_vhost", "cell/1")
    rabbitmq.ctl("set_permissions", "-p", "cell/1", USER, ".*", ".*", ".*")
    certificate, key = ca.client()
    [nobody] = free_ports(1)
    url = (
        f"rabbit://{USER}:{PASSWORD}@localhost:{nobody},{USER}:{PASSWORD}@localhost:{rabbitmq.tls_port}/cell%2F1"
        f"?ssl=1&ssl_ca_file={ca.file}&ssl_cert_file={certificate}&ssl_key_file={key}"
    )
    async with calling(parse_transport_url(url)) as rpc:
        with pytest.raises(NoListener):
            await rpc.probe_fanout("nobody")
        connections = rabbitmq.ctl("list_connections", "vhost", "user", "ssl", "peer_cert_subject").splitlines()
    assert "cell/1\tnova\ttrue\tCN=compute-1" in connections


async def test_a_virtual_host_that_is_not_there_or_not_ours_is_named() -> None:
    rabbitmq = the_rabbitmq()
    rabbitmq.ctl("add_vhost", "others")
    for virtual_host in ("nowhere", "others"):
        said = await refused(rabbitmq.broker(virtual_host=virtual_host))
        assert f"has no virtual host {virtual_host} that user {USER} may use" in said


async def test_where_no_host_takes_us_each_reports_why() -> None:
    rabbitmq = the_rabbitmq()
    [alive] = rabbitmq.broker().endpoints
    [nobody] = free_ports(1)
    dead, stale = replace(alive, port=nobody), replace(alive, password="0ld")
    said = await refused(replace(rabbitmq.broker(), endpoints=(dead, stale)))
    assert f"RabbitMQ at 127.0.0.1:{nobody} does not answer" in said
    assert f"RabbitMQ at 127.0.0.1:{alive.port} does not let user {USER} into virtual host /" in said
    assert "0ld" not in said
