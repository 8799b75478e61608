"""The image: built as the Containerfile says, run as the manifests say, and asked by their probes."""

import grp
import json
import re
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from bringup.drivers.simulated import Fault
from support.computer import Computer, a_computer
from support.containers import IMAGE, PATIENCE_S, USER, Engine, Pod, require_containers, started
from support.debian import REPOSITORY
from support.libvirtd import Libvirtd, a_libvirtd
from support.ports import free_port
from support.programs import run
from support.records import instance, uuid_of

pytestmark = pytest.mark.timeout(600)

INSTANCES = (instance(1), instance(2))
HANGS = Fault(verb="plug_vifs", uuid=uuid_of(2), hang=True)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    require_containers()
    # podman takes no long path.
    with tempfile.TemporaryDirectory(prefix="bringup-", ignore_cleanup_errors=True) as directory:
        engine = Engine(Path(directory))
        engine.build()
        yield engine
        engine.podman("rm", "--force", "--all", "--time", "1")


@pytest.fixture
def pod(engine: Engine, tmp_path: Path) -> Pod:
    return Pod(engine, tmp_path, f"bringup-{uuid.uuid4()}")


def a_host(pod: Pod, *faults: Fault, **sections: Mapping[str, Any]) -> None:
    """Write settings, a scenario and records where the container finds them."""
    computer = a_computer(pod.directory).having(driver={"scenario": "/etc/bringup/scenario.json"}, **sections)
    computer.guests(INSTANCES, *faults).records(INSTANCES)
    pod.take(computer, pod.directory / "scenario.json")


def test_it_brings_the_host_back_as_nobody_in_particular_and_writes_lines_of_json(pod: Pod) -> None:
    a_host(pod)

    ended = pod.run("run", "--once")

    assert (ended.returncode, ended.stderr) == (0, "")
    events = [json.loads(line) for line in ended.stdout.splitlines()]
    assert {event["instance"] for event in events if event["event"] == "instance.initialized"} == {
        uuid_of(1),
        uuid_of(2),
    }
    assert events[-1]["event"] == "service.stopped"
    # What it has written is its user's, and in the state directory.
    assert {file.stat().st_uid for file in (pod.directory / "state").iterdir()} == {USER}


@pytest.mark.parametrize(
    ("wrong", "code"),
    [({"limits": {"concurrency": 0}}, 78), ({"placement": {"url": "http://127.0.0.1:1", "wait": 0}}, 69)],
    ids=["wrong settings", "no Placement"],
)
def test_its_exit_code_is_bringups_own(pod: Pod, wrong: dict[str, Mapping[str, Any]], code: int) -> None:
    a_host(pod, **wrong)

    assert pod.run("run", "--once").returncode == code


def test_sigterm_in_its_middle_is_an_end_in_time_with_a_shutdown_report(pod: Pod) -> None:
    a_host(pod, HANGS)
    with started(pod.command("run")) as process:
        until_event(process, "instance.initialized")
        began = time.monotonic()
        pod.engine.podman("kill", "--signal", "TERM", pod.name)
        rest, _ = process.communicate(timeout=PATIENCE_S)

    names = [json.loads(line)["event"] for line in rest.splitlines()]
    assert process.returncode == 0
    assert time.monotonic() - began < 20
    assert {"service.stopping", "run.ended", "service.stopped"} <= set(names)


def of_the_quadlet(name: str) -> list[str]:
    """Return the arguments of Podman that the Quadlet has under a name."""
    text = (REPOSITORY / "container/quadlet/bringup.container").read_text()
    return [line for line in re.findall(r"^PodmanArgs=(.*)$", text, re.MULTILINE) if line.startswith(f"--{name}=")]


# A process that needs longer for its end than Podman gives by itself.
SLOW_END = "trap 'sleep 12; echo ended; exit 0' TERM; echo started; while :; do sleep 0.1; done"


def test_an_end_has_the_time_that_the_quadlet_gives_it_and_not_podmans_ten_seconds(pod: Pod) -> None:
    a_host(pod)
    options = ["--entrypoint=/bin/sh", *of_the_quadlet("stop-timeout")]
    with started(pod.command("-c", SLOW_END, options=options)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        # ExecStop= of the unit that Quadlet makes.
        pod.engine.podman("rm", "--force", pod.name)
        rest, _ = process.communicate(timeout=PATIENCE_S)

    assert rest == "ended\n"


def test_conmon_tells_systemd_that_it_is_ready_and_not_that_a_slow_start_continues(pod: Pod) -> None:
    a_host(pod)
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"{folder}/notify")
        manager.settimeout(PATIENCE_S)
        command = pod.command("run", options=["--sdnotify=container"])
        with started(command, NOTIFY_SOCKET=f"{folder}/notify") as process:
            told = []
            while "READY=1" not in (message := manager.recv(4096).decode().splitlines()):
                told += message
            pod.engine.podman("kill", "--signal", "TERM", pod.name)
            process.communicate(timeout=PATIENCE_S)

    # What the Quadlet's TimeoutStartSec= goes by; were it let through, the unit's three minutes would do there too.
    assert not [line for line in told if line.startswith("EXTEND_TIMEOUT_USEC=")]


def until_event(process: "subprocess.Popen[str]", name: str) -> None:
    """Wait until a line says that something has happened."""
    assert process.stdout is not None
    while line := process.stdout.readline():
        if json.loads(line)["event"] == name:
            return
    raise AssertionError(f"it ended and never said {name}: {process.communicate()}")


def probes() -> dict[str, str]:
    """Return the paths that the manifest's probes ask for."""
    manifest = {
        one["kind"]: one for one in yaml.safe_load_all((REPOSITORY / "container/kubernetes/sidecar.yaml").read_text())
    }
    [bringup] = manifest["DaemonSet"]["spec"]["template"]["spec"]["initContainers"]
    return {kind: bringup[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "readiness", "liveness")}


@pytest.mark.parametrize(
    ("faults", "until", "expected"),
    [
        ((HANGS,), "instance.initialized", {"startup": 503, "readiness": 503, "liveness": 200}),
        ((), "service.ready", {"startup": 200, "readiness": 200, "liveness": 200}),
    ],
    ids=["in its middle", "back"],
)
def test_its_probes_hold_back_what_waits_until_the_host_is_back(
    pod: Pod, faults: tuple[Fault, ...], until: str, expected: dict[str, int]
) -> None:
    address = f"127.0.0.1:{free_port()}"
    a_host(pod, *faults, status={"listen": address})
    with started(pod.command("run")) as process:
        until_event(process, until)
        answers = {kind: httpx.get(f"http://{address}{path}", timeout=PATIENCE_S) for kind, path in probes().items()}
        pod.engine.podman("kill", "--signal", "TERM", pod.name)
        process.communicate(timeout=PATIENCE_S)

    assert {kind: answer.status_code for kind, answer in answers.items()} == expected


def test_the_image_is_small_and_starts_the_program_itself(engine: Engine) -> None:
    [image] = json.loads(engine.podman("image", "inspect", IMAGE))

    assert image["Config"]["Entrypoint"] == ["/opt/bringup/bin/bringup"]
    assert image["Config"]["User"] == f"{USER}:{USER}"
    [base] = json.loads(engine.podman("image", "inspect", "localhost/debian:12"))
    # What stands on the base: the interpreter's environment, and no pip, no compiler, no sources.
    assert image["Size"] - base["Size"] < 120e6


def test_its_sbom_has_every_package_of_debian_and_of_an_index_with_its_hashes(engine: Engine, tmp_path: Path) -> None:
    """The script refuses what has no hash, and validates what it writes."""
    inside = partial(run, *engine.command())
    debian = inside("--entrypoint=dpkg-query", IMAGE, "-W", "-f", "${Package} ${Version} ${Architecture}\\n")
    listing = (REPOSITORY / "release/listing.py").read_text()
    python = inside("--entrypoint=/opt/bringup/bin/python", IMAGE, "-c", listing)
    (tmp_path / "debian").write_text(debian)
    (tmp_path / "python").write_text(python)

    bom = json.loads(
        run(
            *(sys.executable, REPOSITORY / "release/sbom.py"),
            *("--python", tmp_path / "python", "--debian", tmp_path / "debian"),
        )
    )

    urls = {each["purl"] for each in bom["components"]}
    assert len(urls) == len(debian.splitlines()) + len(python.splitlines())
    assert {url.partition("@")[0] for url in urls} >= {
        *("pkg:deb/debian/libc6", "pkg:deb/debian/python3-libvirt"),
        *("pkg:pypi/anyio", "pkg:pypi/pyroute2", "pkg:pypi/psycopg-binary"),
    }
    hashed = [each for each in bom["components"] if each["purl"].startswith("pkg:pypi/")]
    assert all(each["externalReferences"][0]["hashes"] for each in hashed)
    assert bom["metadata"]["component"]["type"] == "container"


@pytest.fixture
def server() -> Iterator[Libvirtd]:
    """Provide a libvirtd whose socket is for a group, on a host that knows the container's user; two guests are off."""
    with a_libvirtd(config='unix_sock_group = "libvirt"\nunix_sock_rw_perms = "0770"', user=USER) as server:
        for one in INSTANCES:
            server.define(one.uuid, one.name)
        yield server


def a_host_of(server: Libvirtd, pod: Pod, **sections: Mapping[str, Any]) -> Pod:
    """Write settings as in the manifests and records of the guests; return the container with libvirt's sockets."""
    computer = Computer(pod.directory, {**a_computer(pod.directory).sections, "driver": {"name": "libvirt"}})
    computer.having(network={"plug_vifs": False}, resume={"guests": "on_host_boot"}, **sections)
    computer.having(limits={"instance_deadline": 110, "host_deadline": 60, "shutdown_report_deadline": 10})
    pod.take(computer.records([replace(one, block_devices=()) for one in INSTANCES]))
    return replace(pod, sockets=server.directory / "run")


def off(server: Libvirtd) -> set[str]:
    """Return the guests that do not run."""
    with server.connected() as connection:
        return {domain.UUIDString() for domain in connection.listAllDomains() if not domain.isActive()}


def outcomes(written: str) -> dict[str, list[str]]:
    """Return by instance why its outcome is what it is, from lines of JSON."""
    events = [json.loads(line) for line in written.splitlines()]
    return {event["instance"]: event["because"] for event in events if event["event"] == "instance.initialized"}


def test_it_brings_back_the_guests_of_the_hosts_libvirt_once_a_boot(server: Libvirtd, pod: Pod) -> None:
    member = replace(a_host_of(server, pod), group=grp.getgrnam("libvirt").gr_gid)
    assert off(server) == {uuid_of(1), uuid_of(2)}

    first = member.run("run", "--once")

    assert (first.returncode, first.stderr) == (0, "")
    assert outcomes(first.stdout) == {uuid_of(number): ["vifs", "ran_before"] for number in (1, 2)}
    assert off(server) == set()

    with server.connected() as connection:
        connection.lookupByUUIDString(uuid_of(1)).destroy()
        life = connection.lookupByUUIDString(uuid_of(2)).ID()
    second = member.run("run", "--once")

    assert (second.returncode, second.stderr) == (0, "")
    assert outcomes(second.stdout)[uuid_of(1)] == ["vifs", "resumed_on_boot_only"]
    assert off(server) == {uuid_of(1)}
    with server.connected() as connection:
        assert connection.lookupByUUIDString(uuid_of(2)).ID() == life


def test_without_the_group_of_libvirts_socket_it_reports_that_it_may_not_and_starts_nothing(
    server: Libvirtd, pod: Pod
) -> None:
    ended = a_host_of(server, pod, libvirt={"reconnect": 2}).run("run", "--once")

    assert ended.returncode == 69
    assert "Permission denied" in ended.stdout + ended.stderr
    assert off(server) == {uuid_of(1), uuid_of(2)}
