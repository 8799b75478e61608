"""The first process of a PID namespace with a libvirtd of its own in it: ``libvirtd_init.py DIRECTORY``.

It puts the folders of DIRECTORY in the place of libvirt's, starts virtlogd and libvirtd, and takes in what becomes an
orphan: a QEMU that libvirtd waits for while nobody reaps it costs a second each.  When it ends the kernel ends all of
it, guests included.  SIGUSR1 starts libvirtd again.
"""

import os
import signal
import subprocess
import sys
from contextlib import suppress

PLACES = {
    "etc": "/etc/libvirt",
    "lib": "/var/lib/libvirt",
    "cache": "/var/cache/libvirt",
    "run": "/run/libvirt",
    "log": "/var/log/libvirt",
}


def start(*command: str) -> None:
    """Start a program and forget it: whatever ends here is reaped below."""
    os.posix_spawnp(command[0], command, os.environ)


def main(directory: str) -> None:
    """Run until killed."""
    for name, place in PLACES.items():
        os.makedirs(place, exist_ok=True)
        subprocess.run(["mount", "--bind", f"{directory}/{name}", place], check=True)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    signal.signal(signal.SIGUSR1, lambda *_: start("libvirtd"))
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    start("virtlogd")
    start("libvirtd")
    while True:
        with suppress(ChildProcessError):
            os.wait()


if __name__ == "__main__":
    main(sys.argv[1])
