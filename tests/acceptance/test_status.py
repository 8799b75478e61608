"""The endpoint of the real process: asked from its first second to its last."""

import json
import signal
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from bringup.drivers.simulated import Fault
from support.computer import Computer, a_computer
from support.faulty_proxy import a_proxy
from support.hosts import evacuation
from support.placement import real_placement
from support.polling import until
from support.ports import free_port
from support.process import ENVIRONMENT, PATIENCE_S, WITHOUT_ROOTS_RIGHTS, run
from support.records import instance, uuid_of
from support.screen import on_a_screen
from support.status import socket_client

HANGS = Fault(verb="plug_vifs", uuid=uuid_of(2), hang=True)
FAILS = Fault(verb="plug_vifs", uuid=uuid_of(3), error="VirtualInterfacePlugError")
EVIL = ("attacker.example", "attacker.example:8776", "localhost.attacker.example", "bringup.attacker.example", "")
MANY = tuple(instance(number) for number in range(1, 41))


def a_host(directory: Path, *faults: Fault, deadline_s: float = 60) -> Computer:
    computer = a_computer(directory).guests(MANY, *faults).records(MANY)
    return computer.having(limits={"instance_deadline": deadline_s}, placement={"wait": 60})


def events_of(client: httpx.Client, *, after: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Return name and data of each event until the stream ends."""
    with client.stream("GET", "/events", params={"after": after} if after else {}) as answer:
        name = ""
        for line in answer.iter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                yield name, json.loads(line.removeprefix("data: "))


def until_done(client: httpx.Client, count: int) -> None:
    """Wait until so many instances are done."""

    def is_done() -> bool:
        found = status_of(client)["run"]
        return found is not None and found["done"] >= count

    until(is_done, f"the end of {count} instances")


def status_of(client: httpx.Client) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/status").raise_for_status().json()
    return found


def test_status_is_answered_while_the_start_waits_for_placement(tmp_path: Path) -> None:
    computer = a_host(tmp_path).having(placement={"url": f"http://127.0.0.1:{free_port()}", "wait": 600})
    with computer.stay() as daemon:
        daemon.until("status.listens")
        with socket_client(computer) as client:
            ready, alive = client.get("/readyz"), client.get("/livez")
        ended = daemon.end(signal.SIGTERM)

    assert ready.status_code == 503
    assert ready.text.startswith(("initializing 0 %: starting", "initializing 0 %: placement"))
    assert (alive.status_code, alive.text) == (200, "ok\n")
    assert not (computer.state / "status.sock").exists()
    assert ended.code == 0


def test_status_during_a_run_has_what_hangs_what_failed_and_why(tmp_path: Path) -> None:
    computer = a_host(tmp_path, HANGS, FAILS)
    with computer.stay() as daemon:
        daemon.until("status.listens")
        with socket_client(computer) as client:
            until_done(client, 39)
            found = status_of(client)
            told = run("status", "--json", *computer.arguments, env=ENVIRONMENT)
            words = run("status", *computer.arguments, env=ENVIRONMENT)
            ready = client.get("/readyz")
            metrics = client.get("/metrics").text
        daemon.end(signal.SIGTERM)

    assert (found["state"], found["percent"]) == ("initializing", 97)
    assert [(each["uuid"], each["action"]) for each in found["running"]] == [(uuid_of(2), "plug_vifs")]
    [failure] = found["failures"]
    assert (failure["uuid"], failure["error"]) == (uuid_of(3), "VirtualInterfacePlugError")
    assert ready.status_code == 503
    assert f"slowest vm 2 ({uuid_of(2)}) plug_vifs" in ready.text
    assert 'bringup_run_outcomes{outcome="failed"} 1.0' in metrics
    assert "bringup_slots_busy 1.0" in metrics
    assert (told.code, told.events[0]["run"]["run_id"]) == (0, found["run"]["run_id"])
    # Nobody has to ask for words: over ssh, or through less, standard output is no terminal.
    assert words.code == 0
    assert "39/40 done" in words.out
    assert uuid_of(3) in words.out
    assert "\x1b" not in words.out


def test_events_arrive_to_the_end_without_a_gap(tmp_path: Path) -> None:
    computer = a_host(tmp_path, FAILS)
    events: list[tuple[str, dict[str, Any]]] = []
    gate = threading.Event()
    with (
        a_proxy(real_placement(), gate=gate) as placement,
        computer.having(placement={"url": placement.url}).stay() as daemon,
    ):
        daemon.until("status.listens")
        with socket_client(computer) as client:
            before = client.get("/timeline").json()

            def read_events() -> None:
                events.extend(events_of(client, after=before["last_event_id"]))

            listener = threading.Thread(target=read_events, daemon=True)
            listener.start()
            gate.set()
            daemon.until("service.ready")
            timeline = client.get("/timeline").json()
            ended = daemon.end(signal.SIGTERM)
            listener.join(PATIENCE_S)
            assert not listener.is_alive()

    assert before["bars"] == []
    names = [name for name, _ in events]
    assert names[-1] == "end"
    assert "done" in names
    outcomes = {data["uuid"]: data["outcome"] for name, data in events if name == "ended"}
    assert outcomes == ended.outcomes
    assert {bar["uuid"]: bar["outcome"] for bar in timeline["bars"]} == outcomes
    assert ended.code == 0


def test_a_hundred_clients_at_once_are_answered_while_instances_are_worked_on(tmp_path: Path) -> None:
    computer = a_host(tmp_path, HANGS)
    codes: list[int] = []
    with computer.stay() as daemon:
        daemon.until("status.listens")
        with socket_client(computer) as first:
            until_done(first, 39)

            def request_all() -> None:
                with socket_client(computer) as client:
                    codes.extend(
                        client.get(path).status_code for path in ("/livez", "/status", "/metrics", "/timeline")
                    )

            clients = [threading.Thread(target=request_all, daemon=True) for _ in range(100)]
            for client in clients:
                client.start()
            for client in clients:
                client.join(PATIENCE_S)
        with socket_client(computer) as last:
            assert status_of(last)["running"][0]["uuid"] == uuid_of(2)
        ended = daemon.end(signal.SIGTERM)

    assert codes == [200] * 400
    assert ended.code == 0


def test_a_socket_of_a_killed_daemon_is_replaced_at_the_next_start(tmp_path: Path) -> None:
    computer = a_host(tmp_path, HANGS)
    with computer.stay() as daemon:
        daemon.until("status.listens")
        with socket_client(computer) as client:
            until_done(client, 39)
            before = status_of(client)["run"]["run_id"]
        daemon.end(signal.SIGKILL)
    dead = run("status", *computer.arguments, env=ENVIRONMENT)

    computer.guests(MANY)
    with computer.stay() as again:
        again.until("service.ready")
        with socket_client(computer) as client:
            found, timeline = status_of(client), client.get("/timeline").json()
        again.end(signal.SIGTERM)

    assert dead.code == 69
    assert str(computer.state / "status.sock") in dead.err
    assert dead.err.count("\n") == 1
    assert (found["run"]["run_id"], found["run"]["attempt"], found["state"]) == (before, 2, "ready")
    # What the first start has settled is known, and has no place in the time of this one.
    assert sum(bar["began_s"] is None for bar in timeline["bars"]) == 39
    assert len(timeline["bars"]) == 40


def test_only_owner_and_group_may_connect_to_the_socket(tmp_path: Path) -> None:
    elsewhere = tmp_path / "run"
    elsewhere.mkdir()
    path = elsewhere / "s.sock"
    computer = a_host(tmp_path).having(status={"socket": str(path), "socket_mode": "0600"})
    with computer.stay() as daemon:
        daemon.until("service.ready")
        mode = path.stat().st_mode
        path.chmod(0)
        refused = run("status", *computer.arguments, env=ENVIRONMENT, within=WITHOUT_ROOTS_RIGHTS)
        daemon.end(signal.SIGTERM)

    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600
    assert refused.code == 69
    assert "status.socket_mode" in refused.err


def test_a_foreign_page_cannot_reach_the_socket_through_a_browser_and_a_tunnel(tmp_path: Path) -> None:
    computer = a_host(tmp_path)
    with computer.stay() as daemon:
        daemon.until("service.ready")
        with socket_client(computer) as client:

            def code_for(host: str, path: str = "/status") -> int:
                return client.get(path, headers={"host": host}).status_code

            foreign = {code_for(host, path) for host in EVIL for path in ("/status", "/timeline", "/status/", "/")}
            own = {code_for(host) for host in ("localhost:8776", "127.0.0.1:8776", "[::1]:8776", "compute-1")}

    assert (foreign, own) == ({421}, {200})


def test_tcp_clients_can_change_nothing(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    computer = a_host(tmp_path).having(status={"listen": address, "host_names": ["compute.example"]})
    with computer.stay() as daemon:
        daemon.until("service.ready")
        with httpx.Client(base_url=f"http://{address}", trust_env=False, timeout=PATIENCE_S) as client:
            ready = client.get("/readyz")
            release = client.post("/release", json={"uuids": []})
            named = client.get("/readyz", headers={"host": "compute.example:1"})
            foreign = client.get("/readyz", headers={"host": "evil.example"})
        daemon.end(signal.SIGTERM)

    assert (ready.status_code, named.status_code) == (200, 200)
    assert (release.status_code, foreign.status_code) == (404, 421)


def test_a_tcp_address_in_use_is_a_settings_error(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        ended = a_host(tmp_path).having(status={"listen": address}).once()

    assert ended.code == 78
    assert f'status.listen = "{address}"' in ended.err
    assert "another process listens there" in ended.err
    assert ended.err.count("\n") == 1


def test_an_address_that_does_not_exist_yet_does_not_keep_a_host_down(tmp_path: Path) -> None:
    """The network of a booting host may come later than bringup; 192.0.2.1 is for examples (RFC 5737)."""
    computer = a_host(tmp_path).having(status={"listen": f"192.0.2.1:{free_port()}"})

    assert computer.once().code == 0


def test_a_socket_that_cannot_be_created_is_logged_and_the_host_comes_back(tmp_path: Path) -> None:
    computer = a_host(tmp_path).having(status={"socket": str(tmp_path / "none" / "status.sock")})

    ended = computer.run()

    assert ended.code == 0
    [line] = ended.named("status.not_served")
    assert line["level"] == "warning"
    assert "none/status.sock" in line["error"]


def test_without_status_settings_there_is_no_endpoint(tmp_path: Path) -> None:
    computer = a_host(tmp_path).having(status={"enabled": False})
    with computer.stay() as daemon:
        daemon.until("service.ready")
        found = [path.name for path in computer.state.iterdir()]
        daemon.end(signal.SIGTERM)

    assert "status.sock" not in found


@pytest.mark.parametrize("arguments", [(), ("--watch",), ("--json",)], ids=str)
def test_status_without_a_daemon_is_an_error(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    computer = a_computer(tmp_path)

    ended = run("status", *computer.arguments, *arguments, env=ENVIRONMENT)

    assert (ended.code, ended.out) == (69, "")
    assert "no daemon listens at" in ended.err
    assert ended.err.count("\n") == 1


def test_watch_continues_until_the_host_is_back(tmp_path: Path) -> None:
    computer = a_host(tmp_path, HANGS, deadline_s=8)
    # What a command imports is there: the next one starts at once, long before the deadline.
    assert run("--version", env=ENVIRONMENT).code == 0
    with computer.stay() as daemon:
        daemon.until("status.listens")
        ended = run("status", "--watch", "--json", *computer.arguments, env=ENVIRONMENT)
        daemon.end(signal.SIGTERM)

    states = [answer["state"] for answer in ended.events]
    assert ended.code == 0
    assert states[0] == "initializing"
    assert states[-1] == "ready"
    assert set(states[:-1]) == {"initializing"}


def test_a_held_instance_can_be_released_over_the_socket(tmp_path: Path) -> None:
    """The way of ``bringup release``: the daemon takes it from the journal, within a second."""
    instances = [instance(number, host="compute-2") for number in range(1, 5)]
    computer = a_computer(tmp_path).guests(instances)
    computer.records(instances, [evacuation(number) for number in range(1, 5)])
    computer.having(guards={"destroy_freely": 0, "destroy_at_most": 1}, placement={"wait": 60})
    with computer.stay() as daemon:
        daemon.until("service.ready")
        with socket_client(computer) as client:
            held = [each["uuid"] for each in status_of(client)["failures"]]
            refused = client.post("/release", json={"uuids": [uuid_of(77)]})
            released = client.post("/release", json={"uuids": held[:1]})
            for _name, _data in events_of(client, after=client.get("/timeline").json()["last_event_id"]):
                if len(status_of(client)["failures"]) == 3:
                    break
            counts = status_of(client)["counts"]
        daemon.end(signal.SIGTERM)

    assert len(held) == 4
    assert refused.status_code == 409
    assert "not held" in refused.json()["error"]
    assert released.json() == {"released": held[:1]}
    assert (counts["held"], sum(counts.values())) == (3, 4)


def test_watch_on_a_terminal_draws_until_the_host_is_back(tmp_path: Path) -> None:
    computer = a_host(tmp_path, HANGS, FAILS, deadline_s=6)
    with computer.stay() as daemon:
        daemon.until("status.listens")
        with on_a_screen("status", "--watch", *computer.arguments) as screen:
            screen.until(rf"running +vm 2 \({uuid_of(2)}\) +plug_vifs")
            screen.until(r"compute-1  ready")
            assert screen.end() == 0
        daemon.end(signal.SIGTERM)

    assert "39/40 done, 38 left running, 1 set to error, 1 failed, 1 running, 0 waiting" in screen.text
    assert f"failed  vm 3 ({uuid_of(3)})  plug_vifs: " in screen.text
    assert "Traceback" not in screen.text
