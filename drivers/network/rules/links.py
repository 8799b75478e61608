"""Links of this host (bridges, veth pairs, taps): those required, those that exist, and the steps in between.

Pure: no I/O, no clock, no logger.  :mod:`bringup.drivers.network.netlink` reads links and carries the steps out.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from bringup.drivers.needs import MetBy
from bringup.drivers.network.rules.vifs import VifProblem


class LinkAbsent(Exception):
    """A device that bringup does not create is missing; the message has the remedy."""

    def __init__(self, sentence: str, *, name: str, made_by: MetBy) -> None:
        """Store its name, and who creates it."""
        super().__init__(sentence)
        self.name = name
        self.made_by = made_by


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgeWanted:
    """A Linux bridge must exist and be up."""

    name: str
    make: bool
    """Whether it is created if it is missing; if not, that is a problem."""
    mtu: int | None = None
    """Of a new bridge, in bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VethWanted:
    """A pair of devices must exist and be up, this end of it in a bridge."""

    name: str
    peer: str
    master: str
    mtu: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TapWanted:
    """A tap must exist and be up; it stays when no program has it open."""

    name: str
    mac: str | None = None
    mtu: int | None = None
    multi_queue: bool = False
    silent: bool = False
    """Whether the host must never speak on it: it has the guest's own MAC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PresentWanted:
    """A device that another program creates: adjusted if it exists, a problem if it is required and missing."""

    name: str
    master: str | None = None
    """A device that is in no bridge is put into this one; one that is in another stays there."""
    mtu: int | None = None
    required: bool = False
    made_by: MetBy = MetBy.HOST
    """The program that creates one that is required."""


LinkWanted: TypeAlias = BridgeWanted | VethWanted | TapWanted | PresentWanted


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """An existing link."""

    name: str
    kind: str | None = None
    """``bridge``, ``veth``, ``tun`` and so on; None for hardware."""
    master: str | None = None
    mtu: int
    up: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AddBridge:
    """Create a bridge that learns at once and has no address of the host; an existing one gets the latter."""

    name: str
    mtu: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AddVeth:
    """Create a veth pair."""

    name: str
    peer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AddTap:
    """Create a tap; an existing one gets its MAC, and its silence."""

    name: str
    mac: str | None
    multi_queue: bool
    silent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SetLink:
    """Change what is not None, and set the link up."""

    name: str
    master: str | None = None
    mtu: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteLink:
    """Delete a link; of a pair, both ends."""

    name: str


Step: TypeAlias = AddBridge | AddVeth | AddTap | SetLink | DeleteLink


def steps_to(links: Iterable[LinkWanted], seen: Mapping[str, Link]) -> tuple[Step, ...]:
    """Return the steps after which all required links exist; empty if they do already.

    :raises LinkAbsent: one is missing that bringup does not create.
    :raises VifProblem: a name is taken by something else.
    """
    return tuple(step for link in links for step in _missing(link, seen))


def _missing(link: LinkWanted, seen: Mapping[str, Link]) -> Iterator[Step]:
    there = seen.get(link.name)
    match link:
        case BridgeWanted():
            yield from _bridge(link, there)
        case VethWanted():
            yield from _veth(link, there, seen.get(link.peer))
        case TapWanted():
            if there is not None and there.kind != "tun":
                raise _taken(there, "tap")
            # One of ours that is down may have been left incomplete by a kill.
            if there is None or (link.silent and not there.up):
                yield AddTap(name=link.name, mac=link.mac, multi_queue=link.multi_queue, silent=link.silent)
            yield from _adjust(link.name, there, master=None, mtu=link.mtu)
        case PresentWanted():
            if there is not None and not link.required:
                yield from _adjust(link.name, there, master=link.master, mtu=link.mtu)
            elif there is None and link.required:
                sentence = f"device {link.name} is not on this host; make it, or correct the binding of the port"
                raise LinkAbsent(sentence, name=link.name, made_by=link.made_by)


def _bridge(link: BridgeWanted, there: Link | None) -> Iterator[Step]:
    if there is not None and there.kind != "bridge":
        raise _taken(there, "bridge")
    if there is None and not link.make:
        raise LinkAbsent(
            f"bridge {link.name} is not on this host; make it in the host's network configuration, "
            "or start the agent that makes it",
            name=link.name,
            made_by=MetBy.HOST,
        )
    # One of ours that is down may have been left incomplete by a kill.
    if there is None or (link.make and not there.up):
        yield AddBridge(name=link.name, mtu=link.mtu)
    # Its MTU is not changed afterwards: it is the least of its ports, or an operator's.
    yield from _adjust(link.name, there, master=None, mtu=None)


def _veth(link: VethWanted, there: Link | None, peer: Link | None) -> Iterator[Step]:
    for end in (there, peer):
        if end is not None and end.kind != "veth":
            raise _taken(end, "veth")
    if there is None or peer is None:
        # One end of a broken pair may exist.
        yield from (DeleteLink(name=end.name) for end in (there, peer) if end is not None)
        yield AddVeth(name=link.name, peer=link.peer)
        there = peer = None
    yield from _adjust(link.name, there, master=link.master, mtu=link.mtu)
    # Open vSwitch manages its master.
    yield from _adjust(link.peer, peer, master=None, mtu=link.mtu)


def _adjust(name: str, there: Link | None, *, master: str | None, mtu: int | None) -> Iterator[Step]:
    if there is not None and there.master is not None:
        master = None
    if there is not None and there.mtu == mtu:
        mtu = None
    if there is None or not there.up or master is not None or mtu is not None:
        yield SetLink(name=name, master=master, mtu=mtu)


def _taken(there: Link, wanted: str) -> VifProblem:
    return VifProblem(
        f"{there.name} is a {there.kind or 'network card'} and no {wanted}; give one of them another name"
    )


def names_of(links: Iterable[LinkWanted]) -> tuple[str, ...]:
    """Return the names of all links to read, each once."""
    names = [name for link in links for name in (link.name, link.peer if isinstance(link, VethWanted) else link.name)]
    return tuple(dict.fromkeys(names))
