"""Commands of the host (``nft``, ``ovs-vsctl``), each run under a deadline, and what their failures mean."""

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

import anyio

from bringup.drivers.environment import child_environment
from bringup.drivers.errors import DriverError
from bringup.drivers.needs import MetBy, Need, NeedKind, NeedNotMet, NeedState

SHOWN = 2000
"""Most characters of a command's error message."""
IN_SHORT = 300
"""Most of them if the remedy follows."""
DENIED = re.compile(r"Permission denied|Operation not permitted")


class CommandUnavailable(NeedNotMet):
    """The command is missing or does not answer: to retry with fewer items is of no use."""


class CommandRefused(DriverError):
    """The command answered, and did nothing of its input."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A program with the arguments of every call."""

    program: str
    package: str
    """Debian's package of it."""
    arguments: tuple[str, ...] = ()
    deadline_s: float
    service: str
    """Name of the service that it calls, for an operator."""
    unavailable_text: re.Pattern[str]
    """Its message if the service is unavailable, or refuses access: its input is right then."""
    remedy: str
    """What an operator does if the service is unavailable."""
    remedy_access: str
    """What an operator does if the service refuses access."""

    async def run(self, arguments: Sequence[str], *, text: str = "") -> str:
        """Run it once; return its output.

        :raises CommandUnavailable: it is not installed, did not end in time and is killed, or its service is
            unavailable.
        :raises CommandRefused: it failed; the message has its output.
        """
        command = [self.program, *self.arguments, *arguments]
        try:
            with anyio.fail_after(self.deadline_s):
                done = await anyio.run_process(
                    command,
                    input=text.encode(),
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    check=False,
                    env=child_environment(),
                )
        except FileNotFoundError:
            missing = f"{self.program} is not on this host; install it (Debian: package {self.package})"
            raise self.unavailable(missing, NeedState.ABSENT, MetBy.PERSON) from None
        # An OSError too, so it comes before.
        except TimeoutError:
            raise self.unavailable(f"{self.program} did not end within {self.deadline_s:g} s") from None
        except OSError as error:
            raise self.unavailable(f"{self.program} cannot be started") from error
        if done.returncode != 0:
            output = done.stderr.decode(errors="replace").strip()[:SHOWN]
            sentence = f"{self.program} ended with {done.returncode}: {output}"
            # Below 0: it was killed.
            if done.returncode < 0 or self.unavailable_text.search(output):
                raise self.service_unavailable(sentence)
            raise CommandRefused(sentence)
        return done.stdout.decode(errors="replace")

    def service_unavailable(self, sentence: str) -> CommandUnavailable:
        """Return the error for an unavailable service, with the remedy."""
        if DENIED.search(sentence):
            return self.unavailable(f"{sentence[:IN_SHORT]}; {self.remedy_access}", NeedState.UNVERIFIED, MetBy.PERSON)
        return self.unavailable(f"{sentence[:IN_SHORT]}; {self.remedy}", NeedState.ABSENT)

    def unavailable(
        self, sentence: str, state: NeedState = NeedState.UNVERIFIED, met_by: MetBy = MetBy.HOST
    ) -> CommandUnavailable:
        """Return the error for a command that is missing or does not answer."""
        need = Need(kind=NeedKind.NETWORK, name=self.service, state=state, met_by=met_by, why=sentence[:SHOWN])
        return CommandUnavailable(sentence, [need])
