"""Runs one command of the host (``nft``, ``ovs-vsctl``) under a deadline, and says what came of it."""

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

import anyio

from bringup.drivers.environment import clean
from bringup.drivers.errors import DriverError
from bringup.drivers.needs import MetBy, Need, NeedKind, NeedNotMet, NeedState

SHOWN = 2000
"""Most characters of what a command says about its failure."""
IN_SHORT = 300
"""Most of them where what is to be done follows."""
DENIED = re.compile(r"Permission denied|Operation not permitted")


class CommandUnavailable(NeedNotMet):
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
    service: str
    """What it speaks to, as a person calls it."""
    away: re.Pattern[str]
    """What it says where that is away, or lets nobody in: nothing is wrong with what it was given then."""
    to_do: str
    """What a person does where it is away."""
    to_let_in: str
    """What a person does where it lets nobody in."""

    async def run(self, arguments: Sequence[str], *, given: str = "") -> str:
        """Run it once; give what it wrote.

        :raises CommandUnavailable: it is not installed, was not over in time and is killed, or what it speaks to is
            away.
        :raises CommandRefused: it failed; the text has what it said.
        """
        command = [self.program, *self.arguments, *arguments]
        try:
            with anyio.fail_after(self.deadline_s):
                done = await anyio.run_process(
                    command,
                    input=given.encode(),
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    check=False,
                    env=clean(),
                )
        except FileNotFoundError:
            missing = f"{self.program} is not on this host; install it (Debian: package {self.package})"
            raise self.unavailable(missing, NeedState.ABSENT, MetBy.PERSON) from None
        # An OSError too, so it comes before.
        except TimeoutError:
            raise self.unavailable(f"{self.program} was not over within {self.deadline_s:g} s") from None
        except OSError as error:
            raise self.unavailable(f"{self.program} cannot be started") from error
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace").strip()[:SHOWN]
            sentence = f"{self.program} ended with {done.returncode}: {said}"
            # Below 0: somebody has killed it.
            if done.returncode < 0 or self.away.search(said):
                raise self.is_away(sentence)
            raise CommandRefused(sentence)
        return done.stdout.decode(errors="replace")

    def is_away(self, sentence: str) -> CommandUnavailable:
        """Make the error for what says so itself, with what is to be done."""
        if DENIED.search(sentence):
            return self.unavailable(f"{sentence[:IN_SHORT]}; {self.to_let_in}", NeedState.UNVERIFIED, MetBy.PERSON)
        return self.unavailable(f"{sentence[:IN_SHORT]}; {self.to_do}", NeedState.ABSENT)

    def unavailable(
        self, sentence: str, state: NeedState = NeedState.UNVERIFIED, met_by: MetBy = MetBy.HOST
    ) -> CommandUnavailable:
        """Make the error that says so."""
        need = Need(kind=NeedKind.NETWORK, name=self.service, state=state, met_by=met_by, why=sentence[:SHOWN])
        return CommandUnavailable(sentence, [need])
