"""The Placement gate with this daemon's settings: a host that cannot serve Placement must not start."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Protocol

from bringup.daemon.errors import Unavailable
from bringup.daemon.settings import Settings, require_placement
from bringup.placement.auth import NoAuth
from bringup.placement.client import PlacementClient, connect
from bringup.placement.errors import NotFound, PlacementError
from bringup.placement.gate import Gate, Waiting, pass_gate, probe


class PhaseObserver(Protocol):
    """Who is told what the start waits for."""

    def phase_began(self, phase: str, detail: str = "") -> None:
        """Take note of a phase."""


@asynccontextmanager
async def opened_placement(settings: Settings) -> AsyncIterator[PlacementClient]:
    """Open the way to Placement.

    :raises SettingsError: no ``placement.url`` is set (Nova's ``PlacementNotConfigured``).
    """
    placement = settings.placement
    url = require_placement(settings)
    token = None if placement.token is None else placement.token.get_secret_value()
    auth = NoAuth(token) if placement.auth == "noauth" and token is not None else None
    async with connect(
        url, auth=auth, connect_timeout_s=placement.connect_timeout, read_timeout_s=placement.read_timeout
    ) as client:
        yield client


async def pass_placement(settings: Settings, observer: PhaseObserver) -> None:
    """Return once this host may serve Placement.

    :raises Unavailable: it may not, or Placement did not say so within ``placement.wait``.
    """

    def waiting(what: Waiting) -> None:
        observer.phase_began("placement", str(what))

    placement = settings.placement
    try:
        async with opened_placement(settings) as client:
            await pass_gate(
                client,
                provider=placement.resource_provider,
                wait_s=placement.wait,
                create=placement.create_resource_provider,
                on_wait=waiting,
            )
    except PlacementError as error:
        raise _unavailable(error) from error


async def probe_placement(settings: Settings) -> Gate:
    """Try once, and change nothing.

    :raises Unavailable: this host may not serve Placement, or Placement did not say so.
    """
    try:
        async with opened_placement(settings) as client:
            return await probe(client, provider=settings.placement.resource_provider)
    except PlacementError as error:
        raise _unavailable(error) from error


def _unavailable(error: PlacementError) -> Unavailable:
    """Say what to check where the error, which may come of any request, does not."""
    if isinstance(error, NotFound):
        check = "check that placement.url names Placement, with its path if it has one"
    elif error.status == HTTPStatus.NOT_ACCEPTABLE:
        check = "check that every server behind placement.url is a Placement of the same version"
    else:
        return Unavailable(str(error))
    return Unavailable(f"cannot start without Placement; {check}")
