"""Images without an engine: built with buildah, run with podman and runc, from a base that is made here.

The flags are what it takes on a machine with hybrid cgroups, without systemd and ``CAP_SYS_RESOURCE``.
"""

import contextlib
import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from support.computer import Computer
from support.debian import REPOSITORY, require, small_debian, wheels
from support.programs import run

PROGRAMS = ("mmdebstrap", "buildah", "podman", "runc")
BASE, IMAGE = "localhost/debian:12", "localhost/bringup:test"
LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")
USER = 10001
PATIENCE_S = 120.0


def require_containers() -> None:
    """Skip the tests where no image can be built or run."""
    require("building an image", *PROGRAMS)


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
        """Run a command of podman; return what it wrote."""
        return run(*self._podman, *arguments, timeout=PATIENCE_S).strip()

    def build(self) -> None:
        """Build the image as the Containerfile says, on a base of our own and with packages that are at hand."""
        self.podman("import", "--quiet", small_debian(), BASE)
        arguments = [f"BASE={BASE}", "PIP_NO_INDEX=1", "PIP_FIND_LINKS=/wheels"]
        run(
            "buildah",
            *self._places,
            *("build", "--isolation", "chroot", "--ulimit", "nofile=1024:1024", "--tag", IMAGE),
            *(part for argument in arguments for part in ("--build-arg", argument)),
            *("--volume", f"{wheels()}:/wheels:ro", "--file", REPOSITORY / "container/Containerfile", REPOSITORY),
        )

    def command(self, *arguments: str | Path) -> list[str | Path]:
        """Return the command that runs a container with the rights that the manifests give it; the image comes last."""
        return [
            *self._podman,
            *("run", "--rm", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "all"),  # noqa: S108
            *("--security-opt", "no-new-privileges", "--network", "host", *LIMITS, *arguments),
        ]


@dataclass(frozen=True)
class Pod:
    """A container, and what it mounts."""

    engine: Engine
    directory: Path
    name: str
    sockets: Path | None = None
    """The folder with libvirt's sockets."""
    group: int | None = None
    """A group of the host that its user is in as well."""

    def take(self, computer: Computer, *files: Path) -> None:
        """Put the settings of a host and other files where the container finds them; all is its user's, state too."""
        computer.having(host={"state_directory": "/var/lib/bringup"})
        settings = self.directory / "settings"
        settings.mkdir()
        for file in (*files, Path(computer.arguments[1])):
            file.rename(settings / file.name)
        state = self.directory / "state"
        for owned in (state, *state.iterdir(), *settings.iterdir()):
            os.chown(owned, USER, USER)

    def command(self, *arguments: str, options: Sequence[str] = ()) -> list[str | Path]:
        """Return the command that runs it as the manifests do; ``options`` are more of Podman's."""
        command: list[str | Path] = ["--name", self.name, *options]
        mounts = [
            f"{self.directory / 'settings'}:/etc/bringup:ro",
            f"{self.directory / 'state'}:/var/lib/bringup",
            "/etc/machine-id:/etc/machine-id:ro",
        ]
        if self.sockets is not None:
            mounts.append(f"{self.sockets}:/run/libvirt")
        if self.group is not None:
            command += ["--group-add", str(self.group)]
        command += [part for mount in mounts for part in ("--volume", mount)]
        return self.engine.command(*command, IMAGE, *arguments)

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run it to its end."""
        return subprocess.run(self.command(*arguments), capture_output=True, text=True, timeout=PATIENCE_S, check=False)


@contextlib.contextmanager
def started(command: list[str | Path], **environment: str) -> Iterator["subprocess.Popen[str]"]:
    """Run a container beside the block."""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | environment
    ) as process:
        try:
            yield process
        finally:
            process.kill()
