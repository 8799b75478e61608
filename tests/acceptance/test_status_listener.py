"""The processes that answer: what they have, what their end costs, and what a flood of clients costs the daemon."""

import json
import os
import resource
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from errno import ENOSYS, EPERM
from pathlib import Path

import httpx

from bringup.daemon.status.endpoint.event_feed import LISTENERS
from bringup.daemon.status.endpoint.unconfined import MEANS
from bringup.daemon.status.listener import system_calls
from bringup.daemon.status.listener.confinement import LANDLOCK_CREATE_RULESET
from bringup.drivers.simulated import Fault
from support.computer import Computer, a_computer
from support.faulty_proxy import a_proxy
from support.placement import real_placement
from support.polling import until
from support.ports import free_port
from support.process import PATIENCE_S, Running, children_of, gone, run
from support.records import instance, uuid_of
from support.status import silent_client, socket_client
from support.surroundings import Within, refused

HANGS = Fault(verb="plug_vifs", uuid=uuid_of(2), hang=True)
MANY = tuple(instance(number) for number in range(1, 21))


def a_host(directory: Path, *faults: Fault) -> Computer:
    computer = a_computer(directory).guests(MANY, *faults).records(MANY)
    return computer.having(limits={"instance_deadline": 60}, placement={"wait": 60})


def over_tcp(computer: Computer) -> tuple[Computer, str]:
    address = f"127.0.0.1:{free_port()}"
    return computer.having(status={"listen": address}), address


def done(client: httpx.Client) -> int:
    run = client.get("/status").raise_for_status().json()["run"]
    return 0 if run is None else int(run["done"])


def until_done(client: httpx.Client, count: int) -> None:
    while done(client) < count:
        pass


def listeners_of(daemon: Running) -> list[int]:
    """Return the PIDs of the processes that answer."""
    return [pid for pid in children_of(daemon.process.pid) if "bringup.daemon.status" in cmdline(pid)]


def listener_of(daemon: Running) -> int:
    """Return the PID of the one process that answers."""
    [pid] = listeners_of(daemon)
    return pid


def cmdline(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")


def facts_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


@contextmanager
def many_descriptors() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_the_listener_has_no_capability_secret_or_descriptor_of_the_daemon(tmp_path: Path) -> None:
    environment = dict(os.environ, BRINGUP_LOG__LEVEL="info", OS_PASSWORD="s3cr3t", AWS_SECRET="s3cr3t")
    computer = a_host(tmp_path)
    with computer.stay(env=environment) as daemon:
        daemon.until("service.ready")
        # As long as it is looked at: it closes the connection of one that has gone.
        with socket_client(computer) as client:
            client.get("/livez")
            pid = listener_of(daemon)
            facts = facts_of(pid)
            known = Path(f"/proc/{pid}/environ").read_text()
            opened = [str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir()]
            limits = Path(f"/proc/{pid}/limits").read_text()
            first_to_go = Path(f"/proc/{pid}/oom_score_adj").read_text()

    assert {facts[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {"0" * 16}
    assert facts["NoNewPrivs"] == "1"
    assert int(first_to_go) == 1000
    assert "s3cr3t" not in known
    assert "BRINGUP_" not in known
    assert [path for path in opened if path.startswith(str(tmp_path))] == []
    assert any(line.split()[:5] == ["Max", "file", "size", "0", "0"] for line in limits.splitlines())


def test_a_killed_listener_is_restarted_with_the_state_of_the_run(tmp_path: Path) -> None:
    computer = a_host(tmp_path, HANGS)
    with computer.stay() as daemon:
        daemon.until("status.listens")
        with socket_client(computer) as client:
            until_done(client, 19)
            before = client.get("/timeline").json()
        first = listener_of(daemon)
        os.kill(first, signal.SIGKILL)
        lost = daemon.until("status.listener_ended")
        with socket_client(computer) as client:
            after, found = client.get("/timeline").json(), client.get("/status").json()
        second = listener_of(daemon)
        ended = daemon.end(signal.SIGTERM)

    assert lost["reason"] == "it ended with -9"
    assert first != second
    assert after["bars"] == before["bars"]
    assert (found["run"]["done"], [each["uuid"] for each in found["running"]]) == (19, [uuid_of(2)])
    assert after["last_event_id"].partition("-")[0] == before["last_event_id"].partition("-")[0]
    assert (ended.code, ended.err) == (0, "")


def test_a_listener_is_started_for_the_first_client_and_does_not_outlive_the_daemon(tmp_path: Path) -> None:
    computer = a_host(tmp_path)
    with computer.stay() as daemon:
        daemon.until("service.ready")
        before = children_of(daemon.process.pid)
        with socket_client(computer) as client:
            first = client.get("/readyz")
        pid = listener_of(daemon)
        daemon.end(signal.SIGKILL)

        assert gone(pid)

    assert (before, first.status_code) == ([], 200)


def test_without_a_client_no_listener_is_started_to_the_end(tmp_path: Path) -> None:
    computer, _ = over_tcp(a_host(tmp_path))
    with computer.stay() as daemon:
        daemon.until("service.ready")
        before = children_of(daemon.process.pid)
        ended = daemon.end(signal.SIGTERM)

    assert (before, ended.code, ended.err) == ([], 0, "")
    assert [line for line in ended.events if line["level"] in ("warning", "error")] == []
    assert not (computer.state / "status.sock").exists()


def test_a_stopped_listener_costs_the_run_nothing(tmp_path: Path) -> None:
    computer, address = over_tcp(a_host(tmp_path))
    host, _, port = address.rpartition(":")
    gate = threading.Event()
    with (
        a_proxy(real_placement(), gate=gate) as placement,
        computer.having(placement={"url": placement.url}).stay() as daemon,
    ):
        daemon.until("status.listens")
        with (
            silent_client(computer.state / "status.sock"),
            closing(socket.create_connection((host, int(port)), timeout=PATIENCE_S)),
        ):
            until(lambda: len(listeners_of(daemon)) == 2, "the processes that answer")
            for pid in listeners_of(daemon):
                os.kill(pid, signal.SIGSTOP)
            gate.set()
            ready = daemon.until("run.ended")
            ended = daemon.end(signal.SIGTERM)

    assert ready["initialized"] == len(MANY)
    assert (ended.code, ended.err) == (0, "")


def test_a_stopped_daemon_is_reported_as_stuck_with_its_last_state(tmp_path: Path) -> None:
    computer = a_host(tmp_path)
    with computer.stay() as daemon:
        daemon.until("service.ready")
        with socket_client(computer) as client:
            before = client.get("/livez")
            daemon.process.send_signal(signal.SIGSTOP)
            stuck, ready, status = client.get("/livez"), client.get("/readyz"), client.get("/status")
            daemon.process.send_signal(signal.SIGCONT)
            after = client.get("/livez")
        daemon.end(signal.SIGTERM)

    assert [answer.status_code for answer in (before, stuck, ready, after)] == [200, 503, 503, 200]
    assert stuck.text == "stuck: the daemon has not answered for 4 s\n"
    assert status.json()["run"]["done"] == len(MANY)


def test_clients_are_answered_beside_any_number_of_silent_tcp_connections(tmp_path: Path) -> None:
    computer, address = over_tcp(a_host(tmp_path, HANGS))
    host, _, port = address.rpartition(":")
    codes: list[tuple[int, int]] = []
    with many_descriptors(), ExitStack() as silent, computer.stay() as daemon:
        daemon.until("status.listens")
        for more in (256, 1100 - 256, 5000 - 1100):
            for _ in range(more):
                silent.enter_context(closing(socket.create_connection((host, int(port)), timeout=PATIENCE_S)))
            with (
                httpx.Client(base_url=f"http://{address}", trust_env=False, timeout=PATIENCE_S) as outside,
                socket_client(computer) as inside,
            ):
                codes += [
                    (client.get("/livez").status_code, client.get("/readyz").status_code)
                    for client in (outside, inside)
                ]
        opened = len(list(Path(f"/proc/{daemon.process.pid}/fd").iterdir()))
        ended = daemon.end(signal.SIGTERM)

    assert codes == [(200, 503)] * 6
    assert opened < 64
    assert (ended.code, ended.err) == (0, "")
    assert [line for line in ended.events if line["level"] in ("warning", "error")] == []


def test_tcp_event_clients_take_no_slot_of_the_socket(tmp_path: Path) -> None:
    computer, address = over_tcp(a_host(tmp_path))
    with computer.stay() as daemon, ExitStack() as opened:
        daemon.until("service.ready")
        outside = opened.enter_context(
            httpx.Client(
                base_url=f"http://{address}",
                trust_env=False,
                timeout=PATIENCE_S,
                limits=httpx.Limits(max_connections=None),
            )
        )
        inside = opened.enter_context(socket_client(computer))
        codes = [opened.enter_context(outside.stream("GET", "/events")).status_code for _ in range(LISTENERS + 1)]
        own = opened.enter_context(inside.stream("GET", "/events")).status_code

    assert codes == [200] * LISTENERS + [503]
    assert own == 200


def test_the_answer_to_a_release_is_passed_over_the_pipe(tmp_path: Path) -> None:
    computer = a_host(tmp_path)
    with computer.stay() as daemon:
        daemon.until("service.ready")
        with socket_client(computer) as client:
            answers = [client.post(f"/{word}", json={"uuids": [uuid_of(99)]}) for word in ("release", "retry")]
            long = client.post("/retry", json={"uuids": [uuid_of(number) for number in range(20_000)]})
        daemon.end(signal.SIGTERM)

    assert [(each.status_code, each.json()["exit_code"]) for each in answers] == [(409, 64)] * 2
    assert all(uuid_of(99) in each.json()["error"] for each in answers)
    assert long.status_code == 409


def test_without_any_confinement_clients_are_answered_and_one_warning_is_logged(
    tmp_path: Path,
) -> None:
    computer, address = over_tcp(a_host(tmp_path))
    machine = system_calls.MACHINES[os.uname().machine]
    prctl, seccomp = system_calls.number_of("prctl", machine), system_calls.number_of("seccomp", machine)
    calls = ((LANDLOCK_CREATE_RULESET, ENOSYS), (prctl, EPERM, 0, 22), (seccomp, EPERM))
    with computer.stay(within=Within(refused, *calls), afresh=True) as daemon:
        daemon.until("service.ready")
        with httpx.Client(base_url=f"http://{address}", trust_env=False, timeout=PATIENCE_S) as outside:
            outside_code = outside.get("/livez").status_code
        with socket_client(computer) as inside:
            inside_code = inside.get("/readyz").status_code
        ended = daemon.end(signal.SIGTERM)

    said = ended.named("status.not_confined")
    assert (outside_code, inside_code, ended.code) == (200, 200, 0)
    assert sorted(name for line in said for name in line["lacks"]) == ["landlock", "system_calls", "threads"]
    assert {line["level"] for line in said} == {"warning"}


def test_check_reports_missing_confinement(tmp_path: Path) -> None:
    computer = a_host(tmp_path)
    within = Within(refused, (LANDLOCK_CREATE_RULESET, ENOSYS))
    done = run("check", "--json", *computer.arguments, within=within)

    [found] = [each for each in map(json.loads, done.out.splitlines()) if each["check"] == "status"]
    assert (found["status"], found["lacks"]) == ("warning", ["landlock"])
    assert MEANS["landlock"] in found["message"]
