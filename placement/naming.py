"""Whether two names are of one host.  Pure.

Nova names a resource provider as the hypervisor names its host, which is often the full name, and ``host.name`` is what
Nova's records say, which is often the short one.
"""

from collections.abc import Iterable


def may_be_one_host(one: str, other: str) -> bool:
    """Tell whether two names are the same, or one is the short form of the other."""
    first, second = one.lower().rstrip("."), other.lower().rstrip(".")
    return first == second or first.startswith(f"{second}.") or second.startswith(f"{first}.")


def others_of(name: str, names: Iterable[str]) -> list[str]:
    """Give those names that may be of the host of this one, without this one."""
    return sorted(other for other in names if other != name and may_be_one_host(name, other))
