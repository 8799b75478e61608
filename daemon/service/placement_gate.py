"""The Placement gate with this daemon's settings: a host that cannot serve Placement must not start."""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from http import HTTPStatus

from bringup.daemon.decisions.run_events import Observer, PhaseBegan
from bringup.daemon.errors import BringupError, SettingsError, Unavailable
from bringup.daemon.logs import get_logger
from bringup.daemon.openstack.resource_provider import HostProvider
from bringup.daemon.settings import Settings
from bringup.daemon.settings.credentials import access_of
from bringup.daemon.settings.credentials.placement_access import trusted
from bringup.daemon.storage.runtime_file import RuntimeFile, runtime_directory
from bringup.placement.client import PlacementClient, connect
from bringup.placement.errors import NotFound, PlacementError, ProviderMisnamed
from bringup.placement.gate import Gate, Waiting, pass_gate, probe
from bringup.placement.kept_login import keep_login
from bringup.placement.keystone import KeystoneAuth
from bringup.placement.nodes import describe_provider
from bringup.placement.providers import as_uuid

log = get_logger()

KEPT_LOGIN = "keystone/login.json"
"""In the runtime directory."""
AFTER_GATE_S = 60.0
"""How long Placement may be unavailable after the gate: that wait is not shown to an operator, a new gate is."""


@asynccontextmanager
async def opened_placement(settings: Settings, *, boot_id: str | None = None) -> AsyncIterator[PlacementClient]:
    """Open the client of Placement.

    ``boot_id``: the login is the service's, and is kept for its next process on this boot.

    :raises SettingsError: no address is set (Nova's ``PlacementNotConfigured``), or credentials are missing.
    :raises Unavailable: a request failed.
    """
    placement = settings.placement
    access = access_of(settings)
    if boot_id is not None and isinstance(access.auth, KeystoneAuth):
        _keep_login(access.auth, boot_id)
    try:
        async with connect(
            access.url,
            auth=access.auth,
            wanted=access.wanted,
            connect_timeout_s=placement.connect_timeout,
            read_timeout_s=placement.read_timeout,
            verify=trusted(access.trust),
        ) as client:
            yield client
    except PlacementError as error:
        raise _unavailable(error) from error


def _keep_login(auth: KeystoneAuth, boot_id: str) -> None:
    directory = runtime_directory()
    if directory is None:
        return
    kept = keep_login(auth.identity, boot_id=boot_id, shelf=RuntimeFile(directory / KEPT_LOGIN))
    if kept is not None:
        auth.keep(kept)


async def pass_placement(
    settings: Settings, client: PlacementClient, observer: Observer, *, node_uuid: str | None = None
) -> HostProvider:
    """Wait until Placement allows this host to start.

    ``node_uuid`` is that of the compute node: its resource provider is found by it, or made with it.

    :raises SettingsError: the resource provider is another node's, or is called otherwise.
    :raises Unavailable: it may not, or Placement did not say so within ``placement.wait``.
    """

    def waiting(what: Waiting) -> None:
        observer(PhaseBegan("placement", str(what)))

    placement = settings.placement
    # Before anything is sent; what only Keystone's catalogue shows, afterwards.
    said = _warn_of_unencrypted(client, ())
    try:
        gate = await pass_gate(
            client,
            provider=placement.resource_provider,
            wait_s=placement.wait,
            create=placement.create_resource_provider,
            uuid=node_uuid,
            on_wait=waiting,
        )
    except PlacementError as error:
        raise _unavailable(error) from error
    _warn_of_unencrypted(client, said)
    host = placed(settings, gate)
    other = other_name(settings, gate)
    if other is not None:
        log.warning("placement.name_differs", provider=gate.provider.name, uuid=gate.provider.uuid, advice=other)
    return host


def _warn_of_unencrypted(client: PlacementClient, said: Collection[str]) -> list[str]:
    """Log a warning for each secret that is sent unencrypted, each once."""
    found = client.unencrypted
    for sentence in found:
        if sentence not in said:
            log.warning("placement.unencrypted", message=sentence)
    return found


def other_name(settings: Settings, gate: Gate) -> str | None:
    """Return what to set where the settings name this node's provider differently; None: they do not."""
    wanted = settings.placement.resource_provider
    if wanted == gate.provider.name or as_uuid(wanted) is not None:
        return None
    return describe_provider(gate.provider)


def placed(settings: Settings, gate: Gate) -> HostProvider:
    """Return this host's provider in Placement.

    :raises SettingsError: the resource provider is another node's.
    """
    known, found = settings.host.node_uuid, gate.provider.uuid
    if known is not None and known != found:
        # Nova's scheduler finds a host's provider by the UUID of its compute node: what is written to another one is
        # written for another node, or for one that this host was before it was made anew.
        problem = (
            f"host.node_uuid = {known}, but the resource provider {gate.provider.name} has the UUID {found}: set it to "
            f"{found} if that is this node's, else delete the old provider or set placement.resource_provider"
        )
        raise SettingsError([problem])
    wait_s = min(settings.placement.wait, AFTER_GATE_S)
    return HostProvider(client=gate.client, provider=gate.provider, rules=settings.inventory, wait_s=wait_s)


async def probe_placement(settings: Settings, client: PlacementClient, *, node_uuid: str | None = None) -> Gate:
    """Call Placement once; change nothing.

    :raises SettingsError: the resource provider is called otherwise.
    :raises Unavailable: this host may not serve Placement, or Placement did not say so.
    """
    try:
        # The operator waits for the result, and one more login does no harm.
        return await probe(client.insisting(), provider=settings.placement.resource_provider, uuid=node_uuid)
    except PlacementError as error:
        raise _unavailable(error) from error


def _unavailable(error: PlacementError) -> BringupError:
    """Convert an error of any request; add what to check where its text does not say so."""
    if isinstance(error, ProviderMisnamed):
        return SettingsError([f"placement.resource_provider: {error}"])
    if isinstance(error, NotFound):
        check = "check that placement.url names Placement, with its path if it has one"
    elif error.status == HTTPStatus.NOT_ACCEPTABLE:
        check = "check that every server behind placement.url is a Placement of the same version"
    else:
        return Unavailable(str(error))
    return Unavailable(f"cannot start without Placement; {check}")
