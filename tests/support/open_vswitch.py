"""A real Open vSwitch of the tests' own: database and switch, in userspace."""

import json
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.network import run
from support.polling import until
from support.programs import needs

SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
# Whatever becomes of the tests, nothing of it runs on.
UNDER_US = ("setpriv", "--pdeathsig", "KILL", "--")
PATIENCE_S = 60


class Switch:
    """The daemons, and looks at what they have."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.database = f"unix:{directory}/db.sock"
        self._vswitchd: subprocess.Popen[bytes] | None = None
        run("ovsdb-tool", "create", f"{directory}/conf.db", SCHEMA)
        self._ovsdb = self._start("ovsdb-server", f"{directory}/conf.db", f"--remote=p{self.database}")
        # It waits until the database answers.
        self.vsctl("--retry", "--no-wait", "init")

    def start(self) -> None:
        """Start the switch, and wait until it has taken its configuration in."""
        self._vswitchd = self._start("ovs-vswitchd", self.database, "--disable-system")
        self.vsctl("init")
        until(self._works, "the switch")

    def _works(self) -> bool:
        """Check whether the switch holds the lock of its database."""
        with socket.socket(socket.AF_UNIX) as asking:
            asking.connect(str(self._directory / "db.sock"))
            asking.sendall(b'{"method": "lock", "params": ["ovs_vswitchd"], "id": 1}')
            return json.loads(asking.recv(4096))["result"]["locked"] is False

    def stop(self) -> None:
        """End both; they may have ended."""
        for process in (self._vswitchd, self._ovsdb):
            if process is not None:
                process.kill()
                process.wait()

    def stop_switch(self) -> None:
        """End the switch alone: the database takes changes that nobody carries out."""
        assert self._vswitchd is not None
        self._vswitchd.kill()
        self._vswitchd.wait()

    def stop_database(self) -> None:
        """End the database; the switch forwards as before."""
        self._ovsdb.kill()
        self._ovsdb.wait()

    def start_database(self) -> None:
        """Start it again, with what it had."""
        self._ovsdb = self._start("ovsdb-server", f"{self._directory}/conf.db", f"--remote=p{self.database}")
        self.vsctl("--retry", "--no-wait", "init")

    def until_connected(self) -> None:
        """Wait until the switch, which runs, has found its database again: it tries after a while, not at once."""
        until(self._works, "the switch")

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Keep the switch from doing anything while the block lasts."""
        assert self._vswitchd is not None
        self._vswitchd.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._vswitchd.send_signal(signal.SIGCONT)

    def vsctl(self, *words: str) -> str:
        """Run ovs-vsctl."""
        return run("ovs-vsctl", f"--db={self.database}", f"--timeout={PATIENCE_S}", *words)

    def rows(self, table: str, *columns: str) -> list[dict[str, Any]]:
        """Return the rows of a table, maps and sets as Python's."""
        answer = json.loads(self.vsctl("--format=json", f"--columns={','.join(columns)}", "list", table))
        return [dict(zip(answer["headings"], map(_plain, row), strict=True)) for row in answer["data"]]

    def port(self, name: str) -> dict[str, Any]:
        """Return what the switch knows of an interface."""
        columns = ("name", "external_ids", "type", "options", "mtu_request")
        (found,) = (row for row in self.rows("Interface", *columns) if row["name"] == name)
        return {key: value for key, value in found.items() if key != "name"}

    def ports(self, bridge: str) -> set[str]:
        """Name the ports of a bridge."""
        return set(self.vsctl("list-ports", bridge).split())

    def _start(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        socket = f"--unixctl={self._directory}/{program}.ctl"
        return subprocess.Popen(
            [*UNDER_US, program, *arguments, socket, f"--log-file={self._directory}/{program}.log"],
            env={"OVS_RUNDIR": str(self._directory), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            cwd=self._directory,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


def _plain(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    kind, content = value
    if kind == "map":
        return dict(content)
    return content if kind == "set" else value


@contextmanager
def an_open_vswitch(directory: Path) -> Iterator[Switch]:
    """Run one, and end it."""
    needs("ovs-vswitchd", "ovsdb-server", "ovsdb-tool", "ovs-vsctl", "setpriv")
    switch = Switch(directory)
    try:
        switch.start()
        yield switch
    finally:
        switch.stop()
