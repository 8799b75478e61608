"""Identity of the host to which a state directory belongs: its name, its node's UUID, its machine.

A renamed host once made Nova delete every guest (bug 1419785); a directory that was copied with the image of a machine
would make two hosts act as one.  So what changed is refused until an operator accepts it.
"""

import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from bringup.daemon.errors import WHO_MAY, BringupError, SettingsError, Temporary
from bringup.daemon.storage.files import write_durably
from bringup.daemon.storage.state_directory import OPERATOR_ERRORS, WHEN_IT_IS
from bringup.drivers.files import read_file

FILE = "identity.json"
FORMAT = "bringup.identity/1"
FORMER = "host"
"""File of earlier versions, with the name alone."""
ACCEPT = "bringup accept"
# machine-id(5) must not be published: the stored value is derived from it, for this use alone.
_APPLICATION = b"bringup.identity"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Stored identity."""

    host: str
    node_uuid: str
    machine: str | None
    """Derived from the machine's id; None if it has none."""
    accepted_guests: frozenset[str] = frozenset()
    """UUIDs of guests here that need no record: an operator has accepted them."""
    changed_at: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CurrentIdentity:
    """Identity according to the settings and the machine now."""

    host: str
    node_uuid: str | None
    machine: str | None


def read_current(*, host: str, node_uuid: str | None, machine_id: Path) -> CurrentIdentity:
    """Read the current identity; ``machine_id`` is the file of the machine's id, which may be missing."""
    return CurrentIdentity(host=host, node_uuid=node_uuid, machine=_machine(machine_id))


def _machine(path: Path) -> str | None:
    try:
        found = read_file(path).decode("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    if not found or found == "uninitialized":
        return None
    return hmac.new(found.encode(), _APPLICATION, hashlib.sha256).hexdigest()


def read_identity(directory: Path) -> Identity | None:
    """Read the stored identity; None if there is none.

    :raises SettingsError: it is not readable as one, or this user may not read it.
    :raises Temporary: it cannot be read now; its content is not lost.
    """
    path = directory / FILE
    try:
        document = json.loads(read_file(path).decode())
    except FileNotFoundError:
        return _former(directory)
    except PermissionError as error:
        raise SettingsError([f"host.state_directory: {path} cannot be read ({error.strerror}): {WHO_MAY}"]) from None
    except OSError as error:
        raise _unread(path, error) from error
    except (ValueError, RecursionError) as error:
        raise SettingsError([f"host.state_directory: {path} cannot be read; {_AGAIN}"]) from error
    try:
        return _parsed(document)
    except (KeyError, TypeError, ValueError) as error:
        raise SettingsError([f"host.state_directory: {path} is not a {FORMAT}; {_AGAIN}"]) from error


_AGAIN = f"if the directory is this host's, remove the file and run {ACCEPT}"


def _unread(path: Path, error: OSError) -> BringupError:
    """Build the error of a file that cannot be read; it never advises to remove what may be sound."""
    problem = f"host.state_directory: {path} cannot be read ({error.strerror})"
    if error.errno in OPERATOR_ERRORS:
        return SettingsError([f"{problem}; a file is required there"])
    return Temporary(f"{problem}; leave it as it is, and {WHEN_IT_IS}")


def _parsed(document: Any) -> Identity:
    if document["format"] != FORMAT:
        raise ValueError("another format")
    host, node_uuid, machine = document["host"], document["node_uuid"], document["machine"]
    guests = document["accepted_guests"]
    if not isinstance(guests, list) or not all(isinstance(text, str) and text for text in (host, node_uuid, *guests)):
        raise TypeError("texts are required")
    if machine is not None and not isinstance(machine, str):
        raise TypeError("a text is required")
    return Identity(
        host=host,
        node_uuid=node_uuid,
        machine=machine,
        accepted_guests=frozenset(guests),
        changed_at=str(document.get("changed_at", "")),
    )


def _former(directory: Path) -> Identity | None:
    try:
        host = read_file(directory / FORMER).decode().strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unread(directory / FORMER, error) from error
    except UnicodeDecodeError as error:
        raise SettingsError([f"host.state_directory: {directory / FORMER} cannot be read; remove it"]) from error
    return Identity(host=host, node_uuid="", machine=None) if host else None


def differences(identity: Identity, now: CurrentIdentity) -> list[str]:
    """Describe each difference from the stored identity in a sentence."""
    found = []
    if now.host != identity.host:
        found.append(f"host.name: {now.host!r}, but this is the state directory of {identity.host!r}")
    if now.node_uuid and identity.node_uuid and now.node_uuid != identity.node_uuid:
        found.append(f"host.node_uuid: {now.node_uuid}, but this is the state directory of node {identity.node_uuid}")
    if now.machine and identity.machine and now.machine != identity.machine:
        found.append(
            "host.machine_id: the state directory was made on another machine; it was copied, or the id changed"
        )
    return found


def require_same(known: Identity, now: CurrentIdentity) -> None:
    """Check that a host is the stored one.

    :raises SettingsError: it is not, with a sentence for each thing that changed.
    """
    changed = differences(known, now)
    if changed:
        changed[-1] += f"; correct it, or, if the change is intended, run {ACCEPT}"
        raise SettingsError(changed)


def merge_identity(identity: Identity | None, now: CurrentIdentity) -> Identity:
    """Merge the current identity into the stored one; what is not set now stays."""
    known = identity or Identity(host=now.host, node_uuid="", machine=None)
    return replace(
        known,
        host=now.host,
        node_uuid=now.node_uuid or known.node_uuid or str(uuid4()),
        machine=now.machine or known.machine,
    )


def store_identity(directory: Path, now: CurrentIdentity, *, at: Callable[[], datetime]) -> Identity:
    """Store the identity the first time; afterwards, check that it is the same.

    :raises SettingsError: it is not, with a sentence for each thing that changed.
    :raises OSError: it could not be written; the one in memory would be another node at the next start.
    """
    known = read_identity(directory)
    if known is not None:
        require_same(known, now)
    identity = merge_identity(known, now)
    if identity != known:
        write(directory, identity, at=at)
    return identity


def write(directory: Path, identity: Identity, *, at: Callable[[], datetime]) -> None:
    """Write an identity; on disk when this returns.  Raises OSError."""
    document: Mapping[str, Any] = {
        "format": FORMAT,
        **asdict(identity),
        "accepted_guests": sorted(identity.accepted_guests),
        "changed_at": at().isoformat(timespec="seconds"),
    }
    data = (json.dumps(document, indent=2) + "\n").encode()
    write_durably(directory / FILE, data, draft=directory / f".{FILE}")
    (directory / FORMER).unlink(missing_ok=True)
