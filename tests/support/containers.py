"""Images without an engine: built with buildah, run with podman and runc, from a base that is made here.

The flags are what it takes on a machine with hybrid cgroups, without systemd and ``CAP_SYS_RESOURCE``.
"""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from support.debian import PYTHON_ALONE, REPOSITORY, make_debian, require, run, wheels

PROGRAMS = {"mmdebstrap": "mmdebstrap", "buildah": "buildah", "podman": "podman", "runc": "runc"}
BASE, IMAGE = "localhost/debian:12", "localhost/bringup:test"
LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")
USER = 10001
PATIENCE_S = 120.0


def require_containers() -> None:
    """Skip the tests where no image can be built or run."""
    require("building an image", PROGRAMS)


@dataclass(frozen=True)
class Engine:
    """Its images and containers are its own, in a folder."""

    directory: Path

    @property
    def _places(self) -> list[str | Path]:
        return ["--root", self.directory / "images", "--runroot", self.directory / "run", "--storage-driver", "overlay"]

    @property
    def _podman(self) -> list[str | Path]:
        return [
            "podman",
            *self._places,
            "--cgroup-manager",
            "cgroupfs",
            "--events-backend",
            "file",
            "--runtime",
            "runc",
        ]

    def podman(self, *arguments: str | Path) -> str:
        """Run a command of podman; give what it wrote."""
        return run(*self._podman, *arguments, timeout=PATIENCE_S).strip()

    def build(self) -> None:
        """Build the image as the Containerfile says, on a base of our own and with packages that are at hand."""
        packed = self.directory / "debian.tar"
        make_debian(packed, (*PYTHON_ALONE, "python3-libvirt"))
        self.podman("import", "--quiet", packed, BASE)
        packed.unlink()
        arguments = [f"BASE={BASE}", "PIP_NO_INDEX=1", "PIP_FIND_LINKS=/wheels"]
        run(
            "buildah",
            *self._places,
            *("build", "--isolation", "chroot", "--ulimit", "nofile=1024:1024", "--tag", IMAGE),
            *(part for argument in arguments for part in ("--build-arg", argument)),
            *("--volume", f"{wheels()}:/wheels:ro", "--file", REPOSITORY / "container/Containerfile", REPOSITORY),
        )

    def command(self, *arguments: str, settings: Path, state: Path, name: str) -> list[str | Path]:
        """Give the command that runs a container as the manifests do."""
        return [
            *self._podman,
            *("run", "--name", name, "--rm", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "all"),  # noqa: S108
            *("--security-opt", "no-new-privileges", "--network", "host", *LIMITS),
            *("--volume", f"{settings}:/etc/bringup:ro", "--volume", f"{state}:/var/lib/bringup"),
            *("--volume", "/etc/machine-id:/etc/machine-id:ro", IMAGE, *arguments),
        ]


@contextlib.contextmanager
def started(command: list[str | Path]) -> Iterator["subprocess.Popen[str]"]:
    """Have a container run beside the block."""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    ) as process:
        try:
            yield process
        finally:
            process.kill()
