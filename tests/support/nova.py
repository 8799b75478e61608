"""A real Nova of the tests' own: conductor and scheduler over RabbitMQ, in a Python environment of their own.

Nova pins a hundred packages, so it is installed outside the repository, once: in the cache directory of the user.
"""

import atexit
import contextlib
import fcntl
import functools
import hashlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bringup.daemon.openstack.rpc.transport_url import Broker
from support import rabbitmq
from support.placement import real_placement
from support.preloaded import Forked, Preloaded, Stream
from support.rabbitmq import RabbitMQ

PINS = Path(__file__).parents[1] / "nova-constraints.txt"
CHILD = Path(__file__).with_name("nova_programs_child.py")
PATIENCE_S = 120.0
INSTALL_S = 900.0
# What nova-conductor logs when it takes requests, and nova-scheduler too.
READY = "Join ServiceGroup membership for this service"
CONF = """\
[DEFAULT]
# Of all that can be debugged only what is waited for: the rest takes a third of a service's CPU time.
default_log_levels = nova.service=DEBUG,nova.scheduler.host_manager=DEBUG
use_stderr = true
executor_thread_pool_size = {threads}
state_path = {directory}
transport_url = {transport_url}
host = controller
rpc_response_timeout = 30
# No heartbeat: where SQLite has a reader who begins to write while another waits to, it refuses at once ("database is
# locked"), however long one would wait.
report_interval = 0
{default}
[oslo_concurrency]
lock_path = {directory}/lock
[api_database]
connection = {api_database}
[database]
connection = {database}
[conductor]
workers = 1
[scheduler]
workers = 1
discover_hosts_in_cells_interval = -1
[placement]
auth_type = admin_token
endpoint = {placement}
token = admin
{more}
"""


@functools.cache
def nova_python() -> Path:
    """Return the Python that has Nova, which is installed where it is not yet; skip where it cannot be."""
    pins = PINS.read_bytes()
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    name = f"nova-{version}-{hashlib.sha256(pins).hexdigest()[:12]}"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bringup-tests"
    cache.mkdir(parents=True, exist_ok=True)
    environment = cache / name
    python, done = environment / "bin" / "python", environment / ".complete"
    with (cache / f"{name}.lock").open("w") as lock:
        # Of several that want it one installs it.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if done.exists():
            return python
        shutil.rmtree(environment, ignore_errors=True)
        # Without a pip of its own; what is imported is compiled then.  Both are four fifths of the work.
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True, capture_output=True)
        pip = (sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check", "--quiet")
        installed = subprocess.run(
            [*pip, "install", "--no-compile", "--constraint", PINS, "nova", "PyMySQL"],
            check=False,
            capture_output=True,
            text=True,
            timeout=INSTALL_S,
        )
        if installed.returncode:
            pytest.skip(f"Nova cannot be installed from the package index: {installed.stderr.strip()[-200:]}")
        done.touch()
    return python


def _databases(python: Path) -> Path:
    """Name the directory with databases that are ready: to make them takes seconds, to copy them none."""
    return python.parents[2] / f"nova-{python.parents[1].name.rpartition('-')[2]}.databases"


def _keep_databases(directory: Path, copies: Path) -> None:
    with tempfile.TemporaryDirectory(dir=copies.parent) as name:
        ready = Path(name) / "ready"
        ready.mkdir()
        for file in directory.glob("*.sqlite"):
            shutil.copy2(file, ready)
        # Of several that have made them the first keeps them.
        with contextlib.suppress(OSError):
            ready.rename(copies)


@dataclass(frozen=True)
class Started:
    """What a nova-compute did when it was started."""

    took_s: float
    error: str | None
    calls: list[tuple[str, str]]
    """Objects and their methods, asked of nova-conductor."""
    verbs: list[tuple[str, str]]
    """What was asked of the hypervisor, and of which guest."""
    guests: dict[str, int]
    """What the hypervisor has in the end."""
    ports_given_back: list[str] = field(default_factory=list)
    """UUIDs of the instances whose ports the network service was told to give back."""

    @property
    def writes(self) -> list[str]:
        """What was written to the records."""
        return [f"{name}.{method}" for name, method in self.calls if method in ("save", "destroy", "create")]

    @property
    def acts(self) -> list[str]:
        """What was done to guests, other than looking and plugging their NICs."""
        return [verb for verb, _ in self.verbs if verb not in ("get_info", "plug_vifs")]


class Service:
    """One of Nova's services; it can be stopped, killed and started again."""

    def __init__(self, name: str, nova: "Nova") -> None:
        self.name = name
        self._nova = nova
        self.log = nova.directory / f"{name}.log"
        self._process: Forked | None = None
        self._started = 0

    def start(self) -> None:
        """Start it, and wait until it takes requests."""
        self._started = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self._process = self._nova.fork(self.name, "--config-file", str(self._nova.conf), stdout=log, stderr=log)
        self.until(READY)

    @property
    def runs(self) -> bool:
        """Whether it has been started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def until(self, text: str) -> None:
        """Wait until it has logged a text since it was started."""
        self.until_count(text, 1)

    def until_count(self, text: str, count: int) -> None:
        """Wait until it has logged a text so often."""
        until = time.monotonic() + PATIENCE_S
        while self.logged().count(text) < count:
            assert self._process is None or self._process.poll() is None, self.logged()[-4000:]
            assert time.monotonic() < until, f"{self.name} does not say {text!r}: {self.logged()[-4000:]}"
            threading.Event().wait(0.05)

    def logged(self) -> str:
        """Return what it has logged since it was started."""
        with self.log.open("rb") as log:
            log.seek(self._started)
            return log.read().decode(errors="replace")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Stop it and its workers; with SIGKILL as a crash would, with SIGSTOP so that it hangs."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)
        if number not in (signal.SIGSTOP, signal.SIGCONT):
            self._process.wait(PATIENCE_S)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process = None


class Nova:
    """Databases, a conductor and, if it is wanted, a scheduler; and a child that has Nova's objects."""

    def __init__(  # noqa: PLR0913 - a cloud has many parts
        self,
        directory: Path,
        broker: RabbitMQ,
        *,
        default: str = "",
        more: str = "",
        database: str | None = None,
        virtual_host: str = "/",
        programs: Preloaded | None = None,
    ) -> None:
        """Make it; ``database`` is the one of its cell, if that is to have many writers.

        ``programs`` is what its programs are forked from, where that has more of them than usual.
        """
        self._programs = programs or _programs()
        self.directory = directory
        self.broker = broker
        self.virtual_host = virtual_host
        self.python = nova_python()
        self.conf = directory / "nova.conf"
        # The conductor and the child may want to write at one moment.
        url = f"sqlite:///{directory}/{{name}}.sqlite?timeout=60"
        self.conf.write_text(
            CONF.format(
                directory=directory,
                transport_url=self.transport_url,
                # SQLite has one writer: a second thread of a service would not wait for it.
                threads=1 if database is None else 8,
                default=default,
                api_database=url.format(name="nova_api"),
                database=database or url.format(name="nova_cell1"),
                placement=real_placement(),
                more=more,
            )
        )
        self.conductor = Service("conductor", self)
        self.scheduler = Service("scheduler", self)
        self._lock = threading.Lock()
        with (directory / "child.log").open("wb") as log:
            self._child = self.fork(
                "records", str(self.conf), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
            )
        if (copies := _databases(self.python)).exists():
            for file in copies.glob("*.sqlite"):
                shutil.copy2(file, directory)
            self.ask("take_databases", with_cell=database is None)
            return
        self.ask("make_databases")
        if database is None:
            _keep_databases(directory, copies)

    @property
    def transport_url(self) -> str:
        """RabbitMQ, as Nova is told of it."""
        return f"{self.broker.url}{'' if self.virtual_host == '/' else self.virtual_host}"

    def broker_settings(self) -> Broker:
        """RabbitMQ, as our client is told of it."""
        return self.broker.broker(virtual_host=self.virtual_host)

    def ask(self, method: str, **arguments: Any) -> Any:
        """Send the child a request about Nova's objects."""
        with self._lock:
            assert self._child.stdin is not None
            assert self._child.stdout is not None
            self._child.stdin.write(json.dumps({"method": method, "arguments": arguments}) + "\n")
            self._child.stdin.flush()
            line = self._child.stdout.readline()
        assert line, (self.directory / "child.log").read_text()[-4000:]
        answer = json.loads(line)
        assert "error" not in answer, answer["error"]
        return answer["result"]

    def a_host(self) -> tuple[str, str]:
        """Make a compute host that nobody else has; return its name and the UUID of its node."""
        name, node = f"compute-{uuid.uuid4().hex[:12]}", str(uuid.uuid4())
        self.ask("make_host", name=name, node_uuid=node)
        return name, node

    def make(self, *instances: dict[str, Any], migrations: Iterable[dict[str, Any]] = ()) -> None:
        """Make records."""
        self.ask("make_instances", instances=list(instances))
        self.ask("make_migrations", migrations=list(migrations))

    def read(self, uuids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Read instances, deleted ones too."""
        return {each["uuid"]: each for each in self.ask("instances", uuids=list(uuids))}

    def dump(self) -> list[str]:
        """Return all that the cell's database holds, but the heartbeats of the services."""
        with contextlib.closing(sqlite3.connect(self.directory / "nova_cell1.sqlite")) as connection:
            return [line for line in connection.iterdump() if not line.startswith('INSERT INTO "services"')]

    def start_compute(
        self, host: str, node: str, guests: Mapping[str, int], *, latency_s: float = 0, default: str = ""
    ) -> "Started":
        """Start a real nova-compute on a host, with these guests and their power states, as far as ``init_host``."""
        directory = Path(tempfile.mkdtemp(prefix=f"{host}-", dir=self.directory))
        (directory / "compute_id").write_text(node)
        conf = directory / "nova.conf"
        own = f"[DEFAULT]\nhost = {host}\nstate_path = {directory}\ncompute_driver = fake.FakeDriver\n{default}\n"
        conf.write_text(self.conf.read_text().replace("[DEFAULT]\n", own).replace("host = controller\n", ""))
        asked = {"conf": str(conf), "node": node, "guests": dict(guests), "latency_s": latency_s}
        answer = directory / "answer.json"
        with answer.open("wb") as out, (directory / "compute.log").open("wb") as log:
            self.fork("init_host", json.dumps(asked), stdout=out, stderr=log).wait()
        assert answer.read_text(), (directory / "compute.log").read_text()[-4000:]
        return Started(**json.loads(answer.read_text()))

    def fork(self, *arguments: str, **streams: Stream) -> Forked:
        """Start one of Nova's programs, whose arguments these are."""
        return self._programs.start(arguments, os.environ, self.directory, None, **streams)

    def close(self) -> None:
        """Stop all of it."""
        for service in (self.scheduler, self.conductor):
            service.stop(signal.SIGKILL)
        assert self._child.stdin is not None
        with contextlib.suppress(OSError):
            self._child.stdin.close()
        self._child.wait(30)


@functools.cache
def _programs() -> Preloaded:
    """Return what Nova's programs are forked from: each would import Nova for three seconds of CPU time."""
    return Preloaded(str(nova_python()), "-P", child=CHILD)


def a_nova(broker: RabbitMQ | None = None, **options: Any) -> Nova:
    """Make one of one's own, its conductor running; skip where something of it is not installed."""
    why = rabbitmq.missing()
    if why is not None:
        pytest.skip(why)
    nova_python()
    directory = Path(tempfile.mkdtemp(prefix="nova-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    nova = Nova(directory, broker or rabbitmq.a_rabbitmq(), **options)
    atexit.register(nova.close)
    nova.conductor.start()
    return nova


@functools.cache
def the_nova() -> Nova:
    """Return the one of this process, on whose services nobody lays a hand; a test has hosts of its own there."""
    return a_nova(rabbitmq.the_rabbitmq())


@functools.cache
def _one_to_break() -> Nova:
    return a_nova()


def a_nova_that_schedules() -> Nova:
    """Return the one of this process, its scheduler running."""
    nova = the_nova()
    if not nova.scheduler.runs:
        nova.scheduler.start()
    return nova


def a_nova_to_break() -> Nova:
    """Return one whose services and broker may be stopped; they run, whatever a test before has done to them."""
    nova = _one_to_break()
    if not nova.broker.runs:
        nova.broker.stop(signal.SIGKILL)
        nova.broker.start()
    if not nova.conductor.runs:
        nova.conductor.stop(signal.SIGKILL)
        nova.conductor.start()
    return nova
