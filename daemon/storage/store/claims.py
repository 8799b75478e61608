"""Leases of hosts and claims on instances: they keep two daemons from starting one guest.

Everything is read and written in the transaction of the caller, which has locked the rows of the instances.  Time is
the database's: the clocks of two hosts are never compared.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from sqlalchemy import Connection, bindparam, delete, insert, select

from bringup.daemon.decisions.instances import Migration
from bringup.daemon.decisions.migrating import AWAY_STATUSES, MOVES
from bringup.daemon.errors import LeaseHeld, StateConflict
from bringup.daemon.storage.store import schema
from bringup.daemon.storage.store.base import Claimant
from bringup.daemon.storage.store.conflicts import moved

_LEASES = schema.host_leases
_CLAIMS = schema.instance_claims
_MIGRATIONS = schema.migrations.c

_READ_LEASES = select(_LEASES.c.host, _LEASES.c.holder, _LEASES.c.until)
_READ_CLAIMS = select(_CLAIMS.c.instance_uuid, _CLAIMS.c.host, _CLAIMS.c.holder).where(
    _CLAIMS.c.instance_uuid.in_(bindparam("uuids", expanding=True))
)
_READ_MOVES = (
    select(
        _MIGRATIONS.uuid,
        _MIGRATIONS.instance_uuid,
        _MIGRATIONS.migration_type,
        _MIGRATIONS.status,
        _MIGRATIONS.source_compute,
        _MIGRATIONS.dest_compute,
    )
    .where(
        _MIGRATIONS.instance_uuid.in_(bindparam("uuids", expanding=True)),
        _MIGRATIONS.migration_type.in_(MOVES),
        _MIGRATIONS.status.in_(AWAY_STATUSES),
    )
    .order_by(_MIGRATIONS.uuid)
)
_DELETE_CLAIM = delete(_CLAIMS).where(_CLAIMS.c.instance_uuid == bindparam("b_uuid"))


@dataclass(slots=True)
class Claims:
    """Claims on some instances, as a group of writes finds and leaves them."""

    now: float
    leases: dict[str, tuple[str, float]] = field(default_factory=dict)
    claims: dict[str, Claimant] = field(default_factory=dict)
    moves: dict[str, list[Migration]] = field(default_factory=dict)
    _changed: dict[str, Claimant | None] = field(default_factory=dict)

    @classmethod
    def read(cls, connection: Connection, uuids: Collection[str], now: float) -> "Claims":
        """Read the leases, and the claims and migrations of some instances."""
        found = cls(now)
        if not uuids:
            return found
        for host, holder, until in connection.execute(_READ_LEASES):
            found.leases[host] = (holder, until)
        for uuid, host, holder in connection.execute(_READ_CLAIMS, {"uuids": list(uuids)}):
            found.claims[uuid] = Claimant(host, holder)
        for row in connection.execute(_READ_MOVES, {"uuids": list(uuids)}).mappings():
            move = Migration(**row)
            found.moves.setdefault(move.instance_uuid, []).append(move)
        return found

    def begin(
        self,
        uuid: str,
        host: str | None,
        claimant: Claimant,
        *,
        reverting: bool,
        left_over: Collection[tuple[str, str]] = (),
    ) -> StateConflict | None:
        """Claim an instance whose record names ``host``; return the conflict that forbids it."""
        if not self._holds_lease(claimant):
            return LeaseHeld(f"cannot claim {uuid}: the lease of {claimant.host} is not this daemon's any more")
        conflict = self.moved(uuid, host, claimant, reverting=reverting, left_over=left_over)
        if conflict is not None:
            return conflict
        other = self.claims.get(uuid)
        if other is not None and other != claimant and self._is_live(other):
            return StateConflict(f"cannot claim {uuid}: it is being started on {other.host}")
        self.claims[uuid] = claimant
        self._changed[uuid] = claimant
        return None

    def end(self, uuid: str, claimant: Claimant) -> None:
        """Release a claim, if it is the claimant's."""
        if self.claims.get(uuid) == claimant:
            del self.claims[uuid]
            self._changed[uuid] = None

    def moved(
        self,
        uuid: str,
        host: str | None,
        claimant: Claimant,
        *,
        reverting: bool,
        left_over: Collection[tuple[str, str]] = (),
    ) -> StateConflict | None:
        """Return the conflict if an instance is another host's, or on its way there."""
        moves = [move for move in self.moves.get(uuid, ()) if (move.uuid, move.status) not in left_over]
        return moved(uuid, host, claimant.host, moves, reverting=reverting)

    def _holds_lease(self, claimant: Claimant) -> bool:
        """Check whether no other daemon took the lease; after its end others may take it, until then it is still held.

        A clock that jumps forward, as at a boot when the time is set, must not keep a host down.
        """
        holder, _ = self.leases.get(claimant.host, ("", 0.0))
        return holder == claimant.holder

    def _is_live(self, claimant: Claimant) -> bool:
        holder, until = self.leases.get(claimant.host, ("", 0.0))
        return holder == claimant.holder and until > self.now

    def flush(self, connection: Connection) -> None:
        """Write what was changed."""
        if not self._changed:
            return
        connection.execute(_DELETE_CLAIM, [{"b_uuid": uuid} for uuid in sorted(self._changed)])
        new = _rows(self._changed)
        if new:
            connection.execute(insert(_CLAIMS), new)


def _rows(changed: Mapping[str, Claimant | None]) -> list[dict[str, str]]:
    return [
        {"instance_uuid": uuid, "host": claimant.host, "holder": claimant.holder}
        for uuid, claimant in changed.items()
        if claimant is not None
    ]


def take_lease(connection: Connection, claimant: Claimant, *, for_s: float, now: float) -> LeaseHeld | None:
    """Acquire or renew the lease of a host; return the conflict if another daemon holds it."""
    for holder, until in connection.execute(
        select(_LEASES.c.holder, _LEASES.c.until).where(_LEASES.c.host == claimant.host).with_for_update()
    ):
        if holder != claimant.holder and until > now:
            return LeaseHeld(
                f"another daemon works for host {claimant.host} with the same records (node {holder}); its lease ends "
                f"in {until - now:.0f} s unless it renews it; stop it, or correct host.name"
            )
    _drop(connection, claimant.host)
    connection.execute(insert(_LEASES), {"host": claimant.host, "holder": claimant.holder, "until": now + for_s})
    return None


def drop_lease(connection: Connection, claimant: Claimant) -> None:
    """Release the lease of a host, and the claims under it, if it is the claimant's."""
    holders: Iterable[str] = connection.scalars(select(_LEASES.c.holder).where(_LEASES.c.host == claimant.host))
    if claimant.holder in list(holders):
        _drop(connection, claimant.host)
        connection.execute(delete(_CLAIMS).where(_CLAIMS.c.host == claimant.host, _CLAIMS.c.holder == claimant.holder))


def _drop(connection: Connection, host: str) -> None:
    connection.execute(delete(_LEASES).where(_LEASES.c.host == host))
