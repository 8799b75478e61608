"""Runs one command of the host (``nft``, ``ovs-vsctl``) under a deadline, and says what came of it."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

import anyio

from bringup.drivers.base import DriverError

SHOWN = 2000
"""Most characters of what a command says about its failure."""


class CommandUnavailable(DriverError):
    """The command is not there or does not answer: to try again with less of it is of no use."""


class CommandRefused(DriverError):
    """The command answered, and did nothing of what it was given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A program with the arguments that each call has."""

    program: str
    package: str
    """Debian's package that brings it."""
    arguments: tuple[str, ...] = ()
    deadline_s: float

    async def run(self, arguments: Sequence[str], *, given: str = "") -> str:
        """Run it once; give what it wrote.

        :raises CommandUnavailable: it is not installed, or was not over in time and is killed.
        :raises CommandRefused: it failed; the text has what it said.
        """
        command = [self.program, *self.arguments, *arguments]
        try:
            with anyio.fail_after(self.deadline_s):
                done = await anyio.run_process(
                    command, input=given.encode(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False
                )
        except FileNotFoundError as error:
            raise CommandUnavailable(
                f"{self.program} is not on this host; install it (Debian: package {self.package})"
            ) from error
        # An OSError too, so it comes before.
        except TimeoutError as error:
            raise CommandUnavailable(f"{self.program} was not over within {self.deadline_s:g} s") from error
        except OSError as error:
            raise CommandUnavailable(f"{self.program} cannot be started") from error
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace").strip()[:SHOWN]
            raise CommandRefused(f"{self.program} ended with {done.returncode}: {said}")
        return done.stdout.decode(errors="replace")
