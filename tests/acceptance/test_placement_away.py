"""Whatever Placement answers but yes: 69, in time, one sentence that says what to check, and nothing is touched."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from bringup.daemon.decisions.states import TaskState, VmState
from bringup.drivers.simulated import Fault
from support.computer import Computer, a_computer
from support.placement import HANG, NOTHING, a_peer, an_answer, nobody, real_placement
from support.process import Ended
from support.records import instance

WAIT_S = 0.6
START_S = 55.0
"""For the process itself, on a slow machine; it takes about 0.6 s."""
INSTANCES = (instance(1), instance(2, vm_state=VmState.BUILDING, task_state=TaskState.SPAWNING))
NEVER = Fault(verb="init_host", error="DriverError", message="the hypervisor was started")
NONE_YET = an_answer(content={"resource_providers": []})
"""With it the resource provider is made next."""
PAGE = b"<html><head><title>Bad Gateway</title></head></html>"
VERSIONS = {"errors": [{"status": 406, "detail": "Unacceptable", "min_version": "1.0", "max_version": "1.9"}]}
ITS_LOG = "check the log of Placement"
ITS_URL = "placement.url"

ANSWERS = {
    "nothing": ((NOTHING,), ITS_URL),
    "silence": ((HANG,), ITS_URL),
    "silence while the provider is made": ((NONE_YET, HANG), ITS_URL),
    "not HTTP": ((b"SSH-2.0-OpenSSH_9.6\r\n",), ITS_URL),
    "broken off": ((b"HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\n{",), ITS_URL),
    "HTML": ((an_answer(200, PAGE, content_type="text/html"),), ITS_URL),
    "truncated JSON": ((an_answer(200, b'{"versions": [{"id"'),), ITS_URL),
    "truncated JSON later": ((NONE_YET, an_answer(200, b'{"uuid": "6b')), ITS_URL),
    "401": ((an_answer(401, {"error": {"code": 401, "message": "who?"}}),), "check the token"),
    "404": ((an_answer(404, PAGE),), ITS_URL),
    "404 later": ((NONE_YET, an_answer(404, PAGE)), ITS_URL),
    "406": ((an_answer(406, VERSIONS),), "same version"),
    "500": ((an_answer(500, {"errors": [{"status": 500, "detail": "database"}]}),), ITS_LOG),
    "503": ((an_answer(503, PAGE),), ITS_LOG),
}


def a_host(directory: Path, url: str) -> Computer:
    computer = a_computer(directory, placement=url).having(placement={"wait": WAIT_S}, log={"level": "debug"})
    return computer.guests(INSTANCES, NEVER).records(INSTANCES)


def assert_nothing_was_touched(computer: Computer, before: bytes, ended: Ended, said: str) -> None:
    assert ended.code == 69
    assert ended.out.count("Traceback") + ended.err.count("Traceback") == 0
    assert ended.err.startswith("bringup: cannot ")
    assert ended.err.count("\n") == 1
    assert said in ended.err
    assert computer.sections["placement"]["url"] in ended.err
    assert "hypervisor" not in ended.err
    assert ended.outcomes == {}
    assert computer.store.read_bytes() == before
    assert list(computer.state.glob("instances.sqlite-*")) == []
    assert computer.waiting == []


def run_in_words(computer: Computer) -> tuple[float, Ended]:
    began = time.monotonic()
    ended = computer.once()
    return time.monotonic() - began, ended


@pytest.mark.parametrize(("answers", "said"), ANSWERS.values(), ids=ANSWERS.keys())
def test_no_instance_is_touched_before_placement_says_yes(
    tmp_path: Path, answers: tuple[bytes, ...], said: str
) -> None:
    with a_peer(*answers) as peer:
        computer = a_host(tmp_path, peer.url)
        before = computer.store.read_bytes()

        took_s, ended = run_in_words(computer)

    assert_nothing_was_touched(computer, before, ended, said)
    assert took_s < WAIT_S + START_S


@contextlib.contextmanager
def dripping() -> Iterator[str]:
    """Answer a byte at a time, for as long as anybody listens."""
    ended = threading.Event()

    def drip(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            while not ended.wait(0.05):
                connection.sendall(b" ")

    def accept(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=drip, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, args=(listener,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            ended.set()
            listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("server", [nobody, dripping], ids=["refused", "very slow"])
def test_the_wait_is_a_bound(tmp_path: Path, server: Callable[[], AbstractContextManager[str]]) -> None:
    with server() as url:
        computer = a_host(tmp_path, url)
        before = computer.store.read_bytes()

        took_s, ended = run_in_words(computer)

    assert_nothing_was_touched(computer, before, ended, ITS_URL)
    assert WAIT_S <= took_s < WAIT_S + START_S


def test_a_host_without_a_provider_gets_the_command_that_creates_it(tmp_path: Path) -> None:
    computer = a_host(tmp_path, real_placement()).having(placement={"create_resource_provider": False})
    before = computer.store.read_bytes()

    _, ended = run_in_words(computer)

    assert_nothing_was_touched(computer, before, ended, "openstack resource provider create")


def test_placement_that_comes_up_in_time_lets_the_host_start(tmp_path: Path) -> None:
    with a_peer(an_answer(503, PAGE), NOTHING, an_answer(500, {}), NONE_YET, an_answer(401, {})) as peer:
        computer = a_host(tmp_path, peer.url).having(placement={"wait": 20})

        _, ended = run_in_words(computer)

    # It went on to what cannot be mended by waiting.
    assert len(peer.requests) == 5
    assert "check the token" in ended.err


def test_without_an_address_nothing_is_begun(tmp_path: Path) -> None:
    computer = a_computer(tmp_path).having(placement={"url": None})

    ended = computer.once()

    assert (ended.code, ended.out) == (78, "")
    assert "placement.url is missing" in ended.err
    assert not computer.state.exists()
