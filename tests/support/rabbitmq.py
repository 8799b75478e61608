"""A real RabbitMQ of the tests' own: loopback only, in a directory of its own, as any user."""

import atexit
import contextlib
import functools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from bringup.daemon.openstack.rpc.transport_url import Broker, BrokerAddress
from bringup.placement.tls import Trust
from support.certificates import Ca
from support.polling import until
from support.ports import free_ports
from support.programs import why_missing

SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
PATIENCE_S = 90.0
USER, PASSWORD = "nova", "s3cr3t-rabbit"
CONF = """\
listeners.tcp.1 = 127.0.0.1:{port}
default_user = {user}
default_pass = {password}
log.console = true
log.console.level = info
log.file = false
vm_memory_high_watermark.absolute = 256MB
disk_free_limit.absolute = 50MB
"""
TLS_CONF = """\
listeners.ssl.1 = 127.0.0.1:{port}
ssl_options.cacertfile = {ca}
ssl_options.certfile = {cert}
ssl_options.keyfile = {key}
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = {wants}
"""
# Who ends the tests ends it too.
WITH_US = ("setpriv", "--pdeathsig=TERM", "--")


class RabbitMQ:
    """A broker; it can be stopped, killed and started again, at the same port and with what it had on disk."""

    def __init__(self, directory: Path, *, authority: Ca | None = None, wants_certificate: bool = False) -> None:
        self.directory = directory
        self.port, self.tls_port, self._epmd_port, self._dist_port = free_ports(4)
        self.authority = authority
        self._processes: list[subprocess.Popen[bytes]] = []
        (directory / "enabled_plugins").write_text("[].")
        conf = CONF.format(port=self.port, user=USER, password=PASSWORD)
        if authority is not None:
            # Its key is in the same file.
            cert = authority.server()
            wants = str(wants_certificate).lower()
            conf += TLS_CONF.format(port=self.tls_port, ca=authority.file, cert=cert, key=cert, wants=wants)
        (directory / "rabbitmq.conf").write_text(conf)
        self.log = directory / "rabbitmq.log"

    @property
    def url(self) -> str:
        """Its transport_url."""
        return f"rabbit://{USER}:{PASSWORD}@127.0.0.1:{self.port}/"

    def broker(self, *, tls: Trust | None = None, virtual_host: str = "/") -> Broker:
        """Return it as our client is told of it."""
        port = self.port if tls is None else self.tls_port
        host = "127.0.0.1" if tls is None else "localhost"
        endpoint = BrokerAddress(host=host, port=port, username=USER, password=PASSWORD)
        return Broker(endpoints=(endpoint,), tls=tls, virtual_host=virtual_host)

    def _environment(self) -> dict[str, str]:
        directory = str(self.directory)
        return {
            "PATH": os.environ["PATH"],
            "HOME": directory,
            "RABBITMQ_MNESIA_BASE": f"{directory}/mnesia",
            "RABBITMQ_LOG_BASE": f"{directory}/log",
            "RABBITMQ_NODENAME": f"tests{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "RABBITMQ_CONFIG_FILE": f"{directory}/rabbitmq",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{directory}/enabled_plugins",
            "RABBITMQ_CONF_ENV_FILE": f"{directory}/none",
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                "-kernel inet_dist_use_interface {127,0,0,1} +S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none"
            ),
        }

    def start(self) -> None:
        """Start it, and wait until it answers."""
        # Its own would outlive it, and is started where there is none yet.
        self._run("epmd", "-port", str(self._epmd_port), "-address", "127.0.0.1")
        self._until(lambda: _is_open(self._epmd_port))
        self._run(str(SERVER))
        self._until(self._answers)

    def _until(self, answers: Callable[[], bool]) -> None:
        def does() -> bool:
            assert all(process.poll() is None for process in self._processes), "RabbitMQ ended"
            return answers()

        try:
            until(does, "the answer of RabbitMQ", patience_s=PATIENCE_S)
        except AssertionError as error:
            error.add_note(self.log.read_text())
            raise

    @property
    def runs(self) -> bool:
        """Whether it has been started and has not ended."""
        return bool(self._processes) and all(process.poll() is None for process in self._processes)

    def _run(self, *command: str) -> None:
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [*WITH_US, *command],
                cwd=self.directory,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._processes.append(process)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=5) as probe:
            probe.sendall(b"AMQP\0\0\x09\x01")
            return probe.recv(1) != b""
        return False

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Stop it; with SIGKILL as a crash would."""
        for process in reversed(self._processes):
            # The program that was started has made others, in a session of their own.
            send = os.killpg if number is signal.SIGKILL else os.kill
            with contextlib.suppress(ProcessLookupError):
                send(process.pid, number)
            process.wait(PATIENCE_S)
        self._processes.clear()

    def ctl(self, *arguments: str) -> str:
        """Run ``rabbitmqctl``, and return what it writes."""
        plain = ["--no-table-headers"] if arguments[0].startswith("list_") else []
        done = subprocess.run(
            [str(SERVER.with_name("rabbitmqctl")), "--quiet", *plain, *arguments],
            cwd=self.directory,
            env=self._environment(),
            capture_output=True,
            check=False,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def new_virtual_host(self) -> str:
        """Make one that nobody else has, and return its name."""
        name = f"cell-{uuid.uuid4().hex[:8]}"
        # Both in one call, as each takes a second of CPU time.
        given = f'<<"{USER}">>, <<"{name}">>, <<".*">>, <<".*">>, <<".*">>, <<"tests">>'
        add = f'rabbit_vhost:add(<<"{name}">>, <<"tests">>)'
        assert self.ctl("eval", f"{add}, rabbit_auth_backend_internal:set_permissions({given}).").split() == ["ok"]
        return name


def _is_open(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
        return True
    return False


def missing() -> str | None:
    """Return why it cannot be started."""
    return why_missing("rabbitmq-server", "rabbitmqctl", "epmd", "setpriv")


def a_rabbitmq(*, authority: Ca | None = None, wants_certificate: bool = False) -> RabbitMQ:
    """Make and start one of one's own, over TLS too with an authority; skip where it is not installed."""
    why = missing()
    if why is not None:
        pytest.skip(why)
    # A short path: Erlang makes sockets below it.
    directory = Path(tempfile.mkdtemp(prefix="rmq-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    broker = RabbitMQ(directory, authority=authority, wants_certificate=wants_certificate)
    broker.start()
    atexit.register(broker.stop, signal.SIGKILL)
    return broker


@functools.cache
def the_rabbitmq() -> RabbitMQ:
    """Return the broker of this process, which nobody stops; over TLS it wants a certificate."""
    directory = Path(tempfile.mkdtemp(prefix="ca-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return a_rabbitmq(authority=Ca(directory), wants_certificate=True)


def lines(text: str) -> Sequence[str]:
    """Return the lines of what ``ctl`` wrote."""
    return [line for line in text.splitlines() if line.strip()]
