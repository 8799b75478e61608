"""Guests without a record: whether that is a wrong database, a host with another name, or a few unknown guests.

No I/O, no clock.
"""

from collections.abc import Collection

from bringup.daemon.decisions.instances import Instance

ACCEPT = "bringup accept --guests"


def are_accepted(instance: Instance, accepted: Collection[str]) -> bool:
    """Check whether an operator has accepted the guest of an instance."""
    return instance.uuid in accepted or (instance.name != "" and instance.name in accepted)


def refusal(
    local: frozenset[str],
    known: Collection[Instance],
    foreign: Collection[Instance],
    accepted: Collection[str],
    host: str,
) -> str | None:
    """Return why this host must not be touched; None where it may be.

    ``local`` has UUIDs (or names) of the guests here; ``known`` the records of this host, of what was evacuated from it
    and of what a migration has left here; ``foreign`` those records of other hosts whose guests are here for no reason
    that is known; ``accepted`` the guests that an operator has accepted.
    """
    unknown = local - frozenset(accepted)
    unexplained = [instance for instance in foreign if not are_accepted(instance, accepted)]
    if not unknown:
        return None
    hosts = ", ".join(sorted({str(instance.host) for instance in unexplained}))
    if known:
        # Most of the guests, and not one beside records whose guests are gone.
        if 2 * len(unexplained) <= len(unknown) or len(unexplained) <= len(known):
            return None
        return (
            f"host.name: {host!r}, but the records of {len(unexplained)} of the {len(unknown)} guests here name "
            f"{hosts}, and no evacuation or migration says why: this machine probably has two names in Nova; set "
            f"host.name to the one that is right (openstack compute service list), or accept the guests with {ACCEPT}"
        )
    if not unexplained:
        # Nova refuses a database that does not know a host whose hypervisor has guests.
        return (
            f"store.url: the hypervisor of {host} has {len(unknown)} guests and the store has no record of any of "
            f"them: it is probably the wrong one; set store.url and host.name right, or accept the guests with {ACCEPT}"
        )
    return (
        f"host.name: {host!r}, but the records of all known guests here ({len(unexplained)}) name {hosts}: this "
        f"host was probably renamed; set host.name right, or accept the guests with {ACCEPT}"
    )
