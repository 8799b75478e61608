"""Guests that nobody knows: whether that is a wrong database, a renamed host, or a few strangers.  No I/O, no clock."""

from collections.abc import Collection

from bringup.daemon.instances import Instance

ACCEPT = "bringup accept --guests"


def refusal(
    local: frozenset[str],
    own: Collection[Instance],
    known_elsewhere: Collection[Instance],
    evacuated: Collection[str],
    accepted: Collection[str],
    host: str,
) -> str | None:
    """Say why this host must not be touched; None where it may be.

    ``local`` has UUIDs (or names) of the guests here; ``known_elsewhere`` the records of other hosts among them;
    ``evacuated`` the UUIDs that were evacuated from here; ``accepted`` those that an operator has accepted.
    """
    strangers = local - frozenset(accepted)
    if not strangers or own or evacuated:
        return None
    if not known_elsewhere:
        # Nova refuses a database that does not know a host whose hypervisor has guests.
        return (
            f"store.url: the hypervisor of {host} has {len(strangers)} guests and the store has no record of any of "
            f"them: it is probably the wrong one; set store.url and host.name right, or accept the guests with {ACCEPT}"
        )
    hosts = ", ".join(sorted({str(instance.host) for instance in known_elsewhere}))
    return (
        f"host.name: {host!r}, but the records of all known guests here ({len(known_elsewhere)}) name {hosts}: this "
        f"host was probably renamed; set host.name right, or accept the guests with {ACCEPT}"
    )
