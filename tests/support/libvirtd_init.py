"""The first process of a PID namespace with a libvirtd of its own in it: ``libvirtd_init.py DIRECTORY [SMALL ...]``.

It gives each folder SMALL of DIRECTORY a disk of its own, puts the folders in the place of libvirt's, starts virtlogd
and libvirtd, and takes in what becomes an orphan: a QEMU that libvirtd waits for while nobody reaps it costs a second
each.  When it ends the kernel ends all of it, guests included.  SIGUSR1 starts libvirtd again.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

PLACES = {
    "etc": "/etc/libvirt",
    "lib": "/var/lib/libvirt",
    "cache": "/var/cache/libvirt",
    "run": "/run/libvirt",
    "log": "/var/log/libvirt",
}
# Where polkit is to be asked: a system bus of their own, and the rules of the test alone.
POLKIT = {"dbus": "/run/dbus", "rules": "/etc/polkit-1/rules.d"}
BUS = ("dbus-daemon", "--system", "--fork", "--nopidfile")
POLKITD = "/usr/lib/polkit-1/polkitd"
# The users that libvirtd knows, and the BIOS of its guests, where the test says what they are.
FILES = {"passwd": "/etc/passwd", "group": "/etc/group", "firmware": "/usr/share/seabios/bios-256k.bin"}
# By default they are in /run itself, which all of these share: the second of two would not start.
VIRTLOGD = ("virtlogd", "-p", "/run/libvirt/virtlogd.pid")
LIBVIRTD = ("libvirtd", "-p", "/run/libvirt/libvirtd.pid")
SMALL_DISK = ("mount", "-t", "tmpfs", "-o", "size=16m,mode=0755", "tmpfs")


def start(*command: str) -> None:
    """Start a program and forget it: whatever ends here is reaped below."""
    os.posix_spawnp(command[0], command, os.environ, setsigmask=[])


def finish(*command: str) -> None:
    """Run a program to its end."""
    subprocess.run(command, check=True)


def put_in_place(directory: Path) -> None:
    """Mount what is in the folder where libvirtd and polkit read it."""
    for name, place in (PLACES | POLKIT | FILES).items():
        if (directory / name).exists():
            if (directory / name).is_dir():
                Path(place).mkdir(parents=True, exist_ok=True)
            finish("mount", "--bind", f"{directory}/{name}", place)


def main(directory: str, small: Sequence[str]) -> None:
    """Run until killed."""
    for name in small:
        finish(*SMALL_DISK, f"{directory}/{name}")
    put_in_place(Path(directory))
    finish("ip", "link", "set", "lo", "up")
    # Taken one by one and by name: a signal that comes right before os.wait() would be heard when something ends.
    signals = {signal.SIGCHLD, signal.SIGUSR1}
    for number in signals:
        signal.signal(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    if Path(directory, "dbus").exists():
        finish(*BUS)
        start(POLKITD)
    start(*VIRTLOGD)
    start(*LIBVIRTD)
    while True:
        if signal.sigwait(signals) == signal.SIGUSR1:
            start(*LIBVIRTD)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
