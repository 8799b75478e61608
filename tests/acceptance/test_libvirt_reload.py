"""More and fewer slots by a reload, while real starts are under way: libvirt is asked for as many at once."""

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.computer import a_computer
from support.drivers import driver_guest
from support.libvirt_drivers import remove_guests
from support.libvirtd import Libvirtd, a_libvirtd
from support.polling import until
from support.process import running
from support.records import instance, uuid_of

COUNT = 8


@pytest.fixture
def server() -> Iterator[Libvirtd]:
    with a_libvirtd(pause_s=0) as made:
        for number in range(1, COUNT + 1):
            made.define(uuid_of(number), driver_guest(number).name)
            (made.directory / "hold" / driver_guest(number).name).touch()
        yield made
        with made.connected() as connection:
            remove_guests(connection)


# With the adaptive pace as many more are started as hang for ten seconds.
@pytest.mark.parametrize(("pace", "more"), [("fixed", 6), ("adaptive", 4)])
def test_as_many_starts_are_under_way_as_the_limit_says_after_each_reload(
    tmp_path: Path, server: Libvirtd, pace: str, more: int
) -> None:
    def under_way() -> int:
        return len(list((server.directory / "hooked").iterdir()))

    computer = a_computer(tmp_path)
    del computer.sections["driver"]
    computer.having(
        driver={"name": "libvirt"},
        libvirt={"uri": server.uri, "instances_path": str(server.directory / "instances")},
        network={"plug_vifs": False},
        resume={"guests": "on_host_boot"},
        limits={"concurrency": 2, "instance_deadline": 110, "pace": pace},
        # With one slot these are started one after the other, and what is asked here is how many starts hang at once.
        pace={"hold": 1},
    ).records([instance(number, network_info=(), block_devices=()) for number in range(1, COUNT + 1)])
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        environment = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")}
        with running("run", "--once", "--json", *computer.arguments, env=environment) as daemon:
            until(lambda: under_way() == 2, "two starts")

            computer.having(limits={"concurrency": more, "pace": pace})
            assert computer.arguments
            daemon.process.send_signal(signal.SIGHUP)
            assert daemon.until("settings.reloaded")["concurrency"] == more
            until(lambda: under_way() == more, f"{more} starts")

            computer.having(limits={"concurrency": 1, "pace": pace})
            assert computer.arguments
            daemon.process.send_signal(signal.SIGHUP)
            daemon.until("settings.reloaded", concurrency=1)
            for path in (server.directory / "hold").iterdir():
                path.unlink()
            ended = daemon.end()
    assert ended.code == 0
    assert ended.outcomes == {uuid_of(number): "initialized" for number in range(1, COUNT + 1)}
