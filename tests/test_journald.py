"""Entries for systemd's journal: what is sent is read by a receiver that speaks the protocol's other side."""

import array
import fcntl
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import structlog

from bringup.daemon import journald
from bringup.daemon.journald import JournalSender, entry, is_stream_of
from support.drivers import uuid_of

PATIENCE_S = 30


class Receiver:
    """The journal's end of the socket."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(PATIENCE_S)
        self._socket.bind(str(path))

    def close(self) -> None:
        self._socket.close()
        self.path.unlink()

    def next(self) -> dict[str, str]:
        data, ancillary, _flags, _address = self._socket.recvmsg(1 << 20, socket.CMSG_SPACE(4))
        for _level, _kind, content in ancillary:
            assert data == b""
            descriptors = array.array("i", content)
            # A mapping of a memfd that is not sealed could change under the reader: journald refuses it.
            seals = fcntl.fcntl(descriptors[0], fcntl.F_GET_SEALS)
            assert seals == journald._SEALS
            with os.fdopen(descriptors[0], "rb") as file:
                file.seek(0)
                data = file.read()
        return dict(parsed(data))


def parsed(data: bytes) -> Iterator[tuple[str, str]]:
    while data:
        line, _, rest = data.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if equals:
            data = rest
        else:
            size = int.from_bytes(rest[:8], "little")
            value, end, data = rest[8 : 8 + size], rest[8 + size : 9 + size], rest[9 + size :]
            assert end == b"\n"
        yield name.decode(), value.decode()


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    # A path of pytest may be too long for a socket.
    folder = os.open(tmp_path, os.O_PATH)
    found = Receiver(Path(f"/proc/self/fd/{folder}/journal"))
    yield found
    found.close()
    os.close(folder)


@pytest.fixture
def sender(receiver: Receiver) -> Iterator[JournalSender]:
    with closing(JournalSender(receiver.path)) as found:
        yield found


@pytest.fixture
def log(sender: JournalSender) -> Iterator[structlog.typing.FilteringBoundLogger]:
    before = structlog.get_config()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            entry,
        ],
        wrapper_class=structlog.make_filtering_bound_logger("debug"),
        logger_factory=lambda *_: sender,
        cache_logger_on_first_use=False,
    )
    yield structlog.get_logger()
    structlog.configure(**before)


def test_each_key_is_a_field_and_the_instance_has_a_field_name(
    receiver: Receiver, log: structlog.typing.FilteringBoundLogger
) -> None:
    with structlog.contextvars.bound_contextvars(instance=uuid_of(1)):
        log.error("instance.failed", because=["vifs", "ran_before"], took_s=0.25, message="no answer", slowest=None)

    assert receiver.next() == {
        "MESSAGE": f'instance.failed because=vifs>ran_before took_s=0.25 message="no answer" instance={uuid_of(1)}',
        "PRIORITY": "3",
        "SYSLOG_IDENTIFIER": "bringup",
        "BRINGUP_EVENT": "instance.failed",
        "INSTANCE_UUID": uuid_of(1),
        "BRINGUP_BECAUSE": '["vifs", "ran_before"]',
        "BRINGUP_TOOK_S": "0.25",
        "BRINGUP_MESSAGE": "no answer",
    }


@pytest.mark.parametrize(("level", "priority"), [("debug", "7"), ("info", "6"), ("warning", "4"), ("error", "3")])
def test_levels_are_those_of_syslog(
    receiver: Receiver, log: structlog.typing.FilteringBoundLogger, level: str, priority: str
) -> None:
    getattr(log, level)("noun.verb")

    assert receiver.next()["PRIORITY"] == priority


def test_a_value_of_several_lines_cannot_make_a_field_of_its_own(
    receiver: Receiver, log: structlog.typing.FilteringBoundLogger
) -> None:
    log.info("noun.verb", message="first\nPRIORITY=0\n", **{"x-odd key": "äöü"})

    found = receiver.next()
    assert (found["BRINGUP_MESSAGE"], found["PRIORITY"]) == ("first\nPRIORITY=0\n", "6")
    assert found["BRINGUP_X_ODD_KEY"] == "äöü"


def test_a_traceback_is_in_the_message(receiver: Receiver, log: structlog.typing.FilteringBoundLogger) -> None:
    try:
        int("inside")
    except ValueError:
        log.exception("report.failed")

    found = receiver.next()
    assert found["MESSAGE"].startswith("report.failed\nTraceback")
    assert found["MESSAGE"].endswith("base 10: 'inside'")
    assert found["BRINGUP_EXCEPTION"] in found["MESSAGE"]


def test_an_entry_too_large_for_a_datagram_is_sent_in_a_sealed_file(
    receiver: Receiver, log: structlog.typing.FilteringBoundLogger
) -> None:
    log.warning("noun.verb", message="x" * 5_000_000)

    assert len(receiver.next()["BRINGUP_MESSAGE"]) == 5_000_000


def test_a_stuck_journald_blocks_nobody_and_dropped_entries_are_counted(
    receiver: Receiver, sender: JournalSender
) -> None:
    sent = 0
    while not sender._dropped:
        sender.msg(b"MESSAGE=x\n")
        sent += 1
    received = [receiver.next() for _ in range(sent - 1)]
    sender.msg(b"MESSAGE=later\n")

    assert all("BRINGUP_DROPPED" not in each for each in received)
    assert receiver.next() == {"MESSAGE": "later", "BRINGUP_DROPPED": "1"}


def test_a_restarted_journald_is_found_again(receiver: Receiver, sender: JournalSender) -> None:
    receiver.close()
    sender.msg(b"MESSAGE=lost\n")
    again = Receiver(receiver.path)
    receiver._socket = again._socket
    sender.msg(b"MESSAGE=found\n")

    assert again.next() == {"MESSAGE": "found", "BRINGUP_DROPPED": "1"}


def test_without_journald_an_error_is_raised(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        JournalSender(tmp_path / "none")


def test_a_stream_is_journalds_if_journal_stream_names_it(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w") as file:
        found = os.fstat(file.fileno())
        mine = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}

        assert is_stream_of(mine, file.fileno())
        # It was inherited, and standard output was sent elsewhere since.
        assert not is_stream_of({"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino + 1}"}, file.fileno())
        assert not is_stream_of({}, file.fileno())
        assert not is_stream_of({"JOURNAL_STREAM": "nonsense"}, file.fileno())
    assert not is_stream_of(mine, sys.maxsize >> 40)
